use farebox_proto::v1::scope_term::Dimension as Wire;

use super::*;

fn term(dimension: Wire, values: &[&str]) -> v1::ScopeTerm {
    v1::ScopeTerm { dimension: dimension.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn money(text: &str) -> Option<v1::Money> {
    Some(text.parse::<Money>().unwrap().into())
}

fn budget() -> v1::Budget {
    v1::Budget {
        name: "team".into(),
        scope: vec![term(Wire::Project, &["acme"]), term(Wire::Actor, &[])],
        period: "rolling 24h".into(),
        time_zone: "Europe/Berlin".into(),
        limit: money("108"),
        limit_text: "100 EUR".into(),
        alert_permille: vec![800, 1000],
        hard: true,
        clamp_floor: 256,
        unbounded_ceiling: money("2"),
        unreachable: v1::Unreachable::Grace.into(),
        grace: money("5"),
        raises: vec![v1::BudgetRaise {
            by: money("10"),
            from_unix_ms: 1,
            until_unix_ms: 2,
            reason: "launch".into(),
            admin: "root".into(),
            subject: "writer".into(),
        }],
        change: None,
    }
}

fn limit() -> v1::Limit {
    v1::Limit {
        name: "tpm".into(),
        scope: vec![term(Wire::Deployment, &["openai/gpt-5"])],
        measure: v1::LimitMeasure::Tokens.into(),
        allowed: 1000,
        period: "minute".into(),
        strategy: "token-bucket".into(),
        burst: 2000,
        default: true,
        change: None,
    }
}

fn key() -> v1::Key {
    v1::Key {
        id: "k1".into(),
        project: "acme".into(),
        name: "Night shift".into(),
        hash: vec![1; 32].into(),
        previous_hash: vec![2; 32].into(),
        previous_until_unix_ms: 5,
        groups: vec!["night".into()],
        expires_unix_ms: 6,
        revoked_unix_ms: 7,
        models: vec!["gpt".into()],
        subjects: vec!["llm.>".into()],
        addresses: vec!["10.0.0.0/8".into(), "::1/128".into()],
        pins: Some(v1::Labels { actor: "writer".into(), end_user: "eve".into(), ..Default::default() }),
        metadata: [("team".to_owned(), "a".to_owned())].into(),
        created_unix_ms: 8,
        role: v1::AdminRole::Operator.into(),
        change: None,
    }
}

fn project() -> v1::Project {
    v1::Project {
        name: "acme".into(),
        organisation: "umbrella".into(),
        models: vec!["gpt-*".into()],
        provider_keys: [("openai".to_owned(), "os.environ/ACME_KEY".to_owned())].into(),
        disabled: true,
        metadata: [("tier".to_owned(), "gold".to_owned())].into(),
        change: None,
    }
}

#[test]
fn rules_survive_the_way_there_and_back() {
    assert_eq!(v1::Budget::from(&Budget::try_from(&budget()).unwrap()), budget());
    for (hard, unreachable) in [(true, v1::Unreachable::Closed), (false, v1::Unreachable::Open)] {
        let plain =
            v1::Budget { name: "b".into(), limit: money("1"), period: "total".into(), hard, ..Default::default() };
        let read = Budget::try_from(&plain).unwrap();
        let back = v1::Budget { unreachable: unreachable.into(), limit_text: "1 USD".into(), ..plain };
        assert_eq!((v1::Budget::from(&read), read.when_short), (back, WhenShort::Refuse));
    }
    for given in [
        limit(),
        v1::Limit { strategy: "fixed-window".into(), burst: 0, period: "10s".into(), ..limit() },
        v1::Limit { strategy: "sliding-window".into(), burst: 0, period: "day".into(), ..limit() },
        v1::Limit {
            measure: v1::LimitMeasure::Concurrent.into(),
            strategy: "fixed-window".into(),
            burst: 0,
            period: String::new(),
            ..limit()
        },
    ] {
        assert_eq!(v1::Limit::from(&Limit::try_from(&given).unwrap()), given);
    }
    let bucket = Limit::try_from(&v1::Limit { burst: 0, ..limit() }).unwrap();
    assert_eq!(bucket.rate.strategy, Strategy::TokenBucket { burst: 1000 });
    assert_eq!(v1::Key::from(&Key::try_from(&key()).unwrap()), key());
    assert_eq!(v1::Project::from(&ProjectPolicy::try_from(&project()).unwrap()), project());
}

#[test]
fn what_is_wrong_is_said_by_field_and_all_at_once() {
    fn paths<T>(read: Result<T, PolicyFaults>) -> Vec<String> {
        read.err().unwrap().0.into_iter().map(|fault| fault.path).collect()
    }
    let budget_of = |given: v1::Budget| paths(Budget::try_from(&given));
    let all = v1::Budget {
        scope: vec![term(Wire::Project, &[]), term(Wire::Unspecified, &[])],
        period: "daily".into(),
        time_zone: "Nowhere".into(),
        limit: None,
        limit_text: String::new(),
        ..budget()
    };
    assert_eq!(budget_of(all), ["scope[1].dimension", "period", "time_zone", "limit"]);
    assert_eq!(budget_of(v1::Budget { grace: None, ..budget() }), ["grace"]);
    assert_eq!(budget_of(v1::Budget { unreachable: v1::Unreachable::Open.into(), ..budget() }), ["grace"]);
    let text = |text: &str| v1::Budget { limit: None, limit_text: text.into(), ..budget() };
    assert_eq!(Budget::try_from(&text("0.5")).unwrap().limit, "0.5".parse().unwrap());
    assert_eq!(Budget::try_from(&text("5 USD")).unwrap().limit, Money::usd(5));
    assert_eq!(budget_of(text("90 EUR")), ["limit"]);
    let odd = v1::Money { usd: 1, pico: -1 };
    assert_eq!(budget_of(v1::Budget { limit: Some(odd), ..budget() }), ["limit"]);
    let limit_of = |given: v1::Limit| paths(Limit::try_from(&given));
    assert_eq!(limit_of(v1::Limit { measure: 0, period: "era".into(), ..limit() }), ["measure", "period"]);
    assert_eq!(limit_of(v1::Limit { strategy: "leaky".into(), burst: 0, ..limit() }), ["strategy"]);
    assert_eq!(limit_of(v1::Limit { strategy: "fixed-window".into(), ..limit() }), ["burst"]);
    assert_eq!(limit_of(v1::Limit { measure: v1::LimitMeasure::Concurrent.into(), ..limit() }), ["period"]);
    let wrong = v1::Key {
        id: "K-1".into(),
        project: "request".into(),
        hash: vec![1].into(),
        addresses: vec!["10.0.0.1".into(), "home".into()],
        pins: Some(v1::Labels { tags: vec!["t".into()], ..Default::default() }),
        ..key()
    };
    assert_eq!(paths(Key::try_from(&wrong)), ["id", "project", "hash", "addresses[1]", "pins.tags"]);
    let secret = [("openai".to_owned(), "sk-canary".to_owned())].into();
    let plain = ProjectPolicy::try_from(&v1::Project { provider_keys: secret, ..project() }).unwrap_err();
    assert_eq!(plain.0[0].path, "provider_keys.openai");
    assert!(!plain.to_string().contains("canary"), "{plain}");
}
