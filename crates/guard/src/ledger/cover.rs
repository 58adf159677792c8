//! Whether an attempt fits into all its budgets and limits, and what is in its way.

use std::time::Duration;

use farebox_policy::{Budget, CallScope, Measure, Scope, WhenShort};
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Money, Timestamp};

use super::{
    Ledger,
    meters::{Metered, deployment_limits},
    state::Open,
    told,
    windows::{Used, Windows},
};
use crate::rules::Rules;

/// A call that asks for one of its attempts to be covered.
pub(super) struct Asker<'a> {
    pub(super) request: &'a v1::ReserveRequest,
    /// The windows of all attempts are those of this time, so that spend by window equals the rows by time of admission.
    pub(super) admitted: Timestamp,
    pub(super) now: Timestamp,
    /// It asks for a further attempt.
    pub(super) before: Option<Before<'a>>,
}

/// The attempt before: it ends if another one is covered, and what it gives back then counts as free.
pub(super) struct Before<'a> {
    pub(super) open: &'a Open,
    /// Its end.
    pub(super) fact: &'a v1::CallFact,
}

impl Asker<'_> {
    /// Whose call it is.
    fn project(&self) -> &str {
        self.request.principal.as_ref().map(|principal| principal.project.as_str()).unwrap_or_default()
    }

    /// Cost of the attempts before.
    fn spent(&self) -> Money {
        self.before.as_ref().map_or(Money::ZERO, |before| before.open.spent + v1::Money::of(&before.fact.cost))
    }

    /// What is used of a budget's window once the attempt before has ended.
    fn used(&self, windows: &Windows, budget: &Budget, subject: &str, window: &str) -> Used {
        let now = windows.used(budget, subject, self.admitted, window);
        let Some(Before { open, fact }) = &self.before else { return now };
        let own = |hold: &&v1::Hold| hold.budget == budget.name && hold.subject == subject && hold.window == window;
        open.holds.iter().filter(own).fold(now, |used, hold| Used {
            settled: used.settled + v1::Money::of(&fact.cost),
            reserved: used.reserved - v1::Money::of(&hold.amount),
            open: used.open.saturating_sub(1),
        })
    }

    /// Whether the attempt before was counted as a request by this limit: a further one is no further request.
    fn is_counted(&self, limit: &str, subject: &str) -> bool {
        let counts = |hold: &v1::LimitHold| {
            hold.measure() == v1::LimitMeasure::Requests && hold.limit == limit && hold.subject == subject
        };
        self.before.as_ref().is_some_and(|before| before.open.limit_holds.iter().any(counts))
    }
}

/// All that a covered attempt takes.
pub(super) struct Cover {
    /// As it is granted.
    pub(super) attempt: v1::Attempt,
    pub(super) holds: Vec<v1::Hold>,
    pub(super) limit_holds: Vec<v1::LimitHold>,
    /// Those of them that the caller is told of.
    pub(super) told_limits: Vec<v1::LimitHold>,
    pub(super) left: Vec<v1::BudgetLeft>,
    pub(super) warnings: Vec<String>,
    /// The output limit where it had to be lowered; 0: it had not.
    pub(super) clamped: u64,
}

/// Why no attempt is covered now.
pub(super) enum Uncovered {
    Wait(Wait),
    Refused(Box<Refusal>),
}

pub(super) struct Refusal {
    pub(super) error: v1::Error,
    /// Hard budgets that had no room: name, subject and window.
    pub(super) spent: Vec<(String, String, String)>,
}

/// What may come free for a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wait {
    pub(crate) wants: Vec<Want>,
    /// How long it is worth to wait.
    pub(crate) within: Duration,
    /// When something comes free by itself.
    pub(crate) retry: Option<Duration>,
}

/// So much of something scarce.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Want {
    pub(crate) of: Scarce,
    /// In pico-dollars, or in what the limit counts.
    pub(crate) amount: i128,
}

/// What calls wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scarce {
    Budget { name: String, subject: String },
    Limit { name: String, subject: String, measure: i32 },
}

/// One budget of one attempt.
pub(super) struct Counted<'a> {
    pub(super) budget: &'a Budget,
    pub(super) subject: String,
    pub(super) window: String,
    pub(super) limit: Money,
    pub(super) used: Used,
    pub(super) amount: Money,
    /// The caller is told of it.
    pub(super) told: bool,
}

