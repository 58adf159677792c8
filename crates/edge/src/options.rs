//! Options of the edge.

use std::net::SocketAddr;

use farebox_types::{ByteSize, Secret, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may come in over HTTP, and bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Let callers without a key of farebox into the project `default`, from this machine's own loopback address only: what
    /// other key they send is not looked at.
    pub anonymous: bool,
    /// Certificate and key of the server, read again when the files change. Without them it speaks plain text.
    pub tls: Option<TlsOptions>,
    /// Listens without TLS on an address that others can reach, as behind a proxy that speaks TLS. Keys travel in every
    /// request.
    pub allow_plaintext: bool,
    /// Which web pages may call from a browser. Absent: none.
    pub cors: Option<CorsOptions>,
    /// The largest body, unpacked. Those above the bus's payload limit travel through its object store.
    pub body_max: ByteSize,
    /// How long a body may take to arrive.
    pub body_timeout: Span,
    /// The most bytes of a request's headers, its first line included.
    pub headers_max: ByteSize,
    /// How long they may take to arrive, and how long a connection may be silent between two requests.
    pub headers_timeout: Span,
    /// Connections at a time; more wait to be taken.
    pub connections_max: usize,
    /// Requests at a time; more are answered with 503.
    pub requests_max: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// How long a client may take to agree on TLS.
    pub handshake_timeout: Span,
    /// How long an answer may take that names no deadline (`farebox-timeout`).
    pub default_deadline: Span,
    /// How long the first piece of a stream is waited for before status 200 is sent: until then a failure has a status of
    /// its own.
    pub first_piece_wait: Span,
    /// How often a stream that is silent says so: a comment, or Anthropic's `ping` event.
    pub ping_interval: Span,
    /// The most bytes of one answer that wait for a client that reads slowly; then it is cut and its call stopped.
    pub buffer_max: ByteSize,
    /// How long a client may read nothing of what waits for it; then it is cut and its call stopped.
    pub write_timeout: Span,
    /// How long a stream may say nothing after its deadline before it is given up.
    pub answer_grace: Span,
    /// How long requests under way may take at the end of the process.
    pub drain_timeout: Span,
    /// How long parts of farebox may take to say that they are there (`/ready`).
    pub ready_timeout: Span,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            anonymous: true,
            tls: None,
            allow_plaintext: false,
            cors: None,
            body_max: ByteSize(32 * 1024 * 1024),
            body_timeout: Span::from_secs(60),
            headers_max: ByteSize(64 * 1024),
            headers_timeout: Span::from_secs(75),
            connections_max: 4096,
            requests_max: 4096,
            streams_max: 256,
            handshake_timeout: Span::from_secs(5),
            default_deadline: Span::from_secs(600),
            first_piece_wait: Span::from_secs(10),
            ping_interval: Span::from_secs(10),
            buffer_max: ByteSize(1024 * 1024),
            write_timeout: Span::from_secs(30),
            answer_grace: Span::from_secs(2),
            drain_timeout: Span::from_secs(20),
            ready_timeout: Span::from_secs(2),
        }
    }
}

/// Certificates and keys are PEM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// The server's certificate and those between it and its authority.
    pub cert: Secret,
    pub key: Secret,
}

/// <https://fetch.spec.whatwg.org/#http-cors-protocol>
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsOptions {
    /// Origins like `https://app.example`; `*` alone: any.
    pub origins: Vec<String>,
    /// How long a browser may keep the answer.
    pub max_age: Option<Span>,
}

impl Options {
    /// Of the edge's address.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What cannot work, as path below `edge` and reason.
    pub fn faults(&self, listen: SocketAddr) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !listen.ip().is_loopback() && self.tls.is_none() && !self.allow_plaintext {
            let message = format!(
                "keys would travel unprotected to {listen} (listen.http): set edge.tls, listen on 127.0.0.1, or set \
                 edge.allow_plaintext: true where something in front speaks TLS"
            );
            faults.push(("tls", message));
        }
        faults
    }
}
