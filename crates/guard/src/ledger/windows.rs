//! What is settled and reserved, by budget, subject and window.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use farebox_policy::{Budget, Period};
use farebox_proto::v1;
use farebox_types::{Money, Timestamp};

use crate::rules::Rules;

/// Money of one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spend {
    pub(crate) settled: Money,
    pub(crate) reserved: Money,
    /// Attempts that hold something here.
    pub(crate) open: u64,
    /// When something was last reserved or settled here.
    pub(crate) last: Timestamp,
    /// Thresholds that were announced, in thousandths; 0: that a call was refused.
    pub(crate) announced: Vec<u32>,
}

/// All windows of one budget for one subject, by name: those of one rule are in the order of time.
type Account = BTreeMap<String, Spend>;

/// What is used of a budget by a subject, in all windows that count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) settled: Money,
    pub(crate) reserved: Money,
    pub(crate) open: u64,
}

impl Used {
    pub(crate) fn total(self) -> Money {
        self.settled + self.reserved
    }
}

#[derive(Default, PartialEq, Debug)]
pub(crate) struct Windows {
    /// By budget and subject.
    accounts: HashMap<String, HashMap<String, Account>>,
}

impl Windows {
    pub(crate) fn hold(&mut self, hold: &v1::Hold, at: Timestamp) {
        let spend = self.spend_mut(&hold.budget, &hold.subject, &hold.window);
        spend.reserved += v1::Money::of(&hold.amount);
        spend.open += 1;
        spend.last = spend.last.max(at);
    }

    /// Gives a hold back; `cost` is spent for it.
    pub(crate) fn settle(&mut self, hold: &v1::Hold, cost: Money, at: Timestamp) {
        let spend = self.spend_mut(&hold.budget, &hold.subject, &hold.window);
        spend.reserved -= v1::Money::of(&hold.amount);
        spend.open = spend.open.saturating_sub(1);
        spend.settled += cost;
        spend.last = spend.last.max(at);
    }

    pub(crate) fn announce(&mut self, alert: &v1::Alert) {
        let mark = match alert.kind() {
            v1::alert::Kind::Threshold => alert.threshold_permille,
            v1::alert::Kind::Refused => 0,
            _ => return,
        };
        let spend = self.spend_mut(&alert.rule, &alert.subject, &alert.window);
        spend.announced.push(mark);
        spend.last = spend.last.max(Timestamp(alert.at_unix_ms));
    }

    /// What counts for a call admitted at `at`, which is in `window`. Of a rolling period also what was spent since: a later
    /// attempt of the call is still counted at its admission.
    pub(crate) fn used(&self, budget: &Budget, subject: &str, at: Timestamp, window: &str) -> Used {
        let add = |used: Used, spend: &Spend| Used {
            settled: used.settled + spend.settled,
            reserved: used.reserved + spend.reserved,
            open: used.open + spend.open,
        };
        self.in_force(budget, subject, at, window).fold(Used::default(), add)
    }

    pub(crate) fn is_announced(&self, budget: &Budget, subject: &str, at: Timestamp, window: &str, mark: u32) -> bool {
        self.in_force(budget, subject, at, window).any(|spend| spend.announced.contains(&mark))
    }

