//! The JSON form of the contract, for callers without protobuf.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::v1;
use farebox_types::{ErrorKind, Money, Outcome, Usage};

/// The bytes of a final answer for a JSON caller: OpenAI's body, or an error object, with a `farebox` object.
pub fn final_answer(response: &v1::LlmResponse) -> Vec<u8> {
    let facts = facts(response);
    match &response.result {
        Some(v1::llm_response::Result::Raw(raw)) => with_member(&raw.bytes, "farebox", &facts),
        Some(v1::llm_response::Result::Error(error)) => {
            json!({ "error": error_body(error), "farebox": facts }).to_string().into_bytes()
        }
        // A typed answer never goes to a JSON caller; say what is known rather than nothing.
        _ => json!({ "farebox": facts }).to_string().into_bytes(),
    }
}

/// The bytes of one chunk for a JSON caller: OpenAI's chunk object with a `farebox` object.
pub fn chunk(request_id: &str, seq: u64, chunk: &[u8]) -> Vec<u8> {
    with_member(chunk, "farebox", &json!({ "type": "chunk", "request_id": request_id, "seq": seq }))
}

/// An error in OpenAI's shape (<https://platform.openai.com/docs/guides/error-codes>), `type` being farebox's kind.
pub fn error_body(error: &v1::Error) -> Value {
    let kind = error.kind().known().unwrap_or(farebox_types::ErrorKind::Internal);
    let mut body = Map::new();
    body.insert("message".into(), error.message.clone().into());
    body.insert("type".into(), kind.as_str().into());
    body.insert("code".into(), kind.as_str().into());
    body.insert("param".into(), Value::Null);
    body.insert("status".into(), kind.http_status().into());
    body.insert("retryable".into(), error.retryable.into());
    insert_some(&mut body, "retry_after_ms", error.retry_after_ms);
    insert_some(&mut body, "provider_status", error.provider_status);
    insert_some(&mut body, "provider_body", error.provider_body.clone());
    insert_any(&mut body, "limits", error.limits.iter().map(limit));
    Value::Object(body)
}

/// The error in a final answer that [`final_answer`] wrote, if it is one.
pub fn error_of(answer: &[u8]) -> Option<v1::Error> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let error = answer.get("error")?;
    let kind: farebox_types::ErrorKind = error["type"].as_str()?.parse().ok()?;
    Some(v1::Error {
        kind: v1::ErrorKind::from(kind).into(),
        message: error["message"].as_str()?.to_owned(),
        retry_after_ms: error["retry_after_ms"].as_u64(),
        retryable: kind.is_retryable(),
        provider_status: error["provider_status"].as_u64().and_then(|status| u32::try_from(status).ok()),
        provider_body: error["provider_body"].as_str().map(str::to_owned),
        limits: error["limits"].as_array().into_iter().flatten().filter_map(limit_of).collect(),
    })
}

fn limit(left: &v1::LimitLeft) -> Value {
    json!({
        "limit": left.limit,
        "measure": left.measure().word(),
        "allowed": left.allowed,
        "left": left.left,
        "reset_ms": left.reset_ms,
    })
}

fn limit_of(written: &Value) -> Option<v1::LimitLeft> {
    let measure = v1::LimitMeasure::ALL.into_iter().find(|measure| written["measure"] == measure.word())?;
    Some(v1::LimitLeft {
        limit: written["limit"].as_str()?.to_owned(),
        measure: measure.into(),
        allowed: written["allowed"].as_u64()?,
        left: written["left"].as_u64()?,
        reset_ms: written["reset_ms"].as_u64()?,
    })
}

/// What a JSON caller gets in answer to a job or a cancel.
pub fn job_receipt(receipt: &v1::JobReceipt) -> Vec<u8> {
    let body = match &receipt.error {
        Some(error) => json!({
            "request_id": receipt.request_id, "stored": false, "error": error_body(error),
        }),
        None => json!({
            "request_id": receipt.request_id, "stored": true, "duplicate": receipt.duplicate,
        }),
    };
    body.to_string().into_bytes()
}

