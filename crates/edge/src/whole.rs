//! An answer that came whole.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use farebox_proto::{json, v1};
use farebox_types::Fault;
use http::header::CONTENT_TYPE;

use crate::{call::Origin, facts, failure::JSON, stream};

/// The answer to a request of which this is all that came. Where a stream was asked for (of a repeat only the end comes), it
/// is written as one.
pub(crate) fn answer(origin: &Origin, last: &v1::LlmResponse, body: Result<Bytes, Fault>) -> Response {
    let written = body.and_then(|body| match last.chunks {
        0 => Ok(object(with_facts(origin, last, body))),
        _ => stream::replay(origin, last, &body),
    });
    let mut response = match written {
        Ok(response) => response,
        Err(fault) => return origin.refusal(&fault, Some(last)),
    };
    let facts = origin.facts();
    facts.asked(response.headers_mut());
    if let Some(report) = &last.report {
        facts.ended(response.headers_mut(), report, origin.arrived.elapsed());
    }
    response
}

fn object(body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn with_facts(origin: &Origin, last: &v1::LlmResponse, body: Bytes) -> Bytes {
    if !origin.facts_in_body {
        return body;
    }
    json::with_member(&body, "farebox", &facts::object(last, origin.arrived.elapsed())).into()
}
