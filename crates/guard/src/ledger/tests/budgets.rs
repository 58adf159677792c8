use farebox_policy::{Permille, Raise};

use super::*;

fn scope(dimension: Dimension) -> Scope {
    Scope(vec![(dimension, Pick::Each)])
}

fn day(limit: i64) -> Budget {
    budget("day", Scope::default(), Period::Calendar(Calendar::Day), Money::usd(limit))
}

fn granted(reply: v1::ReserveReply) -> v1::Granted {
    match reply.result {
        Some(v1::reserve_reply::Result::Granted(granted)) => granted,
        other => panic!("not granted: {other:?}"),
    }
}

fn alerts(entries: &[v1::LedgerEntry]) -> Vec<(v1::alert::Kind, u32, String)> {
    let of = |entry: &v1::LedgerEntry| match &entry.entry {
        Some(Entry::Alerted(v1::Alerted { alert: Some(alert) })) => {
            Some((alert.kind(), alert.threshold_permille, alert.project.clone()))
        }
        _ => None,
    };
    entries.iter().filter_map(of).collect()
}

fn ended(request: &v1::ReserveRequest, cost: Money) -> v1::SettleRequest {
    let end = end(&request.attempt.as_ref().unwrap().call_id, Outcome::Ok, cost);
    v1::SettleRequest { shard: 0, reservation_id: request.reservation_id.clone(), end: Some(end) }
}

fn used(stage: &Stage, window: &str) -> Option<(Money, Money)> {
    let status = stage.status().into_iter().find(|status| status.window == window)?;
    Some((v1::Money::of(&status.settled), v1::Money::of(&status.reserved)))
}

#[test]
fn a_soft_budget_lets_through_and_says_so() {
    let mut stage = Stage::of(vec![Budget { hard: false, ..day(10) }]);
    let first = granted(stage.reserve(request(Money::usd(8), ""), NOW).reply);
    assert_eq!(first.warnings, Vec::<String>::new());
    let second = granted(stage.reserve(request(Money::usd(5), ""), NOW).reply);
    assert_eq!(second.warnings, ["budget `day` may be exceeded by $3 of its $10 with this call"]);
}

#[test]
fn what_nothing_bounds_is_refused_by_a_hard_budget_or_costs_its_ceiling() {
    let mut call = request(Money::usd(1), "");
    call.attempt.as_mut().unwrap().unbounded = "tools: web_search is billed by what it finds".into();
    let mut stage = Stage::of(vec![day(10)]);
    let refused = refusal(stage.reserve(call.clone(), NOW).reply);
    assert_eq!(refused.kind, ErrorKind::Unsupported);
    assert!(refused.message.contains("(tools: web_search is billed by what it finds)"), "{}", refused.message);
    assert!(refused.message.contains("budget `day`") && refused.message.contains("unbounded_ceiling"));

    let mut stage = Stage::of(vec![Budget { hard: false, ..day(10) }]);
    assert_eq!(v1::Money::of(&granted(stage.reserve(call.clone(), NOW).reply).bound), Money::usd(1));

    let mut stage = Stage::of(vec![Budget { unbounded_ceiling: Some(Money::usd(4)), ..day(10) }]);
    assert_eq!(v1::Money::of(&granted(stage.reserve(call.clone(), NOW).reply).bound), Money::usd(4));
    assert_eq!(used(&stage, "2026-11-21"), Some((Money::ZERO, Money::usd(4))));
    stage.lose(call.reservation_id.parse().unwrap(), NOW);
    assert_eq!(used(&stage, "2026-11-21"), Some((Money::usd(4), Money::ZERO)), "never below what was set aside");
}

