//! Budgets: rules, and the window of each that a call falls into.

use farebox_proto::v1;
use farebox_types::{Money, Timestamp};

/// What a budget counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All calls together.
    Everything,
    /// Each task of each project by itself. Calls without a task are not counted.
    Task,
}

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// A calendar day, UTC.
    Day,
    /// As long as what it counts by lives.
    Lifetime,
}

/// A hard limit: settled and reserved money together never exceed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) period: Period,
    pub(crate) limit: Money,
}

/// One window of one budget: a pure function of the rule, the call and the time. Nothing is ever reset; a new day is
/// a new window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    pub(crate) budget: String,
    pub(crate) subject: String,
    pub(crate) window: String,
}

impl Budget {
    /// The window that a call admitted at `at` counts in, or none where the budget does not apply to it.
    pub(crate) fn window(&self, request: &v1::ReserveRequest, at: Timestamp) -> Option<Window> {
        let subject = match self.scope {
            Scope::Everything => String::new(),
            Scope::Task => {
                let task = request.labels.as_ref().map(|labels| labels.task_id.as_str())?;
                if task.is_empty() {
                    return None;
                }
                let project = request.principal.as_ref().map(|p| p.project.as_str()).unwrap_or_default();
                format!("{project}/{task}")
            }
        };
        let window = match self.period {
            Period::Lifetime => String::new(),
            Period::Day => day(at),
        };
        Some(Window { budget: self.name.clone(), subject, window })
    }
}

/// The calendar day in UTC, `2026-11-21`.
fn day(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    instant.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

impl From<&v1::Hold> for Window {
    fn from(hold: &v1::Hold) -> Window {
        Window { budget: hold.budget.clone(), subject: hold.subject.clone(), window: hold.window.clone() }
    }
}

impl Window {
    pub(crate) fn hold(&self, amount: Money) -> v1::Hold {
        v1::Hold {
            budget: self.budget.clone(),
            subject: self.subject.clone(),
            window: self.window.clone(),
            amount: Some(amount.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(task: &str) -> v1::ReserveRequest {
        v1::ReserveRequest {
            principal: Some(v1::Principal { project: "acme".into(), ..Default::default() }),
            labels: Some(v1::Labels { task_id: task.into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_day_ends_at_midnight_utc() {
        let budget = Budget { name: "day".into(), scope: Scope::Everything, period: Period::Day, limit: Money::usd(1) };
        let window = |at| budget.window(&call(""), Timestamp(at)).unwrap().window;
        assert_eq!(window(1_795_305_599_999), "2026-11-21");
        assert_eq!(window(1_795_305_600_000), "2026-11-22");
    }

    #[test]
    fn a_task_is_counted_in_its_project_and_no_task_not_at_all() {
        let budget = Budget { name: "task".into(), scope: Scope::Task, period: Period::Lifetime, limit: Money::usd(1) };
        assert_eq!(budget.window(&call("t1"), Timestamp(0)).unwrap().subject, "acme/t1");
        assert_eq!(budget.window(&call(""), Timestamp(0)), None);
    }
}
