use std::time::Duration;

use bytes::Bytes;
use farebox_bus::Caller;
use farebox_pricing::PriceRow;
use farebox_providers::Egress;
use farebox_types::{Money, Project};
use serde_json::{Value, json};

use super::*;
use crate::request::{Arrival, Payload, on_the_bus};

const NOW: Timestamp = Timestamp(1_760_000_000_000);

/// A plan for `body`, asked for in `dialect`, by a config of these providers, models and prices.
fn plan(config: &Value, prices: Value, dialect: Option<&str>, body: &Value) -> Result<Plan, Fault> {
    let of = |name: &str| config[name].clone();
    let (providers, models) = (of("providers"), of("models"));
    let catalog = Catalog::new(
        &serde_json::from_value(providers).unwrap(),
        &serde_json::from_value(models).unwrap(),
        &Default::default(),
        &Egress::default(),
    )
    .unwrap();
    let rows: Vec<PriceRow> = serde_json::from_value(prices).unwrap();
    let options = Options::default();
    let prices = PriceBook::of(&rows).unwrap();
    let (_keep, routes) = watch::channel(Arc::new(Routes { catalog, prices }));
    let router = Router::new(routes, options.clone());
    let caller = Caller { project: Project::parse("default").unwrap(), key_id: None };
    let body = Bytes::from(body.to_string());
    let arrival = Arrival {
        principal: on_the_bus(&caller),
        message: Payload::new(true, &body, dialect),
        now: NOW,
        default_deadline: Duration::from_secs(60),
        assigned: None,
    };
    router.plan(&Request::read(arrival, &options)?, NOW)
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000});
    body.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
    body
}

fn bound(plan: &Plan) -> Money {
    v1::Money::of(&plan.deployments[0].bound)
}

#[test]
fn a_tier_is_reserved_at_its_own_price_and_has_no_bound_without_one() {
    let config = json!({
        "providers": {"openai": {"api_key": "os.environ/KEY"}},
        "models": {"m": "openai/gpt-x"},
    });
    let prices = json!([{
        "provider": "openai", "models": ["gpt-x"], "input": "0", "output": "1000",
        "tiers": [{"service_tier": "priority", "input": "0", "output": "2000"}],
    }]);
    let of = |tier: Value| plan(&config, prices.clone(), None, &chat(json!({"service_tier": tier})));
    assert_eq!(bound(&of(Value::Null).unwrap()), Money::usd(1));
    assert_eq!(bound(&of(json!("priority")).unwrap()), Money::usd(2));
    let unpriced = of(json!("flex")).unwrap();
    let deployment = &unpriced.deployments[0];
    assert!(deployment.unbounded.contains("`flex`") && deployment.unmetered, "{}", deployment.unbounded);
    assert_eq!(bound(&unpriced), Money::usd(1), "the part that is known");
}

#[test]
fn what_is_done_more_than_once_is_reserved_as_often() {
    let config = json!({
        "providers": {"openai": {"api_key": "os.environ/KEY"}, "cohere": {"api_key": "os.environ/KEY"}},
        "models": {"m": "openai/gpt-3.5-turbo-instruct", "r": "cohere/rerank-x"},
    });
    let prices = json!([
        {"provider": "openai", "models": ["gpt-3.5-turbo-instruct"], "input": "0", "output": "1000"},
        {"provider": "cohere", "models": ["rerank-x"], "input": "0", "output": "0", "per_search": "1"},
    ]);
    let of = |dialect, body: Value| bound(&plan(&config, prices.clone(), Some(dialect), &body).unwrap());
    let completions = |prompt: Value| json!({"model": "m", "prompt": prompt, "max_tokens": 1000, "n": 2});
    assert_eq!(of("openai-completions", completions(json!("a"))), Money::usd(2));
    assert_eq!(of("openai-completions", completions(json!([1, 2, 3]))), Money::usd(2));
    assert_eq!(of("openai-completions", completions(json!(["a", "b", "c"]))), Money::usd(6));
    assert_eq!(of("openai-completions", completions(json!([[1], [2]]))), Money::usd(4));
    // The query counts in the length of each document.
    let query = "q".repeat(1000);
    let ranked = of("cohere-rerank", json!({"model": "r", "query": query, "documents": vec!["d"; 100]}));
    assert!(ranked >= Money::usd(3), "{ranked}");
}