    fn in_force<'a>(
        &'a self,
        budget: &Budget,
        subject: &str,
        at: Timestamp,
        window: &str,
    ) -> impl Iterator<Item = &'a Spend> + use<'a> {
        let account = self.accounts.get(&budget.name).and_then(|subjects| subjects.get(subject));
        // A calendar period has one window; of a rolling one all slices of the same length count from the oldest on.
        let oldest = match budget.period {
            Period::Rolling(_) => Some(budget.oldest_window(at)),
            _ => None,
        };
        let one = account.filter(|_| oldest.is_none()).and_then(|account| account.get(window));
        let slices = account.zip(oldest).map(|(account, oldest)| {
            let length = slice_length(&oldest).to_owned();
            account.range(oldest..).filter(move |(window, _)| slice_length(window) == length).map(|(_, spend)| spend)
        });
        one.into_iter().chain(slices.into_iter().flatten())
    }

    /// Every window, with its budget and subject.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &str, &Spend)> {
        self.accounts.iter().flat_map(|(budget, subjects)| {
            subjects.iter().flat_map(move |(subject, account)| {
                account.iter().map(move |(window, spend)| (&**budget, &**subject, &**window, spend))
            })
        })
    }

    /// The window, which begins now if nothing is known of it. A budget or subject is copied only then.
    pub(crate) fn spend_mut(&mut self, budget: &str, subject: &str, window: &str) -> &mut Spend {
        fn entry<'a, V: Default>(map: &'a mut HashMap<String, V>, key: &str) -> &'a mut V {
            if !map.contains_key(key) {
                map.insert(key.to_owned(), V::default());
            }
            map.get_mut(key).expect("it was inserted if it was missing")
        }
        let account = entry(entry(&mut self.accounts, budget), subject);
        if !account.contains_key(window) {
            account.insert(window.to_owned(), Spend::default());
        }
        account.get_mut(window).expect("it was inserted if it was missing")
    }

    /// Forgets windows that no call is counted in any more: those whose time is over; of lifetimes, those idle for
    /// `task_memory` and, where the budget is not hard, the longest idle beyond `task_max`. What is reserved stays.
    pub(crate) fn forget(&mut self, rules: &Rules, now: Timestamp, task_memory: Duration, task_max: usize) {
        /// A call that was admitted in a window may have further attempts for so long.
        const CALLS_END: Duration = Duration::from_secs(24 * 60 * 60);
        /// Of a budget that is not there now: it may come back.
        const LONGEST: Duration = Duration::from_secs(32 * 24 * 60 * 60);
        let mut lasting: Vec<Timestamp> = Vec::new();
        for (name, subjects) in &mut self.accounts {
            let budget = rules.budget(name);
            let since = budget.map(|budget| budget.oldest_window(now.before(CALLS_END)));
            subjects.retain(|subject, account| {
                account.retain(|window, spend| {
                    if spend.open > 0 {
                        return true;
                    }
                    if window.is_empty() {
                        let ends = budget.is_none_or(|budget| budget.period != Period::Total);
                        let keep = subject.is_empty() || !ends || spend.last.after(task_memory) > now;
                        if keep && may_be_forgotten(budget, subject, spend) {
                            lasting.push(spend.last);
                        }
                        return keep;
                    }
                    match &since {
                        Some(since) if slice_length(window) == slice_length(since) => window >= since,
                        _ => spend.last.after(LONGEST) > now,
                    }
                });
                !account.is_empty()
            });
        }
        if lasting.len() > task_max {
            let excess = lasting.len() - task_max;
            let (_, newest, _) = lasting.select_nth_unstable(excess - 1);
            self.forget_idle(rules, *newest);
        }
        self.accounts.retain(|_, subjects| !subjects.is_empty());
    }

    fn forget_idle(&mut self, rules: &Rules, until: Timestamp) {
        for (name, subjects) in &mut self.accounts {
            let budget = rules.budget(name);
            subjects.retain(|subject, account| {
                account.retain(|window, spend| {
                    !window.is_empty()
                        || spend.open > 0
                        || spend.last > until
                        || !may_be_forgotten(budget, subject, spend)
                });
                !account.is_empty()
            });
        }
    }
}

/// Whether a lasting window may be forgotten for being one of too many: never what a hard budget has to know.
fn may_be_forgotten(budget: Option<&Budget>, subject: &str, spend: &Spend) -> bool {
    let hard = budget.is_none_or(|budget| budget.hard);
    !subject.is_empty() && (!hard || spend.settled.is_zero())
}

/// The second part of a slice's name; nothing for other windows.
fn slice_length(window: &str) -> &str {
    window.split_once('/').map_or("", |(_, length)| length)
}
