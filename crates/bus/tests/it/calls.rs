use std::time::{Duration, Instant};

use bytes::Bytes;
use farebox_bus::{Bus, CallError, Headers, Options, PublishError, Reach, Refusal};
use prost::Message;

use crate::server::Server;

const LONG: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
}

/// Doubles numbers until its subscription ends.
async fn double(bus: Bus, subject: &'static str) {
    let mut asked = bus.subscribe(subject, Some("q")).await.unwrap();
    bus.flush().await.unwrap();
    while let Some(delivery) = asked.next().await {
        let number: Number = delivery.decode().unwrap();
        let answer = Number { value: number.value * 2 };
        bus.publish_message(&delivery.reply.unwrap(), Headers::new(), &answer).await.unwrap();
    }
}

#[tokio::test]
async fn typed_calls_are_answered_and_leave_nothing_behind() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let serving = double(server.bus().await, "double");
    let calls = async {
        let first = loop {
            match bus.call::<_, Number>("double", &Number { value: 1 }, LONG).await {
                Err(CallError::NoResponders { .. }) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        };
        assert_eq!(first.value, 2);
        let calls = (0..200).map(|value| {
            let bus = bus.clone();
            async move { bus.call::<_, Number>("double", &Number { value }, LONG).await.unwrap().value }
        });
        let answers = futures::future::join_all(calls).await;
        assert_eq!(answers, (0..200).map(|v| v * 2).collect::<Vec<u64>>());
        assert_eq!(bus.waiting(), 0);
    };
    tokio::select! { () = calls => {}, () = serving => unreachable!("the server ended") }
}

#[tokio::test]
async fn a_call_that_nobody_serves_fails_at_once() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let began = Instant::now();
    let error = bus.call::<_, Number>("nobody", &Number::default(), LONG).await.unwrap_err();
    assert_eq!(error, CallError::NoResponders { subject: "nobody".to_owned() });
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((bus.waiting(), bus.counts().no_responders), (0, 1));
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let mut silent = bus.subscribe("silent", None).await.unwrap();
    let error = bus.request("silent", Headers::new(), Bytes::new(), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }));
    assert_eq!((bus.waiting(), bus.counts().timeouts), (0, 1));
    // The late answer finds nobody and harms nobody.
    let asked = silent.next().await.unwrap();
    bus.publish(&asked.reply.unwrap(), Headers::new(), Bytes::new()).await.unwrap();
    bus.flush().await.unwrap();
    while bus.counts().late_replies == 0 {
        tokio::task::yield_now().await;
    }
    // So does a call whose future is dropped.
    let dropped = bus.request("silent", Headers::new(), Bytes::new(), LONG);
    assert!(tokio::time::timeout(Duration::from_millis(50), dropped).await.is_err());
    assert_eq!(bus.waiting(), 0);
}

#[tokio::test]
async fn a_forbidden_call_is_not_a_timeout() {
    let server = Server::with(
        r#"authorization { users: [ { user: u, password: p, permissions: { publish: { deny: "secret.>" } } } ] }"#,
    )
    .await;
    let login = farebox_bus::Login::UserPassword("u".to_owned(), "p".to_owned());
    let bus = Bus::connect_as(&server.options(), login).await.unwrap();
    let began = Instant::now();
    let error = bus.request("secret.x", Headers::new(), Bytes::new(), LONG).await.unwrap_err();
    assert_eq!(error, CallError::Forbidden { subject: "secret.x".to_owned() });
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(bus.counts().permission_violations, 1);
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_an_error() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let mut served = bus.subscribe("garbage", None).await.unwrap();
    let (answer, ()) = tokio::join!(bus.call::<_, Number>("garbage", &Number { value: 1 }, LONG), async {
        let asked = served.next().await.unwrap();
        bus.publish(&asked.reply.unwrap(), Headers::new(), Bytes::from_static(&[0xff; 9])).await.unwrap();
    });
    assert!(matches!(answer, Err(CallError::Decode { .. })));
}

#[tokio::test]
async fn an_offer_that_nobody_takes_is_refused_at_once() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let began = Instant::now();
    let mut offer = bus.offer(Reach::Far, "work", Headers::new(), Bytes::new()).await.unwrap();
    assert!(matches!(offer.refused(LONG).await, Some(Refusal::NoResponders)));
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(offer);

    let mut taker = bus.subscribe("work", Some("q")).await.unwrap();
    let mut offer = bus.offer(Reach::Far, "work", Headers::new(), Bytes::from_static(b"1")).await.unwrap();
    let work = taker.next().await.unwrap();
    assert_eq!(work.payload, "1");
    assert!(offer.refused(Duration::from_millis(100)).await.is_none());
    bus.publish(&work.reply.unwrap(), Headers::new(), Bytes::from_static(b"full")).await.unwrap();
    let refused = offer.refused(LONG).await;
    assert!(matches!(refused, Some(Refusal::Replied(said)) if said.payload == "full"));
    drop(offer);
    assert_eq!(bus.waiting(), 0);
}

#[tokio::test]
async fn a_stream_of_chunks_arrives_whole_and_in_order() {
    let server = Server::start().await;
    let (agent, worker) = (server.bus().await, server.bus().await);
    let mut inbox = agent.inbox();
    for i in 0..1_000u64 {
        let chunk = Number { value: i };
        worker.publish_message(&inbox.subject(), Headers::new(), &chunk).await.unwrap();
    }
    for i in 0..1_000 {
        let chunk: Number = inbox.next().await.unwrap().decode().unwrap();
        assert_eq!(chunk.value, i);
    }
    drop(inbox);
    assert_eq!(agent.waiting(), 0);
}

#[tokio::test]
async fn an_inbox_that_overflows_ends_and_says_so() {
    let server = Server::start().await;
    let agent = Bus::connect(&Options { inbox_capacity: 5, ..server.options() }).await.unwrap();
    let worker = server.bus().await;
    let mut inbox = agent.inbox();
    for _ in 0..20 {
        worker.publish(&inbox.subject(), Headers::new(), Bytes::new()).await.unwrap();
    }
    while agent.counts().inbox_overflows == 0 {
        tokio::task::yield_now().await;
    }
    let mut got = 0;
    while inbox.next().await.is_some() {
        got += 1;
    }
    assert_eq!(got, 5);
    assert!(inbox.overflowed());
}

#[tokio::test]
async fn a_message_above_max_payload_is_refused_here() {
    let server = Server::with("max_payload: 1000").await;
    let bus = server.bus().await;
    assert_eq!(bus.max_payload(), 1_000);
    let error = bus.publish("x", Headers::new(), Bytes::from(vec![0; 1_001])).await.unwrap_err();
    assert_eq!(error, PublishError::TooLarge { subject: "x".to_owned(), size: 1_001, max: 1_000 });
}
