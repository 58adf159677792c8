//! Where budgets and limits stand, and the books, for who asks.

use farebox_policy::Period;
use farebox_proto::v1;
use farebox_types::Timestamp;
use prost::Message;

use super::Ledger;
use crate::rules::Rules;

impl Ledger {
    /// Of budgets and limits of this name, or of all: the newest windows first, in not much more than `bytes`.
    pub(crate) fn status(
        &self,
        rules: &Rules,
        asked: &v1::BudgetStatusRequest,
        bytes: usize,
        now: Timestamp,
    ) -> v1::BudgetStatusReply {
        let most = if asked.max == 0 { usize::MAX } else { usize::try_from(asked.max).unwrap_or(usize::MAX) };
        // However many there are of the one, there is room for the other.
        let mut room = bytes / 2;
        let limits = fitting(self.limits(&asked.name, now).take(most), &mut room);
        room += bytes - bytes / 2;
        let budgets = self.budgets(rules, &asked.name, now).into_iter().map(|(_, budget)| budget);
        let budgets = fitting(budgets.take(most), &mut room);
        v1::BudgetStatusReply { budgets, limits, open: count(self.open.len()), ..Default::default() }
    }

    /// What was spent by project and day.
    pub(crate) fn books(&self) -> v1::BooksReply {
        v1::BooksReply { days: self.books.to_messages().collect(), ..Default::default() }
    }

    fn budgets(&self, rules: &Rules, name: &str, now: Timestamp) -> Vec<(Timestamp, v1::BudgetStatus)> {
        let mut windows: Vec<(Timestamp, v1::BudgetStatus)> = Vec::new();
        let mut rolling = std::collections::BTreeMap::new();
        for (of_budget, subject, window, spend) in self.windows.iter() {
            if !name.is_empty() && name != of_budget {
                continue;
            }
            let budget = rules.budget(of_budget);
            // The slices of a rolling period are told together.
            if let Some(budget) = budget.filter(|budget| matches!(budget.period, Period::Rolling(_))) {
                let last: &mut Timestamp = rolling.entry((budget.name.as_str(), subject)).or_default();
                *last = spend.last.max(*last);
                continue;
            }
            let status = v1::BudgetStatus {
                budget: of_budget.to_owned(),
                subject: subject.to_owned(),
                window: window.to_owned(),
                limit: budget.map(|budget| budget.limit_at(subject, now).into()),
                settled: Some(spend.settled.into()),
                reserved: Some(spend.reserved.into()),
                open: spend.open,
            };
            windows.push((spend.last, status));
        }
        for ((of_budget, subject), last) in rolling {
            let Some(budget) = rules.budget(of_budget) else { continue };
            let window = budget.period.window(&budget.time_zone, now);
            let used = self.windows.used(budget, subject, now, &window);
            let status = v1::BudgetStatus {
                budget: of_budget.to_owned(),
                subject: subject.to_owned(),
                window: budget.period.to_string(),
                limit: Some(budget.limit_at(subject, now).into()),
                settled: Some(used.settled.into()),
                reserved: Some(used.reserved.into()),
                open: used.open,
            };
            windows.push((last, status));
        }
        windows.sort_by(|(a, _), (b, _)| b.cmp(a));
        windows
    }

    fn limits<'a>(&'a self, name: &'a str, now: Timestamp) -> impl Iterator<Item = v1::LimitStatus> + 'a {
        let limits = self.meters.iter().filter(move |(limit, _, _)| name.is_empty() || name == *limit);
        limits.map(move |(limit, subject, meter)| {
            let allowed = meter.rate().allowed;
            v1::LimitStatus {
                limit: limit.to_owned(),
                subject: subject.to_owned(),
                measure: v1::LimitMeasure::from(meter.measure()).into(),
                allowed,
                used: allowed.saturating_sub(meter.room(now)),
            }
        })
    }
}

/// The first of these that fit into so many bytes, which are then taken.
fn fitting<M: Message>(all: impl Iterator<Item = M>, room: &mut usize) -> Vec<M> {
    let fits = |one: &M| {
        let left = room.checked_sub(one.encoded_len() + 4);
        left.inspect(|left| *room = *left).is_some()
    };
    all.take_while(fits).collect()
}

pub(crate) fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
