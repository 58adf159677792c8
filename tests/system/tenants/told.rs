//! What a project's key is told of budgets and limits: of its own all, of those of the house that they are there.

use farebox_proto::{headers as names, subjects};
use farebox_testkit::eventually;
use prost::Message;

use super::*;
use crate::{
    edge::{
        http,
        wire::{self, Answer},
    },
    stage::{fresh_id, play},
};

/// What stands in the names, and in the amounts, of all that a key of `a` is told nothing of: `everything` is this stage's own.
const SECRETS: [&str; 6] = ["house", "everything", "7319.55", "usd: 7319", "7319550", "0.000000007319"];

fn term(dimension: v1::scope_term::Dimension, value: &str) -> v1::ScopeTerm {
    v1::ScopeTerm { dimension: dimension.into(), values: vec![value.to_owned()] }
}

fn of_project(name: &str) -> v1::ScopeTerm {
    term(v1::scope_term::Dimension::Project, name)
}

fn of_model(name: &str) -> v1::ScopeTerm {
    term(v1::scope_term::Dimension::Model, name)
}

struct Case {
    tenants: Tenants,
    a: Client,
    b: Client,
    key_of_a: String,
}

impl Case {
    async fn start() -> Case {
        let tenants = Tenants::start().await;
        tenants.add_project("a").await;
        tenants.add_project("b").await;
        for (name, scope, limit, hard) in [
            ("house", vec![], "7319.55", true),
            ("house-spent", vec![of_model("budget")], "0.000000007319", true),
            ("house-warns", vec![of_model("labels")], "0.000000007319", false),
            ("house-of-b", vec![of_project("b")], "7319.55", true),
            ("own", vec![of_project("a")], "50", true),
            ("own-spent", vec![of_project("a"), of_model("typed")], "0.0000001", true),
        ] {
            let (name, limit_text, period) = (name.to_owned(), limit.to_owned(), "total".to_owned());
            let budget = v1::Budget { name, scope, limit_text, period, hard, ..Default::default() };
            tenants.store.put(&budget, 0).await.expect("a budget is stored");
        }
        for (name, scope, allowed) in [
            ("house-rate", vec![], 731_955_071),
            ("house-once", vec![of_model("exact")], 1),
            ("own-rate", vec![of_project("a")], 9000),
        ] {
            let (name, period, measure) = (name.to_owned(), "day".to_owned(), v1::LimitMeasure::Requests.into());
            let strategy = "sliding-window".to_owned();
            let limit = v1::Limit { name, scope, measure, allowed, period, strategy, ..Default::default() };
            tenants.store.put(&limit, 0).await.expect("a limit is stored");
        }
        let key_of_a = tenants.add_key("ka", "a", |_| {}).await;
        let key_of_b = tenants.add_key("kb", "b", |_| {}).await;
        let (a, b) = (tenants.connect(&key_of_a).await, tenants.connect(&key_of_b).await);
        let case = Case { tenants, a, b, key_of_a };
        // They are read in the order in which they were written.
        let last = || async {
            let answer = ask(&case.a, "llm.request", HeaderMap::new(), &chat("plain", json!({}))).await;
            told(&answer["farebox"], "limits").contains(&"own-rate".to_owned())
        };
        eventually(SOON, "the rules hold", last).await;
        case
    }

    /// Over HTTP, with the facts in the body too.
    async fn over_http(&self, path: &str, model: &str, stream: bool) -> Answer {
        let bearer = format!("Bearer {}", self.key_of_a);
        let headers = [("authorization", bearer.as_str()), ("farebox-facts", "body")];
        let mut body = chat(model, json!({}));
        body["max_tokens"] = 20.into();
        body["stream"] = stream.into();
        wire::ask(http(&self.tenants.stage), &wire::post(path, &headers, body.to_string().as_bytes())).await
    }
}

/// The names of budgets or limits that an answer tells of.
fn told(facts: &Value, what: &str) -> Vec<String> {
    let name = if what == "budgets" { "budget" } else { "limit" };
    let all = facts[what].as_array().into_iter().flatten();
    all.map(|left| left[name].as_str().expect("a name").to_owned()).collect()
}

/// All messages to a request's inbox, as they come, with the final one.
async fn answers(client: &Client, content_type: &str, request: Vec<u8>) -> Vec<async_nats::Message> {
    let inbox = client.new_inbox();
    let mut mail = client.subscribe(inbox.clone()).await.expect("asked for");
    let head = headers(&[(names::CONTENT_TYPE, content_type)]);
    client.publish_with_reply_and_headers("llm.request", inbox, head, request.into()).await.expect("it is sent");
    let mut all = Vec::new();
    loop {
        let message = timeout(SOON, mail.next()).await.expect("no silence").expect("it stays");
        let kind = message.headers.as_ref().and_then(|headers| headers.get(names::TYPE)).map(ToString::to_string);
        all.push(message);
        if kind.as_deref() == Some("final") {
            return all;
        }
    }
}

