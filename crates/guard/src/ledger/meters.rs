//! What is taken of limits, by limit, subject and measure.

use std::{borrow::Cow, collections::HashMap};

use farebox_policy::{Measure, Meter, Rate, Strategy};
use farebox_proto::v1;
use farebox_types::{Span, Timestamp, Usage};

use super::cover::{Asker, Before, Scarce, Want};

/// The name of what a provider allows for a deployment. No rule can have it, so that none is counted together with it.
pub(crate) const DEPLOYMENT: &str = "provider's own";

/// What one attempt takes of one limit.
pub(super) struct Metered<'a> {
    pub(super) name: &'a str,
    pub(super) subject: String,
    pub(super) measure: Measure,
    pub(super) rate: Rate,
    pub(super) amount: u64,
    /// The provider's own: it is waited for.
    pub(super) of_deployment: bool,
    /// The caller is told of it.
    pub(super) told: bool,
}

/// What the provider allows for the deployment of an attempt, in any minute.
pub(super) fn deployment_limits<'a>(attempt: &v1::Attempt, told: bool) -> impl Iterator<Item = Metered<'a>> {
    const MINUTE: Span = Span::from_secs(60);
    let metered = |measure, allowed: u64, amount: u64, period| {
        (allowed > 0).then(|| Metered {
            name: DEPLOYMENT,
            subject: format!("{}/{}", attempt.provider, attempt.upstream_model),
            measure,
            rate: Rate { allowed, period, strategy: Strategy::SlidingWindow },
            // Whether one call is too large for it, the provider says.
            amount: amount.min(allowed),
            of_deployment: true,
            told,
        })
    };
    [
        metered(Measure::Requests, attempt.requests_per_minute, 1, MINUTE),
        metered(Measure::Tokens, attempt.tokens_per_minute, attempt.expected_tokens, MINUTE),
        metered(Measure::Concurrent, attempt.concurrent, 1, Span::ZERO),
    ]
    .into_iter()
    .flatten()
}

impl Metered<'_> {
    /// Whether this was taken of the same.
    fn is_of(&self, hold: &v1::LimitHold) -> bool {
        let measure = v1::LimitMeasure::from(self.measure);
        hold.limit == self.name && hold.subject == self.subject && hold.measure() == measure
    }

    pub(super) fn hold(&self) -> v1::LimitHold {
        self.rate.hold(self.name, &self.subject, self.measure, self.amount)
    }

    pub(super) fn want(&self) -> Want {
        let measure = v1::LimitMeasure::from(self.measure).into();
        let of = Scarce::Limit { name: self.name.to_owned(), subject: self.subject.clone(), measure };
        Want { of, amount: self.amount.into() }
    }
}

fn left(limit: &str, meter: &Meter, now: Timestamp) -> v1::LimitLeft {
    v1::LimitLeft {
        limit: limit.to_owned(),
        measure: v1::LimitMeasure::from(meter.measure()).into(),
        allowed: meter.rate().allowed,
        left: meter.room(now),
        reset_ms: u64::try_from(meter.reset(now).as_millis()).unwrap_or(u64::MAX),
    }
}