#[test]
fn a_window_with_a_price_beyond_it_is_not_the_end() {
    let config = json!({
        "providers": {"anthropic": {"api_key": "os.environ/KEY"}},
        "models": {"m": "anthropic/claude-x"},
    });
    let of = |tiers: Value| {
        let prices = json!([{
            "provider": "anthropic", "models": ["claude-x"], "input": "1000", "output": "0", "context_window": 100,
            "tiers": tiers,
        }]);
        let body = chat(json!({"messages": [{"role": "user", "content": "a".repeat(2000)}]}));
        bound(&plan(&config, prices, Some("anthropic-messages"), &body).unwrap())
    };
    assert_eq!(of(json!([])), "0.1".parse().unwrap());
    assert!(of(json!([{"above": 100, "input": "2000", "output": "0"}])) >= Money::usd(4));
}

#[test]
fn each_designed_tool_brings_its_preamble() {
    let config = json!({
        "providers": {"anthropic": {"api_key": "os.environ/KEY"}},
        "models": {"m": "anthropic/claude-x"},
    });
    let prices = json!([{"provider": "anthropic", "models": ["claude-x"], "input": "1000", "output": "0"}]);
    let tools = json!([
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
        {"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 1},
    ]);
    let plan = plan(&config, prices, Some("anthropic-messages"), &chat(json!({"tools": tools}))).unwrap();
    assert!(bound(&plan) >= Money::usd(4), "{}", bound(&plan));
}

#[test]
fn one_model_can_be_priced_as_another_and_ones_own_cost_nothing() {
    let config = |deployment: Value| {
        json!({
            "providers": {
                "azure": {"api_base": "https://team.openai.azure.com", "api_key": "os.environ/KEY"},
                "ollama": {},
            },
            "models": {"m": {"deployments": [deployment]}},
        })
    };
    let prices = json!([{"provider": "openai", "models": ["gpt-x"], "input": "0", "output": "1000"}]);
    let of = |deployment: Value| plan(&config(deployment), prices.clone(), None, &chat(json!({})));
    let refused = of(json!({"target": "azure/prod-1"})).err().unwrap();
    assert!(refused.message.contains("`azure/prod-1`"), "{}", refused.message);
    let priced = of(json!({"target": "azure/prod-1", "priced_as": "openai/gpt-x"})).unwrap();
    assert_eq!((bound(&priced), priced.deployments[0].model.as_str()), (Money::usd(1), "prod-1"));
    assert_eq!(bound(&of(json!({"target": "ollama/llama3"})).unwrap()), Money::ZERO);
}

#[test]
fn a_model_that_searches_of_its_own_accord_has_its_searches_reserved() {
    let config = json!({
        "providers": {"perplexity": {"api_key": "os.environ/KEY"}, "openai": {"api_key": "os.environ/KEY"}},
        "models": {"m": "perplexity/sonar", "o": "openai/sonar"},
    });
    let prices = json!([
        {"provider": "perplexity", "models": ["sonar"], "input": "0", "output": "0", "per_search": "1"},
        {"provider": "openai", "models": ["sonar"], "input": "0", "output": "0", "per_search": "1"},
    ]);
    let of = |model: &str| plan(&config, prices.clone(), None, &chat(json!({"model": model}))).unwrap();
    assert_eq!(bound(&of("m")), Money::usd(32));
    assert_eq!(bound(&of("o")), Money::ZERO);
}

#[test]
fn what_a_model_can_is_marked() {
    let config = json!({"providers": {"openai": {"api_key": "os.environ/KEY"}},
               "models": {"m": "openai/a", "o": "openai/b", "t": "openai/c"}});
    let prices = json!([
        {"provider": "openai", "models": ["a"], "input": "1", "output": "1", "capabilities": ["reasoning"]},
        {"provider": "openai", "models": ["b"], "input": "1", "output": "1"},
        {"provider": "openai", "models": ["c"], "input": "1", "output": "1", "capabilities": ["tools"], "max_output": 900},
    ]);
    let marked = |model: &str| {
        let plan = plan(&config, prices.clone(), None, &chat(json!({"model": model}))).unwrap();
        let deployment = &plan.deployments[0];
        (deployment.may_reason, deployment.never_reasons, deployment.max_output_tokens)
    };
    assert_eq!(marked("m"), (true, false, 0));
    assert_eq!(marked("o"), (false, false, 0), "nothing is known of it");
    assert_eq!(marked("t"), (false, true, 900));
}

#[test]
fn a_count_is_free_and_a_dialect_is_its_callers_own_where_it_can_be() {
    let config = json!({
        "providers": {"anthropic": {"api_key": "os.environ/KEY"}, "openai": {"api_key": "os.environ/KEY"}},
        "models": {"m": "anthropic/claude-x", "o": "openai/gpt-x"},
    });
    let prices = json!([{"provider": "openai", "models": ["gpt-x"], "input": "1", "output": "1"}]);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    let counted = plan(&config, prices.clone(), Some("anthropic-count-tokens"), &body).unwrap();
    assert_eq!(bound(&counted), Money::ZERO);
    for (caller, sent) in [("openai-chat", v1::Dialect::OpenaiChat), ("anthropic-messages", v1::Dialect::OpenaiChat)] {
        let body = json!({"model": "o", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(plan(&config, prices.clone(), Some(caller), &body).unwrap().deployments[0].dialect(), sent);
    }
    let body = json!({"model": "o", "input": "hi"});
    let responses = plan(&config, prices.clone(), Some("openai-responses"), &body).unwrap();
    assert_eq!(responses.deployments[0].dialect(), v1::Dialect::OpenaiResponses);
    let body = json!({"model": "o", "query": "q", "documents": ["d"]});
    let refused = plan(&config, prices, Some("cohere-rerank"), &body).err().unwrap();
    assert!(refused.message.contains("does not rerank"), "{}", refused.message);
}

/// One deployment of a model that costs a thousandth of a dollar for a token, in and out.
fn priced(deployment: Value, dialect: Option<&str>, body: &Value) -> Result<v1::Deployment, Fault> {
    let config = json!({
        "providers": {
            "openai": {"api_key": "os.environ/KEY"},
            "anthropic": {"api_key": "os.environ/KEY"},
            "ollama": {},
        },
        "models": {"m": {"deployments": [deployment]}},
    });
    let prices = json!([
        {"provider": "openai", "models": ["x"], "input": "1000", "output": "1000"},
        {"provider": "anthropic", "models": ["x"], "input": "1000", "output": "1000", "per_search": "0.01"},
    ]);
    plan(&config, prices, dialect, body).map(|mut plan| plan.deployments.remove(0))
}

#[test]
fn what_has_no_bound_goes_through_with_the_field_named_and_the_part_that_is_known() {
    let openai = json!({"target": "openai/x"});
    let picture =
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.invalid/a"}}]}]);
    for (extra, field, unmetered) in [
        (json!({"messages": picture}), "messages[0].content[0].image_url.url", false),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type", true),
        (json!({"prediction": {"type": "content"}}), "prediction", false),
        (json!({"plugins": [{"id": "web"}]}), "plugins", true),
    ] {
        let deployment = priced(openai.clone(), None, &chat(extra.clone())).unwrap();
        assert!(deployment.unbounded.contains(&format!("`{field}`")), "{}", deployment.unbounded);
        assert_eq!((deployment.unmetered, deployment.output), (unmetered, None), "{extra}");
        assert!(v1::Money::of(&deployment.bound) > Money::usd(1), "{extra}");
        let mut limited = chat(extra);
        limited["farebox"] = json!({"max_cost": "100"});
        let refused = priced(openai.clone(), None, &limited).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::OverBudget);
        assert!(refused.message.contains(&format!("`{field}`")) && refused.message.contains("max_cost"));
        // What costs nothing has a bound whatever it does, as long as nothing is billed besides.
        let free = priced(json!({"target": "ollama/x"}), None, &{
            limited["farebox"] = json!({});
            limited
        })
        .unwrap();
        assert_eq!(free.unbounded.is_empty(), !unmetered, "{}", free.unbounded);
    }
    let search = chat(json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}));
    let priced = priced(json!({"target": "anthropic/x"}), Some("anthropic-messages"), &search).unwrap();
    assert!(priced.unbounded.contains("`tools[0].type`") && !priced.unmetered, "searches are counted and have a price");
}

