mod budgets;
mod limits;
mod property;
mod snapshots;
mod told;

use std::{ops, sync::Arc};

use farebox_policy::{Budget, Calendar, Dimension, Period, Pick, Policies, Scope, Unreachable, WhenShort, Zone};
use farebox_proto::v1::ledger_entry::Entry;
use farebox_types::{CallId, ErrorKind, Fault, Money, Outcome, Project, Timestamp};

use super::*;
use crate::{handler::facts, rules::Rules};

const NOW: Timestamp = Timestamp(1_795_300_000_000);

pub(crate) fn retention() -> Retention {
    Retention {
        reservations: Duration::from_secs(60),
        reservations_max: 1000,
        requests: Duration::from_secs(3600),
        requests_max: 1000,
    }
}

pub(crate) fn terms() -> Terms {
    Terms {
        lease: Duration::from_secs(5),
        wait_for_holds: Duration::from_secs(2),
        limit_wait: Duration::from_secs(3),
        retention: retention(),
    }
}

/// A ledger with its rules.
struct Stage {
    ledger: Ledger,
    rules: Rules,
}

impl ops::Deref for Stage {
    type Target = Ledger;
    fn deref(&self) -> &Ledger {
        &self.ledger
    }
}

impl ops::DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}

impl Stage {
    /// The one project that calls is that of those who run farebox.
    fn new(policies: Policies) -> Stage {
        Stage::run_by("acme", policies)
    }

    fn run_by(operators: &str, policies: Policies) -> Stage {
        let rules = Rules::new(Arc::new(policies), Project::parse(operators).unwrap());
        Stage { ledger: Ledger::new(terms()), rules }
    }

    fn of(budgets: Vec<Budget>) -> Stage {
        let budgets = budgets.into_iter().map(|budget| (budget.name.clone(), budget)).collect();
        Stage::new(Policies { budgets, ..Policies::default() })
    }

    fn reserve(&mut self, request: v1::ReserveRequest, now: Timestamp) -> Decision<v1::ReserveReply> {
        match self.ledger.reserve(request, &self.rules, now, false) {
            Admission::Decided(decision) => decision,
            Admission::Wait(..) => panic!("it had no leave to wait"),
        }
    }

    fn amend(&mut self, request: v1::AmendRequest, now: Timestamp) -> Decision<v1::AmendReply> {
        self.ledger.amend(request, &self.rules, now)
    }

    fn settle(&mut self, request: v1::SettleRequest, now: Timestamp) -> Decision<v1::SettleReply> {
        self.ledger.settle(request, &self.rules, now)
    }

    fn lose(&mut self, id: ReservationId, now: Timestamp) -> Option<Decision<(v1::ReserveRequest, v1::CallFact)>> {
        self.ledger.lose(id, &self.rules, now)
    }

    fn forget(&mut self, now: Timestamp, tasks: Duration, tasks_max: usize) {
        self.ledger.forget(&self.rules, now, Memory { tasks, tasks_max, books_days: 40 });
    }

    /// By budget.
    fn status(&self) -> Vec<v1::BudgetStatus> {
        let mut status = self.ledger.status(&self.rules, &v1::BudgetStatusRequest::default(), usize::MAX, NOW).budgets;
        status.sort_by(|a, b| (&a.budget, &a.subject, &a.window).cmp(&(&b.budget, &b.subject, &b.window)));
        status
    }
}

pub(crate) fn budget(name: &str, scope: Scope, period: Period, limit: Money) -> Budget {
    Budget {
        name: name.to_owned(),
        scope,
        period,
        time_zone: Zone::default(),
        limit,
        limit_text: String::new(),
        alert: Vec::new(),
        hard: true,
        when_short: WhenShort::Refuse,
        unbounded_ceiling: None,
        unreachable: Unreachable::Closed,
        raises: Vec::new(),
    }
}

fn ledger(limit: &str) -> Stage {
    let limit: Money = limit.parse().expect("an amount");
    let everything = budget("max_cost_per_day", Scope::default(), Period::Calendar(Calendar::Day), limit);
    let task = Scope(vec![(Dimension::Task, Pick::Each)]);
    Stage::of(vec![everything, budget("max_cost_per_task", task, Period::Lifetime, limit)])
}

