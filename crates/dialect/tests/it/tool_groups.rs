//! Groups of functions of OpenAI's responses (`type: namespace`), which codex sends: towards other dialects their functions
//! stand alone, and a call of one comes back as a call of the group's.

use std::collections::HashSet;

use bytes::Bytes;
use farebox_dialect::{
    Answer, Asked, Call, Collector, Defaults, DialectName, Event, Exchange, Head, PartId, PartKind, Stamp, Target,
    ToolChoice, provider_dialect,
};
use http::HeaderMap;
use serde_json::{Value, json};

const NAME: DialectName = DialectName::OpenAiResponses;

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "description": format!("Does {name}."), "strict": false,
        "parameters": {"type": "object", "properties": {}}})
}

fn group(name: &str, functions: &[&str]) -> Value {
    let functions: Vec<Value> = functions.iter().map(|name| function(name)).collect();
    json!({"type": "namespace", "name": name, "description": format!("About {name}."), "tools": functions})
}

fn called(id: &str, group: Option<&str>, name: &str) -> Value {
    let mut item = json!({"type": "function_call", "call_id": id, "name": name, "arguments": "{}"});
    if let Some(group) = group {
        item["namespace"] = group.into();
    }
    item
}

fn result(id: &str) -> Value {
    json!({"type": "function_call_output", "call_id": id, "output": "done"})
}

fn parse(body: &Value) -> Call {
    crate::caller(NAME).parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap()
}

fn stamp() -> Stamp {
    Stamp { id: "own-1".into(), created: 1_770_000_000, model: Some("alias".into()) }
}

fn names(call: &Call) -> Vec<&str> {
    call.tools.iter().map(|tool| tool.name.as_str()).collect()
}

/// What a caller reads of a call of the function that it has sent under this name, whole and streamed.
fn read_back(call: &Call, name: &str) -> [(Value, Value); 2] {
    let id = PartId(0);
    let kind = PartKind::ToolCall { id: "call_1".into(), name: name.into() };
    let started = Event::Started { id: "r".into(), model: "m".into(), created: None };
    let events = [started, Event::PartStart { id, choice: 0, kind }, Event::PartEnd { id }];
    let mut collector = Collector::new();
    let (mut streamed, mut renderer) = (Vec::new(), crate::caller(NAME).renderer(call, &stamp()));
    for event in &events {
        collector.push(event);
        renderer.encode(event, &mut streamed);
    }
    let whole: Value =
        serde_json::from_slice(&crate::caller(NAME).render(call, &collector.into_completion(), &stamp())).unwrap();
    let streamed: Vec<Value> = streamed.iter().map(|chunk| serde_json::from_slice(chunk).unwrap()).collect();
    let of = |kind: &str| streamed.iter().find(|event| event["type"] == kind).unwrap();
    let done = &of("response.output_item.done")["item"];
    assert_eq!(of("response.function_call_arguments.done")["name"], done["name"]);
    assert_eq!(of("response.output_item.added")["item"]["namespace"], done["namespace"]);
    [&whole["output"][0], done].map(|item| (item["namespace"].clone(), item["name"].clone()))
}

