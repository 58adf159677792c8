use std::time::{Duration, Instant};

use farebox_bus::{BucketSpec, Bus, CallError, ConsumerSpec, Options, Retention, StreamError, StreamSpec};
use farebox_types::Span;

use crate::server::Server;

const MIB: u64 = 1024 * 1024;
/// Several tries.
const STOPPED: Duration = Duration::from_millis(1_500);

async fn impatient(server: &Server, deadline: Span) -> Bus {
    let options = Options { api_timeout: Span::from_millis(300), api_deadline: deadline, ..server.options() };
    Bus::connect(&options).await.unwrap()
}

#[tokio::test]
async fn what_does_no_harm_twice_is_asked_until_it_is_answered() {
    let server = Server::start().await;
    let bus = impatient(&server, Span::from_secs(30)).await;
    let spec = StreamSpec::new("S", &["s.>"], MIB);
    bus.ensure_stream(&spec).await.unwrap();
    let bucket = bus.ensure_bucket(&BucketSpec::new("kept", MIB)).await.unwrap();
    let (new, anew) = (StreamSpec::new("NEW", &["new.>"], MIB), BucketSpec::new("anew", MIB));
    let of_consumer = ConsumerSpec::default();
    server.pause().await;
    let began = Instant::now();
    let (info, made, made_bucket, newest, watch, puller, ()) = tokio::join!(
        bus.stream_info("S"),
        bus.ensure_stream(&new),
        bus.ensure_bucket(&anew),
        bucket.newest(),
        bucket.watch(),
        bus.consumer("S", "c", &of_consumer),
        server.go_on_after(STOPPED),
    );
    assert!(began.elapsed() >= STOPPED);
    assert_eq!(info.unwrap().messages, 0);
    made.unwrap();
    made_bucket.unwrap();
    assert_eq!(newest.unwrap(), 0);
    bucket.put("k", "v".into()).await.unwrap();
    assert_eq!(watch.unwrap().next().await.key, "k");
    assert_eq!(puller.unwrap().info().await.unwrap().pending, 0);
    assert!(bus.counts().timeouts >= 6 * 2, "it was asked only once: {:?}", bus.counts());
    assert_eq!(bus.waiting(), 0);
}

#[tokio::test]
async fn who_never_answers_is_given_up_in_time() {
    let server = Server::start().await;
    let bus = impatient(&server, Span::from_millis(800)).await;
    server.pause().await;
    let began = Instant::now();
    let error = bus.stream_info("S").await.unwrap_err();
    let after = began.elapsed();
    assert!(matches!(error, StreamError::Call { source: CallError::Timeout { .. }, .. }), "{error}");
    assert!(after >= Duration::from_millis(600) && after < Duration::from_secs(5), "{after:?}");

    let none = Server::without_jetstream().await;
    let bus = impatient(&none, Span::from_millis(500)).await;
    let began = Instant::now();
    assert_eq!(bus.stream_info("S").await.unwrap_err(), StreamError::NoJetStream);
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_refusal_is_an_error_at_once() {
    let server = Server::start().await;
    let bus = impatient(&server, Span::from_secs(60)).await;
    let began = Instant::now();
    let spec = StreamSpec::new("S", &["s.>"], MIB);
    bus.ensure_stream(&spec).await.unwrap();
    let queue = StreamSpec { retention: Retention::WorkQueue, ..spec };
    assert!(matches!(bus.ensure_stream(&queue).await, Err(StreamError::Incompatible { .. })));
    assert!(matches!(bus.stream_info("NONE").await, Err(StreamError::NotFound { .. })));
    assert!(matches!(bus.bucket("none").newest().await, Err(StreamError::NotFound { .. })));
    assert!(matches!(bus.bucket("none").watch().await, Err(StreamError::NotFound { .. })));
    assert!(matches!(bus.consumer("NONE", "c", &ConsumerSpec::default()).await, Err(StreamError::NotFound { .. })));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
