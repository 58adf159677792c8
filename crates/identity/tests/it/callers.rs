use std::time::{Duration, Instant};

use bytes::Bytes;
use farebox_bus::{Bus, CallError, Caller, ConnectError, Delivery, Headers, Login, Subscription, caller};
use farebox_identity::{Options, Role};
use farebox_proto::subjects::Tenancy;

use crate::world::{LONG, World};

/// Waits for one message of a caller, and answers it with its subject.
async fn serve_one(bus: &Bus, requests: &mut Subscription) -> (Delivery, Caller) {
    let asked = tokio::time::timeout(LONG, requests.next()).await.unwrap().unwrap();
    let who = caller(&asked, Tenancy::Projects).unwrap();
    let reply = asked.reply.clone().unwrap();
    bus.publish(&reply, Headers::new(), Bytes::from(asked.subject.clone())).await.unwrap();
    (asked, who)
}

async fn ask(agent: &Bus, subject: &str, headers: Headers) -> Result<Delivery, CallError> {
    agent.request(subject, headers, Bytes::from_static(b"hi"), LONG).await
}

/// The subject of the next message, which must come in time.
async fn arrived(subscription: &mut Subscription) -> String {
    tokio::time::timeout(LONG, subscription.next()).await.unwrap().unwrap().subject
}

