use serde_json::{Value, json};

use super::*;

/// All sections of a config.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sections {
    organisations: BTreeMap<String, OrganisationOptions>,
    projects: BTreeMap<String, ProjectOptions>,
    groups: BTreeMap<String, GroupOptions>,
    keys: BTreeMap<String, KeyOptions>,
    budgets: Vec<BudgetOptions>,
    limits: Vec<LimitOptions>,
    currencies: BTreeMap<String, Money>,
}

impl Sections {
    pub(crate) fn of(config: Value) -> Sections {
        serde_json::from_value(config).unwrap()
    }

    pub(crate) fn written(&self) -> Written<'_> {
        Written {
            organisations: &self.organisations,
            projects: &self.projects,
            groups: &self.groups,
            keys: &self.keys,
            budgets: &self.budgets,
            limits: &self.limits,
            currencies: &self.currencies,
        }
    }
}

fn read(config: Value) -> (Policies, Vec<PolicyFault>) {
    Sections::of(config).written().policies(&mut |id, _| match id.as_str() {
        "gone" => Err("the variable is not set".to_owned()),
        _ => Ok(KeyHash([7; 32])),
    })
}

fn budget(given: Value) -> Result<Budget, (String, String)> {
    let (policies, faults) = read(json!({ "budgets": [given], "currencies": { "EUR": 1.08 } }));
    match faults.into_iter().next() {
        Some(fault) => Err((fault.path, fault.message)),
        None => Ok(policies.budgets.into_values().next().unwrap()),
    }
}

#[test]
fn a_budget_says_what_it_says() {
    let everything = json!({ "name": "b", "limit": "100 USD", "period": "day", "alert": [0.8, 1], "hard": true });
    let plain = budget(everything.clone()).unwrap();
    assert_eq!((plain.limit, plain.limit_text.as_str()), (Money::usd(100), "100 USD"));
    assert_eq!((plain.alert, plain.unreachable), (vec![Permille(800), Permille(1000)], Unreachable::Closed));
    let task = budget(json!({ "name": "t", "scope": "task", "limit": 0.50 })).unwrap();
    assert_eq!((task.period, task.unreachable), (Period::Lifetime, Unreachable::Open));
    let euros =
        budget(json!({ "name": "e", "limit": "100 eur", "period": "month", "time_zone": "Europe/Berlin" })).unwrap();
    assert_eq!((euros.limit, euros.limit_text.as_str()), (Money::usd(108), "100 EUR"));
    let short = budget(json!({ "name": "d", "daily_limit_usd": 20, "warn_at_usd": 15 })).unwrap();
    assert_eq!(
        (short.period.to_string().as_str(), short.limit, short.alert),
        ("day", Money::usd(20), vec![Permille(750)])
    );
    let all = json!({
        "name": "all", "scope": { "project": "acme", "actor": "*" }, "limit": 5, "period": "rolling 24h", "hard": true,
        "when_short": "clamp", "unbounded_ceiling": "1 EUR", "unreachable": "grace 2 EUR",
    });
    let all = budget(all).unwrap();
    assert_eq!(all.when_short, WhenShort::Clamp { floor: CLAMP_FLOOR });
    assert_eq!(all.unbounded_ceiling, Some("1.08".parse().unwrap()));
    assert_eq!(all.unreachable, Unreachable::Grace("2.16".parse().unwrap()));
    for (change, path, word) in [
        (json!({ "limit": null }), "budgets[0]", "limit: 20 USD"),
        (json!({ "limit": "5 CHF" }), "budgets[0].limit", "currencies"),
        (json!({ "daily_limit_usd": 1 }), "budgets[0].daily_limit_usd", "already"),
        (json!({ "period": null }), "budgets[0]", "how long"),
        (json!({ "clamp_floor": 9 }), "budgets[0].clamp_floor", "when_short: clamp"),
        (json!({ "limit": 0, "warn_at_usd": 1 }), "budgets[0].warn_at_usd", "no part"),
    ] {
        let mut given = everything.clone();
        given.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
        let (found, message) = budget(given).unwrap_err();
        assert!(found == path && message.contains(word), "{change}: {found}: {message}");
    }
}

#[test]
fn a_scope_is_written_in_several_ways_and_reads_back_as_it_is() {
    use Dimension as D;
    let any = |values: &[&str]| Pick::Any(values.iter().map(|value| (*value).to_owned()).collect());
    for (given, scope) in [
        (json!("everything"), vec![]),
        (json!("task"), vec![(D::Task, Pick::Each)]),
        (json!(["model", "project"]), vec![(D::Project, Pick::Each), (D::Model, Pick::Each)]),
        (json!({ "actor": "*", "project": "a" }), vec![(D::Project, any(&["a"])), (D::Actor, Pick::Each)]),
        (json!({ "key": ["k1", "k2"] }), vec![(D::Key, any(&["k1", "k2"]))]),
    ] {
        let read: Scope = serde_json::from_value(given.clone()).unwrap();
        assert_eq!(read.0, scope, "{given}");
        let shown = serde_json::to_value(&read).unwrap();
        assert_eq!(serde_json::from_value::<Scope>(shown).unwrap(), read, "{given}");
    }
    let error = serde_json::from_value::<Scope>(json!("tasks")).unwrap_err().to_string();
    assert!(error.contains("`tasks`") && error.contains("end_user"), "{error}");
}

