use serde_json::{Value, json};

use super::*;
use crate::{key::KeyHash, written::tests::Sections};

/// What is wrong with a config, by place.
fn faults(config: Value) -> Vec<(String, String)> {
    let sections = Sections::of(config);
    let written = sections.written();
    let (policies, faults) = written.policies(&mut |_, _| Ok(KeyHash([7; 32])));
    assert_eq!(faults, [], "it can be read");
    let of = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let known = Known { models: of(&["gpt-5", "gpt-5-mini"]), providers: of(&["openai"]) };
    let found = policies.check(&known).into_iter().map(|fault| written.placed(fault));
    found.map(|fault| (fault.path, fault.message)).collect()
}

fn paths(config: Value) -> Vec<String> {
    faults(config).into_iter().map(|(path, _)| path).collect()
}

/// Below a hard budget over everything.
fn with(budget: Value) -> Value {
    let mut given = json!({ "name": "b", "limit": 5, "period": "day", "hard": true });
    given.as_object_mut().unwrap().extend(budget.as_object().cloned().unwrap());
    json!({ "budgets": [{ "name": "everything", "limit": 100, "period": "month", "hard": true }, given] })
}

#[test]
fn a_whole_set_of_rules_is_fine() {
    let found = faults(json!({
        "organisations": { "umbrella": {} },
        "projects": { "acme": { "organisation": "umbrella", "models": ["gpt-*"], "provider_keys": { "openai": "os.environ/K" } } },
        "groups": { "night": {} },
        "keys": {
            "k1": { "key": "os.environ/K1", "project": "acme", "groups": ["night"], "models": ["gpt-5"] },
            "k2": { "key": "os.environ/K2", "project": "default" },
            "root": { "key": "os.environ/ROOT", "role": "owner" },
        },
        "budgets": [
            { "name": "everything", "limit": "100 EUR", "period": "day", "time_zone": "Europe/Berlin", "alert": [0.8, 1.0], "hard": true },
            { "name": "warning", "limit": 80, "period": "day", "time_zone": "Europe/Berlin" },
            { "name": "per-task", "scope": "task", "limit": "0.50 USD", "hard": true, "when_short": "clamp" },
            { "name": "night", "scope": { "group": "night", "model": "gpt-5" }, "limit": 1, "period": "rolling 24h" },
        ],
        "limits": [
            { "name": "rpm", "scope": "key", "requests": 60, "per": "minute", "default": true },
            { "name": "rpd", "scope": "key", "requests": 6000, "per": "day" },
            { "name": "k1", "scope": { "key": "k1" }, "requests": 600, "per": "minute" },
            { "name": "deployment", "scope": { "deployment": "openai/gpt-5" }, "tokens": 1000, "per": "minute", "strategy": "token-bucket" },
        ],
        "currencies": { "EUR": 1.08 },
    }));
    assert_eq!(found, []);
}