#[tokio::test]
async fn who_brings_no_key_is_the_project_default_and_cannot_be_another() {
    let world = World::start().await;
    let intake = world.role(Role::Intake).await;
    let mut requests = intake.subscribe("llm.*.request", Some("intake")).await.unwrap();
    intake.flush().await.unwrap();
    let agent = world.anyone().await;
    let forged = Headers::new().with("Nats-Request-Info", r#"{"acc":"forged","user":"forged"}"#);
    for headers in [Headers::new(), forged] {
        let (answer, (asked, who)) =
            tokio::join!(ask(&agent, "llm.request", headers), serve_one(&intake, &mut requests));
        assert_eq!(answer.unwrap().payload, "llm.default.request");
        assert_eq!((who.project.as_str(), who.key_id), ("default", None));
        let info = asked.headers.get("Nats-Request-Info").unwrap();
        assert!(info.contains(r#""user":"anonymous""#) && !info.contains("forged"), "{info}");
    }
    // The subject of another project means nothing in this account.
    let error = ask(&agent, "llm.acme.request", Headers::new()).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn a_project_made_at_run_time_connects_at_once_and_sees_only_its_own() {
    let world = World::start().await;
    let text = world.add_key("k1", "acme");
    let (one, two) = (world.anyone().await, world.soon_with(&text).await);
    let intake = world.role(Role::Intake).await;
    let guard = world.role(Role::Guard).await;
    let mut requests = intake.subscribe("llm.*.request", Some("intake")).await.unwrap();
    intake.flush().await.unwrap();
    let (answer, (_, who)) = tokio::join!(ask(&two, "llm.request", Headers::new()), serve_one(&intake, &mut requests));
    assert_eq!(answer.unwrap().payload, "llm.acme.request");
    assert_eq!((who.project.as_str(), who.key_id.as_deref()), ("acme", Some("k1")));

    for name in ["call", "event", "response", "alert"] {
        let (mut mine, mut theirs, mut all) = (
            two.subscribe(&format!("llm.{name}.*"), None).await.unwrap(),
            one.subscribe(&format!("llm.{name}.*"), None).await.unwrap(),
            two.subscribe(">", None).await.unwrap(),
        );
        two.flush().await.unwrap();
        one.flush().await.unwrap();
        for (project, id) in [("default", "1"), ("other", "2"), ("acme", "3"), ("default", "4")] {
            let subject = format!("llm.{project}.{name}.{id}");
            guard.publish(&subject, Headers::new(), Bytes::new()).await.unwrap();
        }
        assert_eq!(arrived(&mut mine).await, format!("llm.{name}.3"));
        // Both ends of what the other project sees arrived: in between there was nothing.
        assert_eq!(arrived(&mut theirs).await, format!("llm.{name}.1"));
        assert_eq!(arrived(&mut theirs).await, format!("llm.{name}.4"));
        two.flush().await.unwrap();
        assert!(mine.try_next().is_none());
        let seen = std::iter::from_fn(|| all.try_next()).map(|d| d.subject);
        let facts: Vec<String> = seen.filter(|subject| subject.starts_with("llm.")).collect();
        assert!(facts.iter().all(|s| *s == format!("llm.{name}.3")), "{facts:?}");
        for subscription in [&mut mine, &mut theirs, &mut all] {
            subscription.stop().await;
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_so_is_none_where_one_is_needed() {
    let world = World::with(Options { anonymous: false, ..Options::default() }).await;
    world.add_key("k1", "acme");
    for login in [Login::None, Login::Token("wrong".to_owned()), Login::UserPassword("u".into(), "wrong".into())] {
        let error = world.connect(login).await.err().unwrap();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    }
    world.stop().await;
}

#[tokio::test]
async fn an_answer_in_many_messages_comes_through_whole_and_in_order() {
    let world = World::start().await;
    let worker = world.role(Role::Worker).await;
    let intake = world.role(Role::Intake).await;
    let mut requests = intake.subscribe("llm.*.request", Some("intake")).await.unwrap();
    intake.flush().await.unwrap();
    let agent = world.anyone().await;
    let mut inbox = agent.inbox();
    agent.publish_with_reply("llm.request", &inbox.subject(), Headers::new(), Bytes::new()).await.unwrap();
    // The worker answers on another connection than the one that was asked: the address travels in the envelope.
    let reply = requests.next().await.unwrap().reply.unwrap();
    assert!(reply.starts_with("_R_."), "{reply}");
    for i in 0..500 {
        worker.publish(&reply, Headers::new(), Bytes::from(i.to_string())).await.unwrap();
    }
    for i in 0..500 {
        let chunk = tokio::time::timeout(LONG, inbox.next()).await.unwrap().unwrap();
        assert_eq!(chunk.payload, i.to_string());
    }
    world.stop().await;
}

#[tokio::test]
async fn everything_that_a_caller_may_ask_arrives_with_its_project() {
    let world = World::start().await;
    let up = world.role(Role::Up).await;
    let agent = world.anyone().await;
    let asked = [
        ("llm.request", "llm.default.request"),
        ("llm.job", "llm.default.job"),
        ("llm.usage", "llm.default.usage"),
        ("llm.result.r-1", "llm.default.result.r-1"),
        ("llm.cancel.r-1", "llm.default.cancel.r-1"),
    ];
    for (subject, _) in asked {
        let began = Instant::now();
        let error = ask(&agent, subject, Headers::new()).await.unwrap_err();
        assert_eq!(error, CallError::NoResponders { subject: subject.to_owned() });
        assert!(began.elapsed() < Duration::from_secs(5), "{subject}");
    }
    let mut requests = up.subscribe("llm.>", None).await.unwrap();
    up.flush().await.unwrap();
    for (subject, arrives) in asked {
        let (answer, (_, who)) = tokio::join!(ask(&agent, subject, Headers::new()), serve_one(&up, &mut requests));
        assert_eq!(answer.unwrap().payload, arrives);
        assert_eq!((who.project.as_str(), who.key_id), ("default", None));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_caller_can_neither_forge_facts_nor_answer_in_place_of_farebox() {
    let world = World::start().await;
    let (victim, forger) = (world.anyone().await, world.anyone().await);
    let mut facts = victim.subscribe("llm.call.*", None).await.unwrap();
    victim.flush().await.unwrap();
    for subject in ["llm.call.c1", "llm.event.c1", "llm.response.r1", "llm.alert.a", "$JS.API.INFO"] {
        let error = ask(&forger, subject, Headers::new()).await.unwrap_err();
        assert_eq!(error, CallError::Forbidden { subject: subject.to_owned() });
    }
    assert!(facts.try_next().is_none());
    let _impostor = forger.subscribe("llm.request", None).await.unwrap();
    let _greedy = forger.subscribe("llm.>", None).await.unwrap();
    forger.flush().await.unwrap();
    let error = ask(&victim, "llm.request", Headers::new()).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
    assert!(forger.counts().permission_violations > 0);
    world.stop().await;
}
