//! Random histories of calls on budgets and limits of all kinds, held against plain sums over what was granted.

mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use farebox_policy::CallScope;
use proptest::prelude::*;

use super::*;
use steps::{MINUTE, RAISED, Step, policies, starts, steps};

/// One attempt, as whoever counts by hand sees it.
#[derive(Clone, Debug)]
struct Counted {
    admitted: Timestamp,
    attempt: v1::Attempt,
    request: v1::ReserveRequest,
    holds: Vec<v1::Hold>,
    limit_holds: Vec<v1::LimitHold>,
    began: Timestamp,
    /// What it cost, and what tokens it took; none while it is open.
    ended: Option<(Money, u64)>,
}

struct History {
    stage: Stage,
    now: Timestamp,
    /// What the state is the sum of.
    base: Vec<v1::SnapshotPart>,
    entries: Vec<v1::LedgerEntry>,
    open: Vec<ReservationId>,
    counted: HashMap<ReservationId, Vec<Counted>>,
    facts: BTreeSet<String>,
    announced: BTreeSet<String>,
}

impl History {
    fn begin(now: Timestamp) -> History {
        History {
            stage: Stage::new(policies()),
            now,
            base: Vec::new(),
            entries: Vec::new(),
            open: Vec::new(),
            counted: HashMap::new(),
            facts: BTreeSet::new(),
            announced: BTreeSet::new(),
        }
    }

    fn pick(&self, which: usize) -> Option<ReservationId> {
        (!self.open.is_empty()).then(|| self.open[which % self.open.len()])
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = self.now;
        match step {
            Step::Pass { millis } => self.now = now.after(Duration::from_millis(millis)),
            Step::Reserve(asked) => {
                let entries = self.stage.reserve(asked.request(now), now).entries;
                self.note(entries)?;
            }
            Step::Settle { which, cost, tokens } => {
                let Some(id) = self.pick(which) else { return Ok(()) };
                let end = self.end(id, Outcome::Ok, cost, tokens);
                let message = v1::SettleRequest { shard: 0, reservation_id: id.to_string(), end: Some(end) };
                let settled = self.stage.settle(message.clone(), now);
                self.note(settled.entries)?;
                let again = self.stage.settle(message, now);
                prop_assert_eq!((again.reply, again.entries), (settled.reply, Vec::new()));
            }
            Step::Amend { which, cost, tokens, next } => {
                let Some(id) = self.pick(which) else { return Ok(()) };
                let ended = Some(self.end(id, Outcome::Error, cost, tokens));
                let v1::ReserveRequest { attempt, alternatives, .. } = next.request(now);
                let message =
                    v1::AmendRequest { shard: 0, reservation_id: id.to_string(), ended, next: attempt, alternatives };
                let entries = self.stage.amend(message.clone(), now).entries;
                self.note(entries)?;
                prop_assert_eq!(self.stage.amend(message, now).entries, []);
            }
            Step::Lose { which } => {
                let Some(id) = self.pick(which) else { return Ok(()) };
                let entries = self.stage.lose(id, now).expect("it is open").entries;
                self.note(entries)?;
                prop_assert!(self.stage.lose(id, now).is_none());
            }
            Step::Release { which } => {
                // A worker that has amended has claimed it.
                let Some(id) = self.pick(which).filter(|id| self.counted[id].len() == 1) else { return Ok(()) };
                let entries = self.stage.release(id).entries;
                self.note(entries)?;
                prop_assert_eq!(self.stage.release(id).entries, []);
            }
            Step::Repeat { which } => {
                let Some(id) = self.pick(which) else { return Ok(()) };
                let request = self.counted[&id][0].request.clone();
                let again = self.stage.reserve(request, now);
                prop_assert!(is_granted(&again.reply) && again.entries.is_empty());
            }
            Step::Crash => {
                let mut other = Ledger::new(terms());
                other.restore(self.base.clone());
                self.entries.iter().for_each(|entry| other.apply(entry));
                prop_assert_eq!(&other.windows, &self.stage.windows);
                prop_assert_eq!(&other.meters, &self.stage.meters);
                prop_assert_eq!(&other.books, &self.stage.books);
                prop_assert_eq!(&other.open, &self.stage.open);
                prop_assert_eq!(&other.closed, &self.stage.closed);
                self.stage.ledger = other;
            }
            Step::Snapshot => {
                let (through, parts) = newest(self.stage.snapshot("s", 7, 300)).expect("it has at least one part");
                prop_assert_eq!(through, 7);
                let mut other = Ledger::new(terms());
                other.restore(parts.clone());
                prop_assert_eq!(&other.windows, &self.stage.windows);
                prop_assert_eq!(&other.books, &self.stage.books);
                prop_assert_eq!(&other.open, &self.stage.open);
                prop_assert_eq!(&other.closed, &self.stage.closed);
                for (limit, subject, meter) in self.stage.meters.iter() {
                    let measure = v1::LimitMeasure::from(meter.measure()).into();
                    prop_assert_eq!(other.meters.room(limit, subject, measure, now), Some(meter.room(now)));
                }
                (self.base, self.entries, self.stage.ledger) = (parts, Vec::new(), other);
            }
        }
        self.check()
    }

