//! The role: binds, serves connections, drains.
//!
//! A connection is given up when no request has been under way on it for `headers_timeout`: one that never sends a request,
//! sends its headers too slowly, or is kept for later, alike. At the end of the process connections take nothing new; what
//! runs after `drain_timeout` is told to end (`App::cut`), and what is left after `answer_grace` is dropped.

use std::{
    convert::Infallible, future::pending, net::SocketAddr, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration,
};

use axum::response::Response;
use farebox_runtime::{
    Drain, DrainTrigger,
    listener::{Connection, Listener, Terms, Tls},
};
use farebox_types::{ErrorKind, Fault};
use futures::FutureExt;
use http::{HeaderValue, Request, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tower::{Layer, ServiceExt};
use tower_http::cors::CorsLayer;

use crate::{
    access::{self, Caller},
    app::{App, Deps, Peer},
    body, cors,
    error::Error,
    failure::{Shape, refusal},
    held::{Busy, Held, Writers},
    options::Options,
    patience::Patient,
    room::{Rooms, Source, too_many_connections},
    routes::{self, Route},
};

/// How long a client may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// The best first.
const PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// The HTTP edge, bound to its address.
pub struct Service {
    listener: Listener,
    app: Arc<App>,
    cut: DrainTrigger,
}

impl Service {
    /// Binds the address and reads what references to secrets lead to.
    pub async fn create(listen: SocketAddr, options: Options, deps: Deps) -> Result<Service, Error> {
        let tls = options.tls.as_ref().map(|tls| Tls::read(tls, "edge.tls", PROTOCOLS, &deps.env)).transpose()?;
        let terms = Terms {
            option: "listen.http",
            tls,
            connections_max: options.connections_max,
            connections_per_address: options.connections_per_address,
            handshake_timeout: options.handshake_timeout.get(),
        };
        let listener = Listener::bind(listen, terms).await?;
        let (cut, signal) = farebox_runtime::drain();
        let bodies = Rooms::of_bodies(&options);
        Ok(Service { listener, app: Arc::new(App { options, deps, bodies, cut: signal }), cut })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Serves until the drain; requests under way then have `drain_timeout` to end.
    pub async fn run(self, drain: Drain) {
        let Service { listener, app, cut } = self;
        let (drain_timeout, grace) = (app.options.drain_timeout.get(), app.options.answer_grace.get());
        let tasks = app.deps.tasks.clone();
        let (drop_all, dropped) = farebox_runtime::drain();
        let server = Arc::new(Server::new(app, drain.clone(), dropped));
        let (ready, mut taken) = mpsc::channel(1);
        let (alive, mut ended) = mpsc::channel::<Infallible>(1);
        let accepting = async {
            while let Some(connection) = taken.recv().await {
                let (server, alive) = (server.clone(), alive.clone());
                tasks.spawn(
                    "http connection",
                    contained(async move {
                        server.serve(connection).await;
                        drop(alive);
                    }),
                );
            }
        };
        tokio::select! {
            () = drain.signaled() => {}
            () = listener.run(ready) => {}
            () = accepting => {}
        }
        drop((alive, taken));
        if timeout(drain_timeout, ended.recv()).await.is_err() {
            cut.drain();
            if timeout(grace, ended.recv()).await.is_err() {
                drop_all.drain();
                let _none = ended.recv().await;
            }
        }
    }
}

/// A panic ends one connection or one request, not the process.
pub(crate) async fn contained(work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        tracing::error!("a connection ended by a panic: this is a fault of farebox, please report it");
    }
}

/// What every connection shares.
struct Server {
    app: Arc<App>,
    http: auto::Builder<Writers>,
    cors: Option<CorsLayer>,
    requests: Rooms,
    drain: Drain,
    /// Drops connections.
    dropped: Drain,
}

impl Server {
    fn new(app: Arc<App>, drain: Drain, dropped: Drain) -> Server {
        let options = &app.options;
        let mut http = auto::Builder::new(Writers::new(app.deps.tasks.clone(), options.write_timeout.get()));
        let headers_max = options.headers_max.len();
        // Silence is watched for both versions in `serve`.
        http.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(headers_max);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(options.streams_max)
            .max_pending_accept_reset_streams(options.resets_max)
            .max_local_error_reset_streams(options.resets_max)
            .max_header_list_size(u32::try_from(headers_max).unwrap_or(u32::MAX))
            .keep_alive_interval(options.headers_timeout.get())
            .keep_alive_timeout(options.write_timeout.get());
        let cors = options.cors.as_ref().map(cors::layer);
        let requests = Rooms::of_requests(options);
        Server { app, http, cors, requests, drain, dropped }
    }

    async fn serve(self: Arc<Self>, connection: Connection) {
        let peer = Peer(connection.peer().0.ip());
        let busy = watch::Sender::new(0_usize);
        let (mut requests, mut arrivals) = (busy.subscribe(), busy.subscribe());
        let server = self.clone();
        let is_too_many = connection.is_too_many();
        let service = service_fn(move |request| {
            let (server, busy) = (server.clone(), Busy::one(&busy));
            async move { Ok::<_, Infallible>(server.answer(peer, is_too_many, request, busy).await) }
        });
        let connection = Patient::new(connection, self.app.options.write_timeout.get());
        let mut serving = pin!(self.http.serve_connection(TokioIo::new(connection), service));
        // On one too many the first request is told so, if it comes soon, and no other is taken.
        let mut patience = if is_too_many { FAREWELL } else { self.app.options.headers_timeout.get() };
        let (mut draining, mut ending) = (false, !is_too_many);
        loop {
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(peer = %peer.0, error, "a connection broke");
                    }
                    return;
                }
                () = silence(&mut requests, patience) => {
                    if patience == FAREWELL {
                        return;
                    }
                    patience = FAREWELL;
                }
                () = self.drain.signaled(), if !draining => draining = true,
                () = arrival(&mut arrivals), if !ending => ending = true,
                () = self.dropped.signaled() => return,
            }
            serving.as_mut().graceful_shutdown();
        }
    }

    async fn answer(
        self: Arc<Self>,
        peer: Peer,
        is_too_many: bool,
        request: Request<Incoming>,
        busy: Busy,
    ) -> Response<Held> {
        let route = Route::of(request.uri().path(), request.headers());
        // Over HTTP/2 the connection itself is told to end.
        let is_last = is_last(&request) || is_too_many && request.version() != Version::HTTP_2;
        let caller = access::principal(&self.app, request.headers(), peer);
        let mut room = self.requests.room(Source::of(caller.as_ref().ok(), peer));
        let entered = if is_too_many { Err(too_many_connections()) } else { room.enter() };
        let mut response = match entered {
            Err(fault) if !route.is_free() => self.turn_away(route.shape, request, &fault).await,
            _ => {
                let shape = route.shape;
                let answering = AssertUnwindSafe(self.routed(peer, route, caller, request)).catch_unwind();
                answering.await.unwrap_or_else(|_| {
                    tracing::error!("a request ended by a panic: this is a fault of farebox, please report it");
                    refusal(shape, &Fault::new(ErrorKind::Internal, "a fault of farebox itself: its log says more"))
                })
            }
        };
        if is_last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Held::new(body, busy, room))
    }

    async fn turn_away(&self, shape: Shape, request: Request<Incoming>, fault: &Fault) -> Response {
        let (head, incoming) = request.into_parts();
        body::discard(&head, incoming, &self.app.options).await;
        refusal(shape, fault)
    }

    async fn routed(
        &self,
        peer: Peer,
        route: Route,
        caller: Result<Caller, Fault>,
        request: Request<Incoming>,
    ) -> Response {
        let app = self.app.clone();
        let Some(cors) = &self.cors else { return routes::answer(app, peer, route, caller, request).await };
        let inner = tower::service_fn(move |request| {
            let answering = routes::answer(app.clone(), peer, route.clone(), caller.clone(), request);
            answering.map(Ok::<_, Infallible>).boxed()
        });
        match cors.layer(inner).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Whether nothing more is taken from a request's connection. A length that stood beside `Transfer-Encoding` is not shown
/// here, and whoever stands in front may have gone by it: what follows could be part of the body.
/// <https://www.rfc-editor.org/rfc/rfc9112#section-6.1>
fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Waits for a request.
async fn arrival(requests: &mut watch::Receiver<usize>) {
    if requests.wait_for(|requests| *requests > 0).await.is_err() {
        // The connection itself ends now.
        pending().await
    }
}

/// Lives until no request has been under way for so long.
async fn silence(requests: &mut watch::Receiver<usize>, patience: Duration) {
    while requests.wait_for(|requests| *requests == 0).await.is_ok() {
        if timeout(patience, requests.changed()).await.is_err() {
            return;
        }
    }
    // The connection itself ends now.
    pending().await
}
