//! Calls whose caller was killed: they are stopped once nobody has listened for `worker.listener_patience`, and what was used
//! is billed.

use std::time::Duration;

use bytes::Bytes;
use farebox_client::Piece;
use farebox_emulator::{Script, State};
use farebox_proto::v1;
use farebox_testkit::{PATIENCE, Process, eventually};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    books::{ledger, ledgers_match},
    cluster::Cluster,
    load::ask,
};

const DEADLINE: Duration = Duration::from_secs(30);
const GONE_AFTER: Duration = Duration::from_millis(1200);
/// How long each call would take.
const WHOLE_ANSWER: Duration = Duration::from_secs(8);

fn body(model: &str, task: &str, stream: bool) -> String {
    let messages = json!([{ "role": "user", "content": "at length" }]);
    let farebox = json!({ "task_id": task });
    json!({ "model": model, "stream": stream, "max_tokens": 1000, "messages": messages, "farebox": farebox })
        .to_string()
}

/// Asks over HTTP, and hears what comes until it is broken off.
fn over_http(
    cluster: &Cluster,
    model: &str,
    task: &str,
    stream: bool,
    key: Option<&str>,
) -> impl Future<Output = reqwest::Result<Bytes>> + use<> {
    let url = format!("http://{}/v1/chat/completions", cluster.edge);
    let request = cluster.http.post(url).header("content-type", "application/json").body(body(model, task, stream));
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    async move { request.send().await?.bytes().await }
}

/// An agent that is a process of its own, in the account of its project, and knows no more than NATS's protocol.
async fn agent(cluster: &Cluster, task: &str) -> Process {
    const AGENT: &str = r#"
        exec 3<>"/dev/tcp/127.0.0.1/$PORT"
        printf 'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _INBOX.agent.1 1\r\n' >&3
        printf 'PUB llm.request _INBOX.agent.1 %d\r\n%s\r\n' "${#BODY}" "$BODY" >&3
        exec cat <&3"#;
    let nats = cluster.addresses()["nats"].as_str().expect("an address").to_owned();
    let port = nats.rsplit_once(':').expect("a port").1.to_owned();
    let process =
        Process::builder("bash").args(["-c", AGENT]).env("PORT", port).env("BODY", body("tokens", task, true));
    process.spawn().await.expect("bash starts")
}

/// An agent that stays.
async fn heard(cluster: &Cluster, task: &str) -> v1::LlmResponse {
    let labels = v1::Labels { task_id: task.to_owned(), ..Default::default() };
    let raw = v1::RawBody { dialect: v1::Dialect::OpenaiChat.into(), bytes: body("tokens", task, true).into() };
    let body = Some(v1::llm_request::Body::Raw(raw));
    let request = v1::LlmRequest { labels: Some(labels), body, ..ask("tokens", "", DEADLINE) };
    let mut stream = cluster.client.stream(request).await.expect("it is sent");
    loop {
        match stream.next().await.expect("an answer").expect("no gap") {
            Piece::Chunk(_) => {}
            Piece::Final(answer) => return *answer,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_killed_edge_and_a_killed_agent_are_stopped_and_billed_as_far_as_they_came() {
    let patience = format!("{}ms", GONE_AFTER.as_millis());
    let cluster = Cluster::builder().with("edge.1").set("worker.listener_patience", &patience).start().await.unwrap();
    let slow = Script::text("a piece of text ".repeat(100)).chunks(80).pace(WHOLE_ANSWER / 80);
    cluster.emulator.script("m-tokens", slow);
    cluster.emulator.script("m-claude", Script::default().delay(WHOLE_ANSWER).bill_on_arrival());
    let mut callers = JoinSet::new();
    for _ in 0..3 {
        callers.spawn(over_http(&cluster, "tokens", "edge", true, None));
    }
    callers.spawn(over_http(&cluster, "claude", "edge", false, None));
    callers.spawn(over_http(&cluster, "tokens", "kept", true, Some("kept-1")));
    let agent = agent(&cluster, "agent").await;

    let kills = async {
        let under_way = || async { cluster.emulator.ledger().totals().open == 7 };
        eventually(PATIENCE, "all are at the provider", under_way).await;
        eventually(PATIENCE, "the agent hears its stream", || async { agent.log().contains("chunk") }).await;
        cluster.kill9("edge.1").await;
        agent.kill9().await;
        let killed = Instant::now();
        let left = || async { cluster.emulator.ledger().totals().client_gone == 5 };
        eventually(WHOLE_ANSWER, "five calls are left", left).await;
        (killed.elapsed(), cluster.emulator.ledger().totals().answered)
    };
    let (answer, (took, answered)) = tokio::join!(heard(&cluster, "heard"), kills);
    assert!(took >= GONE_AFTER && answered == 0, "{took:?}, {answered} at their end");
    assert_eq!(answer.report.expect("a report").outcome(), v1::Outcome::Ok);
    eventually(PATIENCE, "the others end", || async { cluster.emulator.ledger().totals().open == 0 }).await;
    let states: Vec<State> = cluster.emulator.ledger().entries().iter().map(|entry| entry.state).collect();
    assert_eq!(states.iter().filter(|state| **state == State::Answered).count(), 2, "{states:?}");

    cluster.emulator.clear();
    ledgers_match(&cluster).await;
    let rows = ledger(&cluster).await.expect("ClickHouse answers");
    for (task, count, outcome) in
        [("edge", 4, "cancelled"), ("agent", 1, "cancelled"), ("kept", 1, "ok"), ("heard", 1, "ok")]
    {
        let of_task: Vec<_> = rows.iter().filter(|row| row.task_id == task).collect();
        assert_eq!(of_task.len(), count, "{task}: {of_task:#?}");
        assert!(of_task.iter().all(|row| row.outcome == outcome && row.cost <= row.bound), "{task}: {of_task:#?}");
    }
}
