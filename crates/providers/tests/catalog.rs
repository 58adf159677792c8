//! `providers:`, `models:` and `routing:` as a user writes them.

use std::collections::BTreeMap;

use farebox_providers::{Ask, Catalog, CatalogFault, Deployment, Egress, Model, ProviderOptions, RoutingOptions};
use farebox_types::{ErrorKind, Span};

#[derive(serde::Deserialize)]
struct Config {
    providers: BTreeMap<String, ProviderOptions>,
    models: BTreeMap<String, Model>,
    #[serde(default)]
    routing: RoutingOptions,
}

fn config(json: serde_json::Value) -> Config {
    serde_json::from_value(json).expect("it has the shape of a config")
}

fn catalog(json: serde_json::Value) -> Result<Catalog, Vec<CatalogFault>> {
    let config = config(json);
    Catalog::new(&config.providers, &config.models, &config.routing, &Egress::default())
}

fn good() -> Catalog {
    catalog(serde_json::json!({
        "providers": {
            "anthropic": { "api_key": "os.environ/ANTHROPIC_API_KEY" },
            "openai": { "api_key": "os.environ/OPENAI_API_KEY" },
            "local": { "kind": "openai-compatible", "api_base": "http://127.0.0.1:11434/v1" },
        },
        "models": {
            "claude": "anthropic/claude-sonnet-4-20250514",
            "gpt-4": {
                "deployments": [{ "target": "openai/gpt-4", "weight": 3, "rpm": 500, "tpm": 100_000, "concurrent": 8 }, { "target": "local/gpt-4-clone" }],
                "params": { "max_tokens": 4096, "temperature": 0.7 },
                "fallback": ["claude", "llama"],
                "timeout": { "first_token": "20s", "total": "10m" },
                "retries": 3,
            },
            "llama": "local/llama",
        },
        "routing": {
            "default": "claude",
            "tasks": { "simple": "gpt-4" },
            "agents": { "critic": "llama" },
        },
    }))
    .expect("the catalog is good")
}

fn targets(plan: &[Deployment]) -> Vec<String> {
    plan.iter().map(|d| format!("{}/{}", d.provider, d.model)).collect()
}

fn first(_: u64) -> u64 {
    0
}

#[test]
fn a_plan_is_the_model_and_then_its_fallbacks() {
    let catalog = good();
    let plan = catalog.route(Ask::Model("gpt-4"), &[], &mut first).unwrap();
    assert_eq!(
        targets(&plan),
        ["openai/gpt-4", "local/gpt-4-clone", "anthropic/claude-sonnet-4-20250514", "local/llama"]
    );
    assert_eq!(plan[0].alias, "gpt-4");
    assert_eq!((plan[0].default_max_tokens, plan[0].default_temperature), (Some(4096), Some(0.7)));
    assert_eq!((plan[0].rpm, plan[0].tpm, plan[0].concurrent), (Some(500), Some(100_000), Some(8)));
    assert_eq!((plan[1].rpm, plan[1].tpm, plan[1].concurrent), (None, None, None));
    assert_eq!((plan[0].retries, plan[0].timeout.total), (3, Some(Span::from_secs(600))));
    assert_eq!((plan[0].dialect, plan[0].prices.as_str()), (None, "openai"));
    assert_eq!((plan[2].alias.as_str(), plan[2].provider.as_str()), ("claude", "anthropic"));
    assert_eq!((plan[2].default_max_tokens, plan[2].timeout.total), (None, None));
    assert_eq!(plan[3].prices, "local");
}

#[test]
fn fallbacks_of_the_request_stand_in_for_those_of_the_config() {
    let catalog = good();
    let plan = catalog.route(Ask::Model("claude"), &["llama".into(), "claude".into()], &mut first);
    assert_eq!(targets(&plan.unwrap()), ["anthropic/claude-sonnet-4-20250514", "local/llama"]);
    let unknown = catalog.route(Ask::Model("claude"), &["gpt-9".into()], &mut first).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    let many = vec!["llama".to_owned(); 9];
    let too_many = catalog.route(Ask::Model("claude"), &many, &mut first).unwrap_err();
    assert_eq!(too_many.kind(), ErrorKind::BadRequest);
}

#[test]
fn the_order_is_drawn_by_weight() {
    let catalog = good();
    let mut firsts = Vec::new();
    for drawn in 0..4 {
        let plan = catalog.route(Ask::Task("simple"), &[], &mut |below| {
            assert_eq!(below, 4);
            drawn
        });
        firsts.push(targets(&plan.unwrap())[0].clone());
    }
    assert_eq!(firsts, ["openai/gpt-4", "openai/gpt-4", "openai/gpt-4", "local/gpt-4-clone"]);
}

#[test]
fn tasks_roles_and_nothing_lead_to_a_model() {
    let catalog = good();
    assert_eq!(catalog.resolve(Ask::Task("simple")), Ok("gpt-4"));
    assert_eq!(catalog.resolve(Ask::Agent("critic")), Ok("llama"));
    assert_eq!(catalog.resolve(Ask::Default), Ok("claude"));
    let said = |ask| catalog.resolve(ask).unwrap_err().to_string();
    insta::assert_snapshot!(said(Ask::Model("gpt-5")), @"there is no model `gpt-5`; there are: `claude`, `gpt-4`, `llama`");
    insta::assert_snapshot!(said(Ask::Task("code")), @"no model is set for the task type `code`: set `routing.tasks.code`, or name a model");
    insta::assert_snapshot!(said(Ask::Agent("writer")), @"no model is set for the agent role `writer`: set `routing.agents.writer`, or name a model");
    let bare = catalog_without_routes();
    insta::assert_snapshot!(bare.resolve(Ask::Default).unwrap_err().to_string(), @"the request names no model, and there is no default: set `routing.default`, or name a model");
}

