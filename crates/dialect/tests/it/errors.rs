//! What providers say when they refuse, as their documentation has it: whose fault it is, when to try again, and that
//! their sentence stays as it is.

use std::time::Duration;

use farebox_dialect::{DialectName, Head, Refusal};
use farebox_types::{ErrorKind, Fault};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use DialectName::*;
use ErrorKind::{BadRequest, NotFound, RateLimited, TooLarge, Upstream};

fn refusal(dialect: DialectName, status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Refusal {
    let mut head = Head { status: StatusCode::from_u16(status).unwrap(), ..Head::default() };
    for (name, value) in headers {
        head.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    crate::provider(dialect).decode_error(&head, body.as_bytes())
}

#[test]
fn whose_fault_it_is() {
    for (dialect, status, body, kind, said) in [
        // OpenAI and Azure
        (
            OpenAiChat,
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-x.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            Upstream,
            "Incorrect API key provided: sk-x.",
        ),
        (
            OpenAiChat,
            429,
            r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            Upstream,
            "You exceeded your current quota.",
        ),
        (
            OpenAiResponses,
            400,
            r#"{"error":{"message":"Your input exceeds the context window of this model.","type":"invalid_request_error","param":"input","code":"context_length_exceeded"}}"#,
            BadRequest,
            "Your input exceeds the context window of this model.",
        ),
        (
            OpenAiChat,
            404,
            r#"{"error":{"message":"The model `m` does not exist.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            NotFound,
            "The model `m` does not exist.",
        ),
        (
            OpenAiChat,
            503,
            r#"{"error":{"message":"That model is currently overloaded.","type":"server_error","param":null,"code":null}}"#,
            Upstream,
            "That model is currently overloaded.",
        ),
        (
            OpenAiChat,
            400,
            r#"{"error":{"message":"The prompt was filtered.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            BadRequest,
            "The prompt was filtered.",
        ),
        (
            OpenAiChat,
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"There is no such deployment."}}"#,
            NotFound,
            "There is no such deployment.",
        ),
        // xAI, Groq, DeepSeek, Moonshot, Z.ai, Alibaba, Mistral, OpenRouter
        (
            OpenAiChat,
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: x."}"#,
            Upstream,
            "Incorrect API key provided: x.",
        ),
        (
            OpenAiChat,
            400,
            r#"{"error":{"message":"The model `m` has been decommissioned.","type":"invalid_request_error","code":"model_decommissioned"}}"#,
            NotFound,
            "The model `m` has been decommissioned.",
        ),
        (
            OpenAiChat,
            413,
            r#"{"error":{"message":"Request too large.","type":"tokens","code":"rate_limit_exceeded"}}"#,
            TooLarge,
            "Request too large.",
        ),
        (
            OpenAiChat,
            402,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
            Upstream,
            "Insufficient Balance",
        ),
        (
            OpenAiChat,
            429,
            r#"{"error":{"message":"Your account is suspended.","type":"exceeded_current_quota_error"}}"#,
            Upstream,
            "Your account is suspended.",
        ),
        (
            OpenAiChat,
            429,
            r#"{"error":{"code":"1113","message":"Insufficient balance. Please recharge."}}"#,
            Upstream,
            "Insufficient balance. Please recharge.",
        ),
        (
            OpenAiChat,
            429,
            r#"{"error":{"code":"1302","message":"High concurrency."}}"#,
            RateLimited,
            "High concurrency.",
        ),
        (
            OpenAiChat,
            400,
            r#"{"error":{"code":"Arrearage","message":"Access denied.","type":"Arrearage","param":null}}"#,
            Upstream,
            "Access denied.",
        ),
        (
            OpenAiChat,
            429,
            r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300"}"#,
            RateLimited,
            "Rate limit exceeded",
        ),
        (
            OpenAiChat,
            402,
            r#"{"error":{"code":402,"message":"This request requires more credits."}}"#,
            Upstream,
            "This request requires more credits.",
        ),
        // Anthropic
        (
            AnthropicMessages,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
            Upstream,
            "Your credit balance is too low to access the Anthropic API.",
        ),
        (
            AnthropicMessages,
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 2 > 1"}}"#,
            BadRequest,
            "prompt is too long: 2 > 1",
        ),
        (
            AnthropicMessages,
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            Upstream,
            "Overloaded",
        ),
        (
            AnthropicMessages,
            404,
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: m"}}"#,
            NotFound,
            "model: m",
        ),
        // Gemini, Bedrock, Cohere, Ollama
        (
            Gemini,
            400,
            r#"{"error":{"code":400,"message":"The input token count exceeds the maximum.","status":"INVALID_ARGUMENT"}}"#,
            BadRequest,
            "The input token count exceeds the maximum.",
        ),
        (
            Gemini,
            503,
            r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            Upstream,
            "The model is overloaded.",
        ),
        (
            Gemini,
            404,
            r#"{"error":{"code":404,"message":"models/m is not found.","status":"NOT_FOUND"}}"#,
            NotFound,
            "models/m is not found.",
        ),
        (
            BedrockConverse,
            403,
            r#"{"__type":"UnrecognizedClientException","message":"The security token is invalid."}"#,
            Upstream,
            "The security token is invalid.",
        ),
        (
            BedrockConverse,
            400,
            r#"{"__type":"ValidationException","message":"Input is too long for requested model."}"#,
            BadRequest,
            "Input is too long for requested model.",
        ),
        (CohereChat, 401, r#"{"message":"invalid api token"}"#, Upstream, "invalid api token"),
        (CohereChat, 429, r#"{"message":"You are using a Trial key."}"#, RateLimited, "You are using a Trial key."),
        (OllamaChat, 503, r#"{"error":"server busy, please try again."}"#, Upstream, "server busy, please try again."),
    ] {
        let refusal = refusal(dialect, status, &[], body);
        assert_eq!((refusal.kind, refusal.retry_after), (kind, None), "{body}");
        assert!(refusal.message.ends_with(said), "{}", refusal.message);
        let ours = refusal.message.len() > said.len();
        let credentials = refusal.message.starts_with("the provider did not accept the credentials");
        assert_eq!(ours, credentials, "{}", refusal.message);
    }
}

#[test]
fn when_to_try_again() {
    let saying =
        |sentence: &str| format!(r#"{{"error":{{"message":"Rate limit reached. {sentence}","type":"tokens"}}}}"#);
    for (headers, sentence, millis) in [
        (&[("retry-after", "20")][..], "Please try again in 1s.", Some(20_000)),
        (&[("retry-after-ms", "250"), ("retry-after", "1")], "", Some(250)),
        (&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], "Please try again in 7s.", Some(7000)),
        (
            &[
                ("x-ratelimit-remaining-requests", "9"),
                ("x-ratelimit-reset-requests", "1h"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ],
            "",
            Some(360_000),
        ),
        (&[], "Please try again in 20s. Visit https://example.invalid.", Some(20_000)),
        (&[], "Please try again in 1m30s.", Some(90_000)),
        (&[], "Please try again in 450ms.", Some(450)),
        (&[], "Please try again in 4h36m54.5s.", Some(16_614_500)),
        (&[], "Please retry after 26 seconds.", Some(26_000)),
        (&[], "Please retry in 1 minute.", Some(60_000)),
        (&[], "Please try again in 99999h.", Some(86_400_000)),
        (&[], "Please try again in a while.", None),
        (&[], "Please try again in 3 parsecs.", None),
        (&[], "Please try again in 5", None),
    ] {
        let refusal = refusal(OpenAiChat, 429, headers, &saying(sentence));
        assert_eq!(refusal.kind, RateLimited);
        assert_eq!(refusal.retry_after, millis.map(Duration::from_millis), "{sentence} {headers:?}");
    }
    let broken = refusal(OpenAiChat, 400, &[], &saying("Please try again in 20s."));
    assert_eq!((broken.kind, broken.retry_after), (BadRequest, None));
    let google = r#"{"error":{"code":429,"message":"Quota.","status":"RESOURCE_EXHAUSTED","details":
        [{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}"#;
    assert_eq!(refusal(Gemini, 429, &[], google).retry_after, Some(Duration::from_millis(34_500)));
}

/// SDKs make an exception's class of the status, and programs look at the words.
#[test]
fn what_a_provider_answers_with_is_what_its_caller_is_answered_with() {
    let said = json!({"error": {"message": "so it is", "type": "invalid_request_error"}}).to_string();
    let anthropics = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "so it is"}}).to_string();
    let invalid = "invalid_request_error";
    for (status, openai, (kind, anthropic)) in [
        (400, (400, invalid), (invalid, (400, invalid))),
        // farebox's own credentials and bills: no fault of the caller.
        (401, (502, "server_error"), ("authentication_error", (502, "api_error"))),
        (402, (502, "server_error"), ("billing_error", (502, "api_error"))),
        (403, (502, "server_error"), ("permission_error", (502, "api_error"))),
        (404, (404, invalid), ("not_found_error", (404, "not_found_error"))),
        (408, (502, "server_error"), ("timeout_error", (502, "api_error"))),
        (409, (502, "server_error"), ("api_error", (502, "api_error"))),
        (413, (413, invalid), ("request_too_large", (413, "request_too_large"))),
        (422, (422, invalid), (invalid, (400, invalid))),
        (429, (429, "rate_limit_error"), ("rate_limit_error", (429, "rate_limit_error"))),
        (499, (502, "server_error"), ("api_error", (502, "api_error"))),
        (500, (502, "server_error"), ("api_error", (502, "api_error"))),
        (503, (502, "server_error"), ("overloaded_error", (529, "overloaded_error"))),
        (504, (502, "server_error"), ("timeout_error", (502, "api_error"))),
        (529, (502, "server_error"), ("overloaded_error", (529, "overloaded_error"))),
    ] {
        for (from, body) in [(OpenAiChat, &said), (AnthropicMessages, &anthropics(kind))] {
            let fault = Fault::from(refusal(from, status, &[], body));
            for (to, expected) in [(OpenAiChat, openai), (OpenAiResponses, openai), (AnthropicMessages, anthropic)] {
                let (status_of, body) = crate::caller(to).render_error(&fault);
                let body: Value = serde_json::from_slice(&body).unwrap();
                let told = (status_of.as_u16(), body["error"]["type"].as_str().unwrap());
                assert_eq!(told, expected, "{status} of {from} for {to}");
                assert!(body["error"]["message"].as_str().unwrap().ends_with("so it is"), "{body}");
            }
        }
    }
}
