//! Terms: who may write, and inserts that only work while their term is the newest.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use farebox_types::Timestamp;
use tokio::time::{Instant, sleep};

use crate::{
    calls::{CallRow, Position},
    client::Client,
    error::Error,
    rowbinary::RowBinary,
};

/// Between two looks at what is running.
const LOOK: Duration = Duration::from_millis(20);
/// About what a row takes; only the first size of a buffer.
const ROW_BYTES: usize = 512;

/// The right to write to `calls`, until a later term begins.
#[derive(Clone, Debug)]
pub struct Term {
    number: u64,
    inserts: Arc<AtomicU64>,
}

impl Term {
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Client {
    /// Begins a term and ends all before it.
    ///
    /// An insert checks its term after ClickHouse has listed it as running. So one of an earlier term either sees the
    /// new term and fails, or was listed before and is waited for here. When this returns, no earlier insert is under
    /// way, wherever it was when its sender died.
    pub async fn open_term(&self, holder: &str, now: Timestamp) -> Result<Term, Error> {
        let newest: u64 = self.query("SELECT max(term) FROM accounting_terms").one().await?;
        let number = newest.saturating_add(1).max(u64::try_from(now.millis()).unwrap_or_default());
        let insert = "INSERT INTO accounting_terms (term, holder) SELECT {term:UInt64}, {holder:String}";
        self.query(insert).param("term", number).param("holder", holder).execute().await?;
        // Two may have chosen the same number: the second to look sees it and tries again.
        let ask = "SELECT holder FROM accounting_terms WHERE term = (SELECT max(term) FROM accounting_terms)";
        let holders: Vec<String> = self.query(ask).all().await?;
        if holders != [holder] {
            return Err(Error::Fenced);
        }
        self.wait_for_earlier_inserts().await?;
        Ok(Term { number, inserts: Arc::default() })
    }

    async fn wait_for_earlier_inserts(&self) -> Result<(), Error> {
        let limit = self.options.insert_timeout.get();
        let until = Instant::now() + limit;
        loop {
            let ask = "SELECT count() FROM system.processes WHERE startsWith(query_id, {prefix:String})";
            let running: u64 = self.query(ask).param("prefix", self.insert_prefix()).one().await?;
            if running == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::StillRunning { seconds: limit.as_secs() });
            }
            sleep(LOOK).await;
        }
    }

    fn insert_prefix(&self) -> String {
        format!("farebox-calls/{}/", self.options.database)
    }

    /// Writes rows of one month, all or none, if `term` is still the newest. `token` names exactly these rows: ClickHouse
    /// takes them once however often the statement arrives.
    pub async fn insert_calls(&self, term: &Term, rows: &[CallRow], token: &str) -> Result<(), Error> {
        let mut body = RowBinary::with_capacity(rows.len() * ROW_BYTES);
        rows.iter().for_each(|row| row.encode(&mut body));
        let sql = format!(
            "INSERT INTO calls ({columns}) SELECT {columns} FROM input('{structure}') WHERE \
             throwIf((SELECT max(term) FROM accounting_terms) != {term}, 'farebox: a later term has begun') = 0 \
             FORMAT RowBinary",
            columns = CallRow::columns(),
            structure = CallRow::structure().replace('\'', "\\'"),
            term = term.number,
        );
        let id = format!("{}{}/{}", self.insert_prefix(), term.number, term.inserts.fetch_add(1, Relaxed));
        let limit = self.options.insert_timeout.get();
        let mut insert = self
            .inner
            .insert_formatted_with(sql)
            .with_setting("query_id", id)
            .with_setting("insert_deduplication_token", token)
            .with_setting("async_insert", "0")
            // One block, so one part: all rows or none.
            .with_setting("max_insert_threads", "1")
            .with_setting("max_threads", "1")
            .with_setting("min_insert_block_size_rows", "1048576")
            .with_timeouts(Some(limit), Some(limit));
        let done = async {
            insert.send(body.into_bytes()).await?;
            insert.end().await
        };
        done.await.map_err(|source| self.place.error(source))
    }

    /// The highest ledger sequence that has a row; 0 when there is none.
    pub async fn highest_sequence(&self, incarnation: u64) -> Result<u64, Error> {
        let ask = "SELECT max(ledger_sequence) FROM calls WHERE ledger_incarnation = {incarnation:UInt64}";
        self.query(ask).param("incarnation", incarnation).one().await
    }

    /// Which of these ledger sequences have rows, and which of their entries.
    pub async fn positions(&self, incarnation: u64, sequences: &[u64]) -> Result<HashSet<Position>, Error> {
        let (Some(first), Some(last)) = (sequences.iter().min(), sequences.iter().max()) else {
            return Ok(HashSet::new());
        };
        // The bounds are for the index, the list for the answer's size.
        let ask = "SELECT ledger_sequence, ledger_index FROM calls WHERE ledger_incarnation = {incarnation:UInt64} \
                   AND ledger_sequence BETWEEN {first:UInt64} AND {last:UInt64} \
                   AND has({sequences:Array(UInt64)}, ledger_sequence)";
        let query = self.query(ask).param("incarnation", incarnation).param("sequences", sequences);
        let found: Vec<(u64, u32)> = query.param("first", first).param("last", last).all().await?;
        Ok(found.into_iter().map(|(sequence, index)| Position { sequence, index }).collect())
    }
}
