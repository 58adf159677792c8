//! Workers that die or stand still with calls in flight.

use std::time::Duration;

use farebox_bus::Headers;
use farebox_emulator::{Gate, Script};
use farebox_proto::{headers, subjects::agent, v1};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{ErrorKind, RequestId};
use prost::Message as _;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    books::{ledger, ledgers_match},
    cluster::Cluster,
    load::{Asking, Ended, Load, all_ended_in_time, ask, call},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// Whole answers do not come, streams stop in the middle.
fn stuck(cluster: &Cluster) {
    let (script, never) = (Script::default().bill_on_arrival(), Gate::default());
    cluster.emulator.script("m-tokens", script.clone().hold_after(0, &never));
    cluster.emulator.script("m-claude", script.chunks(20).hold_after(10, &never));
}

async fn in_flight(cluster: &Cluster, calls: u64) {
    eventually(PATIENCE, &format!("{calls} calls are out"), || async {
        cluster.emulator.ledger().totals().open == calls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_flow_and_the_ledgers_match() {
    let cluster = Cluster::builder().start().await.unwrap();
    let load = Load::start(&cluster.client, 8, &Asking::default());
    load.flows(100, "at all").await;
    let ended = load.stop().await;
    let counts = all_ended_in_time(&ended);
    assert_eq!(counts.get("ok"), Some(&ended.len()), "{counts:?}");
    let matched = ledgers_match(&cluster).await;
    assert_eq!(matched.lost, 0);
    assert_eq!((matched.rows, matched.billed), (ended.len() + 1, ended.len() + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_with_fifty_calls_in_flight_leaves_no_caller_without_an_answer() {
    let cluster = Cluster::builder().start().await.unwrap();
    stuck(&cluster);
    let mut callers: JoinSet<Ended> = JoinSet::new();
    for number in 0..50 {
        let (client, stream) = (cluster.client.clone(), number % 2 == 1);
        let model = if stream { "claude" } else { "tokens" };
        callers.spawn(async move { call(&client, ask(model, "slowly", DEADLINE), stream, DEADLINE).await });
    }
    let mut jobs = Vec::new();
    for _ in 0..5 {
        let receipt = cluster.client.job(&ask("tokens", "a job", DEADLINE * 2)).await.unwrap();
        let id = RequestId::parse(&receipt.request_id).unwrap();
        let answers = cluster.client.bus().subscribe(&agent::response(&id), None).await.unwrap();
        jobs.push((id, answers));
    }
    in_flight(&cluster, 55).await;
    let killed = Instant::now();
    cluster.kill9("worker.1").await;
    let ended = callers.join_all().await;
    let last = killed.elapsed();
    assert_eq!(all_ended_in_time(&ended)["lost"], 50);
    assert!(last < Duration::from_secs(12), "told only after {last:?}");

    cluster.emulator.clear();
    cluster.start_role("worker.2").await.unwrap();
    cluster.ready("worker.2").await;
    let again = call(&cluster.client, ask("tokens", "again", DEADLINE), false, DEADLINE).await;
    assert!(again.result.is_ok(), "{again:?}");
    for (id, _) in &jobs {
        cluster.client.wait(id, DEADLINE).await.unwrap();
    }
    let matched = ledgers_match(&cluster).await;
    assert_eq!(matched.lost, 55);
    let rows = ledger(&cluster).await.unwrap();
    for (id, mut answers) in jobs {
        let mut runs: Vec<&str> =
            rows.iter().filter(|row| row.request_id == id.as_str()).map(|row| row.outcome.as_str()).collect();
        runs.sort_unstable();
        assert_eq!(runs, ["lost", "ok"], "a job runs once more, and no more");
        let mut finals = 0;
        while answers.try_next().is_some() {
            finals += 1;
        }
        assert_eq!(finals, 1, "one answer of job {id}");
    }
}

/// What arrived in a caller's own inbox.
struct Heard {
    request: v1::LlmRequest,
    inbox: farebox_bus::Inbox,
    /// In chunks.
    text: String,
    finals: Vec<Option<String>>,
    after_the_final: usize,
}

impl Heard {
    async fn ask(cluster: &Cluster, model: &str, stream: bool) -> Heard {
        let request = v1::LlmRequest { stream, ..ask(model, "slowly", DEADLINE) };
        let inbox = cluster.client.bus().inbox();
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
        let body = request.encode_to_vec().into();
        cluster.client.bus().publish_with_reply(agent::REQUEST, &inbox.subject(), head, body).await.expect("sent");
        Heard { request, inbox, text: String::new(), finals: Vec::new(), after_the_final: 0 }
    }

    fn listen(&mut self) {
        while let Some(delivery) = self.inbox.try_next() {
            if delivery.headers.get(headers::TYPE) == Some("final") {
                self.finals.push(delivery.headers.get(headers::ERROR).map(str::to_owned));
                continue;
            }
            self.after_the_final += usize::from(!self.finals.is_empty());
            let chunk: v1::LlmChunk = delivery.decode().expect("a chunk");
            if let Some(v1::llm_chunk::Piece::Raw(raw)) = chunk.piece {
                let event: Value = serde_json::from_slice(&raw).expect("JSON");
                self.text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            }
        }
    }
}

/// What the provider says before it falls silent: a letter in each event.
const SAID: &str = "abc";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stood_still_past_its_lease_says_nothing_more() {
    let cluster = Cluster::builder().start().await.unwrap();
    // It is stopped in a silence of the provider: what a worker has just handed to its connection, it cannot take back.
    let gate = Gate::default();
    let script = Script::text(format!("{SAID}defgh")).chunks(SAID.len() + 5).bill_on_arrival();
    cluster.emulator.script("m-tokens", script.clone().hold_after(0, &gate));
    // The first two events say only that it begins.
    cluster.emulator.script("m-claude", script.hold_after(2 + SAID.len(), &gate));
    let mut callers = Vec::new();
    for number in 0..20 {
        let stream = number % 2 == 1;
        callers.push(Heard::ask(&cluster, if stream { "claude" } else { "tokens" }, stream).await);
    }
    in_flight(&cluster, 20).await;
    eventually(DEADLINE, "all that was said is heard", || {
        callers.iter_mut().for_each(Heard::listen);
        let heard = callers.iter().all(|caller| !caller.request.stream || caller.text == SAID);
        async move { heard }
    })
    .await;
    cluster.sigstop("worker.1");
    // The rest waits in the connections of the worker.
    gate.open();
    eventually(DEADLINE, "the provider has said everything", || async { cluster.emulator.ledger().totals().open == 0 })
        .await;
    eventually(DEADLINE, "every caller is told", || {
        callers.iter_mut().for_each(Heard::listen);
        let told = callers.iter().all(|caller| !caller.finals.is_empty());
        async move { told }
    })
    .await;
    cluster.emulator.clear();
    cluster.sigcont("worker.1");
    // The only worker answers again, on the connection on which it would have said more.
    let again = call(&cluster.client, ask("tokens", "again", DEADLINE), false, DEADLINE).await;
    assert!(again.result.is_ok(), "{again:?}");
    let matched = ledgers_match(&cluster).await;
    assert_eq!(matched.lost, 20);
    for caller in &mut callers {
        caller.listen();
        // A guard that has just begun to lead tells it once more: the first one counts.
        let lost = |error: &Option<String>| error.as_deref() == Some(ErrorKind::Lost.as_str());
        assert!(caller.finals.iter().all(lost), "{:?}: {:?}", caller.request, caller.finals);
        assert_eq!(caller.after_the_final, 0, "{:?}", caller.request);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_shuts_down_gives_its_calls_back_and_its_jobs_run_again() {
    let cluster = Cluster::builder().set("worker.drain_timeout", "1s").start().await.unwrap();
    stuck(&cluster);
    let client = cluster.client.clone();
    let mut live: JoinSet<Ended> = JoinSet::new();
    live.spawn(async move { call(&client, ask("tokens", "slowly", DEADLINE), false, DEADLINE).await });
    let receipt = cluster.client.job(&ask("tokens", "a job", DEADLINE * 2)).await.unwrap();
    let job = RequestId::parse(&receipt.request_id).unwrap();
    in_flight(&cluster, 2).await;
    cluster.start_role("worker.2").await.unwrap();
    cluster.ready("worker.2").await;
    cluster.emulator.clear();
    cluster.sigterm("worker.1");
    let told = live.join_next().await.unwrap().unwrap();
    assert_eq!(told.result.unwrap_err().kind(), ErrorKind::Unavailable, "a retry makes sense");
    cluster.client.wait(&job, DEADLINE).await.unwrap();
    eventually(PATIENCE, "it was given back, ran again and was billed twice at most", || async {
        let rows = ledger(&cluster).await.unwrap();
        let mut runs: Vec<&str> =
            rows.iter().filter(|row| row.request_id == job.as_str()).map(|row| row.outcome.as_str()).collect();
        runs.sort_unstable();
        runs == ["error", "ok"]
    })
    .await;
}