fn catalog_without_routes() -> Catalog {
    catalog(serde_json::json!({ "providers": {}, "models": {} })).expect("an empty catalog is good")
}

#[test]
fn every_fault_of_a_catalog_is_found_at_once() {
    let faults = catalog(serde_json::json!({
        "providers": {
            "opanai": {},
            "openai": {},
            "local": { "kind": "openai-compatible" },
            "azure/eu": { "kind": "openai" },
            "demo": {},
        },
        "models": {
            "gpt-4.1": {
                "deployments": [{ "target": "azure/gpt-4", "weight": 0, "tpm": 0 }],
                "params": { "max_tokens": 0, "temperature": 3.5 },
                "fallback": ["gpt-4.1", "claude"],
                "timeout": { "idle": "0s" },
                "retries": 11,
            },
            "empty": {},
        },
        "routing": { "default": "gpt-4", "tasks": { "code": "claude" }, "agents": { "writer": "empty" } },
    }))
    .expect_err("it is bad");
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    providers.azure/eu: a provider's name has no slash and no space: it stands before the slash of a target
    providers.demo.api_base: the provider `demo` is only there under `farebox up --demo`, which gives it its address
    providers.local.api_base: a provider of the kind `openai-compatible` needs an `api_base`, such as http://127.0.0.1:11434/v1
    providers.opanai: `opanai` is no kind of provider; known are: openai, azure, anthropic, gemini, vertex, bedrock, cohere, perplexity, deepseek, mistral, groq, xai, openrouter, together, fireworks, cerebras, moonshot, qwen, zai, nvidia, huggingface, ollama, vllm, llama-cpp, lm-studio, openai-compatible, anthropic-compatible, demo; or set `kind`
    providers.openai.api_key: a provider of the kind `openai` needs an `api_key`, such as os.environ/OPENAI_API_KEY
    models.empty.deployments: a model needs at least one deployment
    models."gpt-4.1".deployments[0].target: there is no provider `azure` in `providers`; there are: `azure/eu`, `demo`, `local`, `opanai`, `openai`
    models."gpt-4.1".deployments[0].weight: a weight lies between 1 and 10000
    models."gpt-4.1".deployments[0].tpm: a limit of zero lets no call through: leave the deployment out
    models."gpt-4.1".fallback[0]: a model cannot fall back to itself
    models."gpt-4.1".fallback[1]: there is no model `claude`; there are: `empty`, `gpt-4.1`
    models."gpt-4.1".retries: at most 10 retries make sense
    models."gpt-4.1".params.max_tokens: an answer needs at least one token
    models."gpt-4.1".params.temperature: a temperature lies between 0 and 2
    models."gpt-4.1".timeout.idle: a timeout of zero lets no call succeed
    routing.tasks.code: there is no model `claude`; there are: `empty`, `gpt-4.1`
    routing.default: there is no model `gpt-4`; there are: `empty`, `gpt-4.1`
    "#);
}

#[test]
fn what_a_provider_allows_for_a_target_is_the_same_everywhere() {
    let with = |rpm: u64| {
        catalog(serde_json::json!({
            "providers": { "openai": { "api_key": "os.environ/OPENAI_API_KEY" } },
            "models": {
                "a": { "deployments": [{ "target": "openai/gpt-4", "rpm": 500 }] },
                "b": { "deployments": [{ "target": "openai/gpt-4", "rpm": rpm }] },
            },
        }))
    };
    assert!(with(500).is_ok());
    let faults = with(400).expect_err("one of them is wrong");
    assert_eq!((faults.len(), faults[0].path.as_str()), (1, "models.b.deployments[0]"));
    assert!(faults[0].message.contains("models.a.deployments[0]"), "{}", faults[0].message);
}

#[test]
fn the_demo_provider_gets_its_address_later() {
    let mut config = config(serde_json::json!({
        "providers": { "demo": {} },
        "models": { "demo-small": "demo/demo-small" },
    }));
    assert_eq!(Catalog::check(&config.providers, &config.models, &config.routing, &Egress::default()), []);
    assert!(Catalog::new(&config.providers, &config.models, &config.routing, &Egress::default()).is_err());
    config.providers.get_mut("demo").expect("it is there").api_base = Some("http://127.0.0.1:9/v1".into());
    let catalog =
        Catalog::new(&config.providers, &config.models, &config.routing, &Egress::default()).expect("it is good now");
    assert_eq!(catalog.provider("demo").expect("it is there").base_url(), "http://127.0.0.1:9/v1");
}

#[test]
fn unknown_fields_are_refused_in_both_forms() {
    for bad in [
        serde_json::json!({ "deployments": [{ "target": "a/b", "rps": 500 }] }),
        serde_json::json!({ "deployments": [], "balance": "usage" }),
        serde_json::json!({ "timeout": { "read": "1s" } }),
    ] {
        let error = serde_json::from_value::<Model>(bad).expect_err("it is refused").to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
    let error = serde_json::from_value::<Model>(serde_json::json!("gpt-4")).expect_err("it is refused");
    assert!(error.to_string().contains("`gpt-4` is no target"), "{error}");
}
