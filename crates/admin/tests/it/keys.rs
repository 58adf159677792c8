//! Keys: shown once, rotated with an overlap, shut, forgotten; every change with its record.

use farebox_admin::v1::{self, audit_service_client::AuditServiceClient, key_service_client::KeyServiceClient};
use farebox_policy::{KeyText, Pepper};
use farebox_proto::v1 as wire;
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{Clock, SystemClock};
use prost::Message;
use tonic::Code;

use crate::world::{World, fields, reason, write};

fn create(key: wire::Key, request_id: &str) -> v1::CreateKeyRequest {
    v1::CreateKeyRequest { key: Some(key), write: write(request_id, 0, "for a test") }
}

fn of_acme(id: &str) -> wire::Key {
    wire::Key { id: id.to_owned(), project: "acme".to_owned(), name: "a test's".to_owned(), ..Default::default() }
}

/// Whether a text opens its key by what the directory knows.
fn opens(world: &World, text: &str) -> bool {
    let text: KeyText = text.parse().unwrap();
    let policies = world.directory.read().unwrap();
    policies.open(&text, &Pepper::new([7; 32]), SystemClock.now()).is_ok()
}

#[tokio::test]
async fn a_key_is_shown_once_and_its_request_may_come_again() {
    let world = World::start().await;
    let mut keys = KeyServiceClient::new(world.master().await);
    let made = keys.create_key(create(of_acme(""), "r-1")).await.unwrap().into_inner();
    let key = made.key.clone().unwrap();
    assert!(made.text.starts_with(&format!("fb-{}-", key.id)), "{}", key.id);
    assert!(key.hash.is_empty() && key.created_unix_ms > 0 && made.revision > 0);
    assert_eq!(
        key.change.as_ref().map(|change| (change.by.as_str(), change.reason.as_str())),
        Some(("master-key", "for a test"))
    );
    eventually(PATIENCE, "the key opens", || async { opens(&world, &made.text) }).await;

    let again = keys.create_key(create(of_acme(""), "r-1")).await.unwrap().into_inner();
    assert_eq!(again, made, "the same request has the same answer, secret and all");
    let other = wire::Key { name: "another".to_owned(), ..of_acme("") };
    let refused = keys.create_key(create(other, "r-1")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "CONFLICT"));
    let one = keys.create_key(create(of_acme(""), "")).await.unwrap().into_inner();
    let two = keys.create_key(create(of_acme(""), "")).await.unwrap().into_inner();
    assert_ne!(one.text, two.text, "without an id every request makes a key");

    let got = keys.get_key(v1::GetKeyRequest { id: key.id.clone() }).await.unwrap().into_inner();
    let secret = made.text.rsplit('-').next().unwrap();
    assert!(!String::from_utf8_lossy(&got.encode_to_vec()).contains(secret));
    assert_eq!(got.key.unwrap(), key);
    let taken = keys.create_key(create(of_acme(&key.id), "")).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    world.stop().await;
}