/// What is in the way of one attempt.
struct Short {
    fault: Fault,
    /// Where limits are the reason: those that have no room.
    limits: Vec<v1::LimitLeft>,
    wait: Option<Wait>,
    /// The output limit with which it would fit now.
    clamp: Option<u64>,
    spent: Vec<(String, String, String)>,
}

impl Short {
    fn for_good(fault: Fault) -> Box<Short> {
        Box::new(Short { fault, limits: Vec::new(), wait: None, clamp: None, spent: Vec::new() })
    }
}

impl Ledger {
    /// Covers the first of these attempts that fits. Where none does, it waits for what running calls may give back
    /// before an output is limited.
    pub(super) fn cover(
        &self,
        rules: &Rules,
        asker: &Asker<'_>,
        attempts: &[&v1::Attempt],
        may_wait: bool,
    ) -> Result<Cover, Uncovered> {
        let mut shorts = Vec::new();
        for attempt in attempts {
            match self.weigh(rules, asker, attempt) {
                Ok(cover) => return Ok(cover),
                Err(short) => shorts.push(*short),
            }
        }
        let waits = || shorts.iter().filter_map(|short| short.wait.as_ref());
        if may_wait && waits().next().is_some() {
            return Err(Uncovered::Wait(Wait {
                wants: waits().flat_map(|wait| wait.wants.iter().cloned()).collect(),
                within: waits().map(|wait| wait.within).max().unwrap_or_default(),
                retry: waits().filter_map(|wait| wait.retry).min(),
            }));
        }
        for (attempt, short) in attempts.iter().zip(&shorts) {
            let Some(max_tokens) = short.clamp else { continue };
            if let Ok(cover) = self.weigh(rules, asker, &clamped(attempt, max_tokens)) {
                return Ok(Cover { clamped: max_tokens, ..cover });
            }
        }
        Err(Uncovered::Refused(Box::new(refusal(shorts))))
    }

    fn weigh(&self, rules: &Rules, asker: &Asker<'_>, attempt: &v1::Attempt) -> Result<Cover, Box<Short>> {
        let bound = v1::Money::of(&attempt.bound);
        within_max_cost(asker.request.max_cost, asker.spent(), bound).map_err(Short::for_good)?;
        let (nobody, nothing) = Default::default();
        let scope = CallScope {
            principal: asker.request.principal.as_ref().unwrap_or(&nobody),
            labels: asker.request.labels.as_ref().unwrap_or(&nothing),
            model: &attempt.model,
            provider: &attempt.provider,
            upstream_model: &attempt.upstream_model,
        };
        let counted = self.counted(rules, asker, &scope, attempt).map_err(Short::for_good)?;
        let metered = metered(rules, asker, &scope, attempt);
        let short_of: Vec<&Counted<'_>> = counted.iter().filter(|counted| counted.is_short()).collect();
        let limited_by: Vec<&Metered<'_>> = metered.iter().filter(|metered| !self.has_room(asker, metered)).collect();
        if short_of.is_empty() && limited_by.is_empty() {
            return Ok(covered(attempt, &counted, &metered));
        }
        Err(Box::new(self.short(asker, attempt, &short_of, &limited_by)))
    }

