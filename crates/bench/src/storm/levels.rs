//! The budgets of the storm, and which row counts in which.

use farebox_testkit::Row;
use farebox_types::Money;

/// A budget.
pub(crate) struct Level {
    /// As farebox calls it.
    pub(crate) name: &'static str,
    pub(crate) usd: i64,
    /// What a row is counted under, in farebox's words.
    pub(crate) subject: fn(&Row) -> String,
}

/// Each of them is too small for what is asked of it.
pub(crate) const LEVELS: [Level; 2] = [
    Level { name: "max_cost_per_day", usd: 20, subject: |_| String::new() },
    Level { name: "max_cost_per_task", usd: 3, subject: |row| format!("{}/{}", row.project, row.task_id) },
];

impl Level {
    pub(crate) fn limit(&self) -> Money {
        Money::usd(self.usd)
    }
}

/// What the config says of them.
pub(crate) fn config() -> String {
    let options: Vec<String> = LEVELS.iter().map(|level| format!("{}: {}", level.name, level.usd)).collect();
    options.join(", ")
}