#[test]
fn each_function_has_a_name_that_every_provider_takes_and_comes_back_by_its_own() {
    let long = "a_very_long_name_of_a_server_that_somebody_installed_from_a_catalogue";
    let tools = json!([
        group("agents", &["spawn", "wait"]),
        function("agents__spawn"),
        group("mcp__files__", &["read"]),
        group("mcp__files", &["read"]),
        group("t\u{e9}l\u{e9}.com", &["call/now"]),
        group("7up", &["open"]),
        group(long, &["read_one", "read_two"]),
        group(&format!("x{long}"), &["read_one"]),
        group("functions", &["exec"]),
    ]);
    let call = parse(&json!({"input": "Go.", "tools": tools}));
    assert_eq!(
        names(&call),
        [
            "agents__spawn_2",
            "agents__wait",
            "agents__spawn",
            "mcp__files__read",
            "mcp__files__read_2",
            "t_l__com__call_now",
            "_7up__open",
            "e_of_a_server_that_somebody_installed_from_a_catalogue__read_one",
            "e_of_a_server_that_somebody_installed_from_a_catalogue__read_two",
            "of_a_server_that_somebody_installed_from_a_catalogue__read_one_2",
            "exec",
        ]
    );
    assert_eq!(names(&call).iter().collect::<HashSet<_>>().len(), call.tools.len());
    for tool in &call.tools {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        assert!(tool.name.len() <= 64 && tool.name.chars().all(fits), "{}", tool.name);
        assert!(tool.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'), "{}", tool.name);
    }
    let sent = tools.as_array().unwrap().iter().flat_map(|tool| match tool["tools"].as_array() {
        Some(list) => list.iter().map(|own| (tool["name"].clone(), own["name"].clone())).collect(),
        None => vec![(Value::Null, tool["name"].clone())],
    });
    for ((group, name), tool) in sent.zip(&call.tools) {
        // OpenAI's models name no group where they call what stands in this one.
        let group = if group == "functions" { Value::Null } else { group };
        for back in read_back(&call, &tool.name) {
            assert_eq!(back, (group.clone(), name.clone()));
        }
    }
}

#[test]
fn earlier_calls_and_a_choice_name_the_function_as_it_is_sent() {
    let body = json!({
        "tools": [function("exec"), group("agents", &["exec", "wait"])],
        "tool_choice": {"type": "function", "name": "wait"},
        "input": [
            {"role": "user", "content": "Go."},
            called("c1", Some("agents"), "exec"), called("c2", None, "exec"), called("c3", Some("gone"), "exec"),
            result("c1"), result("c2"), result("c3"),
        ],
    });
    let sent = |to: DialectName| -> Value {
        let encoded = crate::provider(to).encode(&parse(&body), &Target::new("m")).unwrap();
        serde_json::from_slice(encoded.request.body()).unwrap()
    };
    let chat = sent(DialectName::OpenAiChat);
    assert_eq!(chat["tools"][1]["function"]["name"], "agents__exec");
    // What the group is about is said once.
    assert_eq!(chat["tools"][1]["function"]["description"], "About agents.\n\nDoes exec.");
    assert_eq!(chat["tools"][2]["function"]["description"], "Does wait.");
    assert_eq!(chat["tool_choice"]["function"]["name"], "agents__wait");
    let calls = chat["messages"][1]["tool_calls"].as_array().unwrap();
    let calls: Vec<&Value> = calls.iter().map(|call| &call["function"]["name"]).collect();
    assert_eq!(calls, ["agents__exec", "exec", "exec"]);
    let anthropic = sent(DialectName::AnthropicMessages);
    assert_eq!(anthropic["messages"][1]["content"][0]["name"], "agents__exec");
    assert_eq!(anthropic["tool_choice"]["name"], "agents__wait");
    // A provider of the caller's own dialect reads what the caller wrote.
    let own = sent(NAME);
    assert_eq!(own["tools"], body["tools"]);
    assert_eq!(own["tool_choice"], json!({"type": "function", "namespace": "agents", "name": "wait"}));
    assert_eq!(own["input"].as_array().unwrap()[1..4], body["input"].as_array().unwrap()[1..4]);
    for (choice, expected) in [
        (json!({"type": "function", "name": "exec"}), "exec"),
        (json!({"type": "function", "name": "exec", "namespace": "agents"}), "agents__exec"),
        (json!({"type": "function", "name": "nobody"}), "nobody"),
    ] {
        let mut body = body.clone();
        body["tool_choice"] = choice;
        assert_eq!(parse(&body).tool_choice, Some(ToolChoice::Named(expected.into())));
    }
}

#[test]
fn groups_pass_to_a_provider_of_their_own_dialect_and_calls_of_another_come_back_in_them() {
    let body = json!({"model": "alias", "tools": [group("agents", &["spawn"])], "input": [
        {"role": "user", "content": "Go."},
        {"type": "reasoning", "id": "rs_farebox_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        called("c1", Some("agents"), "spawn"), result("c1"),
    ]});
    let asked = Asked::raw(NAME, Bytes::from(body.to_string()), false).unwrap();
    let begin =
        |to| Exchange::begin(&asked, provider_dialect(to).unwrap(), Target::new("m"), Defaults::default()).unwrap();
    let (_, request, _) = begin(NAME);
    let sent: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(sent["tools"], body["tools"]);
    // Written anew without another provider's reasoning.
    assert_eq!(sent["input"], json!([body["input"][0], body["input"][2], body["input"][3]]));

    let (exchange, request, warnings) = begin(DialectName::AnthropicMessages);
    let sent: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(sent["tools"][0]["name"], "agents__spawn");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "agents__spawn", "input": {}}],
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    let (answer, _) = exchange.whole(&Head::default(), Bytes::from(answer.to_string()), &stamp()).unwrap();
    let Answer::Raw(answer) = answer else { panic!("it is the caller's dialect") };
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let expected = json!({"id": "fc_own-1_0", "type": "function_call", "status": "completed", "call_id": "toolu_1",
        "namespace": "agents", "name": "spawn", "arguments": "{}"});
    assert_eq!((&answer["output"][0], &answer["tools"]), (&expected, &body["tools"]));
}
