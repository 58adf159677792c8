//! Who is told what of budgets and limits: `acme` calls, and is not who runs farebox.

use farebox_policy::{Limit, Measure, Rate, Strategy};
use farebox_types::Span;

use super::*;

/// What stands in the names of rules that are not for the ears of `acme`, and in their amounts.
const SECRET: &str = "7713";

fn shared(scope: Vec<(Dimension, Pick)>) -> Budget {
    let limit = Money::usd(SECRET.parse().unwrap());
    budget(&format!("house-{SECRET}"), Scope(scope), Period::Calendar(Calendar::Day), limit)
}

fn own() -> Budget {
    budget("own", Scope(vec![(Dimension::Project, Pick::Each)]), Period::Total, Money::usd(9000))
}

fn limit(name: &str, scope: Vec<(Dimension, Pick)>, measure: Measure, allowed: u64) -> Limit {
    let period = if measure == Measure::Concurrent { Span::ZERO } else { Span::from_secs(60) };
    let rate = Rate { allowed, period, strategy: Strategy::SlidingWindow };
    Limit { name: name.to_owned(), scope: Scope(scope), measure, rate, default: false }
}

fn rules(budgets: Vec<Budget>, limits: Vec<Limit>) -> Policies {
    Policies {
        budgets: budgets.into_iter().map(|budget| (budget.name.clone(), budget)).collect(),
        limits: limits.into_iter().map(|limit| (limit.name.clone(), limit)).collect(),
        ..Policies::default()
    }
}

/// All that is said to the caller of a call, in words, and the names of what it is told of in full.
fn told(stage: &mut Stage, call: v1::ReserveRequest) -> (String, Vec<String>) {
    let result = stage.reserve(call, NOW).reply.result.expect("an answer");
    let (budgets, limits) = match &result {
        v1::reserve_reply::Result::Granted(granted) => (&granted.budgets[..], &granted.limits),
        v1::reserve_reply::Result::Refused(error) => (&[][..], &error.limits),
        other => panic!("{other:?}"),
    };
    let names = budgets.iter().map(|left| left.budget.clone());
    let names = names.chain(limits.iter().map(|left| left.limit.clone())).collect();
    let said = match result {
        v1::reserve_reply::Result::Granted(granted) => granted.warnings.join("; "),
        v1::reserve_reply::Result::Refused(error) => format!("{} {:?}", error.message, error.retry_after_ms),
        other => panic!("{other:?}"),
    };
    (said, names)
}

fn call(dollars: i64) -> v1::ReserveRequest {
    let mut call = request(Money::usd(dollars), "t");
    call.labels.as_mut().unwrap().actor = "w".into();
    let attempt = call.attempt.as_mut().unwrap();
    (attempt.model, attempt.upstream_model) = ("m".into(), "m".into());
    call
}

#[test]
fn a_caller_is_told_of_what_its_project_has_alone() {
    use Dimension as D;
    for (scope, is_own) in [
        (vec![], false),
        (vec![(D::Model, Pick::Any(vec!["m".into()]))], false),
        (vec![(D::Provider, Pick::Each)], false),
        (vec![(D::Actor, Pick::Each)], false),
        (vec![(D::Project, Pick::Any(vec!["acme".into(), "b".into()]))], false),
        (vec![(D::Project, Pick::Each)], true),
        (vec![(D::Task, Pick::Each)], true),
    ] {
        let limit = limit("l", scope.clone(), Measure::Requests, 5);
        let policies = rules(vec![shared(scope.clone())], vec![limit]);
        let all = [format!("house-{SECRET}"), "l".to_owned()];
        let names = |operators| told(&mut Stage::run_by(operators, policies.clone()), call(1)).1;
        assert_eq!(names("default"), if is_own { &all[..] } else { &[] }, "{scope:?}");
        assert_eq!(names("acme"), all, "those who run farebox are told all: {scope:?}");
    }
}