/// What a message of a protobuf caller says, and the budgets and limits that it tells of.
fn read(message: &async_nats::Message, is_final: bool) -> (String, Vec<String>) {
    let payload = message.payload.clone();
    let (said, budgets, limits) = if is_final {
        let response = v1::LlmResponse::decode(payload).expect("a final answer");
        let said = format!("{response:?}");
        let report = response.report.unwrap_or_default();
        (said, report.budgets, report.limits)
    } else {
        let chunk = v1::LlmChunk::decode(payload).expect("a chunk");
        let said = format!("{chunk:?}");
        let begun = chunk.begun.unwrap_or_default();
        (said, begun.budgets, begun.limits)
    };
    let limits = limits.into_iter().map(|left| left.limit);
    (said, budgets.into_iter().map(|left| left.budget).chain(limits).collect())
}

fn is_silent(said: &str) {
    for secret in SECRETS {
        assert!(!said.contains(secret), "`{secret}` is told: {said}");
    }
}

#[test]
fn a_project_is_told_of_its_own_budgets_and_limits_and_of_no_others() {
    play(async {
        let case = Case::start().await;
        let mut alerts = Vec::new();
        for subject in ["llm.alert.*", "llm.call.*", "llm.event.*"] {
            alerts.push(case.a.subscribe(subject).await.expect("asked for"));
        }
        let mut of_b = case.b.subscribe("llm.alert.*").await.expect("asked for");
        let mut of_operators = case.tenants.stage.bus().subscribe("llm.alert.*", None).await.expect("asked for");
        for client in [&case.a, &case.b] {
            client.flush().await.expect("the server knows");
        }
        case.tenants.stage.bus().flush().await.expect("the server knows");
        let once = case.tenants.stage.ask(&chat("exact", json!({}))).await;
        assert_eq!(once["farebox"]["outcome"], "ok", "{once}");
        in_json(&case).await;
        in_protobuf(&case).await;
        in_http(&case).await;
        // The first refusal of each of the two was announced, to whom it belongs.
        let mut heard = Vec::new();
        while !heard.iter().any(|alert: &Value| alert["rule"] == "house-spent") {
            let message = timeout(SOON, of_operators.next()).await.expect("they hear of it").expect("it stays");
            heard.push(serde_json::from_slice(&message.payload).expect("JSON"));
        }
        let rules: Vec<&Value> = heard.iter().map(|alert| &alert["rule"]).collect();
        assert!(!rules.contains(&&json!("own-spent")), "{heard:?}");
        let told = timeout(SOON, alerts[0].next()).await.expect("it hears of its own").expect("it stays");
        assert_eq!(told.subject.as_str(), "llm.alert.own-spent");
        is_silent(&String::from_utf8_lossy(&told.payload));
        for subscription in &mut alerts {
            for (subject, payload) in arrived(subscription).await {
                is_silent(&format!("{subject} {}", String::from_utf8_lossy(&payload)));
            }
        }
        assert!(arrived(&mut of_b).await.is_empty());
        those_who_run_it_see_all(&case).await;
    });
}

/// Of each kind of call one, whole and streamed: what its caller is told besides that.
const CALLS: [(&str, &str, &str); 5] = [
    ("plain", "", ""),
    ("labels", "", "a budget that this project shares with others may be exceeded"),
    ("budget", "over_budget", "a budget that this project shares with others has no room"),
    ("exact", "rate_limited", "a limit that this project shares with others allows no more requests"),
    ("typed", "over_budget", "budget `own-spent` has $0.0000001 left of $0.0000001"),
];

