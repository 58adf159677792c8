use std::time::{Duration, Instant};

use farebox_bus::{Bus, CallError, ConnectError, Headers};
use farebox_identity::Options;
use farebox_policy::{Key, KeyId, KeyText, Policies};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{Clock, Span, SystemClock};
use futures::future::join_all;

use crate::world::{LONG, World, key};

fn change_key(policies: &mut Policies, id: &str, change: impl FnOnce(&mut Key)) {
    change(policies.keys.get_mut(&KeyId::parse(id).unwrap()).unwrap());
}

/// Waits until a connection is gone, which must not take longer than a second.
async fn out_at_once(bus: &Bus, what: &str) {
    eventually(Duration::from_secs(1), what, || async { !bus.is_connected() }).await;
}

async fn refused(world: &World, text: &str) {
    let refused = world.with_key(text).await.err().unwrap();
    assert!(matches!(refused, ConnectError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn a_key_that_does_not_hold_any_more_is_out_at_once_and_stays_out() {
    type Change = fn(&mut Policies);
    let changes: [(&str, Change); 6] = [
        ("revoked", |p| change_key(p, "k1", |key| key.revoked = Some(SystemClock.now()))),
        ("expired", |p| change_key(p, "k1", |key| key.expires = Some(SystemClock.now()))),
        ("removed", |p| drop(p.keys.remove(&KeyId::parse("k1").unwrap()))),
        ("elsewhere only", |p| change_key(p, "k1", |key| key.addresses = vec!["10.0.0.0/8".parse().unwrap()])),
        ("disabled", |p| p.projects.get_mut("acme").unwrap().disabled = true),
        ("without a project", |p| {
            p.keys.remove(&KeyId::parse("k1").unwrap());
            p.projects.remove("acme");
        }),
    ];
    let world = World::start().await;
    let other = world.add_key("k22", "beta");
    let other = world.soon_with(&other).await;
    let anonymous = world.anyone().await;
    for (what, change) in changes {
        world.change(|policies| {
            policies.projects.remove("acme");
        });
        let text = world.add_key("k1", "acme");
        let (one, two) = (world.soon_with(&text).await, world.soon_with(&text).await);
        world.change(change);
        out_at_once(&one, what).await;
        out_at_once(&two, what).await;
        refused(&world, &text).await;
    }
    for bus in [&other, &anonymous] {
        assert!(bus.is_connected() && bus.counts().reconnects == 0, "somebody else was put out");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_narrowed_key_comes_back_with_less() {
    let world = World::start().await;
    let text = world.add_key("k1", "acme");
    let bus = world.soon_with(&text).await;
    let ask = async |subject: &str| bus.request(subject, Headers::new(), "x".into(), LONG).await.unwrap_err();
    assert!(matches!(ask("agents.a").await, CallError::NoResponders { .. }));
    world.change(|p| change_key(p, "k1", |key| key.subjects = vec!["llm.request".to_owned()]));
    let forbidden = || async { matches!(ask("agents.a").await, CallError::Forbidden { .. }) };
    // How fast that is, the system tests say: here the client may take its time to come back.
    eventually(PATIENCE, "it may no more", forbidden).await;
    assert!(matches!(ask("llm.request").await, CallError::NoResponders { .. }), "its inbox and its subject are left");
    assert_eq!(bus.counts().reconnects, 1);
    world.stop().await;
}

#[tokio::test]
async fn the_old_secret_of_a_rotated_key_opens_until_its_time_is_over() {
    let world = World::start().await;
    let old = world.add_key("k1", "acme");
    let with_old = world.soon_with(&old).await;
    let new = KeyText::new(KeyId::parse("k1").unwrap(), [99; 32]);
    let until = SystemClock.now().after(Duration::from_secs(6));
    world.change(|p| {
        change_key(p, "k1", |key| {
            key.previous = Some((key.hash, until));
            key.hash = new.hash(&world.pepper);
        });
    });
    let with_new = world.with_key(&new.reveal()).await.unwrap();
    let again_with_old = world.with_key(&old).await.unwrap();
    assert!(with_old.is_connected());
    let gone = || async { !with_old.is_connected() && !again_with_old.is_connected() };
    eventually(PATIENCE, "what the old one opened is over", gone).await;
    assert!(SystemClock.now().after(Duration::from_secs(1)) >= until, "too early");
    refused(&world, &old).await;
    eventually(PATIENCE, "the new one goes on", || async { with_new.flush().await.is_ok() }).await;
    world.stop().await;
}

#[tokio::test]
async fn a_key_ends_with_its_time() {
    let world = World::start().await;
    let text = world.add_key("k1", "acme");
    let until = SystemClock.now().after(Duration::from_secs(5));
    world.change(|p| change_key(p, "k1", |key| key.expires = Some(until)));
    let bus = world.soon_with(&text).await;
    eventually(PATIENCE, "it has expired", || async { !bus.is_connected() }).await;
    assert!(SystemClock.now().after(Duration::from_millis(1_500)) >= until, "too early");
    eventually(PATIENCE, "it stays out", || async { world.with_key(&text).await.is_err() }).await;
    world.stop().await;
}

#[tokio::test]
async fn who_does_not_know_lets_nobody_in_and_nobody_out() {
    let world = World::start().await;
    let text = world.add_key("k1", "acme");
    let bus = world.soon_with(&text).await;
    world.feed.fresh(false);
    refused(&world, &text).await;
    assert!(bus.is_connected());
    world.feed.fresh(true);
    assert!(world.with_key(&text).await.is_ok());
    assert_eq!(bus.counts().reconnects, 0);
    world.stop().await;
}

#[tokio::test]
async fn who_is_quicker_than_the_news_of_a_new_key_and_project_is_let_in_at_the_first_try() {
    let world = World::start().await;
    for (round, late) in [0, 50, 0, 50, 0, 50].into_iter().enumerate() {
        let project = format!("acme-{round}");
        let (_, text) = key("k1", &project, &world.pepper);
        let made = async {
            // The server's question comes first when the news is late.
            tokio::time::sleep(Duration::from_millis(late)).await;
            world.add_key("k1", &project);
        };
        let (bus, ()) = tokio::join!(world.soon_with(&text), made);
        assert!(bus.flush().await.is_ok());
        world.change(|policies| policies.keys.clear());
    }
    world.stop().await;
}

#[tokio::test]
async fn made_up_keys_that_wait_do_not_keep_others_waiting() {
    let options = Options { key_wait: Span::from_millis(1_500), waiting_max: 2, ..Options::default() };
    let world = World::with(options).await;
    let good = world.add_key("k1", "acme");
    world.soon_with(&good).await;
    let made_up: Vec<String> = (0..4).map(|n| key(&format!("madeup{n}"), "acme", &world.pepper).1).collect();
    let began = Instant::now();
    let try_one = async |text: &str| {
        refused(&world, text).await;
        began.elapsed() >= Duration::from_millis(1_500)
    };
    let tries = join_all(made_up.iter().map(|text| try_one(text)));
    let good = async {
        let bus = world.with_key(&good).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(1_500), "a known key waited");
        bus
    };
    let (waited, _bus) = tokio::join!(tries, good);
    assert_eq!(waited.iter().filter(|waited| **waited).count(), 2, "{waited:?}");
    world.stop().await;
}

#[tokio::test]
async fn what_changed_while_nobody_watched_is_noticed() {
    // Nothing says that something changed: only the sweep looks.
    let world = World::with(Options { sweep_interval: Span::from_millis(200), ..Options::default() }).await;
    let text = world.add_key("k1", "acme");
    let bus = world.soon_with(&text).await;
    let until = SystemClock.now().after(Duration::from_millis(10));
    world.change(|p| change_key(p, "k1", |key| key.revoked = Some(until)));
    out_at_once(&bus, "revoked").await;
    world.stop().await;
}
