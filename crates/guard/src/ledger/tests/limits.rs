use farebox_policy::{Limit, Measure, Rate, Strategy};
use farebox_types::Span;

use super::*;

const MINUTE: Span = Span::from_secs(60);

fn policies(measure: Measure, allowed: u64, strategy: Strategy) -> Policies {
    let period = if measure == Measure::Concurrent { Span::ZERO } else { MINUTE };
    let limit = Limit {
        name: "keys".into(),
        scope: Scope(vec![(Dimension::Key, Pick::Each)]),
        measure,
        rate: Rate { allowed, period, strategy },
        default: false,
    };
    Policies { limits: [("keys".to_owned(), limit)].into(), ..Policies::default() }
}

fn limited(measure: Measure, allowed: u64, strategy: Strategy) -> Stage {
    Stage::new(policies(measure, allowed, strategy))
}

fn call(key: &str, tokens: u64, now: Timestamp) -> v1::ReserveRequest {
    let call = request(Money::usd(1), "");
    v1::ReserveRequest {
        principal: Some(v1::Principal { key_id: key.into(), ..call.principal.unwrap() }),
        attempt: Some(v1::Attempt { expected_tokens: tokens, ..call.attempt.unwrap() }),
        deadline_unix_ms: now.millis() + 1000,
        ..call
    }
}

fn left(reply: v1::ReserveReply) -> Vec<v1::LimitLeft> {
    match reply.result {
        Some(v1::reserve_reply::Result::Granted(granted)) => granted.limits,
        other => panic!("not granted: {other:?}"),
    }
}

fn end_with(stage: &mut Stage, call: &v1::ReserveRequest, usage: v1::Usage) {
    let end = end(&call.attempt.as_ref().unwrap().call_id, Outcome::Ok, Money::ZERO);
    let end = Some(v1::AttemptEnd { usage: Some(usage), ..end });
    stage.settle(v1::SettleRequest { shard: 0, reservation_id: call.reservation_id.clone(), end }, NOW);
}

fn tokens_left(stage: &Stage) -> u64 {
    let status = stage.ledger.status(&stage.rules, &v1::BudgetStatusRequest::default(), 10_000, NOW).limits;
    status.first().map_or(1000, |limit| limit.allowed - limit.used)
}

#[test]
fn as_many_pass_as_are_allowed_and_the_next_when_it_was_told() {
    for strategy in [Strategy::FixedWindow, Strategy::SlidingWindow, Strategy::TokenBucket { burst: 100 }] {
        let mut stage = limited(Measure::Requests, 100, strategy);
        let passed = |stage: &mut Stage, key: &str, now| {
            (0..300).filter(|_| is_granted(&stage.reserve(call(key, 0, now), now).reply)).count()
        };
        assert_eq!(passed(&mut stage, "k1", NOW), 100, "{strategy:?}");
        assert_eq!(passed(&mut stage, "k2", NOW), 100, "{strategy:?}");
        let refused = refusal(stage.reserve(call("k1", 0, NOW), NOW).reply);
        assert_eq!(refused.kind, ErrorKind::RateLimited);
        assert!(refused.message.contains("limit `keys` of `k1` allows 100 requests in 1m"), "{}", refused.message);
        let wait = refused.retry_after.expect("it says when");
        let early = NOW.after(wait - Duration::from_millis(1));
        assert!(!is_granted(&stage.reserve(call("k1", 0, early), early).reply), "{strategy:?}");
        assert!(is_granted(&stage.reserve(call("k1", 0, NOW.after(wait)), NOW.after(wait)).reply), "{strategy:?}");
    }
}

#[test]
fn a_grant_says_what_is_left() {
    let mut stage = limited(Measure::Requests, 5, Strategy::SlidingWindow);
    stage.reserve(call("k", 0, NOW), NOW);
    let limits = left(stage.reserve(call("k", 0, NOW), NOW).reply);
    let expected = v1::LimitLeft {
        limit: "keys".into(),
        measure: v1::LimitMeasure::Requests.into(),
        allowed: 5,
        left: 3,
        reset_ms: 60_000,
    };
    assert_eq!(limits, [expected]);
}

