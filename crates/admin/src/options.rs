//! Options of the admin API.

use std::net::SocketAddr;

use farebox_runtime::{bounds, listener::TlsOptions};
use farebox_types::{ByteSize, Secret, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may come in, and bounds of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// A key of an owner that is always there, for the first steps and for emergencies: any text of at least 16
    /// characters. `farebox up` makes one where there is none (`admin.key` in its data directory).
    pub master_key: Option<Secret>,
    /// Certificate and key of the server, read again when the files change. Without them it speaks plain text.
    pub tls: Option<TlsOptions>,
    /// Listens without TLS on an address that others can reach, as behind a proxy that speaks TLS. Keys travel in every
    /// request.
    pub allow_plaintext: bool,
    /// How long one request may take; a shorter deadline of the client's counts. A tail of calls has none.
    pub request_timeout: Span,
    /// The largest message of a client.
    pub message_max: ByteSize,
    /// Connections at a time; more wait to be taken.
    pub connections_max: usize,
    /// Requests at a time on one connection.
    pub streams_max: u32,
    /// How long a client may take to agree on TLS.
    pub handshake_timeout: Span,
    /// How often a silent connection is asked whether it is still there.
    pub keepalive_interval: Span,
    /// How long it may take to say so.
    pub keepalive_timeout: Span,
    /// How long requests under way may take at the end of the process.
    pub drain_grace: Span,
    /// Tails of calls at a time.
    pub tails_max: usize,
    /// Calls that wait for a client that is slow to take its tail; more are left out, and counted.
    pub tail_capacity: usize,
    /// How often a change is tried again that another change came before.
    pub write_retries: u32,
    /// How long the guard and accounting may take to answer.
    pub call_timeout: Span,
    /// For how long a call says something about the health of its deployment.
    pub health_window: Span,
    /// The most calls that are remembered of one deployment.
    pub health_calls_max: usize,
    /// The most deployments whose calls are remembered.
    pub health_deployments_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            master_key: None,
            tls: None,
            allow_plaintext: false,
            request_timeout: Span::from_secs(20),
            message_max: ByteSize::mb(4),
            connections_max: 256,
            streams_max: 64,
            handshake_timeout: Span::from_secs(5),
            keepalive_interval: Span::from_secs(30),
            keepalive_timeout: Span::from_secs(10),
            drain_grace: Span::from_secs(5),
            tails_max: 32,
            tail_capacity: 1024,
            write_retries: 16,
            call_timeout: Span::from_secs(5),
            health_window: Span::from_secs(60),
            health_calls_max: 200,
            health_deployments_max: 1000,
        }
    }
}

impl Options {
    /// Of the API's address.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What cannot work, as path below `admin` and reason.
    pub fn faults(&self, listen: SocketAddr) -> Vec<bounds::Fault> {
        let tls = self.tls.as_ref();
        let in_the_clear = bounds::in_the_clear(listen, tls, self.allow_plaintext, "listen.grpc", "admin");
        let counts = [
            ("connections_max", self.connections_max),
            ("streams_max", self.streams_max as usize),
            ("message_max", self.message_max.len()),
            ("tail_capacity", self.tail_capacity),
            ("health_calls_max", self.health_calls_max),
        ];
        let spans = [
            ("request_timeout", self.request_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("call_timeout", self.call_timeout),
        ];
        let of_tls = tls.into_iter().flat_map(TlsOptions::faults);
        in_the_clear.into_iter().chain(of_tls).chain(bounds::zero(counts)).chain(bounds::too_short(spans)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_travel_in_the_clear_unasked() {
        let (here, everywhere) = ("127.0.0.1:4001".parse().unwrap(), "0.0.0.0:4001".parse().unwrap());
        let plain = Options::default();
        assert_eq!(plain.faults(here), Vec::new());
        assert_eq!(plain.faults(everywhere).iter().map(|fault| fault.0).collect::<Vec<_>>(), ["tls"]);
        let asked = Options { allow_plaintext: true, ..Options::default() };
        assert_eq!(asked.faults(everywhere), Vec::new());
        let file = |name: &str| Secret::File(name.into());
        let tls = TlsOptions::new(file("/c.pem"), file("/k.pem"));
        assert_eq!(Options { tls: Some(tls), ..Options::default() }.faults(everywhere), Vec::new());
    }
}