#[test]
fn what_nothing_bounds_takes_no_more_of_any_budget_than_was_set_aside_there_when_it_is_lost() {
    let mut call = request(Money::usd(1), "");
    call.attempt.as_mut().unwrap().unbounded = "`mcp_servers`".into();
    let total = Budget {
        unbounded_ceiling: Some(Money::usd(9)),
        ..budget("total", Scope::default(), Period::Total, Money::usd(100))
    };
    for (limit, fits) in [(8, false), (9, true)] {
        let mut stage = Stage::of(vec![Budget { unbounded_ceiling: Some(Money::usd(2)), ..day(limit) }, total.clone()]);
        let reply = stage.reserve(call.clone(), NOW).reply;
        assert_eq!(matches!(reply.result, Some(v1::reserve_reply::Result::Granted(_))), fits, "{reply:?}");
        stage.lose(call.reservation_id.parse().unwrap(), NOW);
        let spent = if fits { Money::usd(9) } else { Money::ZERO };
        for status in stage.status() {
            assert_eq!((v1::Money::of(&status.settled), v1::Money::of(&status.reserved)), (spent, Money::ZERO));
        }
    }
}

#[test]
fn a_raise_makes_room_for_its_subject_while_it_lasts() {
    let until = NOW.after(Duration::from_secs(60));
    let raise = Raise {
        by: Money::usd(5),
        from: NOW,
        until,
        reason: "launch".into(),
        admin: "root".into(),
        subject: "acme/t1".into(),
    };
    let task = budget("task", scope(Dimension::Task), Period::Lifetime, Money::usd(1));
    let mut stage = Stage::of(vec![Budget { raises: vec![raise], ..task }]);
    let fits = |stage: &mut Stage, task, now: Timestamp| {
        let deadline_unix_ms = now.millis() + 1000;
        let call = v1::ReserveRequest { deadline_unix_ms, ..request(Money::usd(2), task) };
        is_granted(&stage.reserve(call, now).reply)
    };
    assert!(!fits(&mut stage, "t2", NOW));
    assert!(!fits(&mut stage, "t1", Timestamp(NOW.0 - 1)));
    assert!(fits(&mut stage, "t1", NOW) && fits(&mut stage, "t1", NOW) && fits(&mut stage, "t1", NOW));
    assert!(!fits(&mut stage, "t1", NOW), "$6 are reserved");
    assert!(!fits(&mut stage, "t1", until));
}

#[test]
fn every_attempt_counts_on_the_day_on_which_its_call_was_admitted() {
    let mut stage = Stage::of(vec![day(10)]);
    let midnight = Timestamp(1_795_305_600_000);
    let call = v1::ReserveRequest { deadline_unix_ms: midnight.millis(), ..request(Money::usd(3), "") };
    let before = Timestamp(midnight.0 - 1000);
    stage.reserve(call.clone(), before);
    let next = attempt(Money::usd(4));
    let message = v1::AmendRequest {
        reservation_id: call.reservation_id.clone(),
        ended: Some(end(&call.attempt.as_ref().unwrap().call_id, Outcome::Error, Money::usd(1))),
        next: Some(next.clone()),
        ..Default::default()
    };
    stage.amend(message, midnight.after(Duration::from_secs(5)));
    assert_eq!(used(&stage, "2026-11-21"), Some((Money::usd(1), Money::usd(4))));
    let end = Some(end(&next.call_id, Outcome::Ok, Money::usd(2)));
    let message = v1::SettleRequest { shard: 0, reservation_id: call.reservation_id, end };
    stage.settle(message, midnight.after(Duration::from_secs(9)));
    assert_eq!(used(&stage, "2026-11-21"), Some((Money::usd(3), Money::ZERO)));
    assert_eq!(used(&stage, "2026-11-22"), None);
    let books = stage.books().days;
    let day =
        v1::BooksDay { project: "acme".into(), day: "2026-11-21".into(), calls: 2, cost: Some(Money::usd(3).into()) };
    assert_eq!(books, [day]);
}

