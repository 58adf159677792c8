//! Who changed what.

use farebox_directory::{Changed, Kind, Record};
use farebox_proto::v1 as wire;
use tonic::{Request, Response};

use crate::{
    api::{Answer, Api},
    config_book,
    entities::Managed,
    paging::{Page, token},
    refusal::Refusal,
    v1::{self, audit_service_server::AuditService, change_record::Entity},
};

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_changes(&self, request: Request<v1::ListChangesRequest>) -> Answer<v1::ListChangesResponse> {
        let ask = request.into_inner();
        let page = Page::read(ask.page_size, &ask.page_token)?;
        let kind = match ask.kind.as_str() {
            "" => None,
            given => Some(Changed::all().find(|kind| kind.as_str() == given).ok_or_else(|| {
                let known = Changed::all().map(Changed::as_str).collect::<Vec<_>>().join(", ");
                Refusal::field("kind", format!("there is no kind `{given}`; there are: {known}"))
            })?),
        };
        let before = match page.after.as_str() {
            "" => u64::MAX,
            after => after.parse().map_err(|_| Refusal::field("page_token", "this is no token of a page"))?,
        };
        let wanted = |record: &Record| {
            kind.is_none_or(|kind| record.kind == kind)
                && (ask.name.is_empty() || record.name == ask.name)
                && (ask.by.is_empty() || record.change.by == ask.by)
        };
        let mut records = self.entities().audit.newest(before, page.size + 1, wanted).await.map_err(Refusal::from)?;
        let more = records.len() > page.size;
        records.truncate(page.size);
        let next_page_token =
            records.last().filter(|_| more).map(|last| token(&last.sequence.to_string())).unwrap_or_default();
        let changes = records.into_iter().map(told).collect();
        Ok(Response::new(v1::ListChangesResponse { changes, next_page_token }))
    }
}

fn told(record: Record) -> v1::ChangeRecord {
    let entity = record.value.and_then(|value| match record.kind {
        Changed::Entity(kind) => entity(kind, &value),
        Changed::Config => Some(Entity::Config(config_book::brief(config_book::read(record.revision, Some(value))))),
    });
    let mut change = record.change;
    change.request_digest.clear();
    v1::ChangeRecord {
        sequence: record.sequence,
        at_unix_ms: record.at.millis(),
        kind: record.kind.to_string(),
        name: record.name,
        change: Some(change),
        entity,
    }
}

fn entity(kind: Kind, value: &[u8]) -> Option<Entity> {
    fn read<E: Managed>(value: &[u8]) -> Option<E> {
        E::decode(value).ok().map(Managed::shown)
    }
    Some(match kind {
        Kind::Key => Entity::Key(read::<wire::Key>(value)?),
        Kind::Project => Entity::Project(read(value)?),
        Kind::Organisation => Entity::Organisation(read(value)?),
        Kind::Group => Entity::Group(read(value)?),
        Kind::Budget => Entity::Budget(read(value)?),
        Kind::Limit => Entity::Limit(read(value)?),
    })
}