pub(crate) fn attempt(bound: Money) -> v1::Attempt {
    v1::Attempt {
        call_id: CallId::generate().to_string(),
        provider: "p".into(),
        bound: Some(bound.into()),
        ..Default::default()
    }
}

pub(crate) fn request(bound: Money, task: &str) -> v1::ReserveRequest {
    v1::ReserveRequest {
        reservation_id: ReservationId::generate().to_string(),
        principal: Some(v1::Principal { project: "acme".into(), ..Default::default() }),
        labels: Some(v1::Labels { task_id: task.into(), ..Default::default() }),
        request_id: "r".into(),
        deadline_unix_ms: NOW.after(Duration::from_secs(60)).millis(),
        attempt: Some(attempt(bound)),
        ..Default::default()
    }
}

pub(crate) fn end(call_id: &str, outcome: Outcome, cost: Money) -> v1::AttemptEnd {
    v1::AttemptEnd {
        call_id: call_id.into(),
        outcome: v1::Outcome::from(outcome).into(),
        cost: Some(cost.into()),
        ..Default::default()
    }
}

fn settle(ledger: &mut Stage, request: &v1::ReserveRequest, outcome: Outcome, cost: Money) -> v1::SettleReply {
    let call = &request.attempt.as_ref().expect("set").call_id;
    let message = v1::SettleRequest {
        shard: 0,
        reservation_id: request.reservation_id.clone(),
        end: Some(end(call, outcome, cost)),
    };
    ledger.settle(message, NOW).reply
}

fn is_granted(reply: &v1::ReserveReply) -> bool {
    matches!(reply.result, Some(v1::reserve_reply::Result::Granted(_)))
}

