use std::time::{Duration, Instant};

use bytes::Bytes;
use farebox_bus::{Bucket, BucketSpec, Bus, LeaseOptions, StoreError, topology};
use farebox_proto::subjects::Tenancy;
use farebox_testkit::{PATIENCE, eventually};

use crate::server::Server;

/// Longer than a busy machine stands still.
const TTL: Duration = Duration::from_secs(3);

async fn bucket(bus: &Bus) -> Bucket {
    let spec = BucketSpec { key_ttl: Some(Duration::from_secs(60)), ..BucketSpec::new("b", 1024 * 1024) };
    bus.ensure_bucket(&spec).await.unwrap()
}

fn options() -> LeaseOptions {
    LeaseOptions { ttl: TTL, poll: Duration::from_millis(50) }
}

#[tokio::test]
async fn a_bucket_keeps_the_newest_value_and_refuses_stale_writers() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let bucket = bucket(&bus).await;
    assert_eq!(bucket.get("k").await.unwrap(), None);
    let first = bucket.put("k", Bytes::from_static(b"1")).await.unwrap();
    let second = bucket.update("k", Bytes::from_static(b"2"), first).await.unwrap();
    let stale = bucket.update("k", Bytes::from_static(b"3"), first).await.unwrap_err();
    assert!(matches!(stale, StoreError::WrongLastSequence { .. }));
    assert_eq!(bucket.get("k").await.unwrap().unwrap(), "2");
    let mut watch = bucket.watch().await.unwrap();
    let seen = watch.next().await;
    assert_eq!((seen.key.as_str(), seen.value.unwrap().as_ref(), seen.revision), ("k", b"2".as_slice(), second));
    bucket.delete("k").await.unwrap();
    assert_eq!(watch.next().await.value, None);
    assert_eq!(bucket.get("k").await.unwrap(), None);
    assert!(bucket.entry("k").await.unwrap().unwrap().revision > second);
}

#[tokio::test]
async fn a_bucket_is_changed_only_by_who_knew_all_of_it() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let spec = BucketSpec { history: 4, ..BucketSpec::new("whole", 1024 * 1024) };
    let bucket = bus.ensure_bucket(&spec).await.unwrap();
    assert_eq!((bucket.newest().await.unwrap(), bucket.entries().await.unwrap()), (0, (Vec::new(), 0)));
    let first = bucket.put_unchanged("a.1", Bytes::from_static(b"1"), 0).await.unwrap();
    let second = bucket.put_unchanged("b", Bytes::from_static(b"2"), first).await.unwrap();
    // Another key, but not what was read.
    let late = bucket.put_unchanged("c", Bytes::from_static(b"3"), first).await.unwrap_err();
    assert!(matches!(late, StoreError::WrongLastSequence { .. }), "{late}");
    let late = bucket.delete_unchanged("b", Bytes::new(), first).await.unwrap_err();
    assert!(matches!(late, StoreError::WrongLastSequence { .. }), "{late}");
    let third = bucket.delete_unchanged("b", Bytes::from_static(b"why"), second).await.unwrap();
    let (entries, revision) = bucket.entries().await.unwrap();
    let seen: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.value.as_deref(), e.revision)).collect();
    assert_eq!(seen, [("a.1", Some(b"1".as_slice()), first), ("b", None, third)]);
    assert_eq!((revision, bucket.newest().await.unwrap()), (third, third));
}

#[tokio::test]
async fn what_is_written_to_the_policies_is_copied_to_the_audit() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let options = topology::StorageOptions::default();
    topology::ensure_topology(&bus, Tenancy::Projects, &options).await.unwrap();
    topology::ensure_topology(&bus, Tenancy::Projects, &options).await.unwrap();
    let bucket = bus.bucket(topology::POLICY);
    let mut revision = 0;
    for value in 0..10_u8 {
        revision = bucket.put_unchanged("budget.b", Bytes::from(vec![value]), revision).await.unwrap();
    }
    bucket.delete_unchanged("budget.b", Bytes::from_static(b"by whom"), revision).await.unwrap();
    let audit =
        async || bus.read_from(topology::AUDIT, "$KV.farebox-policy.>", 1).await.unwrap().collect().await.unwrap();
    eventually(PATIENCE, "every change has its record", async || audit().await.len() == 11).await;
    let records = audit().await;
    assert!(records.iter().take(10).zip(0..).all(|(record, value): (_, u8)| record.payload == vec![value]));
    assert_eq!(records[10].payload, "by whom");
}

#[tokio::test]
async fn a_lease_is_kept_and_handed_over_when_released() {
    let server = Server::start().await;
    let (one, two) = (server.bus().await, server.bus().await);
    let (bucket_one, bucket_two) = (bucket(&one).await, bucket(&two).await);
    let lease = bucket_one.acquire("guard", "one", &options()).await;
    // Longer than its time: it is renewed, and the other one gets nothing.
    let wanted = options();
    let mut waiting = std::pin::pin!(bucket_two.acquire("guard", "two", &wanted));
    assert!(tokio::time::timeout(TTL * 3 / 2, &mut waiting).await.is_err());
    assert!(lease.is_held());
    lease.release().await;
    let began = Instant::now();
    let second = waiting.await;
    assert!(began.elapsed() < TTL * 9 / 10, "released, not expired: {:?}", began.elapsed());
    assert!(second.is_held());
    assert_eq!(bucket_one.get("guard").await.unwrap().unwrap(), "two");
}

#[tokio::test]
async fn a_lease_whose_holder_vanished_is_taken_over_again_and_again() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let bucket = bucket(&bus).await;
    // Three in a row: the time to live must hold also for a key that had expired before.
    for round in 0..3 {
        let (server_options, holder) = (server.options(), format!("gone-{round}"));
        let process = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let bus = Bus::connect(&server_options).await.unwrap();
                let lease = bus.bucket("b").acquire("guard", &holder, &options()).await;
                // As a killed process leaves it: neither renewed (its runtime ends) nor given back.
                std::mem::forget(lease);
            });
        });
        process.join().unwrap();
        let began = Instant::now();
        let lease = bucket.acquire("guard", &format!("next-{round}"), &options()).await;
        assert!(began.elapsed() < TTL * 3, "{:?}", began.elapsed());
        std::mem::drop(lease);
    }
}

#[tokio::test]
async fn a_lease_that_another_took_is_lost() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let bucket = bucket(&bus).await;
    let lease = bucket.acquire("guard", "one", &options()).await;
    bucket.put("guard", Bytes::from_static(b"two")).await.unwrap();
    tokio::time::timeout(PATIENCE, lease.lost()).await.unwrap();
    assert!(!lease.is_held());
    drop(lease);
    bus.flush().await.unwrap();
    assert_eq!(bucket.get("guard").await.unwrap().unwrap(), "two", "a lost lease is not given back");
}

#[tokio::test]
async fn a_lease_is_lost_by_our_own_clock_when_the_server_is_gone() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let bucket = bucket(&bus).await;
    let lease = bucket.acquire("guard", "one", &options()).await;
    server.kill().await;
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, lease.lost()).await.unwrap();
    assert!(began.elapsed() < TTL * 2, "{:?}", began.elapsed());
}
