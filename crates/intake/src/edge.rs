//! Requests and questions of farebox's own HTTP edge: the same road, and who is calling was found out there.

use bytes::Bytes;
use farebox_bus::{Delivery, topology};
use farebox_proto::{subjects, v1};
use farebox_types::{ErrorKind, Fault, Project, RequestId, Timestamp};

use crate::{
    answer::Outgoing,
    live::{self, Shared, Way},
    queries,
    request::{Payload, within_body_max},
};

/// One live request over HTTP.
pub(crate) async fn request(shared: &Shared, delivery: Delivery) {
    let now = shared.clock.now();
    let message = read(&delivery);
    let (id, received) = match &message {
        Ok(message) => (id_of(message).to_owned(), Timestamp(message.received_unix_ms).min(now)),
        Err(_) => (String::new(), now),
    };
    let way = Way {
        json: false,
        reply_to: delivery.reply.as_deref().unwrap_or_default(),
        received: if received.millis() > 0 { received } else { now },
        traceparent: delivery.headers.traceparent(),
        id: &id,
    };
    let arrival = match message {
        Ok(message) => arrival(shared, message).await,
        Err(fault) => Err(fault),
    };
    live::serve(shared, &way, arrival).await;
}

/// What the edge calls a request.
pub(crate) fn named(delivery: &Delivery) -> String {
    read(delivery).map(|message| id_of(&message).to_owned()).unwrap_or_default()
}

fn id_of(message: &v1::EdgeRequest) -> &str {
    message.request.as_ref().map_or("", |request| &request.request_id)
}

fn read(delivery: &Delivery) -> Result<v1::EdgeRequest, Fault> {
    delivery.decode().map_err(|error| Fault::new(ErrorKind::Internal, error.to_string()))
}

async fn arrival(shared: &Shared, message: v1::EdgeRequest) -> Result<(v1::Principal, Payload<'static>), Fault> {
    let v1::EdgeRequest { principal, request, id_chosen, .. } = message;
    let (Some(principal), Some(mut request)) = (principal, request) else {
        return Err(Fault::new(ErrorKind::Internal, "the edge says not who asks, or not what"));
    };
    let principal = v1::Principal { entrance: v1::Entrance::Http.into(), ..principal };
    let stored = match request.body.take() {
        Some(v1::llm_request::Body::Stored(stored)) => {
            let object = stored.object.clone().unwrap_or_default();
            let bytes = fetch(shared, &object, request.deadline_unix_ms).await?;
            let raw = v1::RawBody { dialect: stored.dialect, bytes };
            request.body = Some(v1::llm_request::Body::Raw(raw));
            Some(object)
        }
        body => {
            request.body = body;
            None
        }
    };
    Ok((principal, Payload::Edge { request: Box::new(request), stored, id_chosen }))
}

async fn fetch(shared: &Shared, object: &v1::ObjectRef, deadline: i64) -> Result<Bytes, Fault> {
    if object.bucket != topology::BODIES {
        return Err(Fault::new(ErrorKind::Internal, format!("no bodies are stored in `{}`", object.bucket)));
    }
    within_body_max(usize::try_from(object.size).unwrap_or(usize::MAX), &shared.options)?;
    let within = match deadline {
        0 => shared.options.default_deadline.get(),
        at => Timestamp(at).remaining(shared.clock.now()),
    };
    let fetched = shared.bus.get_object(&object.clone().into(), within).await;
    fetched.map_err(|error| error.fault("the request's stored body cannot be fetched"))
}

/// Says whether the answer to a request may still come, to an edge whose connection was lost. An answer that was kept is
/// sent again.
pub(crate) async fn lookup(shared: &Shared, delivery: Delivery) {
    let Ok(asked) = delivery.decode::<v1::EdgeLookup>() else {
        tracing::warn!("a question of the edge cannot be read");
        return;
    };
    let reply = v1::EdgeLookupReply { over: is_over(shared, &asked).await };
    let to = delivery.reply.as_deref().unwrap_or_default();
    shared.say(to, Outgoing::new(false, prost::Message::encode_to_vec(&reply))).await;
}

async fn is_over(shared: &Shared, asked: &v1::EdgeLookup) -> bool {
    let project = asked.principal.as_ref().map(|principal| principal.project.as_str()).unwrap_or_default();
    let (Ok(owner), Ok(id)) = (Project::parse(project), RequestId::parse(&asked.request_id)) else { return true };
    let ask = v1::LookupRequest {
        shard: subjects::SHARD,
        project: project.to_owned(),
        request_id: asked.request_id.clone(),
        made_here: true,
    };
    let Ok(v1::LookupReply { existing: known }) = queries::ask_guard(shared, &ask).await else { return false };
    if known.as_ref().is_some_and(|known| known.open) {
        return false;
    }
    // Kept before its call ended: looked for after that is known.
    match shared.results.find(&owner, &id).await {
        Ok(Some(kept)) => {
            shared.say(&asked.reply_to, Outgoing::stored(kept)).await;
            false
        }
        Ok(None) if known.is_some() => true,
        // The guard has not heard of it, or no longer knows it. It may still be on its way there.
        Ok(None) => {
            let options = &shared.options;
            let sent = Timestamp(asked.reached_unix_ms);
            let admitted_by = sent.after(options.guard_deadline.get()).after(options.worker_deadline.get());
            shared.clock.now() >= admitted_by
        }
        Err(_) => false,
    }
}
