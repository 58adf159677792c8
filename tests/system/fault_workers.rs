//! Workers that die or stand still with calls in flight.

use std::time::Duration;

use crate::{
    books::ledgers_match,
    cluster::Cluster,
    load::{Asking, Load, all_ended_in_time},
};

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
    assert_eq!(matched.rows, ended.len() + 1);
}
