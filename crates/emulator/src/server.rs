//! The HTTP server: what arrives, which script it gets, and how that becomes a response.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    Answer, Dialect, Entry, Fault, Ledger, Refusal, Reply, Script, State, Usage,
    asked::Asked,
    body::ReplyBody,
    embeddings,
    endpoint::{Endpoint, Named},
    kept::Kept,
    ledger::OpenEntry,
    obey::obey,
    reply::{answer, echo, replay, usage},
    request::Request,
    route::{Routes, Seen},
};

const CALL_ID: &str = "x-client-request-id";
const ACCEPT_RETRY: Duration = Duration::from_millis(20);
/// Also how long a connection may lie unused: longer than any client keeps one, so that none is closed under a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0: any free one.
    pub listen: SocketAddr,
    /// The one key that is let in, as `authorization: Bearer …` or `x-api-key`. `None`: everybody.
    pub api_key: Option<String>,
    /// What `/v1/models` lists.
    pub models: Vec<String>,
    /// Answer 404 for a model that is not listed.
    pub only_listed_models: bool,
    /// How many entries the ledger keeps; 0 for none. Totals are exact in any case.
    pub ledger_entries: usize,
    pub request_bytes: usize,
    /// Keep the body of each model's last request for [`Emulator::last_request`].
    pub keep_requests: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: None,
            models: ["gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "claude-haiku-4-5"].map(str::to_owned).to_vec(),
            only_listed_models: false,
            ledger_entries: 200_000,
            request_bytes: 32 << 20,
            keep_requests: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    #[error("the emulator cannot listen on {addr}: {source}; choose another port, or 0 for any free one")]
    Listen { addr: SocketAddr, source: io::Error },
}

/// A running emulator. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct Emulator {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    ledger: Ledger,
    scripts: Mutex<HashMap<String, Scripts>>,
    /// Spares the lock where nobody ever set a script.
    scripted: AtomicBool,
    kept: Kept,
    /// Of the obedient model: the ids whose one refusal is over.
    spent: Mutex<HashSet<String>>,
    routes: Mutex<Routes>,
    /// Spares the lock where nobody ever set a route.
    routed: AtomicBool,
}

#[derive(Debug, Default)]
struct Scripts {
    once: VecDeque<Script>,
    sticky: Option<Script>,
}

