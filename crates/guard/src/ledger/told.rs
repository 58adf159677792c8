//! What a caller is told of the budgets and limits that its call counts in: all of those that belong to its project, and of
//! others only that they are there, and when to try again. Whose they are, `Policies::owner` says.

use std::time::Duration;

use farebox_policy::{Budget, Measure, Period};
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Money, Span};

use super::{
    cover::{Asker, Counted},
    meters::Metered,
};

/// What is left of a call's budgets once it is covered.
pub(super) fn left(counted: &[Counted<'_>]) -> Vec<v1::BudgetLeft> {
    let left = |counted: &Counted<'_>| v1::BudgetLeft {
        budget: counted.budget.name.clone(),
        limit: Some(counted.limit.into()),
        left: Some((counted.limit - counted.used.total() - counted.amount).into()),
    };
    counted.iter().filter(|counted| counted.told).map(left).collect()
}

/// That budgets which are not hard may be exceeded by a call that is covered.
pub(super) fn warnings(counted: &[Counted<'_>]) -> Vec<String> {
    let exceeded = counted.iter().filter(|counted| counted.over() > Money::ZERO);
    let (own, shared): (Vec<_>, Vec<_>) = exceeded.partition(|counted| counted.told);
    let shared = shared.first().map(|_| "a budget that this project shares with others may be exceeded with this call");
    own.into_iter().map(Counted::warning).chain(shared.map(str::to_owned)).collect()
}

/// Nothing bounds what an attempt costs, and a budget takes no such attempt.
pub(super) fn unbounded(budget: &Budget, attempt: &v1::Attempt, told: bool) -> Fault {
    let (why, name) = (&attempt.unbounded, &budget.name);
    let message = if told {
        format!(
            "nothing bounds what this call may cost ({why}), and budget `{name}` is hard: leave that out of the request, or give \
             the budget an unbounded_ceiling"
        )
    } else {
        format!(
            "nothing bounds what this call may cost ({why}), and it counts in a hard budget that this project shares with \
             others: leave that out of the request"
        )
    };
    Fault::new(ErrorKind::Unsupported, message)
}

/// ` of SUBJECT`, where there is one.
pub(super) fn of(subject: &str) -> String {
    if subject.is_empty() { String::new() } else { format!(" of `{subject}`") }
}

impl Counted<'_> {
    /// How much more than its limit may be used with the call.
    fn over(&self) -> Money {
        self.used.total() + self.amount - self.limit
    }

    fn warning(&self) -> String {
        let (name, of, over, limit) = (&self.budget.name, of(&self.subject), self.over(), self.limit);
        format!("budget `{name}`{of} may be exceeded by ${over} of its ${limit} with this call")
    }

    /// It has no room.
    pub(super) fn fault(&self, asker: &Asker<'_>) -> Fault {
        let fault = Fault::new(ErrorKind::OverBudget, self.shortage());
        let calendar = matches!(self.budget.period, Period::Calendar(_));
        match self.budget.ends(asker.admitted).filter(|_| calendar) {
            Some(ends) => fault.retry_after(ends.remaining(asker.now)),
            None => fault,
        }
    }

    fn shortage(&self) -> String {
        if !self.told {
            return "a budget that this project shares with others has no room for this call: lower max_tokens, try again \
                    later, or ask those who run farebox"
                .to_owned();
        }
        let (limit, used) = (self.limit, self.used);
        let left = limit - used.total();
        format!(
            "budget `{}`{} has ${left} left of ${limit} (${} reserved by running calls), this call may cost up to ${}: \
             lower max_tokens, wait for running calls to end, or raise the budget",
            self.budget.name,
            of(&self.subject),
            used.reserved,
            self.amount
        )
    }
}

impl Metered<'_> {
    /// It has no room; after `retry` it may have.
    pub(super) fn fault(&self, retry: Option<Duration>) -> Fault {
        let advice = match (retry, self.measure) {
            (_, Measure::Concurrent) => "try again when one of them has ended".to_owned(),
            (Some(retry), _) => format!("try again in {}", Span::from_millis(up_to_seconds(retry))),
            (None, Measure::Tokens) => format!("this call may take {}: lower max_tokens", self.amount),
            (None, Measure::Requests) => "raise the limit".to_owned(),
        };
        let fault = Fault::new(ErrorKind::RateLimited, format!("{}: {advice}", self.allowance()));
        match retry {
            Some(retry) => fault.retry_after(retry),
            None => fault,
        }
    }

    fn allowance(&self) -> String {
        if !self.told {
            return match self.measure {
                Measure::Requests => "a limit that this project shares with others allows no more requests now",
                Measure::Tokens => "a limit that this project shares with others has too few tokens left now",
                Measure::Concurrent => "a limit that this project shares with others allows no more calls at a time",
            }
            .to_owned();
        }
        let (allowed, period) = (self.rate.allowed, self.rate.period);
        let allows = match self.measure {
            Measure::Requests => format!("{} in {period}", counted(allowed, "request")),
            Measure::Tokens => format!("{} in {period}", counted(allowed, "token")),
            Measure::Concurrent => format!("{} at a time", counted(allowed, "call")),
        };
        format!("limit `{}`{} allows {allows}", self.name, of(&self.subject))
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// In whole seconds where it is more than one.
fn up_to_seconds(span: Duration) -> u64 {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis > 1000 { millis.div_ceil(1000).saturating_mul(1000) } else { millis.max(1) }
}
