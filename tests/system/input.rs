//! What goes in wrong comes back as one clear error, and nothing hangs.

use std::{net::SocketAddr, path::Path};

use farebox_bus::CallError;
use farebox_proto::v1;
use farebox_testkit::{PATIENCE, Process, TestNats};
use farebox_types::ErrorKind;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::stage::{FAREBOX, SOON, chat, play, shared};

/// Kind and message of a refusal.
fn error(answer: &Value) -> (String, String) {
    let text = |name: &str| {
        let text = answer["error"][name].as_str();
        text.unwrap_or_else(|| panic!("no error.{name} in {answer}")).to_owned()
    };
    (text("type"), text("message"))
}

#[test]
fn an_unknown_model_is_named_with_what_there_is() {
    play(async {
        let answer = shared().await.ask(&chat("gpt-77", json!({}))).await;
        let (kind, message) = error(&answer);
        assert_eq!(kind, "not_found");
        assert!(message.contains("gpt-77"), "{message}");
        assert_eq!(answer["error"]["retryable"], false);
    });
}

#[test]
fn broken_json_says_where() {
    play(async {
        let answer = shared().await.ask_text(r#"{"model": "plain", "messages": ["#).await;
        let (kind, message) = error(&answer);
        assert_eq!(kind, "bad_request");
        assert!(message.contains("line 1"), "{message}");
        assert_eq!(error(&shared().await.ask_text("{}").await).0, "bad_request");
    });
}

#[test]
fn an_unknown_option_of_farebox_is_named() {
    play(async {
        let answer = shared().await.ask(&chat("plain", json!({ "max_costs": "1" }))).await;
        let (kind, message) = error(&answer);
        assert_eq!(kind, "bad_request");
        assert!(message.contains("max_costs"), "{message}");
        assert!(message.contains("max_cost`"), "what was meant is not said: {message}");
    });
}

#[test]
fn what_is_neither_json_nor_protobuf_is_refused() {
    play(async {
        let answer = shared().await.request("llm.request", "hello").await;
        let response: v1::LlmResponse = answer.decode().expect("protobuf is answered in protobuf");
        let Some(v1::llm_response::Result::Error(error)) = response.result else { panic!("no error") };
        assert_eq!(error.kind(), v1::ErrorKind::BadRequest);
        assert!(error.message.contains("JSON"), "{}", error.message);
    });
}

#[test]
fn a_bad_request_id_and_a_past_deadline_are_refused() {
    play(async {
        let stage = shared().await;
        let answer = stage.ask(&chat("plain", json!({ "request_id": "a.b" }))).await;
        assert_eq!(error(&answer).0, "bad_request", "{answer}");
        let answer = stage.ask(&chat("plain", json!({ "deadline_unix_ms": 1 }))).await;
        assert_eq!(error(&answer).0, "deadline_exceeded", "{answer}");
    });
}

#[test]
fn a_body_that_is_too_large_is_refused_on_both_sides() {
    play(async {
        let stage = shared().await;
        // More than the server takes in one message: said before it is sent.
        let request = v1::LlmRequest {
            body: Some(v1::llm_request::Body::Raw(v1::RawBody {
                dialect: v1::Dialect::OpenaiChat.into(),
                bytes: vec![b' '; stage.bus().max_payload() + 1].into(),
            })),
            ..Default::default()
        };
        let refused = stage.client.call(request).await.expect_err("too large");
        assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
        assert!(refused.to_string().contains("max_payload"), "{refused}");
        // More than intake takes, although the server would.
        let stage = crate::stage::Stage::start("", &["--set", "intake.body_max=64KB"], |up| up).await;
        let mut body = chat("plain", json!({}));
        body["messages"][0]["content"] = "x".repeat(100_000).into();
        let answer = stage.ask(&body).await;
        let (kind, message) = error(&answer);
        assert_eq!(kind, "too_large");
        assert!(message.contains("intake.body_max"), "{message}");
        assert_eq!(stage.ask(&chat("plain", json!({}))).await["farebox"]["outcome"], "ok");
    });
}

/// Runs farebox to its end: exit code and all that it said.
async fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let process = Process::builder(FAREBOX).args(args).current_dir(dir).spawn().await.expect("farebox starts");
    let exit = process.wait(PATIENCE).await.unwrap_or_else(|error| panic!("{args:?}: {error}:\n{}", process.log()));
    (exit.code, process.log())
}

#[test]
fn all_faults_of_a_config_are_said_with_their_lines() {
    play(async {
        let dir = tempfile::tempdir().expect("a directory");
        let config = "nats:\n  lisen: 127.0.0.1:0\nguard:\n  lease: never\nproviders:\n  openai: { api_key: sk-plain }\n\
                      models:\n  a: nobody/x\nworkers: {}\n";
        std::fs::write(dir.path().join("bad.yaml"), config).expect("a file");
        for command in [["config", "check"].as_slice(), &["up", "--data", "data"], &["guard", "--data", "data"]] {
            let mut args = command.to_vec();
            args.extend(["--config", "bad.yaml"]);
            let (code, said) = run(dir.path(), &args).await;
            assert!(code.is_some_and(|code| code != 0), "{command:?}: {code:?}: {said}");
            for fault in
                ["bad.yaml:2", "lisen", "bad.yaml:4", "guard.lease", "bad.yaml:6", "api_key", "bad.yaml:9", "workers"]
            {
                assert!(said.contains(fault), "{command:?} does not say `{fault}`: {said}");
            }
            assert!(!said.contains("sk-plain"), "a secret was shown: {said}");
        }
        assert!(!dir.path().join("data").join("nats").exists(), "something was started");
    });
}