    fn counted<'a>(
        &self,
        rules: &'a Rules,
        asker: &Asker<'_>,
        scope: &CallScope<'_>,
        attempt: &v1::Attempt,
    ) -> Result<Vec<Counted<'a>>, Fault> {
        let count = |(budget, subject): (&'a Budget, String)| {
            let window = budget.period.window(&budget.time_zone, asker.admitted);
            let told = rules.tells(&budget.scope, asker.project());
            let amount = budget.sets_aside(v1::Money::of(&attempt.bound), attempt.unbounded.is_empty());
            Ok(Counted {
                limit: budget.limit_at(&subject, asker.now),
                used: asker.used(&self.windows, budget, &subject, &window),
                amount: amount.ok_or_else(|| told::unbounded(budget, attempt, told))?,
                window,
                budget,
                subject,
                told,
            })
        };
        let mut counted = rules.budgets(scope).into_iter().map(count).collect::<Result<Vec<_>, Fault>>()?;
        // It has one cost, which may be lost in all of them: none sets aside less than another.
        let most = counted.iter().map(|counted| counted.amount).max().unwrap_or_default();
        counted.iter_mut().for_each(|counted| counted.amount = most);
        Ok(counted)
    }

    fn has_room(&self, asker: &Asker<'_>, metered: &Metered<'_>) -> bool {
        metered.amount <= self.meters.meter(metered, asker).room(asker.now)
    }

    fn short(
        &self,
        asker: &Asker<'_>,
        attempt: &v1::Attempt,
        short_of: &[&Counted<'_>],
        limited_by: &[&Metered<'_>],
    ) -> Short {
        let mut wait = Wait { wants: Vec::new(), within: Duration::ZERO, retry: None };
        let mut faults = Vec::new();
        for counted in short_of {
            let helps = counted.may_come_free(attempt);
            wait.wants.push(counted.want());
            wait.within = self.terms.wait_for_holds;
            faults.push((helps, counted.fault(asker)));
        }
        for metered in limited_by {
            let retry = self.meters.meter(metered, asker).retry_after(metered.amount, asker.now);
            let helps = match metered.measure {
                Measure::Concurrent => metered.rate.allowed > 0,
                _ => metered.of_deployment && retry.is_some_and(|retry| retry <= self.terms.limit_wait),
            };
            wait.wants.push(metered.want());
            match metered.measure {
                Measure::Concurrent => wait.within = self.terms.wait_for_holds,
                _ => wait.within = wait.within.max(self.terms.limit_wait),
            }
            wait.retry = wait.retry.max(retry);
            faults.push((helps, metered.fault(retry)));
        }
        let wait = faults.iter().all(|(helps, _)| *helps).then_some(wait);
        // What waiting does not help is the reason.
        let reason = faults.iter().position(|(helps, _)| !helps).unwrap_or_default();
        let fault = faults.swap_remove(reason).1;
        let limits = match fault.kind {
            ErrorKind::RateLimited => {
                let told = limited_by.iter().filter(|metered| metered.told);
                told.map(|metered| self.meters.left_to(asker, metered)).collect()
            }
            _ => Vec::new(),
        };
        Short {
            fault,
            limits,
            wait,
            clamp: if limited_by.is_empty() { clamp(attempt, short_of) } else { None },
            spent: short_of.iter().map(|c| (c.budget.name.clone(), c.subject.clone(), c.window.clone())).collect(),
        }
    }

    /// How much of something scarce there is, for who waits for it.
    pub(crate) fn room(&self, scarce: &Scarce, rules: &Rules, now: Timestamp) -> i128 {
        match scarce {
            Scarce::Budget { name, subject } => {
                // Of a rule that is gone there is enough.
                let Some(budget) = rules.budget(name) else { return i128::MAX };
                let window = budget.period.window(&budget.time_zone, now);
                let used = self.windows.used(budget, subject, now, &window);
                // Nothing more comes free: whoever waits has to be told.
                if used.reserved.is_zero() {
                    return i128::MAX;
                }
                (budget.limit_at(subject, now) - used.total()).picos()
            }
            Scarce::Limit { name, subject, measure } => {
                self.meters.room(name, subject, *measure, now).map_or(i128::MAX, i128::from)
            }
        }
    }
}

impl Counted<'_> {
    fn is_short(&self) -> bool {
        self.budget.hard && self.used.total() + self.amount > self.limit
    }

    /// Whether it would fit if all running calls ended now and cost nothing.
    fn may_come_free(&self, attempt: &v1::Attempt) -> bool {
        let least = match (self.budget.when_short, output(attempt)) {
            (WhenShort::Clamp { floor }, Some(output)) => output.bound(floor.min(output.max_tokens)),
            _ => self.amount,
        };
        !self.used.reserved.is_zero() && self.used.settled + least <= self.limit
    }

    fn want(&self) -> Want {
        let of = Scarce::Budget { name: self.budget.name.clone(), subject: self.subject.clone() };
        Want { of, amount: self.amount.picos() }
    }
}

/// How the bound of an attempt depends on its output limit.
#[derive(Clone, Copy)]
struct Output {
    fixed: Money,
    per_token: Money,
    max_tokens: u64,
}

impl Output {
    fn bound(self, max_tokens: u64) -> Money {
        Money::from_picos(self.fixed.picos().saturating_add(self.per_token.picos().saturating_mul(max_tokens.into())))
    }
}

