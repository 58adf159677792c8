//! What a key of project `a` tries against project `b`. Each way is tried with a client of NATS itself, against a
//! control that shows that `b` itself can.

use farebox_emulator::Script;

use std::collections::BTreeSet;

use super::*;
use crate::stage::play;

/// Two projects with a key each, and somebody who listens wherever the server lets him.
struct Case {
    tenants: Tenants,
    a: Client,
    b: Client,
    key_of_a: String,
    /// A request of `b` that was answered.
    id: String,
}

impl Case {
    async fn start() -> Case {
        let tenants = Tenants::start().await;
        tenants.add_project("a").await;
        tenants.add_project("b").await;
        let key_of_a = tenants.add_key("ka", "a", |_| {}).await;
        let key_of_b = tenants.add_key("kb", "b", |_| {}).await;
        let (a, b) = (tenants.connect(&key_of_a).await, tenants.connect(&key_of_b).await);
        let id = fresh_id("of-b");
        tenants.stage.emulator.push("plain", Script::text("only for b"));
        let answer = ask(&b, "llm.request", HeaderMap::new(), &chat("plain", json!({ "request_id": id }))).await;
        assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        Case { tenants, a, b, key_of_a, id }
    }

    async fn row(&self, answer: &Value) -> Value {
        self.tenants.stage.rows(answer["farebox"]["request_id"].as_str().expect("an id"), 1).await.remove(0)
    }

    async fn say(&self, subject: &str, body: &str) {
        self.a.publish(subject.to_owned(), body.to_owned().into()).await.expect("it is sent");
    }

    async fn settled(&self) {
        self.a.flush().await.expect("the server is there");
        self.b.flush().await.expect("the server is there");
    }
}

#[test]
fn a_key_of_one_project_reaches_nothing_of_another() {
    play(async {
        let case = Case::start().await;
        asks_on_foreign_subjects(&case).await;
        asks_by_foreign_ids(&case).await;
        forges_who_it_is(&case).await;
        listens_in(&case).await;
        speaks_for_others(&case).await;
        steals_requests(&case).await;
        logs_in_as_another(&case).await;
        // All the while nothing was asked for at a provider but by the two of them, under their own names.
        let others = "SELECT count() FROM farebox.calls WHERE project NOT IN ('a', 'b') OR key_id NOT IN ('ka', 'kb')";
        assert_eq!(case.tenants.stage.clickhouse(others).await.trim(), "0");
    });
}

/// Ways 1 to 11: subjects of others, of farebox, of JetStream and of the server.
async fn asks_on_foreign_subjects(case: &Case) {
    let body = chat("account", json!({})).to_string();
    let (id, a) = (&case.id, &case.a);
    for subject in [
        "llm.b.request",
        "llm.b.job",
        "llm.b.usage",
        &format!("llm.b.result.{id}"),
        &format!("llm.b.cancel.{id}"),
        "farebox.v1.guard.0.reserve",
        "farebox.v1.guard.0.release",
        "farebox.v1.guard.0.budgets",
        "farebox.v1.work.default",
        "farebox.v1.cancel",
        "farebox.v1.ledger.0",
        &format!("farebox.v1.job.b.{id}"),
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.INFO.FAREBOX_RESULTS",
        "$JS.API.STREAM.MSG.GET.FAREBOX_RESULTS",
        "$JS.API.DIRECT.GET.FAREBOX_RESULTS",
        &format!("$JS.API.DIRECT.GET.FAREBOX_RESULTS.llm.b.response.{id}"),
        "$JS.API.DIRECT.GET.KV_farebox-policy",
        "$JS.API.CONSUMER.CREATE.FAREBOX_CALLS",
        "$KV.farebox-policy.key.ka",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SYS.REQ.CLAIMS.LIST",
        "$SYS.REQ.USER.AUTH",
    ] {
        assert!(unheard(a, subject, &body).await, "an answer on {subject}");
    }
    // A token of its own making, for an account with more imports.
    let account = Accounts::new(Keyring::from_root([7; 32]), SystemClock.now());
    let forged = account.project(&farebox_types::Project::parse("b").expect("a name")).expect("a token");
    assert!(unheard(a, "$SYS.REQ.CLAIMS.UPDATE", &forged).await, "accounts are pushed");
    assert_eq!(case.tenants.stage.asked("account"), 0, "a provider was called");
    // The policies are as they were: a project and a key for each.
    let bucket = case.tenants.admin.bucket(farebox_bus::topology::POLICY);
    assert_eq!(bucket.newest().await.expect("it is read"), 4, "policies were changed");
}