impl Emulator {
    pub async fn start(options: Options) -> Result<Emulator, EmulatorError> {
        let addr = options.listen;
        let listen = |source| EmulatorError::Listen { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared {
            ledger: Ledger::new(options.ledger_entries),
            options,
            scripts: Mutex::default(),
            scripted: AtomicBool::new(false),
            kept: Kept::default(),
            spent: Mutex::default(),
            routes: Mutex::default(),
            routed: AtomicBool::new(false),
        });
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Emulator { addr, shared, server })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Without a path: append `/v1` for clients that expect it in their base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }

    /// From now on every request for this model gets this script, unless one was pushed. `*`: every model without one.
    pub fn script(&self, model: impl Into<String>, script: Script) {
        self.shared.with_scripts(|scripts| scripts.entry(model.into()).or_default().sticky = Some(script));
    }

    /// The next request for this model gets this script, after those pushed before. `*`: any model.
    pub fn push(&self, model: impl Into<String>, script: Script) {
        self.shared.with_scripts(|scripts| scripts.entry(model.into()).or_default().once.push_back(script));
    }

    /// The last request for this model, byte for byte; none unless [`Options::keep_requests`].
    pub fn last_request(&self, model: &str) -> Option<Bytes> {
        self.shared.kept.body(model)
    }

    /// The next request to this path, or to one below it, is answered with the script's recorded bytes, after those
    /// pushed before, whatever it asks. It is in no ledger; requests beyond the pushed scripts get a 404.
    pub fn route(&self, prefix: &str, script: Script) {
        self.shared.with_routes(|routes| routes.push(prefix, script));
        self.shared.routed.store(true, Ordering::Release);
    }

    /// The requests that came to a route since the last call, oldest first.
    pub fn take_seen(&self, prefix: &str) -> Vec<Seen> {
        self.shared.with_routes(|routes| routes.take_seen(prefix))
    }

    /// Back to the default answer.
    pub fn clear(&self) {
        self.shared.with_scripts(HashMap::clear);
    }

    /// Closes the port and all connections, in the middle of whatever they do.
    pub async fn stop(mut self) {
        self.server.shutdown().await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        // Only a slower first byte follows if this fails.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A connection that breaks is seen by its ledger entry.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answered = Result<Response<ReplyBody>, Infallible>;

async fn handle(shared: Arc<Shared>, request: http::Request<Incoming>) -> Answered {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if shared.routed.load(Ordering::Acquire) && shared.with_routes(|routes| routes.leads(path)) {
        return Ok(shared.routed(head, body).await);
    }
    let (dialect, named) = match Endpoint::of(&head.method, path) {
        Endpoint::Complete(dialect, named)
        | Endpoint::CountTokens(dialect, named)
        | Endpoint::Embed(dialect, named) => (dialect, named),
        Endpoint::Models => return Ok(shared.models()),
        Endpoint::Totals => return Ok(as_json(&shared.ledger.totals())),
        Endpoint::Ledger => {
            let since = head.uri.query().and_then(|q| q.strip_prefix("since=")?.parse().ok());
            return Ok(as_json(&shared.ledger.since(since.unwrap_or(0))));
        }
        Endpoint::Last(model) => return Ok(as_json(&shared.kept.told(model))),
        Endpoint::Unknown => {
            let refusal = refuse(404, format!("Invalid URL ({} {path})", head.method));
            return Ok(told(Dialect::OpenAi, &refusal));
        }
    };
    let body = match Limited::new(body, shared.options.request_bytes).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) => return Ok(told(dialect, &refuse(413, format!("cannot read the request: {e}")))),
    };
    Ok(match Endpoint::of(&head.method, path) {
        Endpoint::CountTokens(..) => match Request::parse(&body, named) {
            Ok(request) if dialect == Dialect::Gemini => {
                as_json(&serde_json::json!({ "totalTokens": request.prompt_tokens() }))
            }
            Ok(request) => as_json(&serde_json::json!({ "input_tokens": request.prompt_tokens() })),
            Err(e) => told(dialect, &refuse(400, e)),
        },
        Endpoint::Embed(..) => shared.embed(dialect, named, &head.headers, &body),
        _ => shared.complete(dialect, named, &head.headers, &body).await,
    })
}

impl Shared {
    fn with_scripts<T>(&self, change: impl FnOnce(&mut HashMap<String, Scripts>) -> T) -> T {
        let out = change(&mut self.scripts.lock().unwrap_or_else(PoisonError::into_inner));
        self.scripted.store(true, Ordering::Release);
        out
    }

