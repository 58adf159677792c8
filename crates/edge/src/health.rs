//! Whether calls can be served right now.

use std::{sync::Arc, time::Duration};

use axum::response::{IntoResponse, Json, Response};
use farebox_bus::{Bus, CallError, Headers};
use farebox_proto::{subjects, v1};
use http::{HeaderValue, StatusCode, header};
use prost::Message;
use serde_json::{Map, Value, json};

use crate::app::App;

/// 200 if every part is there, 503 with those that are not, within `ready_timeout`.
pub(crate) async fn ready(app: Arc<App>) -> Response {
    let (bus, within) = (&app.deps.bus, app.options.ready_timeout.get());
    let nats = match bus.down_for() {
        None => Ok(()),
        Some(down) => Err(format!("there has been no connection for {down:.1?}")),
    };
    let directory = app.deps.directory.read().map(drop).map_err(|stale| stale.to_string());
    let (intake, guard, worker) = if nats.is_ok() {
        tokio::join!(intake_answers(bus, within), guard_answers(bus, within), worker_answers(bus, within))
    } else {
        let unknown = || Err("cannot be asked".to_owned());
        (unknown(), unknown(), unknown())
    };
    let parts = [("nats", nats), ("directory", directory), ("intake", intake), ("guard", guard), ("worker", worker)];
    let all = parts.iter().all(|(_, part)| part.is_ok());
    let said: Map<String, Value> = parts.into_iter().map(|(name, part)| (name.to_owned(), state(part))).collect();
    let mut response = Json(json!({ "ready": all, "parts": said })).into_response();
    if !all {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn state(part: Result<(), String>) -> Value {
    match part {
        Ok(()) => json!({ "ok": true }),
        Err(reason) => json!({ "ok": false, "reason": reason }),
    }
}

/// Whether somebody takes requests of the edge: one that says not who asks is refused by whoever does.
pub async fn intake_answers(bus: &Bus, within: Duration) -> Result<(), String> {
    let request = v1::EdgeRequest::default().encode_to_vec();
    said(bus.request(subjects::EDGE_REQUEST, Headers::new(), request.into(), within).await)
}

/// Whether the guard leads: asked for a call that nobody made.
pub async fn guard_answers(bus: &Bus, within: Duration) -> Result<(), String> {
    let lookup = v1::LookupRequest::default();
    said(bus.call::<_, v1::LookupReply>(&subjects::lookup(subjects::SHARD), &lookup, within).await)
}

/// Whether somebody takes work: without a plan it is refused by whoever does.
pub async fn worker_answers(bus: &Bus, within: Duration) -> Result<(), String> {
    let work = v1::Work::default().encode_to_vec();
    said(bus.request(subjects::WORK, Headers::new(), work.into(), within).await)
}

fn said<T>(asked: Result<T, CallError>) -> Result<(), String> {
    asked.map(drop).map_err(|error| error.to_string())
}