pub fn cancel_receipt(receipt: &v1::CancelReceipt) -> Vec<u8> {
    json!({ "request_id": receipt.request_id, "cancelled": receipt.cancelled }).to_string().into_bytes()
}

/// A call fact in the form of `llm.event.<call id>`.
pub fn event(fact: &v1::CallFact) -> Vec<u8> {
    let (nothing, nobody) = Default::default();
    let labels = fact.labels.as_ref().unwrap_or(&nothing);
    let principal = fact.principal.as_ref().unwrap_or(&nobody);
    let cost = v1::Money::of(&fact.cost);
    let event = Event {
        ts: fact.ended_unix_ms,
        r#type: "llm.call",
        actor: &labels.actor,
        project: &principal.project,
        summary: format!("{} - ${cost}", fact.model),
        refs: Refs {
            call_id: &fact.call_id,
            request_id: &fact.request_id,
            task_id: &labels.task_id,
            session_id: &labels.session_id,
            trace_id: &fact.trace_id,
        },
        meta: Meta {
            model: &fact.model,
            provider: &fact.provider,
            upstream_model: &fact.upstream_model,
            outcome: fact.outcome().known().map(Outcome::as_str),
            error: fact.error_kind().known().map(ErrorKind::as_str),
            cost_usd: cost,
            estimated: fact.estimated,
            cost_reported: fact.cost_reported,
            service_tier: &fact.service_tier,
            latency_ms: fact.latency_ms,
            first_token_ms: fact.first_token_ms,
            attempt: fact.attempt,
            stream: fact.stream,
            cached: fact.cached,
            job: fact.job,
            key_id: &principal.key_id,
            end_user: &labels.end_user,
            tags: &labels.tags,
            tokens: tokens(fact.usage.map(Usage::from).unwrap_or_default()),
        },
    };
    serde_json::to_vec(&event).expect("it holds texts, numbers and maps with texts as keys")
}

/// Written as it stands, once per call: nothing is copied into a tree first.
#[derive(Serialize)]
struct Event<'a> {
    ts: i64,
    r#type: &'static str,
    actor: &'a str,
    project: &'a str,
    summary: String,
    refs: Refs<'a>,
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Refs<'a> {
    call_id: &'a str,
    request_id: &'a str,
    task_id: &'a str,
    session_id: &'a str,
    trace_id: &'a str,
}

#[derive(Serialize)]
struct Meta<'a> {
    model: &'a str,
    provider: &'a str,
    upstream_model: &'a str,
    outcome: Option<&'static str>,
    error: Option<&'static str>,
    cost_usd: Money,
    estimated: bool,
    cost_reported: bool,
    service_tier: &'a str,
    latency_ms: u64,
    first_token_ms: Option<u64>,
    attempt: u32,
    stream: bool,
    cached: bool,
    job: bool,
    key_id: &'a str,
    end_user: &'a str,
    tags: &'a [String],
    tokens: Value,
}

/// An alert in the form of `llm.alert.<rule>`.
pub fn alert(alert: &v1::Alert) -> Vec<u8> {
    let usd = |money: &Option<v1::Money>| money.as_ref().map(|_| v1::Money::of(money).to_string());
    // A share, not an amount.
    let threshold = (alert.threshold_permille > 0).then(|| f64::from(alert.threshold_permille) / 1000.0);
    json!({
        "ts": alert.at_unix_ms,
        "type": "llm.alert",
        "rule": alert.rule,
        "kind": alert_kind(alert),
        "project": alert.project,
        "subject": alert.subject,
        "window": alert.window,
        "limit_usd": usd(&alert.limit),
        "settled_usd": usd(&alert.settled),
        "threshold": threshold,
        "call_id": alert.call_id,
        "message": alert.message,
    })
    .to_string()
    .into_bytes()
}

