//! Cancels, of callers (`llm.cancel.<id>`) and of the HTTP edge. Jobs that wait end here; what runs, or is on its way to a
//! worker, is stopped by the worker.

use std::time::Duration;

use farebox_bus::{Delivery, Headers};
use farebox_proto::{headers, json, subjects, v1};
use farebox_types::{ErrorKind, Fault, Project, RequestId};
use prost::Message;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    answer::Outgoing,
    live::Shared,
    queries::{lookup, named, queued, wants_json},
};

/// How often a cancel is said again to workers, of which one is about to get the call.
const REPEAT: Duration = Duration::from_millis(50);

/// Ends a job that no worker holds. A running call is stopped by the worker that holds it, which answers by itself; one
/// that is on its way to a worker is stopped when it gets there. In any case there is an answer.
pub(crate) async fn of_a_caller(shared: &Shared, delivery: Delivery) {
    let json = wants_json(&delivery);
    let to = delivery.reply.as_deref().unwrap_or_default();
    let (project, id) = match named(shared, &delivery) {
        Ok(named) => named,
        Err(fault) => return shared.say(to, Outgoing::refusal(json, "", fault)).await,
    };
    let order = v1::CancelOrder {
        project: project.as_str().to_owned(),
        request_id: id.as_str().to_owned(),
        reply_to: to.to_owned(),
        json,
        caller_gone: false,
    };
    let Some(cancelled) = stop(shared, &order, &project, &id).await else { return };
    let receipt = v1::CancelReceipt { request_id: order.request_id, cancelled };
    let bytes = if json { json::cancel_receipt(&receipt) } else { receipt.encode_to_vec() };
    shared.say(to, Outgoing::new(json, bytes)).await;
}

/// Says a cancel to all workers until the one that holds the call, or is about to, has confirmed it.
pub(crate) async fn of_the_edge(shared: &Shared, delivery: Delivery) {
    let Ok(v1::EdgeCancel { principal, request_id, caller_gone }) = delivery.decode() else {
        tracing::warn!("a cancel of the edge cannot be read");
        return;
    };
    let mut inbox = shared.bus.inbox();
    let order = v1::CancelOrder {
        project: principal.unwrap_or_default().project,
        request_id: request_id.clone(),
        reply_to: inbox.subject(),
        json: false,
        caller_gone,
    };
    let until = Instant::now() + shared.options.worker_deadline.get();
    let mut receipt = v1::CancelReceipt { request_id, cancelled: false };
    while Instant::now() < until {
        say(shared, &order).await;
        if let Ok(Some(heard)) = timeout(REPEAT, inbox.next()).await {
            receipt = heard.decode().unwrap_or(receipt);
            break;
        }
    }
    let to = delivery.reply.as_deref().unwrap_or_default();
    shared.say(to, Outgoing::new(false, receipt.encode_to_vec())).await;
}

/// Whether it was stopped here; `None`: a worker stopped it, and has said so.
async fn stop(shared: &Shared, order: &v1::CancelOrder, project: &Project, id: &RequestId) -> Option<bool> {
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
            None if cancel_queued(shared, project, id, order.json).await => return Some(true),
            // It may be on its way to the guard; and the guard does not know ids that farebox made.
            None => shared.options.offer_wait.get(),
        };
        if began.elapsed() > wait {
            return Some(false);
        }
        sleep(REPEAT).await;
        if known.is_some() {
            say(shared, order).await;
        }
    }
}

/// Says a cancel to all workers.
async fn say(shared: &Shared, order: &v1::CancelOrder) {
    if let Err(error) = shared.bus.publish_message(subjects::CANCEL, Headers::new(), order).await {
        tracing::debug!(%error, "a cancel was not said to the workers");
    }
}

/// Ends a job that waits for its turn, by storing its final answer.
async fn cancel_queued(shared: &Shared, project: &Project, id: &RequestId, json: bool) -> bool {
    let Some(job) = queued(shared, project, id).await else { return false };
    let fault = Fault::new(ErrorKind::Cancelled, "the job was cancelled before it ran");
    let mut outgoing = Outgoing::refusal(json, id.as_str(), fault);
    // So that the same id with another body is not taken for a repeat.
    outgoing.headers.set(headers::BODY_DIGEST, job.headers.get(headers::BODY_DIGEST).unwrap_or_default());
    shared.results.keep(project, id, &outgoing).await.unwrap_or(false)
}