fn refusal(reply: v1::ReserveReply) -> Fault {
    match reply.result {
        Some(v1::reserve_reply::Result::Refused(error)) => error.into(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_budget_of_twenty_calls_admits_twenty() {
    let mut ledger = ledger("20");
    let granted = (0..200).filter(|_| is_granted(&ledger.reserve(request(Money::usd(1), ""), NOW).reply)).count();
    assert_eq!(granted, 20);
}

#[test]
fn what_was_reserved_too_much_can_be_used_again() {
    let mut ledger = ledger("20");
    let mut admitted = 0;
    for _ in 0..1000 {
        let call = request(Money::usd(1), "");
        if is_granted(&ledger.reserve(call.clone(), NOW).reply) {
            admitted += 1;
            settle(&mut ledger, &call, Outcome::Ok, "0.1".parse().unwrap());
        }
    }
    // 190 calls spend 19 dollars; the next still fits its bound of 1, and brings the rest to 0.9.
    assert_eq!(admitted, 191);
    let refused = refusal(ledger.reserve(request(Money::usd(1), ""), NOW).reply);
    assert_eq!(refused.kind, ErrorKind::OverBudget);
    insta::assert_snapshot!(refused.message);
}

#[test]
fn budgets_are_reserved_together_or_not_at_all() {
    let mut ledger = ledger("10");
    assert!(is_granted(&ledger.reserve(request(Money::usd(6), "t1"), NOW).reply));
    let before = ledger.status();
    assert_eq!(refusal(ledger.reserve(request(Money::usd(5), "t2"), NOW).reply).kind, ErrorKind::OverBudget);
    assert_eq!(ledger.status().len(), before.len());
    assert!(is_granted(&ledger.reserve(request(Money::usd(4), "t2"), NOW).reply));
}

#[test]
fn the_first_end_wins() {
    let mut ledger = ledger("10");
    let call = request(Money::usd(5), "");
    ledger.reserve(call.clone(), NOW);
    let id: ReservationId = call.reservation_id.parse().unwrap();
    let lost = ledger.lose(id, NOW).unwrap();
    let Some(Entry::Ended(ended)) = lost.entries[0].entry.clone() else { panic!("no end") };
    let fact = ended.fact.unwrap();
    assert_eq!((fact.outcome(), v1::Money::of(&fact.cost)), (v1::Outcome::Lost, Money::usd(5)));

    let late = settle(&mut ledger, &call, Outcome::Ok, Money::usd(1));
    let closed = v1::Closed { outcome: v1::Outcome::Lost.into() };
    assert_eq!(late.result, Some(v1::settle_reply::Result::Closed(closed)));
    assert!(ledger.lose(id, NOW).is_none());
    assert_eq!(v1::Money::of(&ledger.status()[0].settled), Money::usd(5));
}

#[test]
fn what_was_served_and_who_said_the_cost_stand_in_the_fact() {
    let mut ledger = ledger("1");
    let request = request(Money::usd(1), "t");
    ledger.reserve(request.clone(), NOW);
    let call = &request.attempt.as_ref().expect("set").call_id;
    let usage = v1::Usage { cache_read_audio: Some(3), searches: Some(2), ..Default::default() };
    let end = v1::AttemptEnd {
        usage: Some(usage),
        service_tier: "flex".into(),
        cost_reported: true,
        ..end(call, Outcome::Ok, Money::ZERO)
    };
    let message = v1::SettleRequest { reservation_id: request.reservation_id.clone(), end: Some(end), shard: 0 };
    let Some(Entry::Ended(ended)) = ledger.settle(message, NOW).entries.remove(0).entry else {
        panic!("it ended");
    };
    let fact = ended.fact.expect("an end has a fact");
    assert_eq!((fact.service_tier.as_str(), fact.cost_reported, fact.usage), ("flex", true, Some(usage)));
}

#[test]
fn a_repeated_message_changes_nothing() {
    let mut ledger = ledger("10");
    let call = request(Money::usd(6), "");
    assert_eq!(ledger.reserve(call.clone(), NOW).entries.len(), 1);
    let again = ledger.reserve(call.clone(), NOW);
    assert!(is_granted(&again.reply) && again.entries.is_empty());
    assert_eq!(settle(&mut ledger, &call, Outcome::Ok, Money::usd(2)).result, {
        Some(v1::settle_reply::Result::Settled(v1::Settled {}))
    });
    let call_id = call.attempt.as_ref().unwrap().call_id.clone();
    let message = v1::SettleRequest {
        shard: 0,
        reservation_id: call.reservation_id.clone(),
        end: Some(end(&call_id, Outcome::Ok, Money::usd(2))),
    };
    let repeated = ledger.settle(message, NOW);
    assert_eq!(repeated.entries, []);
    assert_eq!(repeated.reply.result, Some(v1::settle_reply::Result::Settled(v1::Settled {})));
}

#[test]
fn another_attempt_ends_the_one_before() {
    let mut ledger = ledger("10");
    let call = request(Money::usd(6), "");
    ledger.reserve(call.clone(), NOW);
    let first = call.attempt.as_ref().unwrap().call_id.clone();
    let amend = |next: v1::Attempt, ended: &str, cost: Money| v1::AmendRequest {
        shard: 0,
        reservation_id: call.reservation_id.clone(),
        ended: Some(end(ended, Outcome::Error, cost)),
        next: Some(next),
        ..Default::default()
    };
    let second = attempt(Money::usd(8));
    let decision = ledger.amend(amend(second.clone(), &first, Money::usd(1)), NOW);
    assert!(matches!(decision.reply.result, Some(v1::amend_reply::Result::Granted(_))));
    let day = &ledger.status()[0];
    assert_eq!((v1::Money::of(&day.settled), v1::Money::of(&day.reserved)), (Money::usd(1), Money::usd(8)));

    // The next one does not fit into what is left: nothing has changed, and its worker ends it.
    let third = ledger.amend(amend(attempt(Money::usd(9)), &second.call_id, Money::usd(2)), NOW);
    assert!(matches!(third.reply.result, Some(v1::amend_reply::Result::Refused(_))));
    assert!(facts(&third.entries).next().is_none(), "{:?}", third.entries);
    let day = &ledger.status()[0];
    assert_eq!((v1::Money::of(&day.settled), v1::Money::of(&day.reserved)), (Money::usd(1), Money::usd(8)));
    let last = v1::AttemptEnd { call_id: second.call_id, ..end(&first, Outcome::Error, Money::usd(2)) };
    let message = v1::SettleRequest { shard: 0, reservation_id: call.reservation_id.clone(), end: Some(last) };
    let ended = ledger.settle(message, NOW);
    assert_eq!(facts(&ended.entries).map(|fact| fact.attempt).collect::<Vec<_>>(), [2]);
    let day = &ledger.status()[0];
    assert_eq!((v1::Money::of(&day.settled), v1::Money::of(&day.reserved)), (Money::usd(3), Money::ZERO));
    assert_eq!(ledger.open_count(), 0);
}

#[test]
fn an_attempt_that_was_lost_is_not_followed_by_another() {
    let mut ledger = ledger("10");
    let call = request(Money::usd(6), "");
    ledger.reserve(call.clone(), NOW);
    ledger.lose(call.reservation_id.parse().unwrap(), NOW).unwrap();
    let message = v1::AmendRequest {
        reservation_id: call.reservation_id.clone(),
        ended: Some(end(&call.attempt.unwrap().call_id, Outcome::Error, Money::usd(1))),
        next: Some(attempt(Money::usd(1))),
        ..Default::default()
    };
    let reply = ledger.amend(message, NOW).reply;
    assert!(matches!(reply.result, Some(v1::amend_reply::Result::Closed(_))), "{reply:?}");
}

#[test]
fn a_request_id_is_attached_to_and_another_body_is_a_conflict() {
    let mut ledger = ledger("10");
    let named = |body: &'static [u8], job| v1::ReserveRequest {
        body_digest: prost::bytes::Bytes::from_static(body),
        job,
        ..request(Money::usd(1), "")
    };
    let first = named(b"a", false);
    ledger.reserve(first.clone(), NOW);
    let existing = |reply: v1::ReserveReply| match reply.result {
        Some(v1::reserve_reply::Result::Existing(existing)) => existing,
        other => panic!("not recognised: {other:?}"),
    };
    assert!(existing(ledger.reserve(named(b"a", false), NOW).reply).open);
    assert_eq!(refusal(ledger.reserve(named(b"b", false), NOW).reply).kind, ErrorKind::Conflict);
    settle(&mut ledger, &first, Outcome::Ok, Money::usd(1));
    let ended = existing(ledger.reserve(named(b"a", false), NOW).reply);
    assert_eq!((ended.open, ended.outcome()), (false, v1::Outcome::Ok));
    assert_eq!(ended.reservation_id, first.reservation_id);
}

#[test]
fn a_request_whose_id_farebox_made_is_found_while_it_runs() {
    let mut ledger = ledger("10");
    let call = request(Money::usd(1), "");
    ledger.reserve(call.clone(), NOW);
    assert_eq!(ledger.lookup("acme", "r"), None);
    let running = ledger.running("acme", "r").expect("it runs");
    assert_eq!((running.open, &running.reservation_id), (true, &call.reservation_id));
    assert_eq!((ledger.running("other", "r"), ledger.running("acme", "s")), (None, None));
    let mut released = self::ledger("10");
    released.restore(ledger.snapshot("s", 1, 1_000_000));
    assert_eq!(released.running("acme", "r"), Some(running), "also by the next guard");
    released.release(call.reservation_id.parse().unwrap());
    settle(&mut ledger, &call, Outcome::Ok, Money::usd(1));
    assert_eq!((ledger.running("acme", "r"), released.running("acme", "r")), (None, None));
}

#[test]
fn a_lost_job_may_run_again_and_a_finished_one_may_not() {
    let mut ledger = ledger("10");
    let job = || v1::ReserveRequest {
        body_digest: prost::bytes::Bytes::from_static(b"a"),
        job: true,
        ..request(Money::usd(1), "")
    };
    let first = job();
    ledger.reserve(first.clone(), NOW);
    ledger.lose(first.reservation_id.parse().unwrap(), NOW);
    let second = job();
    assert!(is_granted(&ledger.reserve(second.clone(), NOW).reply));
    settle(&mut ledger, &second, Outcome::Ok, Money::usd(1));
    assert!(!is_granted(&ledger.reserve(job(), NOW).reply));
}

#[test]
fn a_released_reservation_leaves_no_trace() {
    let mut ledger = ledger("10");
    let call =
        v1::ReserveRequest { body_digest: prost::bytes::Bytes::from_static(b"a"), ..request(Money::usd(10), "") };
    ledger.reserve(call.clone(), NOW);
    assert!(ledger.release(call.reservation_id.parse().unwrap()).reply.released);
    assert!(is_granted(&ledger.reserve(request(Money::usd(10), ""), NOW).reply));
    assert_eq!(ledger.lookup("acme", "r"), None);
}

#[test]
fn max_cost_covers_all_attempts_together() {
    let mut ledger = ledger("100");
    let call = v1::ReserveRequest { max_cost: Some(Money::usd(5).into()), ..request(Money::usd(3), "") };
    ledger.reserve(call.clone(), NOW);
    let message = v1::AmendRequest {
        shard: 0,
        reservation_id: call.reservation_id.clone(),
        ended: Some(end(&call.attempt.as_ref().unwrap().call_id, Outcome::Error, Money::usd(3))),
        next: Some(attempt(Money::usd(3))),
        ..Default::default()
    };
    let reply = ledger.amend(message, NOW).reply;
    let Some(v1::amend_reply::Result::Refused(error)) = reply.result else { panic!("granted") };
    assert!(error.message.contains("max_cost of $5"), "{}", error.message);
}

#[test]
fn an_end_that_ages_out_takes_no_newer_run_with_it() {
    let mut ledger = ledger("100");
    let hour = Duration::from_secs(3600);
    let job = || v1::ReserveRequest {
        body_digest: prost::bytes::Bytes::from_static(b"a"),
        job: true,
        deadline_unix_ms: NOW.after(hour * 10).millis(),
        ..request(Money::usd(1), "")
    };
    let age = |ledger: &mut Stage, now: Timestamp| {
        let other = v1::ReserveRequest { request_id: now.millis().to_string(), ..job() };
        ledger.reserve(other.clone(), now);
        let end = end(&other.attempt.unwrap().call_id, Outcome::Ok, Money::ZERO);
        ledger.settle(v1::SettleRequest { shard: 0, reservation_id: other.reservation_id, end: Some(end) }, now);
    };
    let (first, second) = (job(), job());
    ledger.reserve(first.clone(), NOW);
    ledger.lose(first.reservation_id.parse().unwrap(), NOW);
    ledger.reserve(second.clone(), NOW);

    age(&mut ledger, NOW.after(hour * 2));
    let known = ledger.lookup("acme", "r").expect("it runs");
    assert_eq!((known.open, &known.reservation_id), (true, &second.reservation_id));

    let mut restored = super::tests::ledger("100");
    restored.restore(ledger.snapshot("s", 1, 1_000_000));
    assert_eq!(restored.lookup("acme", "r"), Some(known));

    // Remembered from its end on, also after a restart.
    ledger.lose(second.reservation_id.parse().unwrap(), NOW.after(hour * 3));
    age(&mut ledger, NOW.after(hour * 7 / 2));
    let mut restored = super::tests::ledger("100");
    restored.restore(ledger.snapshot("s", 1, 1_000_000));
    assert!(restored.lookup("acme", "r").is_some_and(|known| !known.open));
    age(&mut restored, NOW.after(hour * 5));
    assert_eq!(restored.lookup("acme", "r"), None);
}

#[test]
fn too_many_request_ids_push_out_the_oldest_end_and_no_running_call() {
    let retention = Retention { requests_max: 2, ..retention() };
    let mut ledger = Stage::of(Vec::new());
    ledger.ledger = Ledger::new(Terms { retention, ..terms() });
    let named = |id: &str| v1::ReserveRequest {
        request_id: id.into(),
        body_digest: prost::bytes::Bytes::from_static(b"a"),
        ..request(Money::usd(1), "")
    };
    ledger.reserve(named("running"), NOW);
    for id in ["a", "b", "c"] {
        let call = named(id);
        ledger.reserve(call.clone(), NOW);
        settle(&mut ledger, &call, Outcome::Ok, Money::usd(1));
    }
    let known = ["running", "a", "b", "c"].map(|id| ledger.lookup("acme", id).is_some());
    assert_eq!(known, [true, false, true, true]);
}

#[test]
fn days_that_are_over_are_forgotten_and_running_budgets_are_not() {
    let mut ledger = ledger("1000");
    let call = request(Money::usd(1), "t1");
    ledger.reserve(call.clone(), NOW);
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    let later = NOW.after(month * 2);
    ledger.forget(later, month, 1000);
    assert_eq!(ledger.status().len(), 2, "money is reserved in both");
    settle(&mut ledger, &call, Outcome::Ok, Money::usd(1));
    ledger.forget(NOW.after(Duration::from_secs(60)), month, 1000);
    assert_eq!(ledger.status().len(), 2);
    ledger.forget(later, month, 1000);
    assert_eq!(ledger.status().len(), 0);
}
