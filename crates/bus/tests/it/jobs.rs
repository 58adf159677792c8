use std::time::{Duration, Instant};

use bytes::Bytes;
use farebox_bus::{Bus, ConsumerSpec, Fence, Headers, Retention, StreamSpec};

use crate::server::Server;

const LONG: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;
const ANY: usize = usize::MAX;

async fn fill(bus: &Bus, count: usize) {
    for i in 0..count {
        let subject = format!("job.{i}");
        bus.store(&subject, Headers::new(), Fence::none(), Bytes::from(i.to_string()), LONG).await.unwrap();
    }
}

async fn queue(bus: &Bus) {
    let spec = StreamSpec { retention: Retention::WorkQueue, ..StreamSpec::new("JOBS", &["job.>"], 64 * MIB) };
    bus.ensure_stream(&spec).await.unwrap();
}

#[tokio::test]
async fn a_job_that_is_not_acknowledged_comes_again() {
    let server = Server::start().await;
    let bus = server.bus().await;
    queue(&bus).await;
    fill(&bus, 1).await;
    let spec = ConsumerSpec { ack_wait: Duration::from_secs(3), ..ConsumerSpec::default() };
    let mut puller = bus.consumer("JOBS", "workers", &spec).await.unwrap();
    let first = puller.next(LONG).await.unwrap();
    assert_eq!((first.delivered, first.sequence, first.subject.as_str()), (1, 1, "job.0"));
    let second = puller.next(LONG).await.unwrap();
    assert_eq!((second.delivered, second.sequence), (2, 1));
    second.nak(Duration::from_millis(10)).await.unwrap();
    let third = puller.next(LONG).await.unwrap();
    assert_eq!(third.delivered, 3);
    // Kept alive beyond its time, nobody else gets it.
    for _ in 0..4 {
        third.progress().await.unwrap();
        assert!(puller.next(Duration::from_secs(1)).await.is_none());
    }
    third.double_ack(LONG).await.unwrap();
    assert_eq!(bus.stream_info("JOBS").await.unwrap().messages, 0);
    assert_eq!(puller.info().await.unwrap().ack_pending, 0);
}

#[tokio::test]
async fn a_batch_waits_for_its_time_and_no_longer() {
    let server = Server::start().await;
    let bus = server.bus().await;
    queue(&bus).await;
    let mut puller = bus.consumer("JOBS", "workers", &ConsumerSpec::default()).await.unwrap();
    let began = Instant::now();
    assert!(puller.batch(10, ANY, Duration::from_millis(300)).await.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(290) && began.elapsed() < Duration::from_secs(5));
    fill(&bus, 25).await;
    let sizes = [
        puller.batch(10, ANY, LONG).await.len(),
        puller.batch(10, ANY, LONG).await.len(),
        puller.batch(10, ANY, Duration::from_millis(300)).await.len(),
    ];
    assert_eq!(sizes, [10, 10, 5]);
}

#[tokio::test]
async fn a_message_above_the_byte_limit_of_a_batch_is_delivered_all_the_same() {
    let server = Server::start().await;
    let bus = server.bus().await;
    queue(&bus).await;
    bus.store("job.big", Headers::new(), Fence::none(), Bytes::from(vec![0; 10_000]), LONG).await.unwrap();
    let mut puller = bus.consumer("JOBS", "workers", &ConsumerSpec::default()).await.unwrap();
    let got = puller.batch(10, 1_000, Duration::from_secs(4)).await;
    assert_eq!(got.iter().map(|j| j.payload.len()).collect::<Vec<_>>(), [10_000]);
}

#[tokio::test]
async fn a_batch_that_is_given_up_loses_nothing() {
    let server = Server::start().await;
    let bus = server.bus().await;
    queue(&bus).await;
    let mut puller = bus.consumer("JOBS", "workers", &ConsumerSpec::default()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), puller.batch(3, ANY, LONG)).await.is_err());
    fill(&bus, 2).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), puller.batch(3, ANY, LONG)).await.is_err());
    bus.store("job.last", Headers::new(), Fence::none(), Bytes::new(), LONG).await.unwrap();
    let got = puller.batch(3, ANY, LONG).await;
    assert_eq!(got.iter().map(|j| (j.sequence, j.delivered)).collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
}

#[tokio::test]
async fn a_consumer_that_is_asked_for_again_goes_on_where_it_stands() {
    let server = Server::start().await;
    let bus = server.bus().await;
    bus.ensure_stream(&StreamSpec::new("CALLS", &["job.>"], 64 * MIB)).await.unwrap();
    fill(&bus, 100).await;
    let spec = ConsumerSpec { max_ack_pending: 20_000, ..ConsumerSpec::default() };
    let mut puller = bus.consumer("CALLS", "accounting", &spec).await.unwrap();
    for pulled in puller.batch(60, ANY, LONG).await {
        pulled.double_ack(LONG).await.unwrap();
    }
    let info = puller.info().await.unwrap();
    assert_eq!((info.ack_floor, info.ack_pending, info.pending), (60, 0, 40));
    let changed = ConsumerSpec { max_ack_pending: 10, ..spec };
    let mut puller = bus.consumer("CALLS", "accounting", &changed).await.unwrap();
    let got = puller.batch(10, ANY, LONG).await;
    assert_eq!(got.iter().map(|pulled| pulled.sequence).collect::<Vec<_>>(), (61..=70).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_outlives_a_killed_server_and_its_own_deletion() {
    let server = Server::start().await;
    let bus = server.bus().await;
    queue(&bus).await;
    fill(&bus, 1).await;
    let mut puller = bus.consumer("JOBS", "workers", &ConsumerSpec::default()).await.unwrap();
    puller.next(LONG).await.unwrap().double_ack(LONG).await.unwrap();

    let waiting = puller.next(Duration::from_secs(60));
    let restarting = async {
        server.kill().await;
        server.restart().await;
        loop {
            let stored = bus.store("job.x", Headers::new(), Fence::id("x"), Bytes::new(), Duration::from_secs(1)).await;
            if stored.is_ok() {
                break;
            }
        }
    };
    let (got, ()) = tokio::join!(waiting, restarting);
    let got = got.unwrap();
    assert_eq!(got.subject, "job.x");
    got.double_ack(LONG).await.unwrap();

    bus.delete_consumer("JOBS", "workers").await.unwrap();
    fill(&bus, 1).await;
    assert_eq!(puller.next(LONG).await.unwrap().subject, "job.0");
    assert!(bus.counts().consumer_repairs >= 1);
}