    fn with_routes<T>(&self, then: impl FnOnce(&mut Routes) -> T) -> T {
        then(&mut self.routes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn routed(&self, head: http::request::Parts, body: Incoming) -> Response<ReplyBody> {
        let refused = |status: u16, message: String| told(Dialect::OpenAi, &refuse(status, message));
        let body = match Limited::new(body, self.options.request_bytes).collect().await {
            Ok(body) => body.to_bytes(),
            Err(e) => return refused(413, format!("cannot read the request: {e}")),
        };
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().map(str::to_owned));
        let seen = Seen { method: head.method, path, query, headers: head.headers, body };
        let Some(script) = self.with_routes(|routes| routes.take(seen)) else {
            return refused(404, "nothing is left to play here".to_owned());
        };
        if !script.delay.is_zero() {
            tokio::time::sleep(script.delay).await;
        }
        if script.fault == Fault::HangBeforeHead {
            std::future::pending::<()>().await;
        }
        match &script.answer {
            Answer::Recorded(recorded) => replay(&script, recorded, None),
            _ => refused(500, "a route plays recorded bytes only".to_owned()),
        }
    }

    fn script_for(&self, model: &str) -> Script {
        if !self.scripted.load(Ordering::Acquire) {
            return Script::default();
        }
        self.with_scripts(|scripts| {
            for name in [model, "*"] {
                if let Some(script) = scripts.get_mut(name).and_then(|s| s.once.pop_front()) {
                    return script;
                }
            }
            let sticky = |name: &str| scripts.get(name)?.sticky.clone();
            sticky(model).or_else(|| sticky("*")).unwrap_or_default()
        })
    }

    fn models(&self) -> Response<ReplyBody> {
        let row = |m: &String| {
            serde_json::json!({ "id": m, "object": "model", "created": 1_700_000_000, "owned_by": "farebox-emulator",
                "type": "model", "display_name": m, "created_at": "2023-11-14T22:13:20Z" })
        };
        let data: Vec<_> = self.options.models.iter().map(row).collect();
        as_json(&serde_json::json!({ "object": "list", "data": data, "has_more": false,
            "first_id": self.options.models.first(), "last_id": self.options.models.last() }))
    }

    async fn complete(
        &self,
        dialect: Dialect,
        named: Named<'_>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response<ReplyBody> {
        let parsed = Request::parse(body, named);
        let model: Arc<str> = Arc::from(parsed.as_ref().map_or("", |r| &r.model));
        if self.options.keep_requests {
            self.kept.keep(&model, headers, body);
        }
        let mut entry = self.open(dialect, &model, parsed.as_ref().is_ok_and(Request::streams), headers);
        let request = match parsed.map_err(|e| refuse(400, e)).and_then(|r| self.check(dialect, headers, r)) {
            Ok(request) => request,
            Err(refusal) => return refused(dialect, entry, &refusal),
        };
        let mut script = self.script_for(&model);
        if matches!(script.answer, Answer::Obey) {
            script = match Asked::read(dialect, &model, request.streams(), body) {
                Ok(asked) => self.obeyed(&asked, entry.seq()),
                Err(message) => return refused(dialect, entry, &refuse(400, message)),
            };
        }
        let usage = match &script.answer {
            Answer::Reply(reply) => Some(usage(dialect, &request, reply)),
            Answer::Echo => Some(usage(dialect, &request, &Reply { text: echo(&request), ..Reply::default() })),
            Answer::Recorded(recorded) => Some(recorded.usage),
            Answer::Refuse(_) | Answer::Obey => None,
        };
        if let Some(usage) = usage.filter(|_| script.bill_on_arrival) {
            entry.bill(&usage, if request.streams() { 0 } else { usage.output });
            entry.publish();
        }
        if !script.delay.is_zero() {
            tokio::time::sleep(script.delay).await;
        }
        if script.fault == Fault::HangBeforeHead {
            std::future::pending::<()>().await;
        }
        match script.answer {
            Answer::Refuse(refusal) => refused(dialect, entry, &refusal),
            Answer::Recorded(ref recorded) => replay(&script, recorded, Some(entry)),
            Answer::Echo | Answer::Obey => {
                let reply = Reply { text: echo(&request), ..Reply::default() };
                answer(dialect, &request, model, &script, reply, entry)
            }
            Answer::Reply(ref reply) => answer(dialect, &request, model, &script, reply.clone(), entry),
        }
    }

    fn open(&self, dialect: Dialect, model: &Arc<str>, stream: bool, headers: &HeaderMap) -> OpenEntry {
        self.ledger.open(Entry {
            seq: 0,
            call_id: headers.get(CALL_ID).and_then(|v| v.to_str().ok()).map(Arc::from),
            dialect,
            model: Arc::clone(model),
            stream,
            prompt_tokens: 0,
            cache_read_tokens: 0,
            cache_write_5m_tokens: 0,
            cache_write_1h_tokens: 0,
            completion_tokens: 0,
            reasoning_tokens: 0,
            searches: 0,
            billed: false,
            state: State::Open,
            status: None,
            at_ms: 0,
        })
    }

    fn obeyed(&self, asked: &Asked, seq: u64) -> Script {
        obey(asked, seq, &mut self.spent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn embed(&self, dialect: Dialect, named: Named<'_>, headers: &HeaderMap, body: &[u8]) -> Response<ReplyBody> {
        let parsed = Request::parse(body, named);
        let model: Arc<str> = Arc::from(parsed.as_ref().map_or("", |r| &r.model));
        let mut entry = self.open(dialect, &model, false, headers);
        let read = if dialect == Dialect::Gemini { embeddings::gemini } else { embeddings::openai };
        match parsed.and_then(|_| read(body)) {
            Ok((answer, used)) => {
                entry.status(200);
                entry.bill(&Usage::new(used, 0), 0);
                let id = request_id(entry.seq());
                entry.end(State::Answered);
                response(200, dialect, &id, answer.to_string())
            }
            Err(message) => refused(dialect, entry, &refuse(400, message)),
        }
    }

    fn check<'a>(&self, dialect: Dialect, headers: &HeaderMap, request: Request<'a>) -> Result<Request<'a>, Refusal> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(key) = &self.options.api_key {
            let bearer = text("authorization").and_then(|v| v.strip_prefix("Bearer "));
            if bearer.or(text("x-api-key")).or(text("x-goog-api-key")) != Some(key.as_str()) {
                let message = match dialect {
                    Dialect::OpenAi | Dialect::OpenAiResponses => "Incorrect API key provided.",
                    Dialect::Anthropic => "invalid x-api-key",
                    Dialect::Gemini => "API key not valid. Please pass a valid API key.",
                };
                return Err(refuse(401, message));
            }
        }
        if self.options.only_listed_models && !self.options.models.iter().any(|m| *m == request.model) {
            let model = &request.model;
            return Err(refuse(
                404,
                match dialect {
                    Dialect::OpenAi | Dialect::OpenAiResponses => {
                        format!("The model `{model}` does not exist or you do not have access to it.")
                    }
                    Dialect::Anthropic => format!("model: {model}"),
                    Dialect::Gemini => format!("models/{model} is not found for API version v1beta"),
                },
            ));
        }
        if !request.has_messages() {
            return Err(refuse(400, "messages: Field required"));
        }
        if dialect == Dialect::Anthropic {
            if text("anthropic-version").is_none() {
                return Err(refuse(400, "anthropic-version: header is required"));
            }
            if request.max_tokens.is_none() {
                return Err(refuse(400, "max_tokens: Field required"));
            }
        }
        Ok(request)
    }
}

