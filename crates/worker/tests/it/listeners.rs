//! Callers that go without a word, on a server without accounts.

use std::time::Duration;

use farebox_bus::{Bus, Delivery, Subscription};
use farebox_emulator::{Script, State};
use farebox_proto::{headers, v1};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::Span;
use farebox_worker::Options;
use tokio::time::{Instant, timeout};

use crate::world::{World, deployment, envelope};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":1000}"#;
const GONE_AFTER: Span = Span::from_millis(1200);

async fn world() -> World {
    World::with(Options { listener_patience: GONE_AFTER, ..Options::default() }).await
}

/// A call that takes some seconds, and where it is answered.
async fn call(world: &World, model: &str, stream: bool, keep_result: bool) -> (Bus, Subscription) {
    let agent = Bus::connect(world.bus.options()).await.unwrap();
    let reply_to = format!("_INBOX.agent.{model}");
    let inbox = agent.subscribe(&reply_to, None).await.unwrap();
    agent.flush().await.unwrap();
    let slow = Script::text("a piece of text ".repeat(40));
    let slow = if stream {
        slow.chunks(40).pace(Duration::from_millis(100))
    } else {
        slow.delay(Duration::from_secs(4)).bill_on_arrival()
    };
    world.emulator.script(model, slow);
    let envelope = v1::Envelope { stream, keep_result, reply_to, ..envelope(model, BODY) };
    world.hand_over(vec![deployment(model)], envelope).await;
    (agent, inbox)
}

fn state(world: &World, model: &str) -> State {
    let entries = world.emulator.ledger().entries();
    entries.iter().find(|entry| &*entry.model == model).map_or(State::Open, |entry| entry.state)
}

async fn ends(world: &World, model: &str) -> State {
    eventually(PATIENCE, "it ends", || async { state(world, model) != State::Open }).await;
    state(world, model)
}

async fn last(inbox: &mut Subscription) -> (usize, v1::LlmResponse) {
    let mut heard = 0;
    let is_last = |delivery: &Delivery| delivery.headers.get(headers::TYPE) == Some("final");
    loop {
        let delivery = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
        heard += 1;
        if is_last(&delivery) {
            return (heard, delivery.decode().unwrap());
        }
    }
}

#[tokio::test]
async fn calls_of_an_agent_that_has_gone_are_stopped_and_no_others() {
    let mut world = world().await;
    let gone = [("stream", true, false), ("whole", false, false), ("kept", true, true)];
    for (model, stream, kept) in gone {
        drop(call(&world, model, stream, kept).await);
    }
    let went = Instant::now();
    let (_agent, mut heard) = call(&world, "heard", true, false).await;
    for model in ["stream", "whole"] {
        assert_eq!(ends(&world, model).await, State::ClientGone, "{model}");
    }
    assert!(went.elapsed() >= GONE_AFTER.get());
    for model in ["heard", "kept"] {
        assert_eq!(ends(&world, model).await, State::Answered, "{model}");
    }
    let (pieces, response) = last(&mut heard).await;
    assert_eq!(response.report.unwrap().outcome(), v1::Outcome::Ok);
    assert!(pieces > 30, "{pieces}");
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        let settled = timeout(PATIENCE, world.settles.next()).await.unwrap().unwrap();
        let end = settled.decode::<v1::SettleRequest>().unwrap().end.unwrap();
        outcomes.push(end.outcome());
    }
    let (cancelled, ok) = (v1::Outcome::Cancelled, v1::Outcome::Ok);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == cancelled).count(), 2, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == ok).count(), 2, "{outcomes:?}");
}

#[tokio::test]
async fn an_agent_that_comes_back_in_time_keeps_its_calls() {
    let world = world().await;
    for (model, stream) in [("stream", true), ("whole", false)] {
        let (agent, inbox) = call(&world, model, stream, false).await;
        drop((agent, inbox));
        tokio::time::sleep(GONE_AFTER.get() / 2).await;
        let agent = Bus::connect(world.bus.options()).await.unwrap();
        let mut inbox = agent.subscribe(&format!("_INBOX.agent.{model}"), None).await.unwrap();
        let (pieces, response) = last(&mut inbox).await;
        assert_eq!(response.report.unwrap().outcome(), v1::Outcome::Ok);
        assert!(pieces > 10 || !stream, "{pieces}");
    }
}