/// Ways 12 to 15: the ids of another's requests, on its own subjects.
async fn asks_by_foreign_ids(case: &Case) {
    let Case { tenants, a, b, id, .. } = case;
    let result = format!("llm.result.{id}");
    let own = ask(b, &result, HeaderMap::new(), &json!({})).await;
    assert!(own.to_string().contains("only for b"), "b itself can: {own}");
    let foreign = ask(a, &result, HeaderMap::new(), &json!({})).await;
    assert_eq!(foreign["error"]["type"], "not_found", "{foreign}");

    // The same request under the same id is another one.
    tenants.stage.emulator.push("plain", Script::text("for a"));
    let answer = ask(a, "llm.request", HeaderMap::new(), &chat("plain", json!({ "request_id": id }))).await;
    assert!(answer.to_string().contains("for a") && !answer.to_string().contains("only for b"), "{answer}");

    // A running call of b, and a waiting job.
    let running = fresh_id("running");
    tenants.stage.emulator.push("cancel-whole", Script::text("to its end").delay(Duration::from_millis(1_500)));
    let body = chat("cancel-whole", json!({ "request_id": running }));
    let cancelling = async {
        tenants.stage.until_asked("cancel-whole", 1).await;
        let receipt = ask(a, &format!("llm.cancel.{running}"), HeaderMap::new(), &json!({})).await;
        assert_eq!(receipt["cancelled"], false, "{receipt}");
        let found = ask(a, &format!("llm.result.{running}"), HeaderMap::new(), &json!({})).await;
        assert_eq!(found["error"]["type"], "not_found", "it says that it runs: {found}");
    };
    let (answer, ()) = tokio::join!(ask(b, "llm.request", HeaderMap::new(), &body), cancelling);
    assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
    let usage = ask(a, "llm.usage", HeaderMap::new(), &json!({})).await;
    assert!(!usage.to_string().contains("\"kb\""), "{usage}");
}

/// Ways 16 to 18: headers and members that say who is asking.
async fn forges_who_it_is(case: &Case) {
    let account = "forged-account";
    let info = json!({ "acc": account, "user": "kb", "svc": "b", "client": { "acc": account, "user": "kb" } });
    for forged in [
        headers(&[("Nats-Request-Info", &info.to_string())]),
        headers(&[("nats-request-info", &info.to_string()), ("NATS-REQUEST-INFO", &info.to_string())]),
        headers(&[("Farebox-Project", "b"), ("Farebox-Key", "kb"), ("Authorization", "Bearer fb-kb-x")]),
    ] {
        let answer = ask(&case.a, "llm.request", forged, &chat("plain", json!({}))).await;
        let row = case.row(&answer).await;
        assert_eq!((&row["project"], &row["key_id"]), (&json!("a"), &json!("ka")), "{row}");
    }
    for claim in ["project", "key_id", "principal"] {
        let answer = ask(&case.a, "llm.request", HeaderMap::new(), &chat("plain", json!({ claim: "b" }))).await;
        assert_eq!(answer["error"]["type"], "bad_request", "{claim}: {answer}");
    }
}

/// Ways 19 to 28: subscriptions while b works.
async fn listens_in(case: &Case) {
    let Case { tenants, a, b, id, .. } = case;
    let mut heard = BTreeMap::new();
    for subject in [
        ">",
        "*.>",
        "llm.>",
        "llm.*.>",
        "llm.b.>",
        "llm.call.*",
        "llm.response.*",
        "_INBOX.>",
        "_R_.>",
        "farebox.>",
        "$JS.>",
        "$KV.>",
        "$SYS.>",
        "$SYS.REQ.USER.AUTH",
    ] {
        heard.insert(subject, a.subscribe(subject).await.expect("asked for"));
    }
    a.flush().await.expect("the server knows");
    let mut control = b.subscribe("llm.>").await.expect("asked for");
    b.flush().await.expect("the server knows");
    let secret = "for the ears of b";
    tenants.stage.emulator.push("stream", Script::text(secret).chunks(3));
    let inbox = b.new_inbox();
    let mut answers = b.subscribe(inbox.clone()).await.expect("asked for");
    let (heard_id, job_id) = (fresh_id("heard"), fresh_id("job"));
    let mut body = chat("stream", json!({ "request_id": heard_id }));
    body["stream"] = true.into();
    b.publish_with_reply("llm.request", inbox, body.to_string().into()).await.expect("it is sent");
    // A job: its answer goes to `llm.response.<id>`.
    ask(b, "llm.job", HeaderMap::new(), &chat("plain", json!({ "request_id": job_id }))).await;
    // All that is told of these two, so that nothing of it comes later.
    let of = |id: &str| ["event", "response"].map(|kind| (kind, id.to_owned()));
    let mut told = BTreeSet::from_iter([of(&heard_id), of(&job_id)].concat());
    while !told.is_empty() {
        let message = timeout(SOON, control.next()).await.expect("b hears what is told").expect("it stays");
        let said = String::from_utf8_lossy(&message.payload).into_owned();
        let subject = message.subject.as_str();
        told.retain(|(kind, id)| {
            !(subject.starts_with(&format!("llm.{kind}.")) && format!("{subject} {said}").contains(id))
        });
    }
    timeout(SOON, answers.next()).await.expect("b hears its answers").expect("it stays");
    case.settled().await;
    for (subject, subscription) in &mut heard {
        let messages = arrived(subscription).await;
        assert!(messages.is_empty(), "on {subject}: {messages:?}");
    }
    assert!(unheard(a, &format!("llm.response.{id}"), "").await);
}