fn refuse(status: u16, message: impl Into<String>) -> Refusal {
    Refusal { status, message: message.into(), retry_after: None, body: None }
}

fn refusal_body(dialect: Dialect, refusal: &Refusal, request_id: &str) -> String {
    refusal.body.clone().unwrap_or_else(|| (dialect.writer().refusal)(refusal, request_id))
}

/// Of a request that is in no ledger.
fn told(dialect: Dialect, refusal: &Refusal) -> Response<ReplyBody> {
    response(refusal.status, dialect, "req_emu", refusal_body(dialect, refusal, "req_emu"))
}

fn refused(dialect: Dialect, mut entry: OpenEntry, refusal: &Refusal) -> Response<ReplyBody> {
    let id = request_id(entry.seq());
    entry.status(refusal.status);
    entry.end(State::Error);
    let mut response = response(refusal.status, dialect, &id, refusal_body(dialect, refusal, &id));
    if let Some(after) = refusal.retry_after {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(crate) fn request_id(seq: u64) -> String {
    format!("req_emu{seq}")
}

pub(crate) fn response(status: u16, dialect: Dialect, id: &str, body: String) -> Response<ReplyBody> {
    ReplyBody::Whole(Some(Bytes::from(body))).with_head(status, dialect, id, false)
}

impl ReplyBody {
    pub(crate) fn with_head(self, status: u16, dialect: Dialect, id: &str, stream: bool) -> Response<ReplyBody> {
        let mut response = Response::new(self);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        let kind = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let name = match dialect {
            Dialect::Gemini => "x-goog-request-id",
            Dialect::OpenAi | Dialect::OpenAiResponses => {
                headers.insert("openai-version", HeaderValue::from_static("2020-10-01"));
                headers.insert("openai-processing-ms", HeaderValue::from_static("1"));
                "x-request-id"
            }
            Dialect::Anthropic => "request-id",
        };
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(name, id);
        }
        response
    }
}

fn as_json(value: &impl serde::Serialize) -> Response<ReplyBody> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(ReplyBody::Whole(Some(Bytes::from(body))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