async fn in_json(case: &Case) {
    for ((model, error, said), stream) in CALLS.into_iter().flat_map(|call| [(call, false), (call, true)]) {
        let mut body = chat(model, json!({}));
        body["stream"] = stream.into();
        let messages = answers(&case.a, names::JSON, body.to_string().into_bytes()).await;
        for message in &messages {
            is_silent(&String::from_utf8_lossy(&message.payload));
        }
        let last: Value = serde_json::from_slice(&messages.last().expect("an answer").payload).expect("JSON");
        assert!(last.to_string().contains(said), "{model}: {last}");
        if error.is_empty() {
            assert_eq!(last["farebox"]["outcome"], "ok", "{last}");
            let told = [told(&last["farebox"], "budgets"), told(&last["farebox"], "limits")].concat();
            assert_eq!(told, ["own", "own-rate"], "{last}");
        } else {
            assert_eq!(last["error"]["type"], error, "{last}");
        }
        if error == "rate_limited" {
            assert!(last["error"]["retry_after_ms"].as_u64().is_some_and(|after| after > 0), "{last}");
        }
    }
    let id = fresh_id("job");
    let mut job = case.a.subscribe(format!("llm.response.{id}")).await.expect("asked for");
    case.a.flush().await.expect("the server knows");
    let receipt = ask(&case.a, "llm.job", HeaderMap::new(), &chat("budget", json!({ "request_id": id }))).await;
    assert_eq!(receipt["stored"], true, "{receipt}");
    let answer = timeout(SOON, job.next()).await.expect("a job is answered").expect("it stays");
    let answer = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(answer.contains("shares with others"), "{answer}");
    is_silent(&answer);
    is_silent(&ask(&case.a, "llm.usage", HeaderMap::new(), &json!({ "recent": 20 })).await.to_string());
}

async fn in_protobuf(case: &Case) {
    for ((model, error, said), stream) in CALLS.into_iter().flat_map(|call| [(call, false), (call, true)]) {
        let raw = v1::RawBody {
            dialect: v1::Dialect::OpenaiChat.into(),
            bytes: json!({ "messages": [{ "role": "user", "content": "Hello" }] }).to_string().into(),
        };
        let body = Some(v1::llm_request::Body::Raw(raw));
        let request = v1::LlmRequest { model: model.to_owned(), stream, body, ..Default::default() };
        let messages = answers(&case.a, names::PROTOBUF, request.encode_to_vec()).await;
        let last = messages.len() - 1;
        for (index, message) in messages.iter().enumerate() {
            let (text, told) = read(message, index == last);
            is_silent(&text);
            if error.is_empty() && (index == 0 || index == last) {
                assert_eq!(told, ["own", "own-rate"], "{text}");
            }
        }
        let (text, _) = read(&messages[last], true);
        assert!(text.contains(said), "{model}: {text}");
    }
}

async fn in_http(case: &Case) {
    for ((model, error, said), stream) in CALLS.into_iter().flat_map(|call| [(call, false), (call, true)]) {
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let answer = case.over_http(path, model, stream).await;
            let heard = format!("{:?} {}", answer.head.headers, answer.text());
            is_silent(&heard);
            assert!(heard.contains(said), "{model}: {heard}");
            if !error.is_empty() {
                assert_eq!(answer.get("farebox-error"), Some(error), "{heard}");
                assert_eq!(answer.get("retry-after").is_some(), error == "rate_limited", "{heard}");
                continue;
            }
            assert_eq!(answer.status(), 200, "{heard}");
            let left = answer.get("farebox-budget-left").expect("what is left of its own");
            assert!(left.starts_with("own=49.9") && !left.contains(';'), "{left}");
            let shown = if path == "/v1/messages" {
                "anthropic-ratelimit-requests-limit"
            } else {
                "x-ratelimit-limit-requests"
            };
            assert_eq!(answer.get(shown), Some("9000"), "{heard}");
        }
    }
}

/// In the answers to their own calls, and where all budgets stand.
async fn those_who_run_it_see_all(case: &Case) {
    let answer = case.tenants.stage.ask(&chat("plain", json!({}))).await;
    let house = answer["farebox"]["budgets"].as_array().expect("budgets").iter().find(|left| left["budget"] == "house");
    assert_eq!(house.expect("that of the house")["limit_usd"], "7319.55", "{answer}");
    assert!(told(&answer["farebox"], "limits").contains(&"house-rate".to_owned()), "{answer}");
    let refused = case.tenants.stage.ask(&chat("budget", json!({}))).await;
    assert!(refused["error"]["message"].as_str().expect("a message").contains("budget `house-spent`"), "{refused}");
    let limited = case.tenants.stage.ask(&chat("exact", json!({}))).await;
    assert_eq!(limited["error"]["limits"][0]["limit"], "house-once", "{limited}");
    let question = v1::BudgetStatusRequest { shard: subjects::SHARD, ..Default::default() };
    let status = case.tenants.admin.call(&subjects::budgets(subjects::SHARD), &question, SOON).await;
    let status: v1::BudgetStatusReply = status.expect("the guard answers");
    let known: Vec<&str> = status.budgets.iter().map(|window| window.budget.as_str()).collect();
    assert!(known.contains(&"house") && known.contains(&"own"), "{known:?}");
}
