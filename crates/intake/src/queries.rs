//! `llm.result.<id>`, and what is known of a request.

use std::time::Duration;

use farebox_bus::{CallError, Delivery, StoredMessage, StreamError, caller, topology};
use farebox_proto::{headers, subjects, v1};
use farebox_types::{ErrorKind, Fault, Project, RequestId};

use crate::{answer::Outgoing, live::Shared, request::on_the_bus};

/// The form of an answer to a message that may be empty: JSON unless protobuf is asked for.
pub(crate) fn wants_json(delivery: &Delivery) -> bool {
    delivery.headers.get(headers::CONTENT_TYPE) != Some(headers::PROTOBUF)
}

/// Whose request is meant, and which, once it is known that the caller may ask.
pub(crate) fn named(shared: &Shared, delivery: &Delivery) -> Result<(Project, RequestId), Fault> {
    let caller = caller(delivery, shared.tenancy)?;
    shared.authoriser.admit(&on_the_bus(&caller))?;
    let id = shared.tenancy.request_in(&delivery.subject);
    let id = id.ok_or_else(|| Fault::new(ErrorKind::BadRequest, "the subject's last word is no request id"))?;
    Ok((caller.project, id))
}

/// Fetches a stored final answer.
pub(crate) async fn result(shared: &Shared, delivery: Delivery) {
    let Some(to) = delivery.reply.clone() else { return };
    let json = wants_json(&delivery);
    let (project, id) = match named(shared, &delivery) {
        Ok(named) => named,
        Err(fault) => return shared.say(&to, Outgoing::refusal(json, "", fault)).await,
    };
    let outgoing = match find(shared, &project, &id).await {
        Ok(found) => Outgoing::stored(found).on_the_bus(json, &id),
        Err(fault) => Outgoing::refusal(json, id.as_str(), fault),
    };
    shared.say(&to, outgoing).await;
}

/// The stored answer, or why there is none (yet).
async fn find(shared: &Shared, project: &Project, id: &RequestId) -> Result<StoredMessage, Fault> {
    let unreadable =
        |error: StreamError| Fault::new(ErrorKind::Unavailable, format!("the stored answers cannot be read: {error}"));
    if let Some(found) = shared.results.find(project, id).await.map_err(unreadable)? {
        return Ok(found);
    }
    let fault = missing(shared, project, id).await;
    if fault.kind == ErrorKind::NotFound {
        // It is stored before its call or job is gone: what ended in between is there now.
        if let Some(found) = shared.results.find(project, id).await.map_err(unreadable)? {
            return Ok(found);
        }
    }
    Err(fault)
}

/// Why there is no answer (yet).
async fn missing(shared: &Shared, project: &Project, id: &RequestId) -> Fault {
    let later = |what: &str| {
        Fault::new(ErrorKind::Unavailable, format!("`{id}` {what}: ask again later"))
            .retry_after(Duration::from_secs(1))
    };
    if lookup(shared, project, id).await.is_some_and(|existing| existing.open) {
        return later("is running");
    }
    if queued(shared, project, id).await.is_some() {
        return later("waits for its turn");
    }
    let message = format!(
        "there is no answer for `{id}`: answers are kept for a day, of jobs and of requests with an id of the caller's own"
    );
    Fault::new(ErrorKind::NotFound, message)
}

/// The job that waits or runs; none as well when that cannot be read.
pub(crate) async fn queued(shared: &Shared, project: &Project, id: &RequestId) -> Option<StoredMessage> {
    shared.bus.last_by_subject(topology::JOBS, &subjects::job(project, id)).await.ok().flatten()
}

/// What the guard knows of a request id; nothing as well when it does not answer.
pub(crate) async fn lookup(shared: &Shared, project: &Project, id: &RequestId) -> Option<v1::Existing> {
    let ask = v1::LookupRequest {
        shard: subjects::SHARD,
        project: project.as_str().to_owned(),
        request_id: id.as_str().to_owned(),
        made_here: false,
    };
    ask_guard(shared, &ask).await.ok().and_then(|reply| reply.existing)
}

pub(crate) async fn ask_guard(shared: &Shared, ask: &v1::LookupRequest) -> Result<v1::LookupReply, CallError> {
    shared.bus.call(&subjects::lookup(subjects::SHARD), ask, shared.options.guard_timeout.get()).await
}