/// What happens to a call, and what its caller hears of rules that are not its own.
#[test]
fn of_what_is_shared_it_is_said_that_it_is_there() {
    let house = || shared(Vec::new());
    let limited = |measure, allowed| limit(&format!("house-{SECRET}"), Vec::new(), measure, allowed);
    let unbounded = || {
        let mut call = call(1);
        call.attempt.as_mut().unwrap().unbounded = "`web_search_options`".into();
        call
    };
    let busy = || {
        let mut call = call(1);
        let attempt = call.attempt.as_mut().unwrap();
        (attempt.requests_per_minute, attempt.expected_tokens) = (1, 5000);
        call
    };
    let soft = Budget { hard: false, limit: Money::usd(7), ..house() };
    let softer = Budget { name: format!("soft-{SECRET}"), ..soft.clone() };
    for (policies, calls, said, names) in [
        (rules(vec![house(), own()], vec![]), vec![call(1)], "", &["own"][..]),
        (
            rules(vec![soft, softer, own()], vec![]),
            vec![call(8000)],
            "a budget that this project shares with others may be exceeded with this call",
            &["own"],
        ),
        (
            rules(vec![house(), own()], vec![]),
            vec![call(7000), call(1000)],
            "a budget that this project shares with others has no room for this call: lower max_tokens, try again later, or \
             ask those who run farebox Some(5600000)",
            &[],
        ),
        (
            rules(vec![house(), own()], vec![]),
            vec![unbounded()],
            "nothing bounds what this call may cost (`web_search_options`), and it counts in a hard budget that this \
             project shares with others: leave that out of the request None",
            &[],
        ),
        (
            rules(vec![], vec![limited(Measure::Requests, 1)]),
            vec![call(1), call(1)],
            "a limit that this project shares with others allows no more requests now: try again in 1m Some(60000)",
            &[],
        ),
        (
            rules(vec![], vec![limited(Measure::Tokens, 7713)]),
            vec![busy(), busy()],
            "a limit that this project shares with others has too few tokens left now: try again in 1m Some(60000)",
            &[],
        ),
        (
            rules(vec![], vec![limited(Measure::Concurrent, 1)]),
            vec![call(1), call(1)],
            "a limit that this project shares with others allows no more calls at a time: try again when one of them has \
             ended None",
            &[],
        ),
        // What the provider allows.
        (
            rules(vec![], vec![]),
            vec![busy(), busy()],
            "a limit that this project shares with others allows no more requests now: try again in 1m Some(60000)",
            &[],
        ),
    ] {
        let mut stage = Stage::run_by("default", policies);
        let heard = calls.into_iter().map(|call| told(&mut stage, call)).last().expect("a call");
        assert_eq!(heard, (said.to_owned(), names.iter().map(|name| (*name).to_owned()).collect()));
        assert!(!heard.0.contains(SECRET), "{heard:?}");
    }
}

#[test]
fn a_further_attempt_tells_no_more_than_the_first() {
    let policies = rules(vec![shared(Vec::new()), own()], vec![limit("l", Vec::new(), Measure::Requests, 5)]);
    let mut stage = Stage::run_by("default", policies);
    let first = call(1);
    stage.reserve(first.clone(), NOW);
    let mut amend = |ended: &v1::Attempt, next: &v1::Attempt| {
        let message = v1::AmendRequest {
            reservation_id: first.reservation_id.clone(),
            ended: Some(end(&ended.call_id, Outcome::Error, Money::usd(1))),
            next: Some(next.clone()),
            ..Default::default()
        };
        stage.amend(message, NOW).reply.result
    };
    let (second, third) = (attempt(Money::usd(2)), attempt(Money::usd(8000)));
    let Some(v1::amend_reply::Result::Granted(granted)) = amend(first.attempt.as_ref().unwrap(), &second) else {
        panic!("it fits")
    };
    let names: Vec<&str> = granted.budgets.iter().map(|left| left.budget.as_str()).collect();
    assert_eq!((names, granted.limits), (vec!["own"], Vec::new()));
    let Some(v1::amend_reply::Result::Refused(error)) = amend(&second, &third) else { panic!("it does not fit") };
    assert!(error.message.contains("shares with others") && !error.message.contains(SECRET), "{}", error.message);
}

/// They hear of it where those who run farebox do.
#[test]
fn an_alert_goes_to_the_project_whose_budget_it_is() {
    let alert = vec![farebox_policy::Permille(1)];
    let policies =
        rules(vec![Budget { alert: alert.clone(), ..shared(Vec::new()) }, Budget { alert, ..own() }], vec![]);
    let mut stage = Stage::run_by("default", policies);
    let call = call(100);
    stage.reserve(call.clone(), NOW);
    let end = Some(end(&call.attempt.as_ref().unwrap().call_id, Outcome::Ok, Money::usd(100)));
    let entries = stage.settle(v1::SettleRequest { shard: 0, reservation_id: call.reservation_id, end }, NOW).entries;
    let alerts = entries.iter().filter_map(|entry| match &entry.entry {
        Some(Entry::Alerted(v1::Alerted { alert: Some(alert) })) => Some((alert.rule.as_str(), alert.project.as_str())),
        _ => None,
    });
    let house = format!("house-{SECRET}");
    assert_eq!(alerts.collect::<Vec<_>>(), [(house.as_str(), ""), ("own", "acme")]);
}
