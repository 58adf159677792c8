use std::{collections::HashMap, sync::Arc};

use farebox_policy::{Budget, Calendar, Period, Policies, Scope, WhenShort};
use farebox_types::{CallId, Money, Outcome, Project};

use super::*;
use crate::ledger::tests::{attempt, budget, end, request, terms};

/// A guard without a bus.
struct Guard {
    state: State,
    now: Now,
    replies: HashMap<String, v1::ReserveReply>,
}

impl Guard {
    fn new(budgets: Vec<Budget>, waiting_max: usize) -> Guard {
        let budgets = budgets.into_iter().map(|budget| (budget.name.clone(), budget)).collect();
        let policies = Policies { budgets, ..Policies::default() };
        let state = State {
            guard_id: "g".into(),
            rules: Rules::new(Arc::new(policies), Project::parse("acme").unwrap()),
            ledger: Ledger::new(terms()),
            leases: Leases::new(terms().lease),
            waiting: Waiting::new(waiting_max, waiting_max),
            lease: terms().lease,
            status_max: 100_000,
        };
        let now = Now { wall: Timestamp(1_795_300_000_000), leading: Duration::ZERO };
        Guard { state, now, replies: HashMap::new() }
    }

    fn tell(&mut self, batch: Batch) {
        for (to, reply) in batch.replies {
            if let Ok(reply) = v1::ReserveReply::decode(reply) {
                self.replies.insert(to, reply);
            }
        }
    }

    /// The answer goes to the reservation id.
    fn reserve(&mut self, request: &v1::ReserveRequest) {
        let mut batch = Batch::default();
        self.state.admit_or_park(request.clone(), Some(request.reservation_id.clone()), self.now, &mut batch);
        self.tell(batch);
    }

    fn settle(&mut self, request: &v1::ReserveRequest, cost: Money) {
        let mut batch = Batch::default();
        let call = &request.attempt.as_ref().unwrap().call_id;
        let reservation_id = request.reservation_id.clone();
        let end = Some(end(call, Outcome::Ok, cost));
        self.state.end(v1::SettleRequest { shard: 0, reservation_id, end }, None, self.now, &mut batch);
        self.tell(batch);
    }

    /// A worker says that it has this call; what the guard says has ended.
    fn hear_of(&mut self, request: &v1::ReserveRequest) -> Vec<String> {
        let taken = vec![request.reservation_id.clone()];
        let beat = v1::HeartbeatRequest { worker_id: "w".into(), taken, ..Default::default() };
        let mut batch = Batch::default();
        self.state.hear(beat, Some("w"), self.now, &mut batch);
        v1::HeartbeatReply::decode(batch.replies.remove(0).1).unwrap().closed
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { wall: self.now.wall.after(time), leading: self.now.leading + time };
        let mut batch = Batch::default();
        self.state.wake(self.now, &mut batch);
        self.tell(batch);
    }

    fn granted(&self, request: &v1::ReserveRequest) -> Option<&v1::Granted> {
        match self.replies.get(&request.reservation_id)?.result.as_ref()? {
            v1::reserve_reply::Result::Granted(granted) => Some(granted),
            _ => None,
        }
    }

    fn refused(&self, request: &v1::ReserveRequest) -> Option<ErrorKind> {
        match self.replies.get(&request.reservation_id)?.result.as_ref()? {
            v1::reserve_reply::Result::Refused(error) => error.kind().known(),
            _ => None,
        }
    }

    fn used(&self) -> (Money, Money) {
        let asked = v1::BudgetStatusRequest::default();
        let status = self.state.ledger.status(&self.state.rules, &asked, 100_000, self.now.wall).budgets;
        status.first().map(|s| (v1::Money::of(&s.settled), v1::Money::of(&s.reserved))).unwrap_or_default()
    }
}

fn day(limit: i64) -> Budget {
    budget("day", Scope::default(), Period::Calendar(Calendar::Day), Money::usd(limit))
}

/// Answers cost a twentieth of what they might: what is reserved too much is waited for, not refused.
#[test]
fn nearly_all_of_a_hard_budget_is_spent_before_anyone_is_refused_for_good() {
    let mut guard = Guard::new(vec![day(20)], 1000);
    let cost: Money = "0.05".parse().unwrap();
    let mut callers: Vec<v1::ReserveRequest> = (0..50).map(|_| request(Money::usd(1), "")).collect();
    callers.iter().for_each(|call| guard.reserve(call));
    let mut calls = 0;
    // Until one is refused while nothing is reserved, each caller ends its call when it has one and asks for another.
    let settled = 'out: loop {
        for caller in &mut callers {
            if guard.granted(caller).is_some() {
                guard.settle(caller, cost);
                calls += 1;
            } else if guard.refused(caller).is_none() {
                continue;
            }
            *caller = request(Money::usd(1), "");
            guard.reserve(caller);
            let (settled, reserved) = guard.used();
            if guard.refused(caller).is_some() && reserved.is_zero() {
                break 'out settled;
            }
        }
        guard.pass(Duration::from_millis(10));
    };
    assert!(settled > Money::usd(19), "{settled} of $20 in {calls} calls");
}

