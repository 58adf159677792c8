//! Documents in the order of their worth: calls and answers on tape.

use farebox_dialect::{
    Caller, DialectName, Head, Provider, Ranking, RerankCall, RerankCaller, RerankDialect, Stamp, Target,
    caller_dialect, provider_dialect, rewrite,
};
use farebox_types::{ErrorKind, Fault, Usage};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::tape::tape;

fn provider() -> &'static dyn RerankDialect {
    match provider_dialect(DialectName::CohereRerank) {
        Some(Provider::Rerank(dialect)) => dialect,
        _ => panic!("Cohere ranks"),
    }
}

fn caller() -> &'static dyn RerankCaller {
    match caller_dialect(DialectName::CohereRerank) {
        Some(Caller::Rerank(caller)) => caller,
        _ => panic!("callers rank in Cohere's words"),
    }
}

fn parse(body: &Value) -> RerankCall {
    caller().parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap()
}

fn encode(call: &RerankCall) -> Value {
    let encoded = provider().encode(call, &Target::new("tape-rerank-1")).unwrap();
    assert!(encoded.warnings.is_empty(), "{:?}", encoded.warnings);
    serde_json::from_slice(encoded.request.body()).unwrap()
}

fn decode(name: &str) -> Ranking {
    let tape = tape(&format!("cohere-rerank/{name}"));
    provider().decode(&tape.head, &tape.body).unwrap()
}

fn render(call: &RerankCall, answer: &Ranking) -> Value {
    let stamp = Stamp { id: "own".into(), created: 1_770_000_000, model: None };
    serde_json::from_slice(&caller().render(call, answer, &stamp)).unwrap()
}

#[test]
fn parse_after_encode_gives_the_call_back() {
    let body = json!({"model": "tape-rerank-1", "query": "otters", "documents": ["a", "b"], "top_n": 1,
        "max_tokens_per_doc": 512, "priority": 3});
    let call = parse(&body);
    assert_eq!(encode(&call), body);
    assert_eq!(parse(&encode(&call)), call);
}

#[test]
fn documents_with_fields_are_sent_as_text() {
    let call = parse(&json!({"query": "q", "return_documents": true, "documents": [
        {"text": "only \"text\""}, {"title": "Otters", "text": "They swim."}, "plain"]}));
    let expected = json!({"model": "tape-rerank-1", "query": "q",
        "documents": ["only \"text\"", "{\"title\":\"Otters\",\"text\":\"They swim.\"}", "plain"]});
    assert_eq!(encode(&call), expected);
}

#[test]
fn bad_calls_are_named() {
    for (body, field) in [
        (json!({"query": "q"}), "documents"),
        (json!({"query": "q", "documents": []}), "documents"),
        (json!({"query": "q", "documents": ["a", 7]}), "documents[1]"),
        (json!({"documents": ["a"]}), "query"),
    ] {
        let bad = caller().parse(&HeaderMap::new(), body.to_string().as_bytes()).unwrap_err();
        assert_eq!(bad.field.as_deref(), Some(field), "{body}");
    }
}

#[test]
fn a_search_is_billed_and_the_score_stays_as_written() {
    let done = decode("ranked");
    let ranked: Vec<_> = done.results.iter().map(|r| (r.index, r.score.as_str())).collect();
    assert_eq!(ranked, [(1, "0.7140302"), (0, "0.51580286")]);
    assert_eq!(done.usage, Usage { searches: Some(1), ..Usage::default() });
    let done = decode("compatible");
    assert_eq!((done.model.as_str(), done.usage.input), ("tape-rerank-1", Some(31)));
    assert!(provider().decode(&Head::default(), b"{\"results\":[{\"index\":\"0\"}]}").is_err());
    assert!(provider().decode(&Head::default(), b"{}").is_err());
}

#[test]
fn decode_after_render_gives_the_answer_back() {
    for name in ["ranked", "documents-v1"] {
        let done = decode(name);
        let again = render(&RerankCall::default(), &done).to_string();
        assert_eq!(provider().decode(&Head::default(), again.as_bytes()).unwrap(), done, "{name}");
    }
}

#[test]
fn documents_are_given_back_where_the_caller_wants_them() {
    let documents = json!(["Herons.", {"title": "Otters"}]);
    let call = parse(&json!({"query": "q", "documents": documents, "return_documents": true}));
    let body = render(&call, &decode("ranked"));
    assert_eq!(body["results"][0]["document"], json!({"title": "Otters"}));
    assert_eq!(body["results"][1]["document"], json!({"text": "Herons."}));
    let call = parse(&json!({"query": "q", "documents": documents}));
    assert!(render(&call, &decode("ranked"))["results"][0].get("document").is_none());
    assert_eq!(render(&call, &decode("documents-v1"))["results"][0]["document"], json!({"text": "Otters hold hands."}));
}

#[test]
fn a_body_that_passes_through_gets_the_providers_name() {
    let target = Target::new("their-name");
    let body = rewrite(br#"{"model":"ours","query":"q"}"#, &provider().edits(&target)).unwrap();
    assert_eq!(body, r#"{"model":"their-name","query":"q"}"#.as_bytes());
    assert_eq!(provider().request(&target, body).unwrap().uri(), "/v2/rerank");
}

#[test]
fn refusals_in_both_directions() {
    let tape = tape("cohere-rerank/error-429");
    let refusal = provider().decode_error(&tape.head, &tape.body);
    assert_eq!((refusal.kind, refusal.retry_after.map(|wait| wait.as_secs())), (ErrorKind::RateLimited, Some(3)));
    let (status, body) = caller().render_error(&Fault::from(refusal));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status.as_u16(), 429);
    assert_eq!(body["message"], "You are using a Trial key, which is limited to 10 API calls / minute.");
    let compatible = provider().decode_error(&Head::default(), br#"{"error":{"message":"too long","code":400}}"#);
    assert_eq!(compatible.message, "too long");
}