#[test]
fn a_tool_that_is_left_out_at_a_provider_of_another_dialect_costs_nothing_there() {
    let asked = |first: Value| {
        json!({"model": "m", "input": "hi", "max_output_tokens": 1000, "tools": [
            first, {"type": "namespace", "name": "agents", "tools": [{"type": "function", "name": "spawn"}]},
        ]})
    };
    let search = asked(json!({"type": "web_search"}));
    for (target, body, unbounded) in [
        ("openai/x", &search, true),
        ("anthropic/x", &search, false),
        // Functions in a group are like any others.
        ("openai/x", &asked(json!({"type": "function", "name": "search"})), false),
    ] {
        let deployment = priced(json!({"target": target}), Some("openai-responses"), body).unwrap();
        assert_eq!(deployment.unbounded.contains("`tools[0].type`"), unbounded, "{target}");
        assert_eq!((!deployment.unbounded.is_empty(), deployment.unmetered), (unbounded, unbounded), "{target}");
    }
}

#[test]
fn what_is_answered_before_it_has_ended_is_refused() {
    let body = json!({"model": "m", "input": "hi", "background": true});
    let refused = priced(json!({"target": "openai/x"}), Some("openai-responses"), &body).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unsupported);
    assert!(refused.message.contains("`background`"), "{}", refused.message);
}

