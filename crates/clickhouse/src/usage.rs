//! What is asked about calls.

use farebox_types::{Money, Project};
use serde::Deserialize;

use crate::{calls::CallRow, client::Client, error::Error};

/// What sums are made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupBy {
    #[default]
    Model,
    Provider,
    Project,
    Task,
    Actor,
}

impl GroupBy {
    fn column(self) -> &'static str {
        match self {
            GroupBy::Model => "model",
            GroupBy::Provider => "provider",
            GroupBy::Project => "project",
            GroupBy::Task => "task_id",
            GroupBy::Actor => "actor",
        }
    }
}

/// `from ≤ ended < until`, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    from: i64,
    until: i64,
}

impl Period {
    /// The last millisecond that a table can hold: 2199-12-31.
    pub const END: i64 = 7_258_118_399_999;

    /// Times outside of what a table can hold are moved to its ends. `until` 0: no end.
    pub fn new(from: i64, until: i64) -> Period {
        let until = if until == 0 { Period::END } else { until.clamp(0, Period::END) };
        Period { from: from.clamp(0, Period::END), until }
    }
}

/// Sums over the calls of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageSum {
    pub group: String,
    pub calls: u64,
    pub errors: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cached_tokens: u64,
    pub cost: Money,
}

#[derive(clickhouse::Row, Deserialize)]
struct SumRow {
    group: String,
    calls: u64,
    errors: u64,
    input: u64,
    output: u64,
    cached: u64,
    spent: i128,
}

/// What the rows of one day of a project add up to: a UTC day, by when calls were admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaySum {
    pub project: String,
    /// e.g. 2026-11-21
    pub day: String,
    pub calls: u64,
    pub cost: Money,
}

const WHERE: &str = "WHERE ({project:String} = '' OR project = {project:String}) AND ended_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') \
                     AND ended_at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')";

impl Client {
    /// What a project used, or all together, the most expensive group first, `max` groups at most.
    pub async fn usage(
        &self,
        project: Option<&Project>,
        by: GroupBy,
        period: Period,
        max: u32,
    ) -> Result<Vec<UsageSum>, Error> {
        let sql = format!(
            "SELECT toString({column}) AS `group`, count() AS calls, countIf(outcome != 'ok') AS errors, \
             sum({input}) AS input, sum({output}) AS output, sum({cached}) AS cached, sum(cost) AS spent \
             FROM calls {WHERE} GROUP BY `group` ORDER BY spent DESC, `group` LIMIT {{max:UInt32}}",
            column = by.column(),
            input = total(&[
                "input",
                "cache_read",
                "cache_write_5m",
                "cache_write_1h",
                "audio_input",
                "image_input",
                "cache_read_audio",
            ]),
            output = total(&["output", "reasoning", "audio_output", "image_output"]),
            cached = total(&["cache_read", "cache_read_audio"]),
        );
        let rows: Vec<SumRow> = self.asked(&sql, project, period, max).all().await?;
        let sums = rows.into_iter().map(|row| UsageSum {
            group: row.group,
            calls: row.calls,
            errors: row.errors,
            input_tokens: row.input,
            output_tokens: row.output,
            cached_tokens: row.cached,
            cost: Money::from_picos(row.spent),
        });
        Ok(sums.collect())
    }

    /// What was spent by project and day since `from` (milliseconds since the epoch), by the rows of the ledger up to
    /// `through`.
    pub async fn spent_by_day(&self, incarnation: u64, through: u64, from: i64) -> Result<Vec<DaySum>, Error> {
        let sql = "SELECT toString(project), toString(toDate(started_at, 'UTC')) AS day, count(), sum(cost) FROM calls \
                   WHERE ledger_incarnation = {incarnation:UInt64} AND ledger_sequence <= {through:UInt64} \
                   AND started_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') GROUP BY project, day";
        let query = self.query(sql).param("incarnation", incarnation).param("through", through).param("from", from);
        let rows: Vec<(String, String, u64, i128)> = query.all().await?;
        let sum = |(project, day, calls, cost)| DaySum { project, day, calls, cost: Money::from_picos(cost) };
        Ok(rows.into_iter().map(sum).collect())
    }

    /// The newest calls of a project, or of all, newest first.
    pub async fn recent_calls(
        &self,
        project: Option<&Project>,
        period: Period,
        max: u32,
    ) -> Result<Vec<CallRow>, Error> {
        let sql = format!(
            "SELECT {columns} FROM calls {WHERE} \
             ORDER BY ended_at DESC, ledger_sequence DESC, ledger_index DESC LIMIT {{max:UInt32}}",
            columns = CallRow::columns(),
        );
        self.asked(&sql, project, period, max).all().await
    }

    fn asked(&self, sql: &str, project: Option<&Project>, period: Period, max: u32) -> crate::client::Query {
        self.query(sql)
            .param("project", project.map_or("", Project::as_str))
            .param("from", period.from)
            .param("until", period.until)
            .param("max", max)
    }
}

fn total(buckets: &[&str]) -> String {
    let parts: Vec<String> = buckets.iter().map(|bucket| format!("ifNull({bucket}_tokens, 0)")).collect();
    parts.join(" + ")
}