/// What tells an alert from all others, also where it is said again.
pub fn alert_id(alert: &v1::Alert) -> String {
    let v1::Alert { rule, subject, window, threshold_permille, call_id, at_unix_ms, .. } = alert;
    format!("alert/{rule}/{}/{subject}/{window}/{threshold_permille}/{call_id}/{at_unix_ms}", alert_kind(alert))
}

fn alert_kind(alert: &v1::Alert) -> &'static str {
    match alert.kind() {
        v1::alert::Kind::Unspecified => "",
        v1::alert::Kind::Threshold => "threshold",
        v1::alert::Kind::Refused => "refused",
        v1::alert::Kind::Overdraft => "overdraft",
        v1::alert::Kind::Books => "books",
        v1::alert::Kind::Grace => "grace",
    }
}

/// The member `farebox` of a final answer: what it took.
pub fn facts(response: &v1::LlmResponse) -> Value {
    let mut facts = Map::new();
    facts.insert("type".into(), "final".into());
    facts.insert("request_id".into(), response.request_id.clone().into());
    facts.insert("chunks".into(), response.chunks.into());
    if let Some(report) = &response.report {
        let cost: Money = v1::Money::of(&report.cost);
        facts.insert("call_id".into(), report.call_id.clone().into());
        facts.insert("model".into(), report.model.clone().into());
        facts.insert("provider".into(), report.provider.clone().into());
        facts.insert("served_model".into(), report.served_model.clone().into());
        facts.insert("cost_usd".into(), cost.to_string().into());
        facts.insert("estimated".into(), report.estimated.into());
        facts.insert("latency_ms".into(), report.latency_ms.into());
        insert_some(&mut facts, "first_token_ms", report.first_token_ms);
        facts.insert("cached".into(), report.cached.into());
        facts.insert("attempts".into(), report.attempts.into());
        facts.insert("outcome".into(), report.outcome().known().map(Outcome::as_str).into());
        facts.insert("warnings".into(), report.warnings.clone().into());
        left(report, &mut facts);
        facts.insert("tokens".into(), tokens(report.usage.map(Usage::from).unwrap_or_default()));
    }
    if let Some(v1::llm_response::Result::Stored(body)) = &response.result
        && let Some(object) = &body.object
    {
        facts.insert("stored_body".into(), json!({ "bucket": object.bucket, "name": object.name }));
    }
    Value::Object(facts)
}

/// What budgets and limits say of the call, where any hold for it.
fn left(report: &v1::CallReport, facts: &mut Map<String, Value>) {
    if report.clamped {
        facts.insert("clamped".into(), true.into());
    }
    let dollars = |field: &Option<v1::Money>| Value::from(v1::Money::of(field).to_string());
    let budget = |b: &v1::BudgetLeft| json!({ "budget": b.budget, "limit_usd": dollars(&b.limit), "left_usd": dollars(&b.left) });
    insert_any(facts, "budgets", report.budgets.iter().map(budget));
    insert_any(facts, "limits", report.limits.iter().map(limit));
}

fn tokens(usage: Usage) -> Value {
    let buckets = [
        ("input", usage.input),
        ("cache_read", usage.cache_read),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("audio_input", usage.audio_input),
        ("audio_output", usage.audio_output),
        ("image_input", usage.image_input),
        ("image_output", usage.image_output),
        ("cache_read_audio", usage.cache_read_audio),
        ("searches", usage.searches),
    ];
    buckets.into_iter().filter_map(|(name, count)| Some((name.to_owned(), Value::from(count?)))).collect()
}

fn insert_some<T: Into<Value>>(into: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        into.insert(name.to_owned(), value.into());
    }
}

fn insert_any(into: &mut Map<String, Value>, name: &str, values: impl Iterator<Item = Value>) {
    let values: Vec<Value> = values.collect();
    if !values.is_empty() {
        into.insert(name.to_owned(), values.into());
    }
}