#[test]
fn who_waits_is_admitted_in_the_order_of_asking() {
    let mut guard = Guard::new(vec![day(10)], 1000);
    let [first, a, b, c] = [10, 5, 5, 5].map(|bound| request(Money::usd(bound), ""));
    for call in [&first, &a, &b, &c] {
        guard.reserve(call);
    }
    assert!(guard.granted(&a).is_none() && guard.refused(&a).is_none());
    guard.settle(&first, Money::ZERO);
    let admitted = [&a, &b, &c].map(|call| guard.granted(call).is_some());
    assert_eq!(admitted, [true, true, false]);
    // A smaller one behind does not wait for a larger one in front.
    let small = request(Money::usd(1), "");
    guard.reserve(&small);
    guard.settle(&a, Money::usd(3));
    assert!(guard.granted(&small).is_some() && guard.granted(&c).is_none());
}

#[test]
fn a_wait_ends() {
    let mut guard = Guard::new(vec![day(10)], 1);
    let [running, waits, no_place] = [10, 5, 5].map(|bound| request(Money::usd(bound), ""));
    for call in [&running, &waits, &no_place] {
        guard.reserve(call);
    }
    assert_eq!(guard.refused(&no_place), Some(ErrorKind::OverBudget), "as many wait as may");
    guard.pass(Duration::from_millis(1999));
    assert_eq!(guard.refused(&waits), None);
    guard.pass(Duration::from_millis(1));
    assert_eq!(guard.refused(&waits), Some(ErrorKind::OverBudget));
    // The answer may have been missed: it is not waited for again.
    guard.replies.clear();
    guard.reserve(&waits);
    assert_eq!(guard.refused(&waits), Some(ErrorKind::OverBudget));
    assert!(guard.state.waiting.is_empty());
}

#[test]
fn one_key_does_not_take_the_places_of_all_others() {
    let mut guard = Guard::new(vec![day(10)], 1000);
    guard.state.waiting = Waiting::new(1000, 2);
    let by = |project: &str, key_id: &str| v1::ReserveRequest {
        principal: Some(v1::Principal { project: project.into(), key_id: key_id.into(), ..Default::default() }),
        ..request(Money::usd(5), "")
    };
    let running = request(Money::usd(10), "");
    guard.reserve(&running);
    let waits: Vec<_> =
        [("a", "k1"), ("a", "k1"), ("a", "k2"), ("a", ""), ("b", ""), ("b", "")].map(|(p, k)| by(p, k)).into();
    let too_many = [by("a", "k1"), by("b", "")];
    waits.iter().chain(&too_many).for_each(|call| guard.reserve(call));
    assert!(waits.iter().all(|call| guard.refused(call).is_none()));
    assert!(too_many.iter().all(|call| guard.refused(call) == Some(ErrorKind::OverBudget)));
    // A place that is left can be taken again.
    assert!(guard.state.waiting.give_up(&waits[0].reservation_id));
    let next = by("a", "k1");
    guard.reserve(&next);
    assert_eq!(guard.refused(&next), None);
    guard.settle(&running, Money::ZERO);
    assert!(guard.granted(&waits[1]).is_some() && guard.granted(&waits[2]).is_some());
}

#[test]
fn who_asks_again_while_it_waits_keeps_its_place_and_is_answered_there() {
    let mut guard = Guard::new(vec![day(10)], 1000);
    let [running, waits] = [10, 5].map(|bound| request(Money::usd(bound), ""));
    guard.reserve(&running);
    guard.reserve(&waits);
    let mut batch = Batch::default();
    guard.state.admit_or_park(waits.clone(), Some("elsewhere".into()), guard.now, &mut batch);
    assert!(batch.replies.is_empty());
    guard.settle(&running, Money::ZERO);
    assert!(guard.replies.contains_key("elsewhere") && guard.granted(&waits).is_none());
}

#[test]
fn an_output_is_limited_only_when_waiting_is_over() {
    let clamps = Budget { when_short: WhenShort::Clamp { floor: 10 }, ..day(10) };
    let mut guard = Guard::new(vec![clamps], 1000);
    let long = |max_tokens: u64| {
        let bound = Money::usd(i64::try_from(max_tokens).unwrap() / 10);
        let share =
            v1::OutputShare { per_token: Some(Money::from_picos(100_000_000_000).into()), max_tokens, fixed: None };
        let mut call = request(bound, "");
        call.attempt = Some(v1::Attempt { output: Some(share), ..call.attempt.unwrap() });
        call
    };
    // The first leaves $2; the second wants $6.
    let (first, second) = (long(80), long(60));
    guard.reserve(&first);
    guard.reserve(&second);
    assert!(guard.granted(&second).is_none());
    // Half of the first was not needed: $6 fit.
    guard.settle(&first, Money::usd(4));
    assert_eq!(guard.granted(&second).map(|granted| granted.clamped_max_tokens), Some(0));
    // Nothing more can come free than what is left then: no wait.
    guard.settle(&second, Money::usd(1));
    let third = long(60);
    guard.reserve(&third);
    let granted = guard.granted(&third).expect("cut to fit");
    assert_eq!((granted.clamped_max_tokens, v1::Money::of(&granted.bound)), (50, Money::usd(5)));
    // All is reserved: the next waits, and is cut to what is left by then.
    let fourth = long(60);
    guard.reserve(&fourth);
    assert!(guard.granted(&fourth).is_none());
    guard.settle(&third, Money::usd(2));
    assert_eq!(guard.granted(&fourth).map(|granted| granted.clamped_max_tokens), Some(30));
    // Less than the floor is no answer.
    guard.settle(&fourth, "2.50".parse().unwrap());
    let fifth = long(60);
    guard.reserve(&fifth);
    assert_eq!(guard.refused(&fifth), Some(ErrorKind::OverBudget));
}