#[test]
fn values_have_one_form_and_wrong_ones_are_said() {
    fn message<T: for<'de> Deserialize<'de> + std::fmt::Debug>(given: Value) -> String {
        serde_json::from_value::<T>(given).unwrap_err().to_string()
    }
    assert!(message::<Amount>(json!("five USD")).contains("`five`"));
    assert!(message::<Amount>(json!("5 dollars")).contains("100 EUR"));
    assert!(message::<Permille>(json!(0.8005)).contains("three decimals"));
    assert!(message::<Permille>(json!(-0.5)).contains("0.8"));
    assert!(message::<Unreached>(json!("grace")).contains("grace 5 USD"));
    assert!(message::<Unreached>(json!("maybe")).contains("closed"));
    assert!(message::<Moment>(json!("tomorrow")).contains("2026-12-31"));
    assert!(message::<Zone>(json!("Mars/Base")).contains("Europe/Berlin"));
    let moment: Moment = serde_json::from_value(json!("2026-12-31T23:59:59Z")).unwrap();
    assert_eq!(moment.to_string(), "2026-12-31T23:59:59Z");
}

#[test]
fn a_limit_counts_one_thing() {
    let of = |given: Value| {
        let (policies, faults) = read(json!({ "limits": [given] }));
        let fault = faults.into_iter().next().map(|fault| (fault.path, fault.message));
        fault.map_or_else(|| Ok(policies.limits.into_values().next().unwrap()), Err)
    };
    let bucket =
        json!({ "name": "l", "scope": "key", "tokens": 9, "per": "hour", "strategy": "token-bucket", "default": true });
    let limit = of(bucket).unwrap();
    let strategy = Strategy::TokenBucket { burst: 9 };
    assert_eq!(limit.rate, Rate { allowed: 9, period: Span::from_secs(3600), strategy });
    assert!(limit.default && limit.measure == Measure::Tokens);
    assert_eq!(of(json!({ "name": "c", "concurrent": 4 })).unwrap().rate.period, Span::ZERO);
    for (given, path) in [
        (json!({ "name": "l" }), "limits[0]"),
        (json!({ "name": "l", "requests": 1, "tokens": 1, "per": "day" }), "limits[0]"),
        (json!({ "name": "l", "requests": 1 }), "limits[0]"),
        (json!({ "name": "l", "requests": 1, "per": "era" }), "limits[0].per"),
        (json!({ "name": "l", "concurrent": 1, "per": "day" }), "limits[0].per"),
        (json!({ "name": "l", "requests": 1, "per": "day", "burst": 2 }), "limits[0].burst"),
    ] {
        assert_eq!(of(given.clone()).unwrap_err().0, path, "{given}");
    }
}

#[test]
fn a_static_key_has_what_is_written_and_all_faults_are_found() {
    let (policies, faults) = read(json!({
        "organisations": { "umbrella": {} },
        "projects": { "acme": { "organisation": "umbrella", "models": ["gpt-*"] }, "request": {} },
        "groups": { "night": { "description": "Batch jobs" } },
        "keys": {
            "ci": {
                "key": "os.environ/CI_KEY", "project": "acme", "groups": ["night"], "addresses": ["10.0.0.0/8", "::1"],
                "expires": "2027-01-01T00:00:00Z", "pins": { "actor": "ci", "task": "nightly" },
            },
            "gone": { "key": "os.environ/GONE", "project": "acme", "addresses": ["home"] },
            "No-Id": { "key": "os.environ/X", "project": "acme" },
        },
        "budgets": [{ "name": "b", "limit": 1, "period": "day" }, { "name": "b", "limit": 1, "period": "day" }],
        "limits": [{ "name": "l", "concurrent": 1 }, { "name": "l", "concurrent": 1 }],
    }));
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    let expected =
        ["projects.request", "keys.No-Id", "keys.gone.addresses", "keys.gone.key", "budgets[1].name", "limits[1].name"];
    assert_eq!(paths, expected);
    let key = &policies.keys[&KeyId::parse("ci").unwrap()];
    assert_eq!((key.pins.actor.as_str(), key.pins.task_id.as_str()), ("ci", "nightly"));
    assert_eq!(key.addresses.len(), 2);
    assert_eq!(key.expires, Some(Timestamp(1_798_761_600_000)));
    assert_eq!(policies.projects["acme"].organisation, "umbrella");
}
