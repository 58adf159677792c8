//! `llm.result.<id>` and `llm.cancel.<id>`.

use std::time::Duration;

use farebox_bus::{CallError, Delivery, Headers, StoredMessage, StreamError, caller, topology};
use farebox_proto::{headers, json, subjects, v1};
use farebox_types::{ErrorKind, Fault, Project, RequestId};
use prost::Message;
use tokio::time::{Instant, sleep};

use crate::{answer::Outgoing, live::Shared, request::on_the_bus};

/// The form of an answer to a message that may be empty: JSON unless protobuf is asked for.
fn wants_json(delivery: &Delivery) -> bool {
    delivery.headers.get(headers::CONTENT_TYPE) != Some(headers::PROTOBUF)
}

/// Whose request is meant, and which, once it is known that the caller may ask.
fn named(shared: &Shared, delivery: &Delivery) -> Result<(Project, RequestId), Fault> {
    let caller =
        caller(delivery, shared.tenancy).map_err(|error| Fault::new(ErrorKind::Unauthenticated, error.to_string()))?;
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
    if is_queued(shared, project, id).await {
        return later("waits for its turn");
    }
    let message = format!(
        "there is no answer for `{id}`: answers are kept for a day, of jobs and of requests with an id of the caller's own"
    );
    Fault::new(ErrorKind::NotFound, message)
}

async fn is_queued(shared: &Shared, project: &Project, id: &RequestId) -> bool {
    let job = shared.bus.last_by_subject(topology::JOBS, &subjects::job(project, id)).await;
    matches!(job, Ok(Some(_)))
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

/// How often a cancel is repeated for a worker that is about to get the call.
const REPEAT: Duration = Duration::from_millis(50);

/// Ends a job that no worker holds. A running call is stopped by the worker that holds it, which answers by itself; one
/// that is on its way to a worker is stopped when it gets there. In any case there is an answer.
pub(crate) async fn cancel(shared: &Shared, delivery: Delivery) {
    let json = wants_json(&delivery);
    let (project, id) = match named(shared, &delivery) {
        Ok(named) => named,
        Err(fault) => {
            return shared.say(delivery.reply.as_deref().unwrap_or_default(), Outgoing::refusal(json, "", fault)).await;
        }
    };
    let Some(cancelled) = stop(shared, &delivery, &project, &id, json).await else { return };
    let Some(to) = &delivery.reply else { return };
    let receipt = v1::CancelReceipt { request_id: id.as_str().to_owned(), cancelled };
    let bytes = if json { json::cancel_receipt(&receipt) } else { receipt.encode_to_vec() };
    shared.say(to, Outgoing::new(json, bytes)).await;
}

/// Whether it was stopped here; `None`: a worker stopped it, and has said so.
async fn stop(shared: &Shared, delivery: &Delivery, project: &Project, id: &RequestId, json: bool) -> Option<bool> {
    let began = Instant::now();
    let mut running = false;
    loop {
        let known = lookup(shared, project, id).await;
        let wait = match &known {
            Some(existing) if existing.open => {
                running = true;
                shared.options.worker_deadline.get()
            }
            Some(existing) if running && existing.outcome() == v1::Outcome::Cancelled => return None,
            Some(existing) => {
                if existing.outcome() == v1::Outcome::Cancelled {
                    // Perhaps by this very cancel: then its worker is heard first.
                    sleep(shared.options.offer_wait.get()).await;
                }
                return Some(false);
            }
            None if cancel_queued(shared, project, id, json).await => return Some(true),
            // It may be on its way to the guard; and the guard does not know ids that farebox made.
            None => shared.options.offer_wait.get(),
        };
        if began.elapsed() > wait {
            return Some(false);
        }
        sleep(REPEAT).await;
        if known.is_some() {
            repeat(shared, delivery, project, id, json).await;
        }
    }
}

/// Says a cancel to the workers once more.
async fn repeat(shared: &Shared, delivery: &Delivery, project: &Project, id: &RequestId, json: bool) {
    let order = v1::CancelOrder {
        project: project.as_str().to_owned(),
        request_id: id.as_str().to_owned(),
        reply_to: delivery.reply.clone().unwrap_or_default(),
        json,
        caller_gone: false,
    };
    if let Err(error) = shared.bus.publish_message(subjects::CANCEL, Headers::new(), &order).await {
        tracing::debug!(%error, "a cancel was not repeated");
    }
}

/// Ends a job that waits for its turn, by storing its final answer.
async fn cancel_queued(shared: &Shared, project: &Project, id: &RequestId, json: bool) -> bool {
    if is_queued(shared, project, id).await {
        let fault = Fault::new(ErrorKind::Cancelled, "the job was cancelled before it ran");
        let outgoing = Outgoing::refusal(json, id.as_str(), fault);
        if shared.results.keep(project, id, &outgoing).await.unwrap_or(false) {
            return true;
        }
    }
    false
}
