//! Keys of callers and admins. A key's text is in the answer that makes it and nowhere else.

use std::time::Duration;

use farebox_directory::Kept;
use farebox_policy::{AdminRole, KeyId, KeyText};
use farebox_proto::v1 as wire;
use farebox_types::Timestamp;
use tonic::{Request, Response};

use crate::{
    api::{Answer, Api, reply, required},
    entities::Managed,
    gate::Admin,
    paging::Page,
    refusal::Refusal,
    v1::{self, key_service_server::KeyService},
};

/// The longest time for which two secrets open one key.
const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

#[tonic::async_trait]
impl KeyService for Api {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Answer<v1::KeySecret> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let given = required("key", request.into_inner().key)?;
        may_manage(&deed.admin, &given)?;
        let id = match given.id.as_str() {
            "" => deed.key_id(),
            id => KeyId::parse(id).ok_or_else(|| {
                let max = KeyId::MAX_LEN;
                Refusal::field("key.id", format!("use 1 to {max} of a-z, 0-9 and `_`, or leave it out"))
            })?,
        };
        let text = KeyText::derive(&self.0.pepper, id, deed.seed());
        let key = wire::Key {
            id: text.id.to_string(),
            hash: text.hash(&self.0.pepper).0.to_vec().into(),
            created_unix_ms: deed.at().millis(),
            ..settable(given)
        };
        let kept = self.entities().create(&deed, key).await?;
        Ok(Response::new(secret(kept, &text)))
    }

    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Answer<v1::KeyRecord> {
        reply(self.entities().get::<wire::Key>(&request.get_ref().id).await)
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Answer<v1::ListKeysResponse> {
        let ask = request.into_inner();
        let (page, now) = (Page::read(ask.page_size, &ask.page_token)?, self.0.clock.now());
        let wanted = |key: &wire::Key| {
            (ask.project.is_empty() || key.project == ask.project)
                && (ask.group.is_empty() || key.groups.contains(&ask.group))
                && (ask.include_ended || !has_ended(key, now))
        };
        let (keys, next_page_token) = self.entities().list::<wire::Key>(&page, wanted).await?;
        let keys = keys.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListKeysResponse { keys, next_page_token }))
    }

    async fn update_key(&self, request: Request<v1::UpdateKeyRequest>) -> Answer<v1::KeyRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let given = required("key", request.into_inner().key)?;
        let edit = |present: &wire::Key| {
            may_manage(&deed.admin, present)?;
            if !given.project.is_empty() && given.project != present.project {
                return Err(Refusal::field("key.project", "a key stays in its project: make another key"));
            }
            if given.role != 0 && given.role != present.role {
                return Err(Refusal::field("key.role", "a key keeps its role: make another key"));
            }
            Ok(wire::Key {
                id: present.id.clone(),
                project: present.project.clone(),
                role: present.role,
                hash: present.hash.clone(),
                previous_hash: present.previous_hash.clone(),
                previous_until_unix_ms: present.previous_until_unix_ms,
                revoked_unix_ms: present.revoked_unix_ms,
                created_unix_ms: present.created_unix_ms,
                ..settable(given.clone())
            })
        };
        reply(self.entities().update(&deed, &given.id, edit).await)
    }

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Answer<v1::KeySecret> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let ask = request.into_inner();
        let overlap = Duration::from_millis(ask.overlap_ms);
        if overlap > OVERLAP_MAX {
            return Err(Refusal::field("overlap_ms", "the old secret may open for 30 days at most").into());
        }
        let id = KeyId::parse(&ask.id).ok_or_else(|| Refusal::not_found("key", &ask.id))?;
        let text = KeyText::derive(&self.0.pepper, id, deed.seed());
        let hash = text.hash(&self.0.pepper).0.to_vec();
        let edit = |present: &wire::Key| {
            may_manage(&deed.admin, present)?;
            if has_ended(present, deed.at()) {
                return Err(ended(present));
            }
            let until = if overlap.is_zero() { 0 } else { deed.at().after(overlap).millis() };
            Ok(wire::Key {
                hash: hash.clone().into(),
                previous_hash: if until == 0 { Default::default() } else { present.hash.clone() },
                previous_until_unix_ms: until,
                ..present.clone()
            })
        };
        let kept = self.entities().update(&deed, &ask.id, edit).await?;
        Ok(Response::new(secret(kept, &text)))
    }

    async fn revoke_key(&self, request: Request<v1::RevokeKeyRequest>) -> Answer<v1::KeyRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let revoke = |present: &wire::Key| {
            may_manage(&deed.admin, present)?;
            let revoked_unix_ms = match present.revoked_unix_ms {
                0 => deed.at().millis(),
                before => before,
            };
            Ok(wire::Key { revoked_unix_ms, ..present.clone() })
        };
        reply(self.entities().update(&deed, &request.get_ref().id, revoke).await)
    }

    async fn delete_key(&self, request: Request<v1::DeleteKeyRequest>) -> Answer<v1::DeleteKeyResponse> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let may_go = |present: &wire::Key| {
            may_manage(&deed.admin, present)?;
            if has_ended(present, deed.at()) {
                return Ok(());
            }
            let obstacle = (format!("key/{}", present.id), "the key still opens: revoke it first".to_owned());
            Err(Refusal::in_the_way("OPEN", vec![obstacle]))
        };
        self.entities().delete::<wire::Key>(&deed, &request.get_ref().id, may_go).await?;
        Ok(Response::new(v1::DeleteKeyResponse {}))
    }
}

/// Only owners manage keys of admins.
fn may_manage(admin: &Admin, key: &wire::Key) -> Result<(), Refusal> {
    if key.role == 0 { Ok(()) } else { admin.at_least(AdminRole::Owner) }
}

fn has_ended(key: &wire::Key, now: Timestamp) -> bool {
    key.revoked_unix_ms != 0 || key.expires_unix_ms != 0 && key.expires_unix_ms <= now.millis()
}

fn ended(key: &wire::Key) -> Refusal {
    let message = "the key was revoked or has expired: make another one".to_owned();
    Refusal::in_the_way("ENDED", vec![(format!("key/{}", key.id), message)])
}

/// What a client may say of a key.
fn settable(given: wire::Key) -> wire::Key {
    wire::Key {
        id: String::new(),
        hash: Default::default(),
        previous_hash: Default::default(),
        previous_until_unix_ms: 0,
        revoked_unix_ms: 0,
        created_unix_ms: 0,
        change: None,
        ..given
    }
}

fn secret(kept: Kept<wire::Key>, text: &KeyText) -> v1::KeySecret {
    v1::KeySecret { key: Some(kept.entity.shown()), revision: kept.revision, text: text.reveal() }
}
