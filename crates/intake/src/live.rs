//! `llm.request`: one live request.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, Delivery, caller};
use farebox_proto::{headers, subjects::Tenancy, v1};
use farebox_types::{Clock, ErrorKind, Fault, Project, RequestId, Timestamp};

use crate::{
    admit::{Admission, Admitter, Road},
    answer::{Outgoing, Results, is_to, used_before},
    authorise::Authoriser,
    options::Options,
    request::{Arrival, Payload, Request, is_json, on_the_bus},
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

/// How a request came, and how its caller hears of it.
pub(crate) struct Way<'a> {
    pub(crate) json: bool,
    /// Empty: nowhere.
    pub(crate) reply_to: &'a str,
    pub(crate) received: Timestamp,
    pub(crate) traceparent: Option<&'a str>,
    /// The request's id, where it is known before the request is read.
    pub(crate) id: &'a str,
}

/// One live request of a caller on the bus.
pub(crate) async fn handle(shared: &Shared, delivery: Delivery) {
    let json = is_json(&delivery.headers, &delivery.payload);
    let way = Way {
        json,
        reply_to: delivery.reply.as_deref().unwrap_or_default(),
        received: shared.clock.now(),
        traceparent: delivery.headers.traceparent(),
        id: "",
    };
    let caller = caller(&delivery, shared.tenancy);
    let arrival = caller.map_err(Fault::from).map(|caller| {
        let message = Payload::new(json, &delivery.payload, delivery.headers.get(headers::DIALECT));
        (on_the_bus(&caller), message)
    });
    serve(shared, &way, arrival).await;
}

/// Reads, checks and admits a request. Its caller hears from here only what never reaches a worker.
pub(crate) async fn serve(shared: &Shared, way: &Way<'_>, arrival: Result<(v1::Principal, Payload<'_>), Fault>) {
    let request = arrival.and_then(|(principal, message)| {
        shared.authoriser.admit(&principal)?;
        let arrival = Arrival {
            principal,
            message,
            now: way.received,
            default_deadline: shared.options.default_deadline.get(),
            assigned: None,
        };
        shared.authoriser.authorise(Request::read(arrival, &shared.options)?)
    });
    let admitted = match request {
        Ok(request) => (admit(shared, way, &request).await, Some(request)),
        Err(fault) => (Some(Outgoing::refusal(way.json, way.id, fault)), None),
    };
    let (Some(mut outgoing), request) = admitted else { return };
    let Some(request) = request.filter(|_| way.reply_to.is_empty()) else {
        return shared.say(way.reply_to, outgoing).await;
    };
    // Nobody listens on a reply subject: the refusal goes where the answer would have gone.
    outgoing.headers.set(headers::BODY_DIGEST, &request.digest_text());
    let Ok(project) = request.principal.project() else { return };
    if let Err(error) = shared.results.keep(&project, &request.id, &outgoing).await {
        tracing::warn!(request = request.id.as_str(), %error, "a refusal was not kept");
    }
}

/// What is to be said here; nothing where the answer comes from elsewhere.
async fn admit(shared: &Shared, way: &Way<'_>, request: &Request) -> Option<Outgoing> {
    let said = |fault: Fault| Some(Outgoing::refusal(way.json, request.id.as_str(), fault));
    let given = |answer: Outgoing| match request.principal.entrance() {
        v1::Entrance::Http => answer,
        _ => answer.on_the_bus(way.json, &request.id),
    };
    let project = match request.principal.project() {
        Ok(project) => project,
        Err(error) => return said(Fault::new(ErrorKind::Internal, error.to_string())),
    };
    match answered(shared, &project, request).await {
        Ok(Some(outgoing)) => return Some(given(outgoing)),
        Ok(None) => {}
        Err(fault) => return said(fault),
    }
    let road = Road {
        reply_to: way.reply_to,
        keep: request.id_chosen || way.reply_to.is_empty(),
        job: false,
        received: way.received,
        traceparent: way.traceparent,
    };
    match shared.admitter.admit(request, &road).await {
        Admission::Taken | Admission::Answered => None,
        Admission::Refused(error) => Some(Outgoing::refusal(way.json, request.id.as_str(), error)),
        Admission::Existing(existing) => {
            match attach(shared, &project, &request.id, &existing, request.deadline).await {
                Ok(outgoing) => Some(given(outgoing)),
                Err(fault) => said(fault),
            }
        }
    }
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
    if !is_to(&found, &request.digest_text()) {
        return Err(used_before(&request.id));
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