fn output(attempt: &v1::Attempt) -> Option<Output> {
    let share = attempt.output.as_ref().filter(|_| attempt.unbounded.is_empty())?;
    let (fixed, per_token) = (v1::Money::of(&share.fixed), v1::Money::of(&share.per_token));
    (per_token > Money::ZERO).then_some(Output { fixed, per_token, max_tokens: share.max_tokens })
}

/// The largest output limit with which the attempt fits into all these budgets, if all of them allow one so low.
fn clamp(attempt: &v1::Attempt, short_of: &[&Counted<'_>]) -> Option<u64> {
    let output = output(attempt)?;
    let mut floor = 1;
    for counted in short_of {
        let WhenShort::Clamp { floor: wanted } = counted.budget.when_short else { return None };
        floor = floor.max(wanted);
    }
    let left = short_of.iter().map(|counted| counted.limit - counted.used.total()).min()?;
    let fits = (left - output.fixed).picos().div_euclid(output.per_token.picos());
    u64::try_from(fits).ok().filter(|fits| (floor..output.max_tokens).contains(fits))
}

fn clamped(attempt: &v1::Attempt, max_tokens: u64) -> v1::Attempt {
    let Some(output) = output(attempt) else { return attempt.clone() };
    let share = attempt.output.map(|share| v1::OutputShare { max_tokens, ..share });
    v1::Attempt { bound: Some(output.bound(max_tokens).into()), output: share, ..attempt.clone() }
}

fn metered<'a>(rules: &'a Rules, asker: &Asker<'_>, scope: &CallScope<'_>, attempt: &v1::Attempt) -> Vec<Metered<'a>> {
    let of_rules = rules.limits(scope).into_iter().map(|(limit, subject)| {
        let amount = match limit.measure {
            Measure::Tokens => attempt.expected_tokens,
            Measure::Requests if asker.is_counted(&limit.name, &subject) => 0,
            Measure::Requests | Measure::Concurrent => 1,
        };
        let (name, measure, rate) = (limit.name.as_str(), limit.measure, limit.rate);
        let told = rules.tells(&limit.scope, asker.project());
        Metered { name, subject, measure, rate, amount, of_deployment: false, told }
    });
    // What a provider allows is for all who use it.
    let told = rules.tells(&Scope::default(), asker.project());
    of_rules.chain(deployment_limits(attempt, told)).collect()
}

fn covered(attempt: &v1::Attempt, counted: &[Counted<'_>], metered: &[Metered<'_>]) -> Cover {
    let mut attempt = attempt.clone();
    // What is recorded if it is lost is what was set aside for it: the same in all budgets.
    if let Some(counted) = counted.first() {
        attempt.bound = Some(counted.amount.into());
    }
    let hold = |counted: &Counted<'_>| v1::Hold {
        budget: counted.budget.name.clone(),
        subject: counted.subject.clone(),
        window: counted.window.clone(),
        amount: Some(counted.amount.into()),
    };
    Cover {
        attempt,
        holds: counted.iter().map(hold).collect(),
        limit_holds: metered.iter().map(Metered::hold).collect(),
        told_limits: metered.iter().filter(|metered| metered.told).map(Metered::hold).collect(),
        left: told::left(counted),
        warnings: told::warnings(counted),
        clamped: 0,
    }
}

/// The first attempt's reason, and the earliest time at which another try makes sense.
fn refusal(shorts: Vec<Short>) -> Refusal {
    let mut shorts = shorts.into_iter();
    let Some(first) = shorts.next() else {
        return Refusal { error: Fault::new(ErrorKind::Internal, "nothing was asked for").into(), spent: Vec::new() };
    };
    let mut fault = first.fault;
    let others = shorts.map(|short| short.fault).filter(|other| other.kind == fault.kind);
    fault.retry_after = others.map(|other| other.retry_after).chain([fault.retry_after]).flatten().min();
    Refusal { error: v1::Error { limits: first.limits, ..fault.into() }, spent: first.spent }
}

fn within_max_cost(max: Option<v1::Money>, spent: Money, bound: Money) -> Result<(), Fault> {
    let Some(max) = max.map(Money::from) else {
        return Ok(());
    };
    if spent + bound <= max {
        return Ok(());
    }
    let message = format!(
        "this request may cost up to ${bound} (after ${spent} already spent on it), more than its max_cost of ${max}: \
         raise max_cost or lower max_tokens"
    );
    Err(Fault::new(ErrorKind::OverBudget, message))
}
