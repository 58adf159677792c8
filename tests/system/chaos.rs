//! Everything at random: processes killed and stopped while agents call and submit jobs. The seed and the commit are
//! printed, and the same seed draws the same faults.
//!
//! `SOAK_SECONDS` makes it long (a new seed each time), `CHAOS_SEED` repeats one.

use std::{
    collections::BTreeMap,
    env,
    time::{Duration, SystemTime},
};

use farebox_client::{Client, Error};
use farebox_proto::{subjects::agent, v1};
use farebox_testkit::{Dice, PATIENCE, eventually};
use farebox_types::{ErrorKind, RequestId};
use rustix::process::Signal;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    books::{ledger, ledgers_match_within},
    cluster::Cluster,
    load::{Asking, Load, all_ended_in_time, ask},
};

#[derive(Clone, Copy, Debug)]
enum Act {
    KillRole,
    KillTwoRoles,
    StopRole,
    KillNats,
    StopNats,
    KillClickHouse,
    StopClickHouse,
}

const ACTS: [Act; 12] = [
    Act::KillRole,
    Act::KillRole,
    Act::KillRole,
    Act::KillRole,
    Act::KillTwoRoles,
    Act::StopRole,
    Act::StopRole,
    Act::StopRole,
    Act::KillNats,
    Act::StopNats,
    Act::KillClickHouse,
    Act::StopClickHouse,
];

const PROCESSES: [&str; 7] = ["accounting.1", "guard.1", "guard.2", "worker.1", "worker.2", "intake.1", "intake.2"];

fn seconds() -> Option<u64> {
    env::var("SOAK_SECONDS").ok().map(|text| text.parse().expect("SOAK_SECONDS is a number"))
}

