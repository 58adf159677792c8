//! Migrations: numbered, recorded, only ever adding.

use crate::{client::Client, error::Error};

/// Every statement can be run twice: two programs may start at once, and one may die before it has recorded it.
const MIGRATIONS: [(u32, &str, &str); 3] = [
    (1, "calls", include_str!("../migrations/0001_calls.sql")),
    (2, "accounting_terms", include_str!("../migrations/0002_accounting_terms.sql")),
    (3, "tier_and_searches", include_str!("../migrations/0003_tier_and_searches.sql")),
];

const RECORD: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (version UInt32, name String, \
                      applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) ENGINE = MergeTree ORDER BY version";

impl Client {
    /// Brings the database to the schema of this program; refuses one that is newer.
    pub async fn migrate(&self) -> Result<(), Error> {
        let database = &self.options.database;
        self.execute_on_server(&format!("CREATE DATABASE IF NOT EXISTS `{database}`")).await?;
        self.execute(RECORD).await?;
        let found: u32 = self.query("SELECT max(version) FROM schema_migrations").one().await?;
        let known = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
        if found > known {
            return Err(Error::NewerSchema { database: database.clone(), found, known });
        }
        for (version, name, sql) in MIGRATIONS.iter().filter(|(version, ..)| *version > found) {
            self.execute(sql).await?;
            let record = "INSERT INTO schema_migrations (version, name) SELECT {version:UInt32}, {name:String}";
            self.query(record).param("version", version).param("name", name).execute().await?;
            tracing::info!(version, name, database, "ClickHouse schema grown");
        }
        self.keep_for_days(self.options.keep_days).await
    }

    /// Parts that are there take the new limit when they are merged the next time.
    async fn keep_for_days(&self, days: u32) -> Result<(), Error> {
        let ask = "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'calls'";
        let engine: String = self.query(ask).one().await?;
        if engine.contains(&format!("toIntervalDay({days})")) {
            return Ok(());
        }
        let sql = format!(
            "ALTER TABLE calls MODIFY TTL toDateTime(ended_at, 'UTC') + toIntervalDay({days}) \
             SETTINGS materialize_ttl_after_modify = 0"
        );
        self.execute(&sql).await
    }
}
