//! Keys over HTTP: what one project's key tries against another project, and how soon a change acts there.

use std::net::SocketAddr;

use farebox_emulator::Script;
use farebox_testkit::eventually;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use super::*;
use crate::{
    edge::{
        Api, http,
        wire::{self, Answer, Wire},
    },
    stage::{one_in_time, play},
};

/// Two projects with a key each, which may ask for one model each besides those of both.
struct Case {
    tenants: Tenants,
    edge: SocketAddr,
    key_of_a: String,
    key_of_b: String,
}

impl Case {
    async fn start() -> Case {
        let tenants = Tenants::start().await;
        let edge = http(&tenants.stage);
        tenants.add_project("a").await;
        tenants.add_project("b").await;
        let only = |own: &str| vec!["plain".to_owned(), "stream".to_owned(), "cancel-whole".to_owned(), own.to_owned()];
        let key_of_a = tenants.add_key("ka", "a", |key| key.models = only("bytes")).await;
        let key_of_b = tenants.add_key("kb", "b", |key| key.models = only("labels")).await;
        for key in [&key_of_a, &key_of_b] {
            is_let_in(edge, key).await;
        }
        Case { tenants, edge, key_of_a, key_of_b }
    }

    async fn ask(&self, key: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let bearer = format!("Bearer {key}");
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        wire::ask(self.edge, &wire::post(Api::Chat.path(), &headers, body.to_string().as_bytes())).await
    }

    /// Whose the one call of a request is.
    async fn belongs_to(&self, answer: &Answer) -> (String, String) {
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let id = answer.get("farebox-request-id").expect("an id");
        let row = self.tenants.stage.rows(id, 1).await.remove(0);
        let word = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        (word("project"), word("key_id"))
    }
}

fn hello(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }], "max_tokens": 20 })
}

async fn models(edge: SocketAddr, headers: &[(&str, &str)]) -> Answer {
    wire::ask(edge, &wire::get("/v1/models", headers)).await
}

async fn is_let_in(edge: SocketAddr, key: &str) {
    eventually(SOON, "a new key opens", || async { models(edge, &[("x-api-key", key)]).await.status() == 200 }).await;
}

#[test]
fn a_key_reaches_nothing_of_another_project_over_http() {
    play(async {
        let case = Case::start().await;
        fetches_anothers_answer(&case).await;
        stops_anothers_call(&case).await;
        says_who_it_is(&case).await;
        borrows_a_key(&case).await;
        asks_for_anothers_models(&case).await;
        let stage = &case.tenants.stage;
        let others = "SELECT count() FROM farebox.calls WHERE project NOT IN ('a', 'b') OR key_id NOT IN ('ka', 'kb') OR \
                      (project = 'a') != (key_id = 'ka')";
        assert_eq!(stage.clickhouse(others).await.trim(), "0");
        let of_b = stage.clickhouse("SELECT count() FROM farebox.calls WHERE project = 'b'").await;
        assert_eq!(of_b.trim(), "2", "somebody spent what is b's");
    });
}

/// Ways 1 and 2: the id of another's request.
async fn fetches_anothers_answer(case: &Case) {
    let id = fresh_id("of-b");
    let chosen = [("idempotency-key", id.as_str())];
    let emulator = &case.tenants.stage.emulator;
    emulator.push("plain", Script::text("only for b"));
    let first = case.ask(&case.key_of_b, &chosen, &hello("plain")).await;
    assert_eq!(case.belongs_to(&first).await, ("b".to_owned(), "kb".to_owned()));
    let own = case.ask(&case.key_of_b, &chosen, &hello("plain")).await;
    assert!(own.text().contains("only for b"), "b itself can: {}", own.text());
    // As its own, it is another request.
    emulator.push("plain", Script::text("for a"));
    let answer = case.ask(&case.key_of_a, &chosen, &hello("plain")).await;
    assert!(answer.text().contains("for a") && !answer.text().contains("only for b"), "{}", answer.text());
    // What providers keep is not fetched through farebox.
    let bearer = format!("Bearer {}", case.key_of_a);
    let path = format!("/v1/responses/{id}");
    let kept = wire::ask(case.edge, &wire::get(&path, &[("authorization", &bearer)])).await;
    assert!((400..500).contains(&kept.status()) && !kept.text().contains("only for b"), "{}", kept.text());
}