fn seed(soak: bool) -> u64 {
    if let Ok(text) = env::var("CHAOS_SEED") {
        return text.parse().expect("CHAOS_SEED is a number");
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if soak { since.as_secs() } else { 7 }
}

fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    asked.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_nothing_is_lost_paid_twice_or_left_without_an_answer() {
    let soak = seconds();
    let (seed, lasting) = (seed(soak.is_some()), Duration::from_secs(soak.unwrap_or(12)));
    eprintln!("chaos: seed {seed}, commit {}, {lasting:?}", commit());
    // Some of those that are stopped stand still for longer than a lease.
    let mut builder = Cluster::builder().set("guard.max_cost_per_task", "20").set("guard.lease", "3s");
    for name in PROCESSES.iter().filter(|name| name.ends_with(".2")) {
        builder = builder.with(name);
    }
    let cluster = builder.start().await.unwrap();
    let script = farebox_emulator::Script::default().bill_on_arrival();
    cluster.emulator.script("*", script.delay(Duration::from_millis(40)).pace(Duration::from_millis(20)));
    let capped = Asking {
        models: vec!["flat"],
        task: "capped".to_owned(),
        pause: Duration::from_millis(200),
        ..Asking::default()
    };
    let live = Load::start(&cluster.client, 6, &Asking::default());
    let flat = Load::start(&cluster.client, 1, &capped);
    let jobs = Jobs::start(&cluster.client, lasting);
    live.flows(10, "before anything happens").await;

    let mut dice = Dice::new(seed);
    let until = Instant::now() + lasting;
    while Instant::now() < until {
        let act = dice.of(&ACTS);
        eprintln!("chaos: {:?} left: {act:?}", until.saturating_duration_since(Instant::now()));
        cluster.start_ended().await.unwrap();
        play(&cluster, act, &mut dice).await;
        sleep(dice.millis(100, 1500)).await;
    }
    for part in ["nats-server", "internal-clickhouse"] {
        cluster.server_is_there(part).await;
    }
    cluster.start_ended().await.unwrap();
    live.flows(20, "after the last fault").await;

    let mut counts = all_ended_in_time(&live.stop().await);
    for (kind, count) in all_ended_in_time(&flat.stop().await) {
        *counts.entry(format!("flat {kind}")).or_default() += count;
    }
    let jobs = jobs.results(&cluster.client).await;
    let matched = ledgers_match_within(&cluster, PATIENCE * 2).await;
    eprintln!("chaos: {counts:?}, {} jobs, {matched:?}", jobs.len());
    let entries = cluster.emulator.ledger().entries();
    let flat = entries.iter().filter(|entry| entry.billed && &*entry.model == "m-flat").count();
    assert!(flat <= 20, "{flat} calls were billed on a budget for 20");
    let rows = ledger(&cluster).await.unwrap();
    for (id, answer) in jobs {
        let ok = rows.iter().filter(|row| row.request_id == id.as_str() && row.outcome == "ok").count();
        assert!(ok <= 1, "job {id} was paid {ok} times where it could be known");
        // The row may say `lost`: the worker answered, and fell silent before it had told the guard.
        if let Ok(v1::LlmResponse { report: Some(report), .. }) = &answer {
            let of_answer = rows.iter().find(|row| row.call_id == report.call_id);
            assert!(of_answer.is_some_and(|row| row.request_id == id.as_str()), "job {id}: {answer:?}, {of_answer:?}");
        }
    }
}

#[expect(clippy::print_stderr, reason = "the course of a failed run is needed to repeat it")]
async fn play(cluster: &Cluster, act: Act, dice: &mut Dice) {
    match act {
        Act::KillRole => {
            let name = dice.of(&PROCESSES);
            eprintln!("chaos:   {name}");
            cluster.restart(name).await.expect("a process starts");
        }
        Act::KillTwoRoles => {
            let first = dice.of(&PROCESSES);
            let others: Vec<&str> = PROCESSES.into_iter().filter(|name| *name != first).collect();
            let second = dice.of(&others);
            eprintln!("chaos:   {first}, {second}");
            cluster.kill9(first).await;
            cluster.kill9(second).await;
            sleep(dice.millis(0, 1500)).await;
            cluster.start_role(first).await.expect("a process starts");
            cluster.start_role(second).await.expect("a process starts");
        }
        Act::StopRole => {
            let (name, long) = (dice.of(&PROCESSES), dice.millis(200, 5000));
            eprintln!("chaos:   {name} for {long:?}");
            cluster.sigstop(name);
            sleep(long).await;
            cluster.sigcont(name);
        }
        Act::KillNats => kill_server(cluster, "nats-server").await,
        Act::KillClickHouse => kill_server(cluster, "internal-clickhouse").await,
        Act::StopNats => stop_server(cluster, "nats-server", dice.millis(200, 2500)).await,
        Act::StopClickHouse => stop_server(cluster, "internal-clickhouse", dice.millis(200, 4000)).await,
    }
}

async fn kill_server(cluster: &Cluster, part: &str) {
    cluster.server_is_there(part).await;
    let killed = cluster.server_pid(part);
    cluster.signal_server(part, Signal::KILL);
    // It may take its time to end: what is done next is done to the one that comes after it.
    eventually(PATIENCE, &format!("the end of {part}"), || async { cluster.server_pid(part) != killed }).await;
}

async fn stop_server(cluster: &Cluster, part: &str, long: Duration) {
    cluster.server_is_there(part).await;
    cluster.signal_server(part, Signal::STOP);
    sleep(long).await;
    cluster.signal_server(part, Signal::CONT);
}

/// Jobs under ids of their own, submitted until there is a receipt.
struct Jobs {
    submitting: JoinSet<Vec<(RequestId, farebox_bus::Subscription)>>,
}

impl Jobs {
    fn start(client: &Client, lasting: Duration) -> Jobs {
        let (client, until) = (client.clone(), Instant::now() + lasting);
        let mut submitting = JoinSet::new();
        submitting.spawn(async move {
            let mut jobs = Vec::new();
            while Instant::now() < until {
                let id = RequestId::generate();
                let answers = client.bus().subscribe(&agent::response(&id), None).await.expect("a connection");
                let request = ask("tokens", "a job", Duration::from_secs(120));
                let request = v1::LlmRequest { request_id: id.to_string(), ..request };
                let give_up = Instant::now() + PATIENCE;
                while let Err(error) = client.job(&request).await {
                    assert!(Instant::now() < give_up, "a job is not taken: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
                jobs.push((id, answers));
                sleep(Duration::from_millis(150)).await;
            }
            jobs
        });
        Jobs { submitting }
    }

    /// The answer of every job. Whatever was heard meanwhile is that answer.
    async fn results(self, client: &Client) -> BTreeMap<RequestId, Result<v1::LlmResponse, Error>> {
        let mut results = BTreeMap::new();
        for (id, mut answers) in self.submitting.join_all().await.into_iter().flatten() {
            let answer = client.wait(&id, Duration::from_secs(60)).await;
            if let Err(error) = &answer {
                let typed = [ErrorKind::Lost, ErrorKind::Unavailable];
                assert!(typed.contains(&error.kind()), "job {id}: {error}");
            }
            let stored = answer.as_ref().ok().cloned();
            while let Some(heard) = answers.try_next() {
                let heard: v1::LlmResponse = heard.decode().expect("answers are answers");
                assert!(stored.is_none() || stored.as_ref() == Some(&heard), "two answers of job {id}: {heard:?}");
            }
            results.insert(id, answer);
        }
        results
    }
}
