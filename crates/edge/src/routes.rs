//! Which path is which endpoint. The query says nothing about that.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse, Json, Response},
};
use farebox_dialect::DialectName;
use farebox_types::{ErrorKind, Fault};
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::{
    access::Caller,
    app::{App, Peer},
    body, call,
    failure::{Shape, refusal, unknown_url},
    health, models,
    room::Source,
};

/// What there is, for whoever asks for something else.
const THERE_IS: &str = "POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings, /v1/rerank, /v1/messages, \
                        /v1/messages/count_tokens; GET /v1/models, /v1/models/{id}, /health, /ready";

/// Where a request goes, and how its errors look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) shape: Shape,
    endpoint: Endpoint,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Endpoint {
    Call(DialectName),
    Models,
    Model(String),
    /// An answer that OpenAI would have kept.
    Kept,
    /// `/` and the prefixes, with which clients warm their connection up.
    Root,
    Health,
    Ready,
    Unknown,
}

impl Route {
    /// Every endpoint is there with and without `/v1`, also below `/openai` and `/anthropic`; slashes at the ends do not
    /// count.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Route {
        let whole = path.trim_matches('/');
        let (vendor, below) = match segment(whole) {
            (vendor @ ("openai" | "anthropic"), below) => (vendor, below),
            _ => ("", whole),
        };
        let (version, rest) = match segment(below) {
            (version @ ("v1" | "v2"), rest) => (version, rest),
            _ => ("", below),
        };
        let endpoint = Endpoint::of(rest, version);
        let anthropic = match &endpoint {
            Endpoint::Call(DialectName::AnthropicMessages | DialectName::AnthropicCountTokens) => true,
            Endpoint::Call(_) | Endpoint::Kept => false,
            _ => vendor == "anthropic" || headers.contains_key("anthropic-version") || rest.starts_with("messages"),
        };
        Route { shape: if anthropic { Shape::Anthropic } else { Shape::OpenAi }, endpoint }
    }

    /// Whether it is answered however much there is to do.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self.endpoint, Endpoint::Health | Endpoint::Root)
    }
}

/// The first segment of a path and the others.
fn segment(path: &str) -> (&str, &str) {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    (first, rest.trim_start_matches('/'))
}

impl Endpoint {
    fn of(path: &str, version: &str) -> Endpoint {
        use DialectName::*;
        let endpoint = match path {
            "" => Endpoint::Root,
            "chat/completions" => Endpoint::Call(OpenAiChat),
            "completions" => Endpoint::Call(OpenAiCompletions),
            "responses" => Endpoint::Call(OpenAiResponses),
            "embeddings" => Endpoint::Call(OpenAiEmbeddings),
            "rerank" => return Endpoint::Call(CohereRerank),
            "messages" => Endpoint::Call(AnthropicMessages),
            "messages/count_tokens" => Endpoint::Call(AnthropicCountTokens),
            "models" => Endpoint::Models,
            "health" => Endpoint::Health,
            "ready" => Endpoint::Ready,
            path => match segment(path) {
                ("models", id) => Endpoint::Model(percent_decode_str(id).decode_utf8_lossy().into_owned()),
                ("responses", _) => Endpoint::Kept,
                _ => Endpoint::Unknown,
            },
        };
        // Cohere's is the only second version.
        if version == "v2" { Endpoint::Unknown } else { endpoint }
    }

    /// Empty: whatever the method is.
    fn methods(&self) -> &'static [Method] {
        match self {
            Endpoint::Call(_) => &[Method::POST],
            Endpoint::Kept | Endpoint::Unknown => &[],
            _ => &[Method::GET, Method::HEAD],
        }
    }
}

pub(crate) fn answer(
    app: Arc<App>,
    peer: Peer,
    route: Route,
    caller: Result<Caller, Fault>,
    request: Request<Incoming>,
) -> BoxFuture<'static, Response> {
    Box::pin(answered(app, peer, route, caller, request))
}

async fn answered(
    app: Arc<App>,
    peer: Peer,
    route: Route,
    caller: Result<Caller, Fault>,
    request: Request<Incoming>,
) -> Response {
    let Route { shape, endpoint } = route;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let allowed = endpoint.methods();
    let response = if !allowed.is_empty() && !allowed.contains(&method) {
        wrong_method(shape, &method, &path, allowed)
    } else {
        match endpoint {
            Endpoint::Call(dialect) => ask(app, dialect, shape, caller, request).await,
            Endpoint::Models => models::list(&app, shape, caller, request.uri().query()),
            Endpoint::Model(id) => models::one(&app, shape, caller, &id),
            Endpoint::Kept => refusal(shape, &not_kept()),
            Endpoint::Root => Json(json!({ "service": "farebox", "endpoints": THERE_IS })).into_response(),
            Endpoint::Health => Json(json!({ "status": "ok" })).into_response(),
            Endpoint::Ready => health::ready(app.clone()).await,
            Endpoint::Unknown => unknown_url(shape, unknown(&path)),
        }
    };
    tracing::debug!(peer = %peer.0, %method, path, status = response.status().as_u16(), "request");
    if method == Method::HEAD { response.map(|_| Body::empty()) } else { response }
}

