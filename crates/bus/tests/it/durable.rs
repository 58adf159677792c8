use std::time::Duration;

use bytes::Bytes;
use farebox_bus::{
    Bus, Fence, Headers, ObjectError, Options, Retention, StoreError, StreamError, StreamSpec, topology,
    topology::{StorageOptions, ensure_topology},
};
use farebox_proto::subjects::Tenancy;
use tokio::time::timeout;

use crate::server::Server;

const LONG: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;

async fn put(bus: &Bus, subject: &str, fence: Fence, text: &str) -> Result<u64, StoreError> {
    let stored = bus.store(subject, Headers::new(), fence, Bytes::from(text.to_owned()), LONG).await?;
    Ok(stored.sequence)
}

#[tokio::test]
async fn the_second_writer_behind_a_fence_is_refused() {
    let server = Server::start().await;
    let bus = server.bus().await;
    bus.ensure_stream(&StreamSpec::new("S", &["s.>"], MIB)).await.unwrap();
    let first = put(&bus, "s.a", Fence::after_subject_seq(0), "1").await.unwrap();
    put(&bus, "s.b", Fence::none(), "other subject").await.unwrap();
    let second = put(&bus, "s.a", Fence::after_subject_seq(first), "2").await.unwrap();
    for stale in [0, first] {
        let error = put(&bus, "s.a", Fence::after_subject_seq(stale), "zombie").await.unwrap_err();
        assert!(matches!(error, StoreError::WrongLastSequence { .. }), "{error}");
        assert!(!error.is_unclear());
    }
    let last = bus.last_by_subject("S", "s.a").await.unwrap().unwrap();
    assert_eq!((last.sequence, last.payload.as_ref()), (second, b"2".as_slice()));
    assert_eq!(bus.last_by_subject("S", "s.none").await.unwrap(), None);
    let fence = Fence { expected_last_seq: Some(1), ..Fence::none() };
    assert!(matches!(put(&bus, "s.c", fence, "x").await, Err(StoreError::WrongLastSequence { .. })));
}

#[tokio::test]
async fn a_repeated_id_is_stored_once() {
    let server = Server::start().await;
    let bus = server.bus().await;
    bus.ensure_stream(&StreamSpec::new("S", &["s.>"], MIB)).await.unwrap();
    let first = bus.store("s.a", Headers::new(), Fence::id("call-1"), Bytes::new(), LONG).await.unwrap();
    let again = bus.store("s.a", Headers::new(), Fence::id("call-1"), Bytes::new(), LONG).await.unwrap();
    assert!(!first.duplicate && again.duplicate);
    assert_eq!(first.sequence, again.sequence);
    assert_eq!(bus.stream_info("S").await.unwrap().messages, 1);
}

#[tokio::test]
async fn errors_of_streams_are_told_apart() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let error = put(&bus, "nowhere", Fence::none(), "x").await.unwrap_err();
    assert_eq!(error, StoreError::NoStream { subject: "nowhere".to_owned() });
    let gone = StreamError::NotFound { stream: "NONE".to_owned() };
    assert_eq!(bus.stream_info("NONE").await.unwrap_err(), gone);
    assert_eq!(bus.get("NONE", 1).await.unwrap_err(), gone);
    let full = StreamSpec {
        max_messages: Some(1),
        discard: farebox_bus::Discard::New,
        ..StreamSpec::new("FULL", &["full.>"], MIB)
    };
    bus.ensure_stream(&full).await.unwrap();
    put(&bus, "full.a", Fence::none(), "1").await.unwrap();
    let error = put(&bus, "full.b", Fence::none(), "2").await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_is_changed_where_it_can_be_and_refused_where_not() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let spec = StreamSpec::new("S", &["s.>"], MIB);
    bus.ensure_stream(&spec).await.unwrap();
    put(&bus, "s.a", Fence::none(), "kept").await.unwrap();
    let before = bus.stream_info("S").await.unwrap();
    let larger = StreamSpec { max_age: Some(LONG), ..StreamSpec::new("S", &["s.>", "t.>"], 2 * MIB) };
    bus.ensure_stream(&larger).await.unwrap();
    bus.ensure_stream(&larger).await.unwrap();
    put(&bus, "t.a", Fence::none(), "new subject").await.unwrap();
    let after = bus.stream_info("S").await.unwrap();
    assert_eq!((after.messages, after.incarnation), (2, before.incarnation));
    let queue = StreamSpec { retention: Retention::WorkQueue, ..spec.clone() };
    let error = bus.ensure_stream(&queue).await.unwrap_err();
    assert!(matches!(&error, StreamError::Incompatible { reason, .. } if reason.contains("retention")), "{error}");
    let overlap = bus.ensure_stream(&StreamSpec::new("OTHER", &["s.a"], MIB)).await.unwrap_err();
    assert!(matches!(overlap, StreamError::Refused { .. }), "{overlap}");

    bus.delete_stream("S").await.unwrap();
    bus.ensure_stream(&spec).await.unwrap();
    assert!(bus.stream_info("S").await.unwrap().incarnation > before.incarnation);
}