/// Ways 3 and 4: going away, and another body, under the id of a call of b that runs.
async fn stops_anothers_call(case: &Case) {
    let stage = &case.tenants.stage;
    let id = fresh_id("running");
    let chosen = [("idempotency-key", id.as_str())];
    let slow = Script::text("to its end").delay(Duration::from_millis(1_500));
    stage.emulator.push("cancel-whole", slow);
    let meddling = async {
        stage.until_asked("cancel-whole", 1).await;
        let bearer = format!("Bearer {}", case.key_of_a);
        stage.emulator.push("cancel-whole", Script::text("never").delay(Duration::from_secs(30)));
        let mut wire = Wire::connect(case.edge).await;
        let headers = [("authorization", bearer.as_str()), chosen[0]];
        let request = wire::post(Api::Chat.path(), &headers, hello("cancel-whole").to_string().as_bytes());
        wire.send(&request).await.expect("it is sent");
        stage.until_asked("cancel-whole", 2).await;
        drop(wire);
        let other = case.ask(&case.key_of_a, &chosen, &hello("bytes")).await;
        assert_eq!(other.status(), 409, "with its own id it meets its own call only: {}", other.text());
    };
    let body = hello("cancel-whole");
    let (answer, ()) = tokio::join!(case.ask(&case.key_of_b, &chosen, &body), meddling);
    assert!(answer.text().contains("to its end"), "{}", answer.text());
    assert_eq!(case.belongs_to(&answer).await.0, "b");
}

/// Ways 5 to 12: headers, members and queries that say who is asking.
async fn says_who_it_is(case: &Case) {
    let info = json!({ "acc": "b", "user": "kb", "client": { "acc": "b", "user": "kb" } }).to_string();
    for (name, value) in
        [("farebox-project", "b"), ("farebox-key", "kb"), ("farebox-key-id", "kb"), ("farebox-principal", "b")]
    {
        let answer = case.ask(&case.key_of_a, &[(name, value)], &hello("plain")).await;
        assert_eq!(answer.status(), 400, "{name}: {}", answer.text());
    }
    for (name, value) in [
        ("nats-request-info", info.as_str()),
        ("x-project", "b"),
        ("openai-organization", "b"),
        ("openai-project", "b"),
    ] {
        let answer = case.ask(&case.key_of_a, &[(name, value)], &hello("plain")).await;
        assert_eq!(case.belongs_to(&answer).await, ("a".to_owned(), "ka".to_owned()), "{name}");
    }
    for claim in ["project", "key_id", "principal"] {
        let mut body = hello("plain");
        body["farebox"] = json!({ claim: "b" });
        let answer = case.ask(&case.key_of_a, &[], &body).await;
        assert_eq!(answer.status(), 400, "{claim}: {}", answer.text());
        assert!(answer.text().contains(&format!("`{claim}`")), "{claim}: {}", answer.text());
        let mut body = hello("plain");
        body["metadata"] = json!({ claim: "b" });
        body["user"] = "b".into();
        let answer = case.ask(&case.key_of_a, &[], &body).await;
        assert_eq!(case.belongs_to(&answer).await.0, "a", "{claim}");
    }
    let path = format!("{}?project=b&key={}", Api::Chat.path(), case.key_of_b);
    let bearer = format!("Bearer {}", case.key_of_a);
    let request = wire::post(&path, &[("authorization", &bearer)], hello("plain").to_string().as_bytes());
    assert_eq!(case.belongs_to(&wire::ask(case.edge, &request).await).await.0, "a", "the query says who is asking");
}

/// Ways 13 to 18: the key of b, in part or beside one's own.
async fn borrows_a_key(case: &Case) {
    let Case { edge, key_of_a, key_of_b, .. } = case;
    let secret = key_of_a.strip_prefix("fb-ka-").expect("its form");
    let forged = format!("fb-kb-{secret}");
    let (of_a, of_b) = (format!("Bearer {key_of_a}"), format!("Bearer {key_of_b}"));
    let wrong = format!("Bearer {forged}");
    for headers in [
        vec![("authorization", wrong.as_str())],
        vec![("x-api-key", forged.as_str())],
        vec![("authorization", of_a.as_str()), ("x-api-key", key_of_b)],
        vec![("authorization", of_b.as_str()), ("x-api-key", key_of_a)],
        vec![("authorization", of_a.as_str()), ("authorization", of_b.as_str())],
        vec![("x-api-key", "fb-kb-"), ("x-forwarded-for", "127.0.0.1")],
    ] {
        let answer = models(*edge, &headers).await;
        assert_eq!(answer.status(), 401, "{}", answer.text());
        let body = hello("plain").to_string();
        let answer = wire::ask(*edge, &wire::post(Api::Messages.path(), &headers, body.as_bytes())).await;
        assert_eq!(answer.status(), 401, "{}", answer.text());
        assert_eq!(Api::Messages.error(&answer.json()).0, "authentication_error");
        for key in [secret, key_of_b.as_str()] {
            assert!(!answer.text().contains(key), "{}", answer.text());
        }
    }
}

