//! Plain HTTP/1.1 over kept connections: light, so that the direct call is measured and not its client.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// No answer that is read whole is larger.
const BODY_MAX: usize = 4 << 20;
/// For the few questions beside the load.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(20);

type Sender = SendRequest<Full<Bytes>>;

/// Connections to one server. A connection goes back when its answer has been read.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    authorization: Option<HeaderValue>,
    idle: Mutex<Vec<Sender>>,
    /// The connections' own work; it ends with the pool.
    drivers: Mutex<JoinSet<()>>,
}

impl Pool {
    pub(crate) fn new(addr: SocketAddr, key: Option<&str>) -> anyhow::Result<Pool> {
        let authorization = key.map(|key| HeaderValue::try_from(format!("Bearer {key}"))).transpose()?;
        Ok(Pool(Arc::new(Inner { addr, authorization, idle: Mutex::default(), drivers: Mutex::default() })))
    }

    /// Sends a request. Give the connection back with [`Pool::put`] when the body has been read to its end.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(Sender, Response<Incoming>)> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.0.addr.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        request.headers_mut().extend(self.0.authorization.clone().map(|key| (header::AUTHORIZATION, key)));
        let mut sender = self.take().await?;
        let response = sender.send_request(request).await.context("the request broke")?;
        Ok((sender, response))
    }

    pub(crate) fn put(&self, sender: Sender) {
        if !sender.is_closed() {
            self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
    }

    async fn take(&self) -> anyhow::Result<Sender> {
        loop {
            let kept = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(mut sender) = kept else { break };
            // The connection may not have seen yet that its last answer is over.
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let addr = self.0.addr;
        let stream = TcpStream::connect(addr).await.with_context(|| format!("cannot connect to {addr}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("no HTTP connection")?;
        let mut drivers = self.0.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.spawn(async move {
            // How it broke is seen by the call that was on it.
            let _ = connection.await;
        });
        Ok(sender)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn whole(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let (sender, response) = self.send(method, path, body).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke: {error}"))?.to_bytes();
        self.put(sender);
        Ok((status, body))
    }
}

/// One question on a connection of its own; anything but 200 is an error.
pub(crate) async fn ask(addr: SocketAddr, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    let pool = Pool::new(addr, None)?;
    let answer = tokio::time::timeout(QUESTION_TIMEOUT, pool.whole(method, path, body)).await;
    let (status, body) = answer.with_context(|| format!("{addr} does not answer"))??;
    ensure!(status == StatusCode::OK, "{addr} answered {status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}
