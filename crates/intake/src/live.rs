//! `llm.request`: one live request.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, Delivery, caller};
use farebox_proto::{headers, subjects::Tenancy, v1};
use farebox_types::{Clock, ErrorKind, Fault, Project, RequestId, Timestamp};

use crate::{
    admit::{Admission, Admitter, Road},
    answer::{Outgoing, Results},
    authorise::Authoriser,
    options::Options,
    request::{Arrival, Request, is_json},
};

/// What all handlers share.
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) admitter: Admitter,
    pub(crate) results: Results,
    pub(crate) authoriser: Authoriser,
}

impl Shared {
    /// Says something to a caller who wants to hear it.
    pub(crate) async fn say(&self, to: &str, outgoing: Outgoing) {
        if to.is_empty() {
            return;
        }
        if let Err(error) = self.bus.publish(to, outgoing.headers, outgoing.bytes).await {
            tracing::debug!(%error, "an answer was not sent");
        }
    }
}

/// Reads, checks and admits one live request. Its caller hears from here only what never reaches a worker.
pub(crate) async fn handle(shared: &Shared, delivery: Delivery) {
    let received = shared.clock.now();
    let json = is_json(&delivery.headers, &delivery.payload);
    let reply_to = delivery.reply.clone().unwrap_or_default();
    let read = caller(&delivery, shared.tenancy)
        .map_err(|error| Fault::new(ErrorKind::Unauthenticated, error.to_string()))
        .and_then(|caller| {
            let arrival = Arrival {
                caller: &caller,
                json,
                payload: &delivery.payload,
                dialect: delivery.headers.get(headers::DIALECT),
                now: received,
                default_deadline: shared.options.default_deadline.get(),
                assigned: None,
            };
            shared.authoriser.admit(&caller.project, caller.key_id.as_deref())?;
            let request = shared.authoriser.authorise(Request::read(&arrival, &shared.options)?)?;
            Ok((request, caller.project))
        });
    let (request, project) = match read {
        Ok(read) => read,
        Err(fault) => return shared.say(&reply_to, Outgoing::refusal(json, "", fault)).await,
    };
    let road = Road {
        reply_to: &reply_to,
        keep: request.id_chosen || reply_to.is_empty(),
        job: false,
        received,
        traceparent: delivery.headers.traceparent(),
    };
    match answered(shared, &project, &request).await {
        Ok(Some(outgoing)) => return shared.say(&reply_to, outgoing).await,
        Ok(None) => {}
        Err(fault) => return shared.say(&reply_to, Outgoing::refusal(json, request.id.as_str(), fault)).await,
    }
    let fault = match shared.admitter.admit(&request, &road).await {
        Admission::Taken | Admission::Answered => return,
        Admission::Refused(fault) => fault,
        Admission::Existing(existing) => match attach(shared, &project, &request.id, &existing, request.deadline).await
        {
            Ok(outgoing) => return shared.say(&reply_to, outgoing).await,
            Err(fault) => fault,
        },
    };
    let mut outgoing = Outgoing::refusal(json, request.id.as_str(), fault);
    if reply_to.is_empty() {
        outgoing.headers.set(headers::BODY_DIGEST, &request.digest_text());
        // Nobody listens on a reply subject: the refusal goes where the answer would have gone.
        if let Err(error) = shared.results.keep(&project, &request.id, &outgoing).await {
            tracing::warn!(request = request.id.as_str(), %error, "a refusal was not kept");
        }
        return;
    }
    shared.say(&reply_to, outgoing).await;
}

/// The stored answer of a request whose id its caller chose. The guard forgets an id sooner than its answer goes, and a
/// repeat is not paid again in between.
async fn answered(shared: &Shared, project: &Project, request: &Request) -> Result<Option<Outgoing>, Fault> {
    if !request.id_chosen {
        return Ok(None);
    }
    let found = shared.results.find(project, &request.id).await.map_err(|error| {
        let message = format!("whether this request id was answered before cannot be read: {error}");
        Fault::new(ErrorKind::Unavailable, message).retry_after(Duration::from_secs(1))
    })?;
    let Some(found) = found else { return Ok(None) };
    let digest = request.digest_text();
    if found.headers.get(headers::BODY_DIGEST).is_some_and(|answered| !answered.is_empty() && answered != digest) {
        let message =
            format!("request id `{}` was used before with another body: choose a new id for a new request", request.id);
        return Err(Fault::new(ErrorKind::Conflict, message));
    }
    Ok(Some(Outgoing::stored(found)))
}

/// The answer of a call that was admitted before, now or when it ends.
pub(crate) async fn attach(
    shared: &Shared,
    project: &Project,
    id: &RequestId,
    existing: &v1::Existing,
    deadline: Timestamp,
) -> Result<Outgoing, Fault> {
    let now = shared.clock.now();
    let deadline = deadline.min(now.after(shared.options.max_deadline.get()));
    let within = if existing.open { deadline.remaining(now) } else { shared.options.result_wait.get() };
    if let Some(outgoing) = shared.results.wait(project, id, within).await? {
        return Ok(outgoing);
    }
    Err(if existing.open {
        let message = format!("the running call with the request id `{id}` did not end before this request's deadline");
        Fault::new(ErrorKind::DeadlineExceeded, message)
    } else {
        let outcome = existing.outcome().known().map_or("ended", |outcome| outcome.as_str());
        let message = format!(
            "a call with the request id `{id}` ended before ({outcome}) and its answer is no longer kept: use a new id"
        );
        Fault::new(ErrorKind::NotFound, message)
    })
}