#[test]
fn what_a_rule_names_has_to_be_there() {
    let found = paths(json!({
        "projects": { "acme": { "organisation": "gone", "models": ["gpt-*", "o9"], "provider_keys": { "azure": "os.environ/K" } } },
        "keys": {
            "k1": { "key": "os.environ/K1", "project": "emca", "groups": ["day"], "models": ["claude-*"] },
            "none": { "key": "os.environ/K2" },
            "both": { "key": "os.environ/K3", "project": "acme", "role": "viewer" },
        },
        "budgets": [{
            "name": "b", "limit": 1, "period": "day",
            "scope": { "organisation": "o", "project": "p", "key": ["k1", "k9"], "group": "g", "model": "m", "provider": "x" },
        }],
        "limits": [{ "name": "l", "requests": 1, "per": "day", "scope": { "deployment": "azure/gpt", "actor": "anyone" } }],
    }));
    let expected = [
        "projects.acme.organisation",
        "projects.acme.models[1]",
        "projects.acme.provider_keys.azure",
        "keys.both.role",
        "keys.k1.project",
        "keys.k1.groups[0]",
        "keys.k1.models[0]",
        "keys.none",
        "budgets[0].scope.organisation",
        "budgets[0].scope.project",
        "budgets[0].scope.key",
        "budgets[0].scope.group",
        "budgets[0].scope.model",
        "budgets[0].scope.provider",
        "limits[0].scope.deployment",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_cannot_be_is_said_where_it_stands() {
    for (budget, path) in [
        (json!({ "name": "a.b" }), "budgets[1].name"),
        (json!({ "limit": -1 }), "budgets[1].limit"),
        (json!({ "alert": [0.5, 1.6] }), "budgets[1].alert[1]"),
        (json!({ "alert": [0] }), "budgets[1].alert[0]"),
        (json!({ "alert": [0.5, 0.5] }), "budgets[1].alert[1]"),
        (json!({ "hard": false, "when_short": "clamp" }), "budgets[1].when_short"),
        (json!({ "when_short": "clamp", "clamp_floor": 0 }), "budgets[1].clamp_floor"),
        (json!({ "hard": false, "unbounded_ceiling": 1 }), "budgets[1].unbounded_ceiling"),
        (json!({ "unbounded_ceiling": 6 }), "budgets[1].unbounded_ceiling"),
        (json!({ "unreachable": "grace 0 USD" }), "budgets[1].unreachable"),
        (json!({ "hard": false, "unreachable": "grace 1 USD" }), "budgets[1].unreachable"),
        (json!({ "period": "rolling 10s" }), "budgets[1].period"),
        (json!({ "period": "lifetime" }), "budgets[1].period"),
        (json!({ "period": "total", "time_zone": "Europe/Berlin" }), "budgets[1].time_zone"),
        (json!({ "scope": ["project", "project"] }), "budgets[1].scope.project"),
        (json!({ "scope": { "actor": [] } }), "budgets[1].scope.actor"),
        (json!({ "scope": { "actor": ["a", "*"] } }), "budgets[1].scope.actor"),
    ] {
        assert_eq!(paths(with(budget.clone())), [path], "{budget}");
    }
    for (limit, path) in [
        (json!({ "requests": 0, "per": "day" }), "limits[0]"),
        (json!({ "requests": 1, "per": "10ms" }), "limits[0].per"),
        (json!({ "requests": 1, "per": "day", "strategy": "token-bucket", "burst": 0 }), "limits[0].burst"),
        (json!({ "concurrent": 1, "strategy": "sliding-window" }), "limits[0].strategy"),
        (json!({ "concurrent": 1, "default": true }), "limits[0].default"),
    ] {
        let mut given = limit.clone();
        given.as_object_mut().unwrap().insert("name".to_owned(), json!("l"));
        assert_eq!(paths(json!({ "limits": [given] })), [path], "{limit}");
    }
}

#[test]
fn what_callers_say_themselves_is_below_what_they_cannot() {
    let of = |scope: Value, above: Value, actor: &str| {
        let mut budgets = vec![json!({ "name": "b", "scope": scope, "limit": 1, "period": "day", "hard": true })];
        if let Some(scope) = above.as_array() {
            let budget =
                |scope: &Value| json!({ "name": "above", "scope": scope, "limit": 9, "period": "day", "hard": true });
            budgets.extend(scope.iter().map(budget));
        }
        faults(json!({
            "organisations": { "umbrella": {} },
            "projects": { "acme": { "organisation": "umbrella" }, "other": {} },
            "groups": { "night": {} },
            "keys": {
                "k1": { "key": "os.environ/K1", "project": "acme", "pins": { "actor": actor } },
                "k2": { "key": "os.environ/K2", "project": "acme" },
            },
            "budgets": budgets,
        }))
    };
    for (scope, above) in [
        (json!("task"), json!(["everything"])),
        (json!("task"), json!(["project"])),
        (json!("task"), json!([["project", "model"]])),
        (json!(["key", "task"]), json!(["key"])),
        (json!({ "project": "acme", "actor": "*" }), json!([{ "project": ["acme", "other"] }])),
        (json!({ "project": "acme", "tag": "x" }), json!([{ "organisation": "umbrella" }])),
        // A key says which project it is.
        (json!({ "key": ["k1", "k2"], "session": "*" }), json!([{ "project": "acme" }])),
        (json!({ "key": "k1", "actor": "*" }), json!(null)),
    ] {
        assert_eq!(of(scope.clone(), above.clone(), "ci"), [], "{scope} below {above}");
    }
    for (scope, above) in [
        (json!("task"), json!(null)),
        // Calls without a key have none.
        (json!("task"), json!(["key"])),
        (json!("actor"), json!([{ "project": "acme" }])),
        (json!({ "project": ["acme", "other"], "actor": "*" }), json!([{ "project": "acme" }])),
        (json!({ "key": "k1", "end_user": "*" }), json!([{ "group": "night" }])),
        (json!({ "key": ["k1", "k2"], "actor": "*" }), json!(null)),
        (json!({ "key": "k1", "tag": "x" }), json!(null)),
    ] {
        let found = of(scope.clone(), above.clone(), "ci");
        assert_eq!(found.len(), 1, "{scope} below {above}: {found:?}");
        assert_eq!(found[0].0, "budgets[0].scope");
    }
    let (_, message) = of(json!({ "project": "acme", "actor": "*" }), json!(null), "").remove(0);
    assert!(message.contains("all-of-b, scope: { project: [acme] }"), "{message}");
    // One that refuses nothing cannot be escaped.
    assert_eq!(
        paths(json!({ "budgets": [{ "name": "b", "scope": "actor", "limit": 1, "period": "day" }] })),
        Vec::<String>::new()
    );
}

#[test]
fn a_rule_that_never_matters_is_wrong() {
    let budget = |name: &str, limit: u64, hard: bool, alert: Value| json!({ "name": name, "scope": "project", "limit": limit, "period": "day", "hard": hard, "alert": alert });
    for (a, b, found) in [
        (budget("a", 20, true, json!([])), budget("b", 10, true, json!([])), vec!["budgets[0].limit"]),
        (budget("a", 10, true, json!([])), budget("b", 10, true, json!([])), vec!["budgets[1].limit"]),
        // It warns above what is ever spent, or below.
        (budget("a", 20, false, json!([0.8])), budget("b", 10, true, json!([])), vec!["budgets[0].limit"]),
        (budget("a", 20, false, json!([0.4])), budget("b", 10, true, json!([])), vec![]),
        (budget("a", 20, true, json!([])), budget("b", 10, false, json!([])), vec![]),
    ] {
        assert_eq!(paths(json!({ "budgets": [a, b] })), found, "{a} {b}");
    }
    let limit = |name: &str, requests: u64, default: bool, strategy: &str| json!({ "name": name, "scope": "key", "requests": requests, "per": "day", "default": default, "strategy": strategy });
    const FIXED: &str = "fixed-window";
    for (a, b, found) in [
        (limit("a", 20, false, FIXED), limit("b", 10, false, FIXED), vec!["limits[0]"]),
        (limit("a", 10, true, FIXED), limit("b", 10, true, FIXED), vec!["limits[1]"]),
        // A default one does not matter beside a tighter one, and holds nobody back for whom another is named.
        (limit("a", 20, true, FIXED), limit("b", 10, false, FIXED), vec!["limits[0]"]),
        (limit("a", 10, true, FIXED), limit("b", 20, false, FIXED), vec![]),
        (limit("a", 20, false, FIXED), limit("b", 10, false, "sliding-window"), vec![]),
    ] {
        assert_eq!(paths(json!({ "limits": [a, b] })), found, "{a} {b}");
    }
}