/// Ways 19 to 22: models that only b may ask for.
async fn asks_for_anothers_models(case: &Case) {
    let bearer = format!("Bearer {}", case.key_of_a);
    let listed = models(case.edge, &[("authorization", &bearer)]).await.json();
    let mut names: Vec<&str> =
        listed["data"].as_array().expect("models").iter().filter_map(|m| m["id"].as_str()).collect();
    names.retain(|name| !name.contains(':'));
    names.sort_unstable();
    assert_eq!(names, ["bytes", "cancel-whole", "plain", "stream"]);
    for path in ["/v1/models/labels", "/anthropic/v1/models/labels", "/v1/models/%6cabels"] {
        let answer = wire::ask(case.edge, &wire::get(path, &[("authorization", &bearer)])).await;
        assert_eq!(answer.status(), 404, "{path}: {}", answer.text());
    }
    for model in ["labels", "task:code", "agent:critic"] {
        let answer = case.ask(&case.key_of_a, &[], &hello(model)).await;
        assert_eq!(answer.status(), 403, "{model}: {}", answer.text());
    }
    let answer = case.ask(&case.key_of_a, &[("farebox-fallback-models", "labels")], &hello("plain")).await;
    assert_eq!(answer.status(), 403, "{}", answer.text());
    assert_eq!(case.tenants.stage.asked("labels"), 0);
}

/// What a request on a connection that is kept is answered with.
async fn on(wire: &mut Wire, key: &str) -> Answer {
    let request = wire::get("/v1/models", &[("x-api-key", key)]);
    wire.send(&request).await.expect("the connection is kept");
    timeout(SOON, wire.answer()).await.expect("no silence").expect("an answer")
}

/// Who asks a second after a change, or later, is told what holds since.
async fn told_at_once(wire: &mut Wire, key: &str, status: u16) -> Result<(), String> {
    let until = Instant::now() + AT_ONCE;
    loop {
        let began = Instant::now();
        let said = on(wire, key).await.status();
        if said == status {
            return Ok(());
        }
        if began >= until {
            return Err(format!("{said} instead of {status}"));
        }
    }
}

#[test]
fn a_revoked_key_is_out_within_a_second_on_a_kept_connection_too() {
    play(async {
        let tenants = Tenants::start().await;
        let edge = http(&tenants.stage);
        let (_, kept) = tenants.newcomer().await;
        is_let_in(edge, &kept).await;
        let mut stays = Wire::connect(edge).await;
        assert_eq!(on(&mut stays, &kept).await.status(), 200);
        // A key that was revoked, and one of a disabled project.
        for status in [401, 403] {
            one_in_time(async || {
                let (name, lost) = tenants.newcomer().await;
                let mut goes = Wire::connect(edge).await;
                told_at_once(&mut goes, &lost, 200).await?;
                if status == 401 {
                    tenants.revoke(&name).await
                } else {
                    tenants.disable(&name).await
                }
                told_at_once(&mut goes, &lost, status).await
            })
            .await;
            assert_eq!(on(&mut stays, &kept).await.status(), 200);
        }
    });
}

/// Nobody can know whether a key was revoked meanwhile: that is not the key's fault.
#[test]
fn keys_that_cannot_be_looked_up_are_told_to_come_again() {
    play(async {
        let tenants =
            Tenants::with(&["--set", "directory.stale_after=5s", "--set", "directory.check_interval=200ms"]).await;
        let edge = http(&tenants.stage);
        tenants.add_project("acme").await;
        let key = tenants.add_key("ka", "acme", |_| {}).await;
        is_let_in(edge, &key).await;
        let pid = tenants.stage.ready["pids"]["nats"].as_i64().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.expect("the pid of nats-server");
        kill_process(pid, Signal::STOP).expect("it is there");
        let mut wire = Wire::connect(edge).await;
        let stale = timeout(SOON, async {
            loop {
                let answer = on(&mut wire, &key).await;
                if answer.status() != 200 {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let answers =
            [stale.await.expect("it is noticed"), on(&mut wire, "fb-nobody-0123456789abcdef0123456789abcdef").await];
        for answer in answers {
            assert_eq!(answer.status(), 503, "{}", answer.text());
            let after: u64 =
                answer.get("retry-after").and_then(|after| after.parse().ok()).expect("when to come again");
            assert!((1..60).contains(&after), "{answer:?}");
        }
        kill_process(pid, Signal::CONT).expect("it is there");
        let back = timeout(SOON, async { while on(&mut wire, &key).await.status() != 200 {} }).await;
        assert!(back.is_ok(), "the key is not known again");
    });
}