#[test]
fn the_share_of_the_output_adds_up_to_the_bound_and_holds_for_all_answers() {
    let share = |extra| {
        let deployment = priced(json!({"target": "openai/x"}), None, &chat(extra)).unwrap();
        let share = deployment.output.unwrap();
        assert_eq!(share.bound(), v1::Money::of(&deployment.bound));
        (share.max_tokens, v1::Money::of(&share.per_token).to_string())
    };
    assert_eq!(share(json!({})), (1000, "0.001".to_owned()));
    assert_eq!(share(json!({"n": 3, "max_tokens": 7})), (7, "0.003".to_owned()));
    assert_eq!(share(json!({"max_tokens": null})), (16_384, "0.001".to_owned()));
    let embeddings = json!({"model": "m", "input": "hi"});
    let embedded = priced(json!({"target": "openai/x"}), Some("openai-embeddings"), &embeddings).unwrap();
    assert_eq!(embedded.output, None);
}

#[test]
fn the_tokens_that_are_expected_are_those_of_the_text_and_of_the_answer_that_is_asked_for() {
    let expected = |extra| {
        let body = chat(extra);
        let written = body.to_string().len() as u64;
        let deployment = priced(json!({"target": "openai/x"}), None, &body).unwrap();
        (deployment.expected_tokens, written)
    };
    let (tokens, written) = expected(json!({"max_tokens": 500, "n": 2}));
    assert_eq!(tokens, written.div_ceil(4) + 1000);
    let (tokens, written) = expected(json!({"max_tokens": null}));
    assert_eq!(tokens, written.div_ceil(4) + 1000, "assumed_answer_tokens");
    // A large picture is no large text.
    let picture = format!("data:image/png;base64,{}", "A".repeat(400_000));
    let content = json!([{"type": "image_url", "image_url": {"url": picture}}]);
    let (tokens, _) = expected(json!({"messages": [{"role": "user", "content": content}]}));
    assert!((8_192 + 1_000..10_000).contains(&tokens), "{tokens}");
}

#[test]
fn a_deployment_says_what_its_provider_allows() {
    let limited = json!({"target": "openai/x", "rpm": 500, "tpm": 100_000, "concurrent": 8});
    let deployment = priced(limited, None, &chat(json!({}))).unwrap();
    let of = |d: &v1::Attempt| (d.requests_per_minute, d.tokens_per_minute, d.concurrent);
    assert_eq!(of(&deployment.attempt(farebox_types::CallId::generate())), (500, 100_000, 8));
    let free = priced(json!({"target": "openai/x"}), None, &chat(json!({}))).unwrap();
    assert_eq!(of(&free.attempt(farebox_types::CallId::generate())), (0, 0, 0));
}