    fn end(&self, id: ReservationId, outcome: Outcome, percent: i64, tokens: u64) -> v1::AttemptEnd {
        let attempt = &self.stage.open[&id].attempt;
        let cost = Money::from_picos(v1::Money::of(&attempt.bound).picos() * i128::from(percent) / 100);
        let usage = v1::Usage { input: Some(tokens), searches: Some(1000), ..Default::default() };
        v1::AttemptEnd { usage: Some(usage), ..end(&attempt.call_id, outcome, cost) }
    }

    /// Counts by hand what was decided.
    fn note(&mut self, entries: Vec<v1::LedgerEntry>) -> Result<(), TestCaseError> {
        for entry in entries {
            match entry.entry.clone().expect("it says something") {
                Entry::Reserved(reserved) => {
                    let request = reserved.request.clone().expect("it is there");
                    let id = request.reservation_id.parse().expect("an id");
                    self.open.push(id);
                    let admitted = Timestamp(reserved.at_unix_ms);
                    let attempt = request.attempt.clone().expect("it is there");
                    let (holds, limit_holds) = (reserved.holds, reserved.limit_holds);
                    let counted =
                        Counted { admitted, attempt, request, holds, limit_holds, began: admitted, ended: None };
                    self.counted.insert(id, vec![counted]);
                }
                Entry::Amended(amended) => {
                    let id = amended.reservation_id.parse().expect("an id");
                    self.note_end(&id, &amended.fact.expect("it has ended"))?;
                    let attempts = self.counted.get_mut(&id).expect("it was reserved");
                    let next = Counted {
                        attempt: amended.next.expect("it goes on"),
                        holds: amended.holds,
                        limit_holds: amended.limit_holds,
                        began: self.now,
                        ended: None,
                        ..attempts[0].clone()
                    };
                    attempts.push(next);
                }
                Entry::Ended(ended) => {
                    let id = ended.reservation_id.parse().expect("an id");
                    self.note_end(&id, &ended.fact.expect("it has ended"))?;
                    self.open.retain(|open| *open != id);
                }
                Entry::Released(released) => {
                    let id = released.reservation_id.parse().expect("an id");
                    self.counted.remove(&id);
                    self.open.retain(|open| *open != id);
                }
                Entry::Alerted(alerted) => {
                    let alert = alerted.alert.expect("it is there");
                    let rolling = alert.rule == "rolling" || alert.rule == "soft";
                    let once = format!(
                        "{:?} {} {} {} {}",
                        alert.kind(),
                        alert.rule,
                        alert.subject,
                        alert.window,
                        alert.threshold_permille
                    );
                    let overdraft = alert.kind() == v1::alert::Kind::Overdraft;
                    prop_assert!(overdraft || self.announced.insert(once.clone()) || rolling, "twice: {once}");
                }
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    fn note_end(&mut self, id: &ReservationId, fact: &v1::CallFact) -> Result<(), TestCaseError> {
        prop_assert!(self.facts.insert(fact.call_id.clone()), "an attempt ended twice");
        let last = self.counted.get_mut(id).and_then(|attempts| attempts.last_mut()).expect("it was reserved");
        prop_assert_eq!(&last.attempt.call_id, &fact.call_id);
        let lost = fact.outcome() == v1::Outcome::Lost;
        let tokens = fact.usage.and_then(|usage| usage.input).filter(|_| !lost).unwrap_or(last.attempt.expected_tokens);
        last.ended = Some((v1::Money::of(&fact.cost), tokens));
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        self.check_money()?;
        self.check_limits()
    }

    /// By hand: the windows of every attempt follow from the rule, the call and the time of its admission.
    fn check_money(&self) -> Result<(), TestCaseError> {
        let policies = policies();
        let mut settled: BTreeMap<(String, String, String), Money> = BTreeMap::new();
        let mut days: BTreeMap<String, Money> = BTreeMap::new();
        /// Of a budget and subject: admission, what it takes now, what it took above what was reserved.
        type Taken = Vec<(Timestamp, Money, Money)>;
        let mut taken: BTreeMap<(String, String), Taken> = BTreeMap::new();
        for counted in self.counted.values().flatten() {
            let scope = CallScope {
                principal: counted.request.principal.as_ref().expect("it is there"),
                labels: counted.request.labels.as_ref().expect("it is there"),
                model: &counted.attempt.model,
                provider: &counted.attempt.provider,
                upstream_model: &counted.attempt.upstream_model,
            };
            for (budget, window) in policies.budgets_for(&scope, counted.admitted) {
                let same = |hold: &&v1::Hold| hold.budget == window.budget && hold.subject == window.subject;
                let hold = counted.holds.iter().find(same).expect("a part of each budget is set aside");
                prop_assert_eq!(&hold.window, &window.window);
                let held = v1::Money::of(&hold.amount);
                let (amount, above) = match counted.ended {
                    Some((cost, _)) => (cost, Money::ZERO.max(cost - held)),
                    None => (held, Money::ZERO),
                };
                let all = taken.entry((budget.name.clone(), window.subject.clone())).or_default();
                all.push((counted.admitted, amount, above));
                if let Some((cost, _)) = counted.ended {
                    *settled.entry((window.budget, window.subject, window.window)).or_default() += cost;
                }
            }
            if let Some((cost, _)) = counted.ended {
                let day = jiff::Timestamp::from_millisecond(counted.admitted.0).expect("a time");
                *days.entry(day.to_string()[..10].to_owned()).or_default() += cost;
            }
        }
        let found = self.stage.windows.iter().map(|(budget, subject, window, spend)| {
            ((budget.to_owned(), subject.to_owned(), window.to_owned()), spend.settled)
        });
        let nonzero = |sums: BTreeMap<(String, String, String), Money>| -> BTreeMap<_, _> {
            sums.into_iter().filter(|(_, sum)| !sum.is_zero()).collect()
        };
        prop_assert_eq!(nonzero(found.collect()), nonzero(settled));
        let books = self.stage.books().days.into_iter().map(|day| (day.day, v1::Money::of(&day.cost)));
        prop_assert_eq!(books.collect::<BTreeMap<_, _>>(), days);
        for ((name, subject), all) in &taken {
            let budget = &policies.budgets[name];
            if !budget.hard {
                continue;
            }
            let limit = budget.limit + if name == "month" { Money::usd(RAISED) } else { Money::ZERO };
            for (end, _, _) in all {
                let counts = |admitted: Timestamp| match budget.period {
                    Period::Rolling(span) => admitted <= *end && admitted.after(span.get()) > *end,
                    period => period.window(&budget.time_zone, admitted) == period.window(&budget.time_zone, *end),
                };
                let in_window = || all.iter().filter(|(admitted, _, _)| counts(*admitted));
                let used: Money = in_window().map(|(_, amount, _)| *amount).sum();
                let above: Money = in_window().map(|(_, _, above)| *above).sum();
                prop_assert!(used <= limit + above, "{name} {subject}: {used} of {limit}, {above} above");
            }
        }
        Ok(())
    }

    /// By hand: what any span of a limit's kind holds.
    fn check_limits(&self) -> Result<(), TestCaseError> {
        type Taken = (Timestamp, u64, u64, bool);
        let mut taken: BTreeMap<(&str, &str), Vec<Taken>> = BTreeMap::new();
        for counted in self.counted.values().flatten() {
            for hold in &counted.limit_holds {
                let tokens = hold.measure() == v1::LimitMeasure::Tokens;
                let actual = counted.ended.filter(|_| tokens).map_or(hold.amount, |(_, actual)| actual);
                let above = actual.saturating_sub(hold.amount);
                let one = (counted.began, actual, above, counted.ended.is_none());
                taken.entry((&hold.limit, &hold.subject)).or_default().push(one);
            }
        }
        for ((limit, subject), all) in taken {
            let sum = |counts: &dyn Fn(&Taken) -> bool| -> (u64, u64) {
                let counted = all.iter().filter(|one| counts(one));
                counted.fold((0, 0), |(amount, above), one| (amount + one.1, above + one.2))
            };
            let window = |at: Timestamp| at.millis().div_euclid(60_000);
            for (end, _, _, _) in &all {
                let ((amount, above), allowed) = match limit {
                    "fixed" => (sum(&|one| window(one.0) == window(*end)), 6),
                    "sliding" => (sum(&|one| one.0 <= *end && one.0.after(MINUTE.get()) > *end), 900),
                    "together" => (sum(&|one| one.3), 3),
                    // From any moment on: what was full then, and what has flowed in since.
                    _ => {
                        let holds = all.iter().map(|one| one.0).filter(|from| from <= end).all(|from| {
                            let flowed = (end.millis() - from.millis()) * 4 / 60_000;
                            let (amount, _) = sum(&|one| from <= one.0 && one.0 <= *end);
                            i64::try_from(amount).expect("few") <= 5 + flowed
                        });
                        prop_assert!(holds, "bucket of {subject}: {all:?}");
                        continue;
                    }
                };
                prop_assert!(amount <= allowed + above, "{limit} of {subject}: {amount}, {above} above: {all:?}");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_history_oversteps_a_limit_and_every_sum_agrees(start in starts(), steps in steps()) {
        let mut history = History::begin(start);
        for step in steps {
            history.take(step)?;
        }
        history.take(Step::Crash)?;
    }
}