#[tokio::test]
async fn a_stream_is_read_back_whole_in_order_and_filtered() {
    let server = Server::start().await;
    let bus = Bus::connect(&Options { replay_batch: 100, ..server.options() }).await.unwrap();
    bus.ensure_stream(&StreamSpec::new("S", &["s.>"], 64 * MIB)).await.unwrap();
    for i in 0..1_050 {
        let subject = if i % 3 == 0 { "s.other" } else { "s.mine" };
        put(&bus, subject, Fence::none(), &i.to_string()).await.unwrap();
    }
    let wanted: Vec<String> = (0..1_050).filter(|i| i % 3 != 0).map(|i| i.to_string()).collect();
    let read = bus.read_from("S", "s.mine", 0).await.unwrap().collect().await.unwrap();
    let texts: Vec<String> = read.iter().map(|m| String::from_utf8(m.payload.to_vec()).unwrap()).collect();
    assert_eq!(texts, wanted);
    assert!(read.iter().all(|m| m.subject == "s.mine" && m.time.millis() > 1_600_000_000_000));

    let tail = bus.read_from("S", "s.>", 1_041).await.unwrap().collect().await.unwrap();
    assert_eq!(tail.iter().map(|m| m.sequence).collect::<Vec<_>>(), (1_041..=1_050).collect::<Vec<_>>());
    assert!(bus.read_from("S", "s.mine", 9_999).await.unwrap().next().await.unwrap().is_none());
    assert!(bus.read_from("S", "s.none", 0).await.unwrap().next().await.unwrap().is_none());

    let removed = bus.purge_up_to("S", "s.mine", 1_000).await.unwrap();
    assert_eq!(removed as usize, read.iter().filter(|m| m.sequence <= 1_000).count());
    assert!(bus.delete("S", 1_050).await.unwrap());
    assert!(!bus.delete("S", 1_050).await.unwrap());
    assert_eq!(bus.get("S", 1_050).await.unwrap(), None);
    let left = bus.read_from("S", "s.mine", 0).await.unwrap().collect().await.unwrap();
    let left: Vec<u64> = left.iter().map(|m| m.sequence).collect();
    let expected: Vec<u64> = read.iter().map(|m| m.sequence).filter(|s| *s > 1_000 && *s != 1_050).collect();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn what_was_stored_outlives_a_killed_server() {
    let server = Server::start().await;
    let bus = server.bus().await;
    bus.ensure_stream(&StreamSpec::new("S", &["s.>"], MIB)).await.unwrap();
    for i in 0..100 {
        put(&bus, "s.a", Fence::after_subject_seq(i), &i.to_string()).await.unwrap();
    }
    let before = bus.stream_info("S").await.unwrap();
    server.kill().await;
    server.restart().await;
    let sequence = loop {
        let fence = Fence::after_subject_seq(100).with_id("the one");
        match bus.store("s.a", Headers::new(), fence, Bytes::new(), Duration::from_secs(1)).await {
            Ok(stored) => break stored.sequence,
            Err(StoreError::WrongLastSequence { .. }) => panic!("the fence moved"),
            Err(_) => {}
        }
    };
    assert_eq!(sequence, 101);
    let after = bus.stream_info("S").await.unwrap();
    assert_eq!((after.messages, after.incarnation), (101, before.incarnation));
}

#[tokio::test]
async fn a_large_body_goes_through_the_object_store() {
    let server = Server::start().await;
    let bus = server.bus().await;
    ensure_topology(&bus, Tenancy::Single, &StorageOptions::default()).await.unwrap();
    let body: Bytes = (0..5_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    assert!(body.len() > bus.max_payload());
    let object = bus.put_object(topology::BODIES, body.clone(), LONG).await.unwrap();
    assert_eq!(object.size, 5_000_000);
    assert_eq!(bus.get_object(&object, LONG).await.unwrap(), body);
    let mut wrong = object.clone();
    wrong.digest = "00".repeat(32);
    assert!(matches!(bus.get_object(&wrong, LONG).await, Err(ObjectError::Corrupt { .. })));
    bus.delete_object(&object).await.unwrap();
    assert!(matches!(bus.get_object(&object, LONG).await, Err(ObjectError::Gone { .. })));
    let small = Bus::connect(&Options { object_max: farebox_types::ByteSize(10), ..server.options() }).await.unwrap();
    assert!(matches!(small.put_object(topology::BODIES, body, LONG).await, Err(ObjectError::TooLarge { .. })));
}

/// One body at a time.
async fn narrow(server: &Server) -> Bus {
    let bus = Bus::connect(&Options { object_transfers: 1, ..server.options() }).await.unwrap();
    ensure_topology(&bus, Tenancy::Single, &StorageOptions::default()).await.unwrap();
    bus
}

fn large() -> Bytes {
    vec![7; 5_000_000].into()
}

#[tokio::test]
async fn large_bodies_take_turns() {
    let server = Server::start().await;
    let (bus, watcher) = (narrow(&server).await, server.bus().await);
    let mut parts = watcher.subscribe(&format!("$O.{}.C.>", topology::BODIES), None).await.unwrap();
    watcher.flush().await.unwrap();
    let put = || bus.put_object(topology::BODIES, large(), LONG);
    let (first, second, third) = tokio::join!(put(), put(), put());
    let objects = [first.unwrap(), second.unwrap(), third.unwrap()];
    let mut seen = Vec::new();
    for _ in 0..objects.len() * large().len().div_ceil(512 * 1024) {
        seen.push(timeout(LONG, parts.next()).await.unwrap().unwrap().subject);
    }
    seen.dedup();
    assert_eq!(seen.len(), objects.len(), "{seen:?}");
    for object in objects {
        assert_eq!(bus.get_object(&object, LONG).await.unwrap(), large());
    }
}

#[tokio::test]
async fn a_body_waits_for_its_turn_no_longer_than_it_may() {
    let server = Server::start().await;
    let bus = narrow(&server).await;
    let object = bus.put_object(topology::BODIES, large(), LONG).await.unwrap();
    server.pause().await;
    let late = async {
        let soon = Duration::from_millis(50);
        let errors = [
            bus.put_object(topology::BODIES, large(), soon).await.unwrap_err(),
            bus.get_object(&object, soon).await.unwrap_err(),
        ];
        assert_eq!(errors, [ObjectError::Late { after: soon }, ObjectError::Late { after: soon }]);
        server.go_on_after(Duration::ZERO).await;
    };
    let (first, ()) = tokio::join!(bus.put_object(topology::BODIES, large(), LONG), late);
    first.unwrap();
    assert_eq!(bus.get_object(&object, LONG).await.unwrap(), large());
}

#[tokio::test]
async fn the_topology_is_made_once_and_found_again() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let options = StorageOptions::default();
    for tenancy in [Tenancy::Single, Tenancy::Projects, Tenancy::Projects] {
        let (one, two) =
            tokio::join!(ensure_topology(&bus, tenancy, &options), ensure_topology(&bus, tenancy, &options));
        one.unwrap();
        two.unwrap();
    }
    let fence = Fence::after_subject_seq(0);
    put(&bus, "llm.acme.response.r1", fence.clone(), "final").await.unwrap();
    assert!(matches!(put(&bus, "llm.acme.response.r1", fence, "x").await, Err(StoreError::WrongLastSequence { .. })));
    // A request must stay outside of every stream, or its first answer would be the stream's receipt.
    for subject in ["llm.acme.request", "llm.acme.job", "llm.request", "llm.acme.result.r1", "llm.acme.cancel.r1"] {
        let error = put(&bus, subject, Fence::none(), "x").await.unwrap_err();
        assert!(matches!(error, StoreError::NoStream { .. }), "{subject}: {error}");
    }
}