/// A call of a model. Who may not come in is refused before the body is kept in memory.
async fn ask(
    app: Arc<App>,
    dialect: DialectName,
    shape: Shape,
    caller: Result<Caller, Fault>,
    request: Request<Incoming>,
) -> Response {
    let (mut head, incoming) = request.into_parts();
    let caller = match caller {
        Ok(caller) => caller,
        Err(fault) => {
            body::discard(&head, incoming, &app.options).await;
            return refusal(shape, &fault);
        }
    };
    // Kept until the answer begins.
    let mut room = app.bodies.room(Source::Project(caller.project.clone()));
    let body = match body::read(&mut head, incoming, &mut room, &app.options).await {
        Ok(body) => body,
        Err(unread) => return unread.response(shape),
    };
    let stopping = || {
        let fault = Fault::new(ErrorKind::Unavailable, "this farebox is being stopped: ask again");
        refusal(shape, &fault.retry_after(std::time::Duration::from_secs(1)))
    };
    tokio::select! {
        response = Box::pin(call::handle(app.clone(), dialect, caller, head, body)) => response,
        // Answers that have begun end by themselves.
        () = app.cut.signaled() => stopping(),
    }
}

fn not_kept() -> Fault {
    let message = "farebox keeps no answers of providers: `previous_response_id` works where the provider keeps them, and \
                   to read them ask the provider itself";
    Fault::new(ErrorKind::Unsupported, message)
}

/// What there is instead of a path that is none.
fn unknown(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let is_doubled = segments.windows(2).any(|two| two == ["v1", "v1"]);
    let hint = if is_doubled { " (the base URL of this SDK goes without /v1)" } else { "" };
    format!("there is no `{path}` here{hint}: there is {THERE_IS}")
}

fn wrong_method(shape: Shape, method: &Method, path: &str, allowed: &[Method]) -> Response {
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let names = names.join(", ");
    let message = format!("`{path}` does not know {method}: use {names}");
    let mut response = refusal(shape, &Fault::new(ErrorKind::BadRequest, message));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().extend(HeaderValue::from_str(&names).ok().map(|names| (header::ALLOW, names)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, anthropic: bool) -> Route {
        let mut headers = HeaderMap::new();
        if anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        Route::of(path, &headers)
    }

    #[test]
    fn every_endpoint_is_there_with_and_without_its_prefixes() {
        use DialectName::*;
        for (path, endpoint) in [
            ("chat/completions", Endpoint::Call(OpenAiChat)),
            ("completions", Endpoint::Call(OpenAiCompletions)),
            ("responses", Endpoint::Call(OpenAiResponses)),
            ("embeddings", Endpoint::Call(OpenAiEmbeddings)),
            ("rerank", Endpoint::Call(CohereRerank)),
            ("messages", Endpoint::Call(AnthropicMessages)),
            ("messages/count_tokens", Endpoint::Call(AnthropicCountTokens)),
            ("models", Endpoint::Models),
            ("models/gpt-4o", Endpoint::Model("gpt-4o".to_owned())),
            ("models/org/model", Endpoint::Model("org/model".to_owned())),
            ("models/org%2Fmodel%20x", Endpoint::Model("org/model x".to_owned())),
            ("responses/resp_1", Endpoint::Kept),
            ("responses/resp_1/input_items", Endpoint::Kept),
            ("", Endpoint::Root),
            ("health", Endpoint::Health),
            ("ready", Endpoint::Ready),
            ("audio/speech", Endpoint::Unknown),
            ("chat", Endpoint::Unknown),
        ] {
            for prefix in ["", "/v1", "/openai", "/openai/v1", "/anthropic", "/anthropic/v1", "//v1", "/openai//v1"] {
                for end in ["", "/"] {
                    let path = format!("{prefix}/{path}{end}");
                    assert_eq!(route(&path, false).endpoint, endpoint, "{path}");
                }
            }
        }
    }

    #[test]
    fn there_is_one_endpoint_of_a_second_version() {
        assert_eq!(route("/v2/rerank", false).endpoint, Endpoint::Call(DialectName::CohereRerank));
        for path in ["/v2", "/v2/messages", "/v2/models", "/v1/v1/models", "/v3/models", "/vertex/v1/models"] {
            assert_eq!(route(path, false).endpoint, Endpoint::Unknown, "{path}");
        }
    }

    #[test]
    fn errors_look_as_the_caller_expects_them() {
        for (path, header, shape) in [
            ("/v1/chat/completions", false, Shape::OpenAi),
            ("/anthropic/v1/chat/completions", true, Shape::OpenAi),
            ("/openai/v1/messages", false, Shape::Anthropic),
            ("/v1/messages/count_tokens", false, Shape::Anthropic),
            ("/v1/messages/batches", false, Shape::Anthropic),
            ("/v1/models", false, Shape::OpenAi),
            ("/v1/models", true, Shape::Anthropic),
            ("/anthropic/v1/models", false, Shape::Anthropic),
            ("/nothing", false, Shape::OpenAi),
            ("/nothing", true, Shape::Anthropic),
            ("/anthropic/nothing", false, Shape::Anthropic),
        ] {
            assert_eq!(route(path, header).shape, shape, "{path} {header}");
        }
    }
}