#[test]
fn people_are_told_once_in_a_window_and_also_after_a_restart() {
    use v1::alert::Kind;
    let alert = vec![Permille(500), Permille(1000)];
    let project = budget("project", scope(Dimension::Project), Period::Calendar(Calendar::Day), Money::usd(10));
    let mut stage = Stage::of(vec![Budget { alert, ..project }]);
    let acme = || "acme".to_owned();
    let spend = |stage: &mut Stage, bound: i64, cost: i64| {
        let call = request(Money::usd(bound), "");
        assert!(is_granted(&stage.reserve(call.clone(), NOW).reply));
        alerts(&stage.settle(ended(&call, Money::usd(cost)), NOW).entries)
    };
    assert_eq!(spend(&mut stage, 4, 4), []);
    assert_eq!(spend(&mut stage, 4, 3), [(Kind::Threshold, 500, acme())]);
    assert_eq!(spend(&mut stage, 1, 1), []);
    let refused = |stage: &mut Stage| alerts(&stage.reserve(request(Money::usd(3), ""), NOW).entries);
    assert_eq!(refused(&mut stage), [(Kind::Refused, 0, acme())]);
    let mut restarted = Ledger::new(terms());
    restarted.restore(stage.snapshot("s", 1, 1_000_000));
    stage.ledger = restarted;
    assert_eq!(refused(&mut stage), []);
    // The bill came out higher than it could.
    assert_eq!(spend(&mut stage, 2, 5), [(Kind::Overdraft, 0, acme()), (Kind::Threshold, 1000, acme())]);
    let none_left = refusal(stage.reserve(request("0.01".parse().unwrap(), ""), NOW).reply);
    assert_eq!(none_left.kind, ErrorKind::OverBudget);
}

#[test]
fn a_budget_over_all_projects_is_told_to_those_who_run_farebox() {
    let mut stage = Stage::of(vec![Budget { alert: vec![Permille(1000)], ..day(1) }]);
    let call = request(Money::usd(1), "");
    stage.reserve(call.clone(), NOW);
    let told = alerts(&stage.settle(ended(&call, Money::usd(1)), NOW).entries);
    assert_eq!(told, [(v1::alert::Kind::Threshold, 1000, String::new())]);
}

#[test]
fn a_refusal_says_when_a_calendar_window_ends() {
    let refused = |period| {
        let mut stage = Stage::of(vec![budget("b", Scope::default(), period, Money::usd(1))]);
        refusal(stage.reserve(request(Money::usd(2), ""), NOW).reply).retry_after
    };
    // 22:26:40
    assert_eq!(refused(Period::Calendar(Calendar::Hour)), Some(Duration::from_secs(33 * 60 + 20)));
    assert_eq!(refused(Period::Total), None);
}

#[test]
fn a_budget_that_is_removed_while_a_call_runs_still_has_its_end() {
    let mut stage = Stage::of(vec![day(10)]);
    let call = request(Money::usd(5), "");
    stage.reserve(call.clone(), NOW);
    stage.rules.refresh(Arc::new(Policies::default()));
    stage.settle(ended(&call, Money::usd(2)), NOW);
    assert_eq!(used(&stage, "2026-11-21"), Some((Money::usd(2), Money::ZERO)));
}

#[test]
fn budgets_of_named_keys_count_only_those() {
    let named = |name: &str, keys: &[&str]| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        budget(name, Scope(vec![(Dimension::Key, Pick::Any(keys))]), Period::Total, Money::usd(1))
    };
    let mut stage = Stage::of(vec![named("both", &["k1", "k2"]), named("second", &["k2"])]);
    let of_key = |key: &str| {
        let call = request(Money::usd(1), "");
        v1::ReserveRequest { principal: Some(v1::Principal { key_id: key.into(), ..call.principal.unwrap() }), ..call }
    };
    let budgets = |reply| granted(reply).budgets.into_iter().map(|left| left.budget).collect::<Vec<_>>();
    assert_eq!(budgets(stage.reserve(of_key("k3"), NOW).reply), Vec::<String>::new());
    assert_eq!(budgets(stage.reserve(of_key("k1"), NOW).reply), ["both"]);
    let refused = refusal(stage.reserve(of_key("k2"), NOW).reply);
    assert!(refused.message.contains("budget `both`"), "{}", refused.message);
}