/// `object` with one more member at its end; every other byte stays as it is.
pub fn with_member(object: &[u8], name: &str, value: &Value) -> Vec<u8> {
    let end = object.iter().rposition(|byte| *byte == b'}').unwrap_or(object.len());
    let before = object[..end].trim_ascii_end();
    let comma = if before.ends_with(b"{") || before.is_empty() { "" } else { "," };
    let mut bytes = Vec::with_capacity(object.len() + 256);
    bytes.extend_from_slice(&object[..end]);
    bytes.extend_from_slice(format!("{comma}\"{name}\":{value}").as_bytes());
    bytes.extend_from_slice(if end == object.len() { b"}" } else { &object[end..] });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_bytes_stay_as_they_are() {
        let raw = br#"{ "id": "x",  "n": 1.10, "n": 12345678901234567890123 }"#;
        let bytes = chunk("r1", 3, raw);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            r#"{ "id": "x",  "n": 1.10, "n": 12345678901234567890123 ,"farebox":{"type":"chunk","request_id":"r1","seq":3}}"#
        );
    }

    #[test]
    fn an_error_is_read_as_it_was_written() {
        let error = v1::Error {
            kind: v1::ErrorKind::RateLimited.into(),
            message: "slow down".into(),
            retry_after_ms: Some(1500),
            retryable: true,
            provider_status: Some(429),
            provider_body: Some("{}".into()),
            limits: vec![v1::LimitLeft {
                limit: "slow".into(),
                measure: v1::LimitMeasure::Tokens.into(),
                allowed: 100,
                left: 1,
                reset_ms: 1500,
            }],
        };
        let response =
            v1::LlmResponse { result: Some(v1::llm_response::Result::Error(error.clone())), ..Default::default() };
        assert_eq!(error_of(&final_answer(&response)), Some(error));
        assert_eq!(error_of(br#"{"choices": []}"#), None);
    }

    #[test]
    fn an_answer_says_what_is_left_where_budgets_and_limits_hold() {
        let facts = |report: v1::CallReport| {
            let response = v1::LlmResponse { report: Some(report), ..Default::default() };
            serde_json::from_slice::<Value>(&final_answer(&response)).unwrap()["farebox"].clone()
        };
        let dollars = |text: &str| Some(text.parse::<Money>().unwrap().into());
        let told = facts(v1::CallReport {
            clamped: true,
            budgets: vec![v1::BudgetLeft { budget: "team".into(), limit: dollars("5"), left: dollars("0.25") }],
            limits: vec![v1::LimitLeft {
                limit: "slow".into(),
                measure: v1::LimitMeasure::Requests.into(),
                allowed: 100,
                left: 99,
                reset_ms: 1500,
            }],
            ..Default::default()
        });
        assert_eq!(told["clamped"], true);
        assert_eq!(told["budgets"], json!([{ "budget": "team", "limit_usd": "5", "left_usd": "0.25" }]));
        let slow = json!({ "limit": "slow", "measure": "requests", "allowed": 100, "left": 99, "reset_ms": 1500 });
        assert_eq!(told["limits"], json!([slow]));
        let none = facts(v1::CallReport::default());
        assert!(["clamped", "budgets", "limits"].iter().all(|name| none.get(name).is_none()), "{none}");
    }

    #[test]
    fn an_event_says_what_it_cost() {
        let fact = v1::CallFact {
            model: "claude".into(),
            cost: Some("0.0105".parse::<Money>().unwrap().into()),
            outcome: v1::Outcome::Ok.into(),
            usage: Some(v1::Usage { input: Some(10), output: Some(0), searches: Some(1), ..Default::default() }),
            service_tier: "flex".into(),
            cost_reported: true,
            ..Default::default()
        };
        let event: Value = serde_json::from_slice(&event(&fact)).unwrap();
        assert_eq!(event["summary"], "claude - $0.0105");
        assert_eq!(event["meta"]["cost_usd"], "0.0105");
        assert_eq!(event["meta"]["tokens"], json!({ "input": 10, "output": 0, "searches": 1 }));
        assert_eq!((&event["meta"]["service_tier"], &event["meta"]["cost_reported"]), (&json!("flex"), &json!(true)));
    }
}