#[tokio::test]
async fn a_key_is_rotated_revoked_and_forgotten() {
    let world = World::start().await;
    let mut keys = KeyServiceClient::new(world.master().await);
    let first = keys.create_key(create(of_acme("k1"), "")).await.unwrap().into_inner().text;
    let rotate = |request_id: &str, overlap_ms| v1::RotateKeyRequest {
        id: "k1".to_owned(),
        overlap_ms,
        write: write(request_id, 0, ""),
    };
    let second = keys.rotate_key(rotate("rot-1", 60_000)).await.unwrap().into_inner().text;
    assert_ne!(first, second);
    eventually(PATIENCE, "both open", || async { opens(&world, &first) && opens(&world, &second) }).await;
    assert_eq!(keys.rotate_key(rotate("rot-1", 60_000)).await.unwrap().into_inner().text, second);
    let third = keys.rotate_key(rotate("", 0)).await.unwrap().into_inner().text;
    eventually(PATIENCE, "only the newest opens", || async { opens(&world, &third) && !opens(&world, &second) }).await;
    let refused = keys.rotate_key(rotate("", u64::MAX)).await.unwrap_err();
    assert_eq!(fields(&refused), ["overlap_ms"]);

    let delete = v1::DeleteKeyRequest { id: "k1".to_owned(), write: write("del-1", 0, "no longer used") };
    assert_eq!(keys.delete_key(delete.clone()).await.unwrap_err().code(), Code::FailedPrecondition, "it still opens");
    let revoked =
        keys.revoke_key(v1::RevokeKeyRequest { id: "k1".to_owned(), write: None }).await.unwrap().into_inner();
    assert!(revoked.key.unwrap().revoked_unix_ms > 0);
    eventually(PATIENCE, "nothing opens", || async { !opens(&world, &third) }).await;
    assert_eq!(keys.rotate_key(rotate("", 0)).await.unwrap_err().code(), Code::FailedPrecondition);
    keys.delete_key(delete.clone()).await.unwrap();
    keys.delete_key(delete).await.expect("the same request again has the same answer");
    let gone = keys.get_key(v1::GetKeyRequest { id: "k1".to_owned() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);

    let mut audit = AuditServiceClient::new(world.master().await);
    let ask =
        v1::ListChangesRequest { kind: "key".to_owned(), name: "k1".to_owned(), page_size: 2, ..Default::default() };
    let mut changes = Vec::new();
    eventually(PATIENCE, "the audit has the deletion", || {
        let (mut audit, ask) = (audit.clone(), ask.clone());
        async move {
            let changes = audit.list_changes(ask).await.unwrap().into_inner().changes;
            changes.first().is_some_and(|change| change.entity.is_none())
        }
    })
    .await;
    let mut page_token = String::new();
    loop {
        let ask = v1::ListChangesRequest { page_token, ..ask.clone() };
        let page = audit.list_changes(ask).await.unwrap().into_inner();
        changes.extend(page.changes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(changes.len(), 5, "made, rotated twice, revoked, deleted: {changes:?}");
    assert_eq!(changes[0].change.as_ref().unwrap().reason, "no longer used");
    assert!(changes.windows(2).all(|two| two[0].sequence > two[1].sequence), "newest first");
    let text = format!("{changes:?}");
    for secret in [&first, &second, &third] {
        assert!(!text.contains(secret.rsplit('-').next().unwrap()));
    }
    let Some(v1::change_record::Entity::Key(key)) = &changes[1].entity else { panic!("{changes:?}") };
    assert!(key.hash.is_empty() && key.previous_hash.is_empty());
    let wrong = audit.list_changes(v1::ListChangesRequest { kind: "colour".to_owned(), ..Default::default() }).await;
    assert_eq!(fields(&wrong.unwrap_err()), ["kind"]);
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_said_by_field() {
    let world = World::start().await;
    let mut keys = KeyServiceClient::new(world.master().await);
    let bad = [
        (create(wire::Key { id: "NO".to_owned(), ..of_acme("") }, ""), vec!["key.id"]),
        (create(wire::Key { project: "nowhere".to_owned(), ..of_acme("") }, ""), vec!["key.project"]),
        (create(of_acme(""), "bad id"), vec!["write.request_id"]),
        (v1::CreateKeyRequest { key: None, write: None }, vec!["key"]),
        (v1::CreateKeyRequest { key: Some(of_acme("")), write: write("", 0, &"x".repeat(1001)) }, vec!["write.reason"]),
    ];
    for (ask, wanted) in bad {
        let refused = keys.create_key(ask.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{ask:?}: {refused:?}");
        assert_eq!(fields(&refused), wanted, "{ask:?}: {refused:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_key_changes_within_its_project_and_only_owners_touch_admins() {
    let world = World::start().await;
    let mut keys = KeyServiceClient::new(world.master().await);
    let made = keys.create_key(create(of_acme("k1"), "")).await.unwrap().into_inner();
    let changed = wire::Key { name: "renamed".to_owned(), ..made.key.clone().unwrap() };
    let update = |key: wire::Key, revision| v1::UpdateKeyRequest { key: Some(key), write: write("", revision, "") };
    let kept = keys.update_key(update(changed.clone(), made.revision)).await.unwrap().into_inner();
    assert_eq!(kept.key.unwrap().name, "renamed");
    eventually(PATIENCE, "the secret stays", || async { opens(&world, &made.text) }).await;
    let late = keys.update_key(update(changed.clone(), made.revision)).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted, "{late:?}");
    let moved = wire::Key { project: "other".to_owned(), ..changed };
    assert_eq!(fields(&keys.update_key(update(moved, 0)).await.unwrap_err()), ["key.project"]);

    let owner = wire::Key { id: "boss".to_owned(), role: wire::AdminRole::Owner.into(), ..Default::default() };
    keys.create_key(create(owner.clone(), "")).await.unwrap();
    let operator = wire::Key { role: wire::AdminRole::Operator.into(), ..Default::default() };
    let mut as_operator = KeyServiceClient::new(world.connect(&world.key(operator).await).await);
    let denied = [
        as_operator.create_key(create(wire::Key { id: String::new(), ..owner }, "")).await.err(),
        as_operator.revoke_key(v1::RevokeKeyRequest { id: "boss".to_owned(), write: None }).await.err(),
        as_operator.rotate_key(v1::RotateKeyRequest { id: "boss".to_owned(), ..Default::default() }).await.err(),
    ];
    for denied in denied {
        assert_eq!(denied.map(|status| status.code()), Some(Code::PermissionDenied));
    }
    as_operator.create_key(create(of_acme("k2"), "")).await.expect("callers' keys are an operator's to make");
    world.stop().await;
}

#[tokio::test]
async fn keys_are_listed_by_project_in_pages() {
    let world = World::start().await;
    let mut keys = KeyServiceClient::new(world.master().await);
    for id in ["a", "b", "c"] {
        keys.create_key(create(of_acme(id), "")).await.unwrap();
    }
    keys.create_key(create(wire::Key { project: "default".to_owned(), ..of_acme("d") }, "")).await.unwrap();
    keys.revoke_key(v1::RevokeKeyRequest { id: "b".to_owned(), write: None }).await.unwrap();
    let mut listed = async |project: &str, include_ended, page_size| {
        let (mut ids, mut page_token) = (Vec::new(), String::new());
        loop {
            let ask = v1::ListKeysRequest {
                project: project.to_owned(),
                include_ended,
                page_size,
                page_token,
                ..Default::default()
            };
            let page = keys.list_keys(ask).await.unwrap().into_inner();
            ids.extend(page.keys.into_iter().map(|record| record.key.unwrap().id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return ids;
            }
        }
    };
    assert_eq!(listed("acme", false, 0).await, ["a", "c"]);
    assert_eq!(listed("acme", true, 1).await, ["a", "b", "c"]);
    assert_eq!(listed("", true, 2).await, ["a", "b", "c", "d"]);
    let ask = v1::ListKeysRequest { page_token: "nonsense!".to_owned(), ..Default::default() };
    assert_eq!(fields(&keys.list_keys(ask).await.unwrap_err()), ["page_token"]);
    world.stop().await;
}