#[test]
fn a_repeated_request_is_told_the_same_as_before() {
    let share = v1::OutputShare { per_token: Some(Money::usd(1).into()), max_tokens: 8, fixed: None };
    let long = v1::Attempt { output: Some(share), concurrent: 1, ..attempt(Money::usd(8)) };
    let other = v1::Attempt { call_id: CallId::generate().to_string(), provider: "q".into(), ..long.clone() };
    let call = |first: &v1::Attempt| v1::ReserveRequest {
        attempt: Some(v1::Attempt { call_id: CallId::generate().to_string(), ..first.clone() }),
        alternatives: vec![other.clone()],
        ..request(Money::ZERO, "")
    };
    let mut stage = Stage::of(vec![Budget { when_short: WhenShort::Clamp { floor: 2 }, ..day(13) }]);
    stage.reserve(v1::ReserveRequest { alternatives: vec![], ..call(&long) }, NOW);
    let second = call(&long);
    let first_time = granted(stage.reserve(second.clone(), NOW).reply);
    assert_eq!((first_time.clamped_max_tokens, &first_time.call_id), (5, &other.call_id));
    let again = granted(stage.reserve(second, NOW).reply);
    let told = |granted: v1::Granted| (granted.call_id, granted.bound, granted.clamped_max_tokens);
    assert_eq!(told(again), told(first_time));
}

#[test]
fn a_status_can_be_of_one_budget_and_short_and_tells_slices_together() {
    let rolling = budget("rolling", Scope::default(), "rolling 1h".parse().unwrap(), Money::usd(100));
    let mut stage = Stage::of(vec![rolling, budget("task", scope(Dimension::Task), Period::Lifetime, Money::usd(5))]);
    for minute in 0..5 {
        let now = NOW.after(Duration::from_secs(60 * minute));
        let deadline_unix_ms = now.millis() + 1000;
        stage.reserve(v1::ReserveRequest { deadline_unix_ms, ..request(Money::usd(1), &format!("t{minute}")) }, now);
    }
    let now = NOW.after(Duration::from_secs(300));
    let ask = |name: &str, max, bytes| {
        let asked = v1::BudgetStatusRequest { name: name.into(), max, shard: 0 };
        stage.ledger.status(&stage.rules, &asked, bytes, now)
    };
    let all = ask("rolling", 0, 10_000).budgets;
    assert_eq!((all.len(), all[0].open, v1::Money::of(&all[0].reserved)), (1, 5, Money::usd(5)));
    let newest: Vec<_> = ask("task", 2, 10_000).budgets.into_iter().map(|status| status.subject).collect();
    assert_eq!(newest, ["acme/t4", "acme/t3"]);
    assert_eq!((ask("", 0, 10_000).budgets.len(), ask("", 0, 10_000).open), (6, 5));
    assert!((1..6).contains(&ask("", 0, 150).budgets.len()), "as many as fit");
}

#[test]
fn what_a_budget_still_has_to_know_is_not_forgotten() {
    let month = budget("month", Scope::default(), Period::Calendar(Calendar::Month), Money::usd(1000));
    let task =
        |name: &str, hard| Budget { hard, ..budget(name, scope(Dimension::Task), Period::Lifetime, Money::usd(1000)) };
    let mut stage = Stage::of(vec![month, task("hard", true), task("soft", false)]);
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    for task in 0..10 {
        let call = request(Money::usd(1), &format!("t{task}"));
        let now = NOW.after(Duration::from_millis(task));
        stage.reserve(call.clone(), now);
        stage.settle(ended(&call, Money::usd(1)), now);
    }
    let kept = |stage: &Stage| {
        ["month", "hard", "soft"].map(|name| stage.status().iter().filter(|status| status.budget == name).count())
    };
    stage.forget(NOW.after(days(8)), days(30), 4);
    assert_eq!(kept(&stage), [1, 10, 4]);
    stage.forget(NOW.after(days(11)), days(30), 4);
    assert_eq!(kept(&stage), [0, 10, 4], "December");
    stage.forget(NOW.after(days(31)), days(30), 4);
    assert_eq!(kept(&stage), [0, 0, 0]);
}

#[test]
fn what_has_no_end_is_not_forgotten_however_long_it_is_idle() {
    let total = budget("total", scope(Dimension::Task), Period::Total, Money::usd(1));
    let life = budget("life", scope(Dimension::Task), Period::Lifetime, Money::usd(1));
    let mut stage = Stage::of(vec![total, life]);
    let call = request(Money::usd(1), "t");
    stage.reserve(call.clone(), NOW);
    stage.settle(ended(&call, Money::usd(1)), NOW);
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    stage.forget(NOW.after(days(31)), days(30), 1000);
    let known: Vec<String> = stage.status().into_iter().map(|status| status.budget).collect();
    assert_eq!(known, ["total"]);
}