#[test]
fn a_refusal_says_how_the_limits_stand_that_are_its_reason() {
    let refused = |stage: &mut Stage, call: v1::ReserveRequest, now| match stage.reserve(call, now).reply.result {
        Some(v1::reserve_reply::Result::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    };
    let later = NOW.after(Duration::from_secs(20));
    for (measure, allowed, tokens, left, allows) in [
        (Measure::Requests, 1, 0, 0, "allows 1 request in 1m"),
        (Measure::Tokens, 1000, 600, 400, "allows 1000 tokens in 1m"),
    ] {
        let mut stage = limited(measure, allowed, Strategy::SlidingWindow);
        stage.reserve(call("k", tokens, NOW), NOW);
        let error = refused(&mut stage, call("k", tokens, later), later);
        assert!(error.message.contains(allows), "{}", error.message);
        let measure = v1::LimitMeasure::from(measure).into();
        assert_eq!(error.limits, [v1::LimitLeft { limit: "keys".into(), measure, allowed, left, reset_ms: 40_000 }]);
    }
    // It is not the reason where a budget is.
    let day = budget("day", Scope::default(), Period::Calendar(Calendar::Day), "0.5".parse().unwrap());
    let budgets = [("day".to_owned(), day)].into();
    let mut stage = Stage::new(Policies { budgets, ..policies(Measure::Requests, 0, Strategy::SlidingWindow) });
    let error = refused(&mut stage, call("k", 0, NOW), NOW);
    assert_eq!((error.kind(), error.limits), (v1::ErrorKind::OverBudget, Vec::new()));
}

#[test]
fn tokens_are_taken_as_expected_and_then_as_they_were() {
    let mut stage = limited(Measure::Tokens, 1000, Strategy::SlidingWindow);
    let [first, second, lost] = [600, 300, 100].map(|tokens| call("k", tokens, NOW));
    for call in [&first, &second, &lost] {
        assert!(is_granted(&stage.reserve(call.clone(), NOW).reply));
    }
    assert_eq!(refusal(stage.reserve(call("k", 1, NOW), NOW).reply).kind, ErrorKind::RateLimited);
    // Searches are no tokens.
    let usage =
        v1::Usage { input: Some(40), cache_read: Some(10), output: Some(50), searches: Some(9), ..Default::default() };
    end_with(&mut stage, &first, usage);
    assert_eq!(tokens_left(&stage), 500);
    stage.lose(lost.reservation_id.parse().unwrap(), NOW);
    assert_eq!(tokens_left(&stage), 500, "what is lost may have taken all of it");
    // More than expected.
    end_with(&mut stage, &second, v1::Usage { output: Some(700), ..Default::default() });
    assert_eq!(tokens_left(&stage), 100);
    let too_large = refusal(stage.reserve(call("k", 1001, NOW), NOW).reply);
    assert_eq!(too_large.retry_after, None);
    assert!(too_large.message.contains("lower max_tokens"), "{}", too_large.message);
}

#[test]
fn a_released_call_was_none() {
    for (measure, tokens) in [(Measure::Requests, 0), (Measure::Tokens, 10), (Measure::Concurrent, 0)] {
        let mut stage = limited(measure, if tokens == 0 { 1 } else { 10 }, Strategy::FixedWindow);
        let first = call("k", tokens, NOW);
        stage.reserve(first.clone(), NOW);
        assert!(!is_granted(&stage.reserve(call("k", tokens, NOW), NOW).reply), "{measure:?}");
        stage.release(first.reservation_id.parse().unwrap());
        assert!(is_granted(&stage.reserve(call("k", tokens, NOW), NOW).reply), "{measure:?}");
    }
}

#[test]
fn calls_at_a_time_are_those_that_run() {
    let mut stage = limited(Measure::Concurrent, 2, Strategy::FixedWindow);
    let calls: Vec<_> = (0..3).map(|_| call("k", 0, NOW)).collect();
    let passed = calls.iter().filter(|call| is_granted(&stage.reserve((*call).clone(), NOW).reply)).count();
    assert_eq!(passed, 2);
    end_with(&mut stage, &calls[0], v1::Usage::default());
    assert!(is_granted(&stage.reserve(calls[2].clone(), NOW).reply));
}

#[test]
fn a_second_attempt_is_no_second_request_except_to_its_deployment() {
    let mut stage = limited(Measure::Requests, 2, Strategy::FixedWindow);
    let to = |minute| v1::Attempt { requests_per_minute: minute, upstream_model: "m".into(), ..attempt(Money::usd(1)) };
    let mut first = call("k", 0, NOW);
    first.attempt = Some(to(2));
    stage.reserve(first.clone(), NOW);
    let amend = |stage: &mut Stage, ended: &v1::Attempt, next: &v1::Attempt| {
        let message = v1::AmendRequest {
            reservation_id: first.reservation_id.clone(),
            ended: Some(end(&ended.call_id, Outcome::Error, Money::ZERO)),
            next: Some(next.clone()),
            ..Default::default()
        };
        stage.amend(message, NOW).reply.result
    };
    let (second, third) = (to(2), to(2));
    let Some(v1::amend_reply::Result::Granted(granted)) = amend(&mut stage, first.attempt.as_ref().unwrap(), &second)
    else {
        panic!("it fits")
    };
    let left: Vec<_> = granted.limits.iter().map(|limit| (limit.limit.as_str(), limit.left)).collect();
    assert_eq!(left, [("keys", 1), ("provider's own", 0)]);
    let Some(v1::amend_reply::Result::Refused(error)) = amend(&mut stage, &second, &third) else {
        panic!("its deployment has had two")
    };
    assert!(error.message.contains("limit `provider's own` of `p/m`"), "{}", error.message);
}

#[test]
fn no_rule_is_counted_together_with_what_a_provider_allows() {
    let limit = Limit {
        name: "deployment".into(),
        scope: Scope(vec![(Dimension::Deployment, Pick::Each)]),
        measure: Measure::Requests,
        rate: Rate { allowed: 1, period: Span::from_secs(3600), strategy: Strategy::SlidingWindow },
        default: false,
    };
    let mut stage = Stage::new(Policies { limits: [(limit.name.clone(), limit)].into(), ..Policies::default() });
    let later = NOW.after(Duration::from_secs(120));
    let granted = [NOW, later].map(|now| {
        let mut call = call("k", 0, now);
        call.attempt.as_mut().unwrap().requests_per_minute = 5;
        is_granted(&stage.reserve(call, now).reply)
    });
    assert_eq!(granted, [true, false]);
}

#[test]
fn what_was_sent_and_never_answered_took_the_tokens_that_were_expected() {
    for (estimated, left) in [(true, 400), (false, 1000)] {
        let mut stage = limited(Measure::Tokens, 1000, Strategy::SlidingWindow);
        let call = call("k", 600, NOW);
        stage.reserve(call.clone(), NOW);
        let end = end(&call.attempt.as_ref().unwrap().call_id, Outcome::Error, Money::usd(1));
        let end = Some(v1::AttemptEnd { estimated, ..end });
        stage.settle(v1::SettleRequest { shard: 0, reservation_id: call.reservation_id.clone(), end }, NOW);
        assert_eq!(tokens_left(&stage), left, "estimated: {estimated}");
    }
}

#[test]
fn what_counts_is_still_there_after_a_restart() {
    let mut stage = limited(Measure::Tokens, 1000, Strategy::SlidingWindow);
    let call = call("k", 600, NOW);
    stage.reserve(call.clone(), NOW);
    let mut restarted = Ledger::new(terms());
    restarted.restore(stage.snapshot("s", 1, 1_000_000));
    stage.ledger = restarted;
    assert_eq!(tokens_left(&stage), 400);
    end_with(&mut stage, &call, v1::Usage { output: Some(100), ..Default::default() });
    assert_eq!(tokens_left(&stage), 900);
}

#[test]
fn a_status_has_room_for_budgets_however_many_limits_there_are() {
    let limit = Limit {
        name: "keys".into(),
        scope: Scope(vec![(Dimension::Key, Pick::Each)]),
        measure: Measure::Requests,
        rate: Rate { allowed: 5, period: MINUTE, strategy: Strategy::FixedWindow },
        default: false,
    };
    let day = budget("day", Scope::default(), Period::Calendar(Calendar::Day), Money::usd(900));
    let policies = Policies {
        limits: [(limit.name.clone(), limit)].into(),
        budgets: [(day.name.clone(), day)].into(),
        ..Policies::default()
    };
    let mut stage = Stage::new(policies);
    for key in 0..100 {
        stage.reserve(call(&format!("k{key}"), 0, NOW), NOW);
    }
    let status = stage.ledger.status(&stage.rules, &v1::BudgetStatusRequest::default(), 1000, NOW);
    assert_eq!(status.budgets.len(), 1);
    assert!((1..100).contains(&status.limits.len()), "{}", status.limits.len());
}