#[test]
fn a_reference_to_nothing_fails_at_start() {
    play(async {
        let dir = tempfile::tempdir().expect("a directory");
        let config = "providers:\n  local: { kind: openai-compatible, api_base: \"http://127.0.0.1:1/v1\" }\n\
                      models:\n  a: nobody/x\n  b: { deployments: [{ target: local/y }], fallback: [c] }\n";
        std::fs::write(dir.path().join("farebox.yaml"), config).expect("a file");
        let (code, said) = run(dir.path(), &["up", "--data", "data"]).await;
        assert_eq!(code, Some(1), "{said}");
        for word in ["farebox.yaml:4", "nobody", "farebox.yaml:5", "`c`"] {
            assert!(said.contains(word), "`{word}` is not said: {said}");
        }
    });
}

#[test]
fn a_missing_key_variable_is_named_with_its_option() {
    play(async {
        let dir = tempfile::tempdir().expect("a directory");
        let config = "nats: { listen: \"127.0.0.1:0\" }\nclickhouse: { listen: \"127.0.0.1:0\" }\n\
                      listen: { http: \"127.0.0.1:0\", grpc: \"127.0.0.1:0\" }\nproviders:\n  openai: { api_key: os.environ/SYSTEM_TEST_NO_SUCH_KEY }\n\
                      models: { a: openai/gpt-4o-mini }\n";
        std::fs::write(dir.path().join("farebox.yaml"), config).expect("a file");
        let (code, said) = run(dir.path(), &["up", "--data", "data"]).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("SYSTEM_TEST_NO_SUCH_KEY"), "{said}");
        assert!(said.contains("providers.openai.api_key"), "{said}");
        assert!(said.contains("farebox.yaml:5"), "{said}");
    });
}

#[test]
fn no_nats_at_its_url_is_said_with_the_url() {
    play(async {
        let dir = tempfile::tempdir().expect("a directory");
        // A port on which nobody listens: it is ours.
        let ours = TcpSocket::new_v4().expect("a socket");
        ours.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let port = ours.local_addr().expect("an address").port();
        let url = format!("nats.url=nats://127.0.0.1:{port}");
        let quick = ["--set", &url, "--set", "nats.connection.start_timeout=1s", "--data", "data"];
        for command in ["up", "guard", "intake", "worker", "accounting"] {
            let mut args = vec![command, "--set", "clickhouse.listen=127.0.0.1:0"];
            args.extend(quick);
            let (code, said) = run(dir.path(), &args).await;
            assert_eq!(code, Some(1), "{command}: {said}");
            let line = said.lines().find(|line| line.starts_with("error:")).unwrap_or_else(|| panic!("{said}"));
            assert!(line.contains(&port.to_string()), "{command}: {line}");
            assert!(line.contains("nats"), "{command}: {line}");
        }
    });
}

#[test]
fn a_role_without_farebox_up_says_what_to_start() {
    play(async {
        let dir = tempfile::tempdir().expect("a directory");
        for args in [["worker", "--data", "data"].as_slice(), &["call", "--data", "data", "hello"]] {
            let (code, said) = run(dir.path(), args).await;
            assert!(code.is_some_and(|code| code != 0), "{args:?}: {code:?}");
            assert!(said.contains("farebox up"), "{args:?}: {said}");
        }
    });
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    play(async {
        let dir = tempfile::tempdir().expect("a directory");
        for (args, word) in [
            (["up", "--port", "1"].as_slice(), "--port"),
            (&["up", "--set", "guard.lease"], "PATH=VALUE"),
            (&["up", "--set", "guard.leese=1s", "--data", "data"], "leese"),
            (&["up", "--roles", "intake,cook", "--data", "data"], "cook"),
            (&["up", "--config", "absent.yaml", "--data", "data"], "absent.yaml"),
            (&["fly"], "fly"),
        ] {
            let (code, said) = run(dir.path(), args).await;
            assert!(code.is_some_and(|code| code != 0), "{args:?}: {code:?}: {said}");
            assert!(said.contains(word), "{args:?} does not say `{word}`: {said}");
        }
    });
}

/// A server on which no farebox runs.
#[test]
fn no_farebox_on_the_server_is_said_at_once() {
    play(async {
        let nats = TestNats::start().await.expect("a server");
        let options = farebox_bus::Options { url: nats.url(), ..farebox_bus::Options::default() };
        let client = farebox_client::Client::connect(&options, farebox_bus::Login::None).await.expect("it listens");
        let asked = std::time::Instant::now();
        let bare = client.bus().request("llm.request", Default::default(), "{}".into(), SOON).await;
        assert!(matches!(bare, Err(CallError::NoResponders { .. })), "{bare:?}");
        let refused = client.call(v1::LlmRequest::default()).await.expect_err("nobody is there");
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("farebox up"), "{refused}");
        assert!(asked.elapsed() < SOON / 2);
    });
}