/// Ways 29 to 36: answers and facts in farebox's place.
async fn speaks_for_others(case: &Case) {
    let Case { tenants, a, b, id, .. } = case;
    let inbox = b.new_inbox();
    let mut mail = b.subscribe(inbox.clone()).await.expect("asked for");
    let mut facts = b.subscribe("llm.>").await.expect("asked for");
    let mut all = b.subscribe(">").await.expect("asked for");
    b.flush().await.expect("the server knows");
    let lie = "a lie";
    for subject in [
        inbox.as_str(),
        "_R_.AAAAAA.BBBBBB",
        "llm.call.forged",
        "llm.event.forged",
        "llm.alert.forged",
        &format!("llm.response.{id}"),
        &format!("llm.b.response.{id}"),
        "llm.b.call.forged",
        "llm.b.alert.forged",
    ] {
        case.say(subject, lie).await;
    }
    // farebox is to say it in its stead.
    for reply in [
        inbox.as_str(),
        "llm.b.call.forged",
        "llm.b.response.forged",
        "farebox.v1.ledger.0",
        "$KV.farebox-policy.key.x",
    ] {
        let body = chat("plain", json!({ "request_id": fresh_id("lever") })).to_string();
        a.publish_with_reply("llm.request", reply.to_owned(), body.into()).await.expect("it is sent");
    }
    let own = ask(a, "llm.request", HeaderMap::new(), &chat("plain", json!({}))).await;
    assert_eq!(own["farebox"]["outcome"], "ok", "{own}");
    case.settled().await;
    for heard in [&mut mail, &mut facts, &mut all] {
        let messages = arrived(heard).await;
        assert!(messages.is_empty(), "b was told something: {messages:?}");
    }
    let stored = ask(b, &format!("llm.result.{id}"), HeaderMap::new(), &json!({})).await;
    assert!(stored.to_string().contains("only for b"), "{stored}");
    let bucket = tenants.admin.bucket(farebox_bus::topology::POLICY);
    assert_eq!(bucket.newest().await.expect("it is read"), 4, "policies were changed");
    let ledger = tenants.admin.stream_info(farebox_bus::topology::LEDGER).await.expect("it is read");
    assert!(ledger.messages > 0);
}

/// Ways 37 to 40: standing where requests arrive.
async fn steals_requests(case: &Case) {
    let Case { a, b, .. } = case;
    let mut traps = Vec::new();
    for subject in ["llm.request", "llm.*.request", "llm.b.request", "llm.>"] {
        for group in ["intake", "worker"] {
            traps.push(a.queue_subscribe(subject, group.to_owned()).await.expect("asked for"));
        }
    }
    a.flush().await.expect("the server knows");
    for _ in 0..10 {
        for client in [a, b] {
            let answer = ask(client, "llm.request", HeaderMap::new(), &chat("plain", json!({}))).await;
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
        }
    }
    for trap in &mut traps {
        for (subject, payload) in arrived(trap).await {
            let text = String::from_utf8_lossy(&payload).into_owned();
            // Facts of its own project are for it.
            assert!(!subject.contains("request") && !text.contains("messages"), "{subject}: {text}");
        }
    }
}

/// Ways 41 to 44: the name of another, with a secret of its own.
async fn logs_in_as_another(case: &Case) {
    let tenants = &case.tenants;
    let secret = case.key_of_a.strip_prefix("fb-ka-").expect("its form");
    for options in [
        ConnectOptions::with_token(format!("fb-kb-{secret}")),
        ConnectOptions::with_user_and_password("kb".to_owned(), format!("fb-kb-{secret}")),
        ConnectOptions::with_user_and_password("kb".to_owned(), "kb".to_owned()),
        ConnectOptions::with_token(farebox_types::Project::parse("b").expect("a name").to_string()),
    ] {
        assert!(tenants.try_connect(options).await.is_err());
    }
    // Under whatever name it comes in, it is who its key says.
    let options = ConnectOptions::with_user_and_password("kb".to_owned(), case.key_of_a.clone());
    let client = tenants.try_connect(options).await.expect("its own key opens");
    let answer = ask(&client, "llm.request", HeaderMap::new(), &chat("plain", json!({}))).await;
    let row = case.row(&answer).await;
    assert_eq!((&row["project"], &row["key_id"]), (&json!("a"), &json!("ka")), "{row}");
    // A user that it signed itself, for the account of b.
    let forged = Accounts::new(Keyring::from_root([7; 32]), SystemClock.now());
    let creds = forged.role_credentials(Role::Up).expect("credentials");
    let options = ConnectOptions::with_credentials(&creds).expect("they can be read");
    assert!(tenants.try_connect(options).await.is_err(), "credentials of another operator open");
    let _ = &tenants.keyring;
}
