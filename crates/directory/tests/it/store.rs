use farebox_bus::topology;
use farebox_directory::{DirectoryError, Kind, Options};
use farebox_proto::v1;
use farebox_testkit::{PATIENCE, eventually};
use prost::Message;

use crate::world::{World, key, project};

#[tokio::test]
async fn of_two_who_change_the_same_one_is_told() {
    let world = World::start(Options::default()).await;
    let store = &world.store;
    let first = store.put(&project("acme"), 0).await.unwrap();
    let again = store.put(&project("acme"), 0).await.unwrap_err();
    assert!(matches!(again, DirectoryError::Conflict { expected: 0, found, .. } if found == first), "{again}");
    let second = store.put(&v1::Project { disabled: true, ..project("acme") }, first).await.unwrap();
    let late = store.put(&project("acme"), first).await.unwrap_err();
    assert!(matches!(late, DirectoryError::Conflict { .. }), "{late}");
    let late = store.delete::<v1::Project>("acme", first, &v1::Change::default()).await.unwrap_err();
    assert!(matches!(late, DirectoryError::Conflict { .. }), "{late}");
    let kept = store.get::<v1::Project>("acme").await.unwrap().unwrap();
    assert_eq!((kept.revision, kept.entity.disabled), (second, true));

    store.delete::<v1::Project>("acme", second, &v1::Change::default()).await.unwrap();
    assert_eq!(store.get::<v1::Project>("acme").await.unwrap(), None);
    let gone = store.delete::<v1::Project>("acme", second, &v1::Change::default()).await.unwrap_err();
    assert!(matches!(gone, DirectoryError::Conflict { found: 0, .. }), "{gone}");
    // The name is free again.
    store.put(&project("acme"), 0).await.unwrap();
    store.put(&project("beta"), 0).await.unwrap();
    store.put(&key("k1", "acme"), 0).await.unwrap();
    let names: Vec<_> = store.list::<v1::Project>().await.unwrap().into_iter().map(|kept| kept.entity.name).collect();
    assert_eq!(names, ["acme", "beta"]);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_hold_is_not_stored() {
    let world = World::start(Options::default()).await;
    let store = &world.store;
    for name in ["", "a.b", "a b", ">", "*", &"x".repeat(65)] {
        let refused = store.put(&project(name), 0).await.unwrap_err();
        assert!(matches!(refused, DirectoryError::Name { kind: Kind::Project, .. }), "{name:?}: {refused}");
        assert_eq!(store.get::<v1::Project>(name).await.unwrap(), None);
    }
    let fixed = store.put(&project("fixed"), 0).await.unwrap_err();
    assert!(matches!(fixed, DirectoryError::Fixed { .. }), "{fixed}");
    let orphan = store.put(&key("k1", "nobody"), 0).await.unwrap_err();
    assert!(matches!(&orphan, DirectoryError::Invalid(faults) if faults.0.len() == 1), "{orphan}");
    assert!(orphan.to_string().contains("nobody"), "{orphan}");
    let unreadable = store.put(&v1::Key { hash: vec![1].into(), ..key("k1", "fixed") }, 0).await.unwrap_err();
    assert!(matches!(unreadable, DirectoryError::Invalid(_)), "{unreadable}");
    assert_eq!(world.bus.bucket(topology::POLICY).newest().await.unwrap(), 0, "something was stored");
    // A fault that is there already is not in the way of others.
    world.bus.bucket(topology::POLICY).put("key.k2", key("k2", "nobody").encode_to_vec().into()).await.unwrap();
    store.put(&project("acme"), 0).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn two_changes_that_contradict_each_other_are_never_both_stored() {
    let world = World::start(Options::default()).await;
    let store = &world.store;
    for round in 0..10 {
        let name = format!("p{round}");
        let revision = store.put(&project(&name), 0).await.unwrap();
        let id = format!("k{round}");
        let key = key(&id, &name);
        let change = v1::Change::default();
        let (added, removed) = tokio::join!(store.put(&key, 0), store.delete::<v1::Project>(&name, revision, &change));
        assert!(added.is_ok() != removed.is_ok(), "added: {added:?}, removed: {removed:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn many_writers_all_get_through_and_leave_their_record() {
    let world = World::start(Options::default()).await;
    let names: Vec<String> = (0..10).map(|number| format!("p{number}")).collect();
    let mut writing: tokio::task::JoinSet<_> = names
        .iter()
        .map(|name| {
            let (store, entity) = (world.store.clone(), project(name));
            async move { store.put(&entity, 0).await }
        })
        .collect();
    while let Some(written) = writing.join_next().await {
        written.unwrap().unwrap();
    }
    world.known("all of them", |p| p.projects.len() == 11).await;
    let change = v1::Change { by: "admin-1".to_owned(), reason: "no longer needed".to_owned(), ..Default::default() };
    let revision = world.store.get::<v1::Project>("p3").await.unwrap().unwrap().revision;
    world.store.delete::<v1::Project>("p3", revision, &change).await.unwrap();
    let records = async || world.bus.read_from(topology::AUDIT, ">", 1).await.unwrap().collect().await.unwrap();
    eventually(PATIENCE, "every change has its record", async || records().await.len() == 11).await;
    let last = records().await.pop().unwrap();
    assert_eq!(last.subject, "$KV.farebox-policy.project.p3");
    assert_eq!(v1::Change::decode(last.payload).unwrap(), change);
    world.stop().await;
}