fn end(meter: &mut Meter, hold: &v1::LimitHold, taken_at: Timestamp, fact: &v1::CallFact) {
    match meter.measure() {
        // What is lost, or was sent and never answered, may have taken all that was expected.
        Measure::Tokens if fact.outcome() != v1::Outcome::Lost && (fact.usage.is_some() || !fact.estimated) => {
            let tokens = fact.usage.map(|usage| Usage::from(usage).total()).unwrap_or_default();
            meter.correct(hold.amount, tokens, taken_at);
        }
        Measure::Concurrent => meter.give_back(hold.amount, taken_at),
        _ => {}
    }
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Meters {
    /// By limit and subject: one for each measure.
    meters: HashMap<String, HashMap<String, Vec<Meter>>>,
}

impl Meters {
    /// With the rate that the rule has now, and with what the asker's attempt before gives back.
    pub(super) fn meter(&self, metered: &Metered<'_>, asker: &Asker<'_>) -> Cow<'_, Meter> {
        let Some(meter) = self.find(metered.name, &metered.subject, metered.measure) else {
            return Cow::Owned(Meter::new(metered.measure, metered.rate));
        };
        let mut meter = Cow::Borrowed(meter);
        if let Some(Before { open, fact }) = &asker.before {
            for hold in open.limit_holds.iter().filter(|hold| metered.is_of(hold)) {
                end(meter.to_mut(), hold, open.attempt_began, fact);
            }
        }
        if meter.rate() != metered.rate {
            meter.to_mut().change(metered.rate, asker.now);
        }
        meter
    }

    fn find(&self, name: &str, subject: &str, measure: Measure) -> Option<&Meter> {
        self.meters.get(name)?.get(subject)?.iter().find(|meter| meter.measure() == measure)
    }

    fn of_hold(&mut self, hold: &v1::LimitHold) -> Option<&mut Meter> {
        let (measure, _) = Rate::of(hold)?;
        let meters = self.meters.get_mut(&hold.limit)?.get_mut(&hold.subject)?;
        meters.iter_mut().find(|meter| meter.measure() == measure)
    }

    /// How much there is of a limit of which something was taken before.
    pub(super) fn room(&self, name: &str, subject: &str, measure: i32, now: Timestamp) -> Option<u64> {
        let meters = self.meters.get(name)?.get(subject)?.iter();
        let mut of_measure = meters.filter(|meter| i32::from(v1::LimitMeasure::from(meter.measure())) == measure);
        Some(of_measure.next()?.room(now))
    }

    pub(super) fn take(&mut self, hold: &v1::LimitHold, at: Timestamp) {
        let Some((measure, rate)) = Rate::of(hold) else { return };
        if self.of_hold(hold).is_none() {
            let subjects = self.meters.entry(hold.limit.clone()).or_default();
            subjects.entry(hold.subject.clone()).or_default().push(Meter::new(measure, rate));
        }
        let meter = self.of_hold(hold).expect("it was inserted if it was missing");
        meter.change(rate, at);
        if hold.amount > 0 {
            meter.take(hold.amount, at);
        }
    }

    /// An attempt that took something at a time has ended.
    pub(super) fn end(&mut self, hold: &v1::LimitHold, taken_at: Timestamp, fact: &v1::CallFact) {
        if let Some(meter) = self.of_hold(hold) {
            end(meter, hold, taken_at, fact);
        }
    }

    /// What was taken at a time was never used.
    pub(super) fn undo(&mut self, hold: &v1::LimitHold, taken_at: Timestamp) {
        if let Some(meter) = self.of_hold(hold) {
            meter.give_back(hold.amount, taken_at);
        }
    }

    /// Where limits stand of which something was taken just now.
    pub(super) fn left(&self, holds: &[v1::LimitHold], now: Timestamp) -> Vec<v1::LimitLeft> {
        let of_hold = |hold: &v1::LimitHold| {
            let (measure, _) = Rate::of(hold)?;
            Some(left(&hold.limit, self.find(&hold.limit, &hold.subject, measure)?, now))
        };
        holds.iter().filter_map(of_hold).collect()
    }

    /// Where a limit stands of which nothing was taken: it had no room.
    pub(super) fn left_to(&self, asker: &Asker<'_>, metered: &Metered<'_>) -> v1::LimitLeft {
        left(metered.name, &self.meter(metered, asker), asker.now)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, &Meter)> {
        self.meters.iter().flat_map(|(name, subjects)| {
            subjects.iter().flat_map(move |(subject, meters)| meters.iter().map(move |m| (&**name, &**subject, m)))
        })
    }

    pub(super) fn restore(&mut self, state: &v1::LimitState) {
        if let Some(meter) = Meter::restore(state) {
            let subjects = self.meters.entry(state.limit.clone()).or_default();
            subjects.entry(state.subject.clone()).or_default().push(meter);
        }
    }

    /// Forgets what is as if nothing had been taken.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.meters.retain(|_, subjects| {
            subjects.retain(|_, meters| {
                meters.retain(|meter| !meter.is_idle(now));
                !meters.is_empty()
            });
            !subjects.is_empty()
        });
    }
}
