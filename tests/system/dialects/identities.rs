//! How a provider is shown who calls, how it is reached, and how long it may take.

use std::time::{Duration, UNIX_EPOCH};

use farebox_emulator::{Fault, Seen};
use farebox_providers::{AwsCredentials, sign};
use farebox_testkit::Process;
use serde_json::{Value, json};

use super::{ask, open, path, received, row_of, shared, stream, tape};
use crate::stage::{FAREBOX, SOON, play};

fn hello(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 50 })
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    seen.headers.get(name).map_or("", |value| value.to_str().expect("a text"))
}

/// `20261121T130500Z`, as the request says it.
fn signed_at(seen: &Seen) -> std::time::SystemTime {
    let said = header(seen, "x-amz-date").trim_end_matches('Z');
    let at: jiff::civil::DateTime = said.parse().expect("a date");
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp();
    UNIX_EPOCH + Duration::from_secs(at.as_second().try_into().expect("after 1970"))
}

/// Signs what arrived once more: the signature must be the one that it bears.
fn check_signature(seen: &Seen, region: &str, credentials: &AwsCredentials) {
    let mut again = as_it_came(seen);
    sign(&mut again, credentials, region, "bedrock", signed_at(seen)).expect("it can be signed");
    assert_eq!(again.headers()["authorization"], header(seen, "authorization"));
    let token = again.headers().get("x-amz-security-token").map_or("", |token| token.to_str().expect("a text"));
    assert_eq!(token, header(seen, "x-amz-security-token"));
}

fn as_it_came(seen: &Seen) -> http::Request<bytes::Bytes> {
    let url = format!("http://{}{}", header(seen, "host"), seen.path);
    let request = http::Request::builder().method(seen.method.clone()).uri(url);
    request.header("content-type", header(seen, "content-type")).body(seen.body.clone()).expect("a request")
}

#[test]
fn amazon_gets_a_signature() {
    play(async {
        let stage = shared().await;
        for (name, region, credentials) in [
            (
                "signed",
                "eu-west-1",
                AwsCredentials {
                    access_key: "AKIDSYSTEMTEST".into(),
                    secret_key: "system+test/secret".into(),
                    session_token: Some("system//token==".into()),
                },
            ),
            (
                "profile",
                "us-east-1",
                AwsCredentials {
                    access_key: "profile-key-id".into(),
                    secret_key: "profile/secret".into(),
                    session_token: None,
                },
            ),
        ] {
            stage.emulator.route(&path(name), tape("bedrock-converse/text"));
            let answered = ask(stage, "openai-chat", &hello(name)).await;
            assert_eq!(answered["farebox"]["outcome"], "ok", "{answered}");
            let seen = received(stage, name);
            assert_eq!(seen.path, format!("/{name}/model/amazon.nova-pro-v1%3A0/converse"));
            check_signature(&seen, region, &credentials);
        }
    });
}

#[test]
fn addresses_headers_and_proxies_of_the_config() {
    play(async {
        let stage = shared().await;
        for name in ["azure-classic", "headed", "proxied"] {
            stage.emulator.route(&path(name), tape("openai-chat/text"));
            let answered = ask(stage, "openai-chat", &hello(name)).await;
            assert_eq!(answered["farebox"]["outcome"], "ok", "{answered}");
        }
        let azure = received(stage, "azure-classic");
        assert_eq!(azure.path, "/azure-classic/openai/deployments/gpt-dep/chat/completions");
        assert_eq!(azure.query.as_deref(), Some("api-version=2024-10-21"));
        assert_eq!((header(&azure, "api-key"), header(&azure, "authorization")), ("sk-system-test", ""));
        let headed = received(stage, "headed");
        assert_eq!((header(&headed, "x-tenant"), header(&headed, "authorization")), ("blue", "Bearer sk-system-test"));
        assert_eq!(header(&received(stage, "proxied"), "host"), "llm.invalid");
    });
}

#[test]
fn each_timeout_says_its_name() {
    play(async {
        let stage = shared().await;
        let choice = json!({ "index": 0, "delta": { "content": "word " }, "finish_reason": null });
        let event = format!("data: {}\n\n", json!({ "id": "c", "model": "m", "choices": [choice] }));
        for (name, script, said) in [
            ("slow-first", stream(event.clone()).fault(Fault::HangBeforeHead), "first_token"),
            ("slow-idle", stream(event.clone()).chunks(1).fault(Fault::HangAfter(1)), "idle"),
            ("slow-total", stream(event.repeat(100)).chunks(100).pace(Duration::from_millis(100)), "total"),
        ] {
            stage.emulator.route(&path(name), script);
            let mut body = hello(name);
            body["stream"] = true.into();
            let (chunks, last) = open(stage, "openai-chat", &body).await;
            assert_eq!(last["error"]["type"], "deadline_exceeded", "{last}");
            let message = last["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains(&format!("`{said}`")), "{message}");
            assert_eq!(chunks.is_empty(), name == "slow-first", "{chunks:?}");
            let row = row_of(stage, &last).await;
            assert_eq!((&row["outcome"], &row["estimated"]), (&json!("error"), &json!(true)), "{row}");
        }
    });
}

/// Hosts are the config's, and private ones must be meant.
#[test]
fn nobody_is_led_to_a_private_host() {
    play(async {
        let stage = shared().await;
        for model in
            ["http://127.0.0.1:1/v1", "//evil.example/x", "chat-gemini/../x", "chat-gemini?x=1", "openai/gpt-4o"]
        {
            let refused = ask(stage, "openai-chat", &hello(model)).await;
            assert_eq!(refused["error"]["type"], "not_found", "{refused}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        for address in ["10.0.0.7", "169.254.169.254", "[fd00::1]"] {
            let config = format!(
                "providers:\n  inner: {{ kind: openai-compatible, api_base: \"http://{address}/v1\" }}\nmodels: {{ a: inner/m }}\n"
            );
            std::fs::write(dir.path().join("farebox.yaml"), config).expect("a file");
            let check = Process::builder(FAREBOX).args(["config", "check"]).current_dir(dir.path());
            let process = check.spawn().await.expect("farebox starts");
            let exit = process.wait(SOON).await.expect("it ends");
            assert_ne!(exit.code, Some(0), "{address}: {}", process.log());
            assert!(process.log().contains("egress.allow"), "{address}: {}", process.log());
        }
    });
}