#[test]
fn a_call_waits_for_a_deployment_and_goes_to_another_that_has_room() {
    let mut guard = Guard::new(Vec::new(), 1000);
    let to = |provider: &str| v1::Attempt {
        provider: provider.into(),
        upstream_model: "m".into(),
        concurrent: 1,
        call_id: CallId::generate().to_string(),
        ..attempt(Money::usd(1))
    };
    let calls: Vec<_> = (0..3)
        .map(|_| v1::ReserveRequest {
            attempt: Some(to("a")),
            alternatives: vec![to("b")],
            ..request(Money::usd(1), "")
        })
        .collect();
    calls.iter().for_each(|call| guard.reserve(call));
    assert_eq!(guard.granted(&calls[0]).unwrap().call_id, calls[0].attempt.as_ref().unwrap().call_id);
    assert_eq!(guard.granted(&calls[1]).unwrap().call_id, calls[1].alternatives[0].call_id);
    assert!(guard.granted(&calls[2]).is_none() && guard.refused(&calls[2]).is_none());
    // The other one comes free first.
    let on_b = v1::ReserveRequest { attempt: Some(calls[1].alternatives[0].clone()), ..calls[1].clone() };
    guard.settle(&on_b, Money::ZERO);
    assert_eq!(guard.granted(&calls[2]).unwrap().call_id, calls[2].alternatives[0].call_id);
}

#[test]
fn a_deployments_own_rate_is_waited_for_where_the_wait_is_short() {
    let mut guard = Guard::new(Vec::new(), 1000);
    let call = || v1::ReserveRequest {
        attempt: Some(v1::Attempt { requests_per_minute: 1, upstream_model: "m".into(), ..attempt(Money::usd(1)) }),
        deadline_unix_ms: 1_795_300_000_000 + 120_000,
        ..request(Money::usd(1), "")
    };
    let (first, second, third) = (call(), call(), call());
    guard.reserve(&first);
    guard.pass(Duration::from_secs(30));
    guard.reserve(&second);
    assert_eq!(guard.refused(&second), Some(ErrorKind::RateLimited), "half a minute is too long");
    guard.pass(Duration::from_secs(28));
    guard.reserve(&third);
    assert_eq!((guard.granted(&third), guard.refused(&third)), (None, None));
    guard.pass(Duration::from_secs(2));
    assert!(guard.granted(&third).is_some());
}

#[test]
fn who_gives_up_waits_no_more() {
    let mut guard = Guard::new(vec![day(10)], 1000);
    let [running, waits] = [10, 5].map(|bound| request(Money::usd(bound), ""));
    guard.reserve(&running);
    guard.reserve(&waits);
    assert!(guard.state.waiting.give_up(&waits.reservation_id));
    guard.settle(&running, Money::ZERO);
    assert!(!guard.replies.contains_key(&waits.reservation_id));
    assert_eq!(guard.used().1, Money::ZERO);
}

/// It is answered once: by its worker, or by the guard, and then not by its worker any more.
#[test]
fn a_call_that_gets_no_further_attempt_is_ended_by_its_worker_or_lost_with_it() {
    for stands_still in [true, false] {
        let mut guard = Guard::new(vec![day(10)], 1000);
        let call = request(Money::usd(6), "");
        guard.reserve(&call);
        assert_eq!(guard.hear_of(&call), [""; 0]);
        let amend = v1::AmendRequest {
            reservation_id: call.reservation_id.clone(),
            ended: Some(end(&call.attempt.as_ref().unwrap().call_id, Outcome::Error, Money::usd(1))),
            next: Some(attempt(Money::usd(20))),
            ..Default::default()
        };
        let refused = guard.state.ledger.amend(amend, &guard.state.rules, guard.now.wall).reply.result;
        assert!(matches!(refused, Some(v1::amend_reply::Result::Refused(_))));
        assert_eq!(guard.hear_of(&call), [""; 0], "its worker still has to answer it");
        if !stands_still {
            guard.settle(&call, Money::usd(1));
        }
        guard.pass(terms().lease);
        let mut batch = Batch::default();
        let told = guard.state.expire(guard.now, &mut batch);
        assert_eq!(told.len(), usize::from(stands_still));
        assert_eq!(facts(&batch.entries).count(), usize::from(stands_still));
        assert_eq!(guard.hear_of(&call), [&*call.reservation_id], "whoever answered it");
        assert!(guard.state.expire(guard.now, &mut batch).is_empty(), "once");
    }
}
