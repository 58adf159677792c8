//! Every other process killed under load: intake, guard, accounting, the servers, all at once.

use std::time::Duration;

use farebox_testkit::{Matched, PATIENCE, eventually};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    books::{ledger, ledgers_match},
    cluster::{Cluster, EACH, LEADS, LEADS_NO_MORE},
    load::{Asking, ENDS, Load, all_ended_in_time},
};

/// What one task may cost, in dollars: a call of the model `flat` costs one.
const LIMIT: usize = 20;

fn capped() -> Asking {
    Asking { models: vec!["flat"], task: "capped".to_owned(), pause: Duration::from_millis(100), ..Asking::default() }
}

/// Everybody was answered, the ledgers match, and the task's budget held.
async fn verify(cluster: &Cluster, loads: [Load; 2]) -> Matched {
    verify_among(&ENDS, cluster, loads).await
}

/// The same, where calls end in no other way than these.
async fn verify_among(ends: &[&str], cluster: &Cluster, loads: [Load; 2]) -> Matched {
    for load in loads {
        let ended = load.stop().await;
        let counts = all_ended_in_time(&ended);
        assert!(counts.keys().all(|kind| ends.contains(&kind.as_str())), "{counts:?}");
    }
    let matched = ledgers_match(cluster).await;
    let flat = cluster.emulator.ledger().entries();
    let flat = flat.iter().filter(|entry| entry.billed && &*entry.model == "m-flat").count();
    assert!(flat <= LIMIT, "{flat} calls were billed on a budget for {LIMIT}");
    let rows = ledger(cluster).await.expect("ClickHouse answers");
    let spent = rows.iter().filter(|row| row.task_id == "capped").map(|row| row.cost).sum::<farebox_types::Money>();
    assert!(spent <= farebox_types::Money::usd(20), "{spent} spent of 20");
    matched
}

async fn start() -> (Cluster, [Load; 2]) {
    let cluster = Cluster::builder().set("guard.max_cost_per_task", "20").start().await.expect("farebox starts");
    let loads = [Load::start(&cluster.client, 6, &Asking::default()), Load::start(&cluster.client, 2, &capped())];
    loads[0].flows(20, "before anything happens").await;
    (cluster, loads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intake_guard_and_accounting_killed_one_after_the_other_under_load() {
    let (cluster, loads) = start().await;
    for name in ["intake.1", "guard.1", "accounting.1"] {
        let killed = Instant::now();
        cluster.restart(name).await.unwrap();
        cluster.ready(name).await;
        loads[0].flows(20, &format!("after the kill of {name}")).await;
        let down = killed.elapsed();
        assert!(down < PATIENCE / 2, "calls flow again {down:?} after the kill of {name}");
    }
    let matched = verify(&cluster, loads).await;
    assert!(matched.rows > 80, "{matched:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_leads_a_second_time_stores_what_it_grants() {
    let cluster = Cluster::builder().with("guard.2").set("guard.max_cost_per_task", "20").start().await.unwrap();
    let loads = [Load::start(&cluster.client, 6, &Asking::default()), Load::start(&cluster.client, 2, &capped())];
    loads[0].flows(20, "before anything happens").await;
    let first = cluster.leader(["guard.1", "guard.2"]).await;
    let other = if first == "guard.1" { "guard.2" } else { "guard.1" };
    let led = |name: &str| cluster.log(name).matches(LEADS).count();
    let before = led(other);
    cluster.sigstop(first);
    eventually(PATIENCE, "the other guard leads", || async { led(other) > before }).await;
    loads[0].flows(20, "under the other guard").await;
    cluster.sigcont(first);
    eventually(PATIENCE, "the first guard knows that it leads no more", || async {
        cluster.log(first).rfind(LEADS_NO_MORE) > cluster.log(first).rfind(LEADS)
    })
    .await;
    let before = led(first);
    cluster.kill9(other).await;
    loads[0].flows(40, "under the first guard again").await;
    assert!(led(first) > before, "it leads once more");
    verify(&cluster, loads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_killed_under_load_and_then_everything_at_once() {
    let (cluster, loads) = start().await;
    let before = cluster.server_pid("nats-server");
    cluster.signal_server("nats-server", Signal::KILL);
    eventually(PATIENCE, "there is another nats-server", || async {
        let now = cluster.server_pid("nats-server");
        now.is_some() && now != before
    })
    .await;
    loads[0].flows(20, "after the kill of NATS").await;

    for name in EACH {
        cluster.kill9(name).await;
    }
    cluster.kill9_servers().await;
    cluster.start_servers().await.unwrap();
    for name in EACH {
        cluster.start_role(name).await.unwrap();
    }
    loads[0].flows(20, "after the kill of everything").await;
    verify(&cluster, loads).await;
}

/// How long ClickHouse is away: longer in a soak.
fn away() -> Duration {
    if std::env::var_os("SOAK_SECONDS").is_some() { Duration::from_secs(30) } else { Duration::from_secs(6) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_without_clickhouse_and_no_row_is_missing_afterwards() {
    let (cluster, loads) = start().await;
    cluster.signal_server("internal-clickhouse", Signal::STOP);
    let until = Instant::now() + away();
    // It stands still for as long as that takes, so none of these waits for it.
    loads[0].flows(100, "without ClickHouse").await;
    while Instant::now() < until {
        loads[0].flows(10, "without ClickHouse for long").await;
    }
    cluster.signal_server("internal-clickhouse", Signal::CONT);
    loads[0].flows(20, "with ClickHouse again").await;

    let before = cluster.server_pid("internal-clickhouse");
    cluster.signal_server("internal-clickhouse", Signal::KILL);
    loads[0].flows(20, "after the kill of ClickHouse").await;
    eventually(PATIENCE, "there is another ClickHouse", || async {
        let now = cluster.server_pid("internal-clickhouse");
        now.is_some() && now != before
    })
    .await;
    loads[0].flows(20, "with another ClickHouse").await;
    // ClickHouse is none of a call's business.
    let matched = verify_among(&["ok", "over_budget"], &cluster, loads).await;
    assert_eq!(matched.lost, 0);
}
