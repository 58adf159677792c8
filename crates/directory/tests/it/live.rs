use std::sync::Arc;

use bytes::Bytes;
use farebox_bus::topology;
use farebox_directory::{Options, Stale};
use farebox_policy::{KeyId, Policies};
use farebox_proto::{subjects::Tenancy, v1};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::Span;
use prost::Message;
use tokio::sync::watch;

use crate::world::{AT_ONCE, World, key, project};

fn quick() -> Options {
    Options {
        stale_after: Span::from_secs(2),
        check_interval: Span::from_millis(100),
        late_after: Span::from_millis(500),
    }
}

#[tokio::test]
async fn what_is_stored_is_known_at_once_and_what_is_removed_is_not() {
    let world = World::start(Options::default()).await;
    assert!(world.directory.read().unwrap().projects.contains_key("fixed"));
    let revision = world.store.put(&project("acme"), 0).await.unwrap();
    world.store.put(&key("k1", "acme"), 0).await.unwrap();
    let id = KeyId::parse("k1").unwrap();
    world.known("project and key", |p| p.projects.contains_key("acme") && p.keys.contains_key(&id)).await;
    let disabled = v1::Project { disabled: true, ..project("acme") };
    world.store.put(&disabled, revision).await.unwrap();
    world.known("the project is disabled", |p| p.projects["acme"].disabled).await;
    let kept = world.store.get::<v1::Key>("k1").await.unwrap().unwrap();
    world.store.delete::<v1::Key>("k1", kept.revision, &v1::Change::default()).await.unwrap();
    world.known("the key is gone", |p| !p.keys.contains_key(&id)).await;
    world.stop().await;
}

#[tokio::test]
async fn what_was_stored_before_is_known_from_the_start() {
    let world = World::start(Options::default()).await;
    for number in 0..300 {
        world
            .bus
            .bucket(topology::POLICY)
            .put(&format!("project.p{number}"), project(&format!("p{number}")).encode_to_vec().into())
            .await
            .unwrap();
    }
    let live = farebox_directory::Live::open(&world.bus, crate::world::fixed(), Options::default()).await.unwrap();
    assert_eq!(live.directory().read().unwrap().projects.len(), 301);
    world.stop().await;
}

#[tokio::test]
async fn the_config_file_is_not_replaced_and_what_is_damaged_changes_nothing() {
    let world = World::start(Options::default()).await;
    let bucket = world.bus.bucket(topology::POLICY);
    world.store.put(&project("acme"), 0).await.unwrap();
    // Past the store, as if by an older version, or by hand.
    let impostor = v1::Project { disabled: true, ..project("fixed") };
    bucket.put("project.fixed", impostor.encode_to_vec().into()).await.unwrap();
    bucket.delete("project.fixed").await.unwrap();
    bucket.put("project.acme", Bytes::from_static(b"\xff\xff")).await.unwrap();
    bucket.put("project.other", project("acme").encode_to_vec().into()).await.unwrap();
    bucket.put("nonsense", Bytes::from_static(b"x")).await.unwrap();
    world.store.put(&project("last"), 0).await.unwrap();
    world.known("what came last", |p| p.projects.contains_key("last")).await;
    let policies = world.directory.read().unwrap();
    assert_eq!(policies.projects["fixed"].models, ["from-the-file"]);
    assert!(!policies.projects["fixed"].disabled);
    assert_eq!(policies.projects["acme"].name.as_str(), "acme");
    assert!(!policies.projects.contains_key("other"));
    world.stop().await;
}

#[tokio::test]
async fn who_cannot_hear_of_changes_says_so_until_it_has_heard_them() {
    let world = World::start(quick()).await;
    world.nats.pause().await.unwrap();
    let stale = || async { world.directory.read() == Err(Stale) };
    eventually(PATIENCE, "it is stale", stale).await;
    assert!(world.directory.newest().projects.contains_key("fixed"), "what was known is still there");
    world.nats.cont().await.unwrap();
    eventually(PATIENCE, "it is fresh again", || async { world.directory.read().is_ok() }).await;

    world.nats.kill9().await;
    eventually(PATIENCE, "it is stale", stale).await;
    world.nats.start_again().await.unwrap();
    eventually(PATIENCE, "the store is there", || async { world.store.get::<v1::Project>("acme").await.is_ok() }).await;
    world.store.put(&project("acme"), 0).await.unwrap();
    let known = || async { world.directory.read().is_ok_and(|policies| policies.projects.contains_key("acme")) };
    eventually(PATIENCE, "it is fresh, and knows what was written since", known).await;
    world.stop().await;
}

#[tokio::test]
async fn a_bucket_that_was_made_anew_is_read_anew() {
    let world = World::start(quick()).await;
    for name in ["acme", "two", "three"] {
        world.store.put(&project(name), 0).await.unwrap();
    }
    world.known("all three", |p| p.projects.len() == 4).await;
    world.bus.delete_stream("KV_farebox-policy").await.unwrap();
    eventually(PATIENCE, "it is stale", || async { world.directory.read() == Err(Stale) }).await;
    topology::ensure_topology(&world.bus, Tenancy::Projects, &topology::StorageOptions::default()).await.unwrap();
    world.store.put(&project("new"), 0).await.unwrap();
    let known = || async {
        let names = |p: &farebox_policy::Policies| p.projects.keys().cloned().collect::<Vec<_>>();
        world.directory.read().is_ok_and(|policies| names(&policies) == ["fixed", "new"])
    };
    eventually(PATIENCE, "only what is there now", known).await;
    world.stop().await;
}

#[tokio::test]
async fn what_the_config_says_may_change() {
    let world = World::start(Options::default()).await;
    let (config, fixed) = watch::channel(Arc::new(crate::world::fixed()));
    let live = farebox_directory::Live::open(&world.bus, fixed, Options::default()).await.unwrap();
    let directory = live.directory();
    let (trigger, signal) = farebox_runtime::drain();
    let tasks = farebox_runtime::Tasks::new(trigger.clone());
    tasks.spawn("directory", live.run(signal));
    let known = async |what: &str, known: &dyn Fn(&Policies) -> bool| {
        let known = || async { directory.read().is_ok_and(|policies| known(&policies)) };
        eventually(AT_ONCE, what, known).await;
    };
    // Hidden by the config's, until that is gone.
    let hidden = v1::Project { disabled: true, ..project("fixed") };
    world.bus.bucket(topology::POLICY).put("project.fixed", hidden.encode_to_vec().into()).await.unwrap();
    world.store.put(&project("stored"), 0).await.unwrap();
    known("the stored one", &|policies| policies.projects.contains_key("stored")).await;
    assert!(!directory.newest().projects["fixed"].disabled);
    config.send_replace(Arc::new(Policies::default()));
    known("the one that was hidden", &|policies| policies.projects["fixed"].disabled).await;
    config.send_replace(Arc::new(crate::world::fixed()));
    known("the config's again", &|policies| !policies.projects["fixed"].disabled).await;
    assert!(directory.newest().projects.contains_key("stored"));
    trigger.drain();
    tasks.finish(PATIENCE).await.unwrap();
    world.stop().await;
}
