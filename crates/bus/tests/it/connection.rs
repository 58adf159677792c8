use std::time::{Duration, Instant};

use bytes::Bytes;
use farebox_bus::{Bus, CallError, ConnectError, Headers, Login, Options, PublishError};
use farebox_types::{ErrorKind, Span};

use crate::server::Server;

#[tokio::test]
async fn no_server_is_said_clearly_and_in_time() {
    // Taken, so that nobody else listens there, and nobody does.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = taken.local_addr().unwrap().port();
    let url = format!("nats://127.0.0.1:{port}");
    let options = Options { url: url.clone(), start_timeout: Span::from_millis(300), ..Options::default() };
    let began = Instant::now();
    let error = Bus::connect(&options).await.err().unwrap();
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with(&format!("no NATS server answers at {url}: start one or set nats.url")));
}

#[tokio::test]
async fn refused_credentials_are_said_at_once() {
    let server = Server::with("authorization { token: right }").await;
    let bus = Bus::connect_as(&server.options(), Login::Token("right".to_owned())).await.unwrap();
    assert!(bus.is_connected());
    let began = Instant::now();
    let error = Bus::connect_as(&server.options(), Login::Token("wrong".to_owned())).await.err().unwrap();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(began.elapsed() < Duration::from_secs(5));
    let none = Bus::connect(&server.options()).await.err().unwrap();
    assert!(matches!(none, ConnectError::Refused { .. }), "{none}");
}

#[tokio::test]
async fn credentials_in_the_address_are_refused_and_not_repeated() {
    let options = Options { url: "nats://user:hunter2@127.0.0.1:1".to_owned(), ..Options::default() };
    let error = Bus::connect(&options).await.err().unwrap();
    assert!(matches!(error, ConnectError::BadUrl { .. }));
    assert!(!error.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_killed_server_that_comes_back_is_connected_to_again() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let mut echo = bus.subscribe("echo", None).await.unwrap();
    bus.flush().await.unwrap();
    server.kill().await;
    server.restart().await;
    let answering = bus.clone();
    let answers = async move {
        while let Some(asked) = echo.next().await {
            answering.publish(&asked.reply.unwrap(), Headers::new(), asked.payload).await.unwrap();
        }
    };
    let asking = async {
        loop {
            let asked = bus.request("echo", Headers::new(), Bytes::from_static(b"hi"), Duration::from_secs(1)).await;
            match asked {
                Ok(answer) => return answer,
                Err(CallError::NoResponders { .. } | CallError::Timeout { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let answer = tokio::select! { answer = asking => answer, () = answers => unreachable!("the subscription ended") };
    assert_eq!(answer.payload, "hi");
    assert_eq!(bus.counts().reconnects, 1);
    assert_eq!(bus.waiting(), 0);
    assert_eq!(bus.down_for(), None);
}

#[tokio::test]
async fn a_connection_that_is_down_refuses_instead_of_piling_up() {
    let server = Server::start().await;
    let options = Options { publish_timeout: Span::from_millis(200), ..server.options() };
    let bus = Bus::connect(&options).await.unwrap();
    server.kill().await;
    let error = loop {
        match bus.publish("x", Headers::new(), Bytes::new()).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PublishError::Disconnected { .. }));
    assert!(bus.down_for().unwrap() >= Duration::from_millis(200));
    assert!(!bus.is_connected());
}

#[tokio::test]
async fn a_connection_that_has_just_come_back_is_not_steady_yet() {
    let server = Server::start().await;
    let options = Options { reconnect_pause_max: Span::from_secs(4), ..server.options() };
    let bus = Bus::connect(&options).await.unwrap();
    assert!(bus.is_steady());
    server.kill().await;
    server.restart().await;
    while bus.counts().reconnects == 0 || !bus.is_connected() {
        tokio::task::yield_now().await;
    }
    let back = Instant::now();
    assert!(!bus.is_steady());
    while !bus.is_steady() {
        tokio::task::yield_now().await;
    }
    assert!(back.elapsed() > Duration::from_millis(200), "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_slow_subscription_is_counted_and_the_rest_goes_on() {
    let server = Server::start().await;
    let slow = Bus::connect(&Options { subscription_capacity: 10, ..server.options() }).await.unwrap();
    let fast = server.bus().await;
    let mut subscription = slow.subscribe("flood", None).await.unwrap();
    slow.flush().await.unwrap();
    for _ in 0..1_000 {
        fast.publish("flood", Headers::new(), Bytes::from_static(b"x")).await.unwrap();
    }
    fast.flush().await.unwrap();
    while slow.counts().slow_consumers == 0 {
        tokio::task::yield_now().await;
    }
    assert!(subscription.next().await.is_some());
}

#[tokio::test]
async fn a_stopped_subscription_still_yields_what_came_before() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let mut subscription = bus.subscribe("x", Some("group")).await.unwrap();
    for i in 0..10 {
        bus.publish("x", Headers::new(), Bytes::from(format!("{i}"))).await.unwrap();
    }
    bus.flush().await.unwrap();
    subscription.stop().await;
    let mut got = Vec::new();
    loop {
        let batch = subscription.next_batch(4).await;
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() <= 4);
        got.extend(batch.into_iter().map(|d| String::from_utf8(d.payload.to_vec()).unwrap()));
    }
    assert_eq!(got, (0..10).map(|i| i.to_string()).collect::<Vec<_>>());
}
