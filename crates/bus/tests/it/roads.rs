//! The same behaviour by both roads: through the server, between two connections, and within one process, over one.

use std::time::Duration;

use bytes::Bytes;
use farebox_bus::{Bus, CallError, Headers, Reach, Refusal, Subscription};

use crate::server::Server;

const LONG: Duration = Duration::from_secs(20);
const WORK: &str = "farebox.v1.work.test";

/// Who asks, and who serves: on one connection or on two.
async fn both_roads(test: impl AsyncFn(Bus, Bus)) {
    let server = Server::start().await;
    let one = server.bus().await;
    test(one.clone(), one).await;
    test(server.bus().await, server.bus().await).await;
}

async fn serve(bus: &Bus) -> Subscription {
    let mail = bus.subscribe(WORK, Some("workers")).await.unwrap();
    bus.flush().await.unwrap();
    mail
}

#[tokio::test]
async fn a_call_is_answered() {
    both_roads(async |asking, serving| {
        let mut mail = serve(&serving).await;
        let serve = async {
            let asked = mail.next().await.unwrap();
            assert_eq!((asked.subject.as_str(), asked.headers.get("X")), (WORK, Some("1")));
            serving.publish(&asked.reply.unwrap(), Headers::new().with("Y", "2"), asked.payload).await.unwrap();
        };
        let ask = asking.request(WORK, Headers::new().with("X", "1"), Bytes::from_static(b"ping"), LONG);
        let (answer, ()) = tokio::join!(ask, serve);
        let answer = answer.unwrap();
        assert_eq!((answer.payload.as_ref(), answer.headers.get("Y")), (b"ping".as_ref(), Some("2")));
        assert_eq!(asking.waiting(), 0);
    })
    .await;
}

#[tokio::test]
async fn messages_come_in_order_and_only_once() {
    both_roads(async |asking, serving| {
        let mut mail = serve(&serving).await;
        for number in 0..500_u32 {
            asking.publish(WORK, Headers::new(), number.to_be_bytes().to_vec().into()).await.unwrap();
        }
        for number in 0..500_u32 {
            assert_eq!(mail.next().await.unwrap().payload.as_ref(), number.to_be_bytes());
        }
        asking.flush().await.unwrap();
        serving.flush().await.unwrap();
        assert!(mail.try_next().is_none());
    })
    .await;
}

#[tokio::test]
async fn after_a_stop_what_was_sent_still_comes_and_then_nobody_is_there() {
    both_roads(async |asking, serving| {
        let mut mail = serve(&serving).await;
        asking.publish(WORK, Headers::new(), Bytes::from_static(b"before")).await.unwrap();
        asking.flush().await.unwrap();
        mail.stop().await;
        assert_eq!(mail.next().await.unwrap().payload.as_ref(), b"before");
        assert!(mail.next().await.is_none());
        serving.flush().await.unwrap();
        let error = asking.request(WORK, Headers::new(), Bytes::new(), LONG).await.unwrap_err();
        assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
    })
    .await;
}

#[tokio::test]
async fn an_offer_is_taken_in_silence_or_refused_aloud() {
    both_roads(async |asking, serving| {
        let mut mail = serve(&serving).await;
        let mut taken = asking.offer(Reach::Near, WORK, Headers::new(), Bytes::new()).await.unwrap();
        let first = mail.next().await.unwrap();
        assert!(taken.refused(Duration::from_millis(50)).await.is_none());
        drop(first);
        let mut refused = asking.offer(Reach::Near, WORK, Headers::new(), Bytes::new()).await.unwrap();
        let second = mail.next().await.unwrap();
        serving.publish(&second.reply.unwrap(), Headers::new(), Bytes::from_static(b"no")).await.unwrap();
        assert!(matches!(refused.refused(LONG).await, Some(Refusal::Replied(d)) if d.payload.as_ref() == b"no"));
    })
    .await;
}

#[tokio::test]
async fn a_far_offer_reaches_another_process_although_there_is_a_near_one() {
    let server = Server::start().await;
    let (near, far) = (server.bus().await, server.bus().await);
    let mut near_mail = serve(&near).await;
    let mut far_mail = serve(&far).await;
    let mut reached = false;
    for _ in 0..200 {
        near.offer(Reach::Far, WORK, Headers::new(), Bytes::new()).await.unwrap();
        tokio::select! {
            _ = far_mail.next() => { reached = true; break }
            _ = near_mail.next() => {}
        }
    }
    assert!(reached, "the server spreads offers over the group");
    for _ in 0..20 {
        near.offer(Reach::Near, WORK, Headers::new(), Bytes::new()).await.unwrap();
        assert!(near_mail.try_next().is_some(), "a near offer needs no server");
    }
}

#[tokio::test]
async fn callers_subjects_always_go_through_the_server() {
    let server = Server::start().await;
    let bus = server.bus().await;
    let mut mail = bus.subscribe("llm.request", Some("intake")).await.unwrap();
    bus.flush().await.unwrap();
    bus.publish("llm.request", Headers::new(), Bytes::new()).await.unwrap();
    assert!(mail.try_next().is_none(), "it is on its way to the server");
    assert!(mail.next().await.is_some());
}
