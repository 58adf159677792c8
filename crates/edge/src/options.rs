//! Options of the edge.

use std::{fmt::Display, net::SocketAddr};

use farebox_runtime::{bounds, listener::TlsOptions};
use farebox_types::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cors;

/// hyper reads no less at a time.
const HEADERS_MIN: usize = 8192;

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
    /// The most of all bodies whose requests have not begun to be answered; a request that finds no room is answered with
    /// 503. Of a body counts what has come.
    pub bodies_max: ByteSize,
    /// The same of one project; with more it is answered with 429. Absent: half of `bodies_max`, and `body_max` at least.
    pub bodies_per_project: Option<ByteSize>,
    /// How long a body may take to arrive.
    pub body_timeout: Span,
    /// The most bytes of a request's headers, its first line included.
    pub headers_max: ByteSize,
    /// How long they may take to arrive, and how long a connection may be silent between two requests.
    pub headers_timeout: Span,
    /// Connections at a time; more wait to be taken.
    pub connections_max: usize,
    /// Connections of one address (of IPv6: of one /64) at a time. Some more are answered with 429, the others closed.
    /// Absent: as many as of all, which is what there must be behind a proxy, from whose address all come.
    pub connections_per_address: Option<usize>,
    /// Requests at a time; more are answered with 503.
    pub requests_max: usize,
    /// Requests of one project at a time; more are answered with 429. Absent: half of `requests_max`.
    pub requests_per_project: Option<usize>,
    /// Requests at a time from one address (of IPv6: from one /64) that show no key which opens; more are answered with 429.
    /// Absent: an eighth of `requests_max`.
    pub requests_per_address: Option<usize>,
    /// Requests at a time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Requests on one HTTP/2 connection that its client may take back before they were looked at, and as many that may be
    /// refused for errors of its own; with more the connection ends.
    pub resets_max: usize,
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
    /// How long a client may read nothing of what waits for it, on a connection or of one answer on it; then it is cut and its
    /// call stopped.
    pub write_timeout: Span,
    /// How long a stream may say nothing after its deadline before it is given up.
    pub answer_grace: Span,
    /// How long the connection to NATS may be lost before requests that wait for an answer are told `unavailable`.
    pub bus_patience: Span,
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
            bodies_max: ByteSize(512 * 1024 * 1024),
            bodies_per_project: None,
            body_timeout: Span::from_secs(60),
            headers_max: ByteSize(64 * 1024),
            headers_timeout: Span::from_secs(75),
            connections_max: 4096,
            connections_per_address: None,
            requests_max: 4096,
            requests_per_project: None,
            requests_per_address: None,
            streams_max: 256,
            resets_max: 100,
            handshake_timeout: Span::from_secs(5),
            default_deadline: Span::from_secs(600),
            first_piece_wait: Span::from_secs(10),
            ping_interval: Span::from_secs(10),
            buffer_max: ByteSize(1024 * 1024),
            write_timeout: Span::from_secs(30),
            answer_grace: Span::from_secs(2),
            bus_patience: Span::from_secs(5),
            drain_timeout: Span::from_secs(20),
            ready_timeout: Span::from_secs(2),
        }
    }
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

    pub(crate) fn requests_of_a_project(&self) -> usize {
        self.requests_per_project.unwrap_or(self.requests_max / 2).max(1)
    }

    pub(crate) fn requests_of_an_address(&self) -> usize {
        self.requests_per_address.unwrap_or(self.requests_max / 8).max(1)
    }

    pub(crate) fn bodies_of_a_project(&self) -> ByteSize {
        self.bodies_per_project.unwrap_or_else(|| ByteSize(self.bodies_max.0 / 2).max(self.body_max))
    }

    /// What cannot work, as path below `edge` and reason.
    pub fn faults(&self, listen: SocketAddr) -> Vec<bounds::Fault> {
        let mut faults = Vec::new();
        let tls = self.tls.as_ref();
        faults.extend(bounds::in_the_clear(listen, tls, self.allow_plaintext, "listen.http", "edge"));
        faults.extend(tls.into_iter().flat_map(TlsOptions::faults));
        faults.extend(self.cors.iter().flat_map(cors_faults));
        let counts = [
            ("body_max", self.body_max.len()),
            ("connections_max", self.connections_max),
            ("requests_max", self.requests_max),
            ("streams_max", self.streams_max as usize),
            ("resets_max", self.resets_max),
            ("buffer_max", self.buffer_max.len()),
        ];
        faults.extend(bounds::zero(counts));
        faults.extend(self.share_faults());
        let rooms = [("bodies_max", Some(self.bodies_max)), ("bodies_per_project", self.bodies_per_project)];
        for (name, room) in rooms.into_iter().filter_map(|(name, room)| Some((name, room?))) {
            if room < self.body_max {
                faults.push((name, format!("{room} has no room for a body of {} (edge.body_max)", self.body_max)));
            }
        }
        if self.headers_max.len() < HEADERS_MIN {
            faults.push(("headers_max", format!("{} is too little: at least {}", self.headers_max, ByteSize(8192))));
        }
        let spans = [
            ("body_timeout", self.body_timeout),
            ("headers_timeout", self.headers_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("default_deadline", self.default_deadline),
            ("first_piece_wait", self.first_piece_wait),
            ("ping_interval", self.ping_interval),
            ("write_timeout", self.write_timeout),
            ("answer_grace", self.answer_grace),
            ("bus_patience", self.bus_patience),
            ("ready_timeout", self.ready_timeout),
        ];
        faults.extend(bounds::too_short(spans));
        faults
    }
}

impl Options {
    /// More than all together keeps nobody from taking all. As much is a choice.
    fn share_faults(&self) -> Vec<bounds::Fault> {
        let counts = [
            ("connections_per_address", self.connections_per_address, "connections_max", self.connections_max),
            ("requests_per_project", self.requests_per_project, "requests_max", self.requests_max),
            ("requests_per_address", self.requests_per_address, "requests_max", self.requests_max),
        ];
        let counts = counts.into_iter().filter_map(|(name, share, of, all)| Some((name, share?, of, all)));
        let mut faults: Vec<bounds::Fault> =
            bounds::zero(counts.clone().map(|(name, share, ..)| (name, share))).collect();
        let too_much = |share: &dyn Display, all: &dyn Display, of| {
            format!("{share} is more than the {all} of all together (edge.{of}): at most as many")
        };
        let above = counts.filter(|(_, share, _, all)| share > all);
        faults.extend(above.map(|(name, share, of, all)| (name, too_much(&share, &all, of))));
        let bodies = self.bodies_per_project.filter(|share| *share > self.bodies_max);
        faults.extend(bodies.map(|share| ("bodies_per_project", too_much(&share, &self.bodies_max, "bodies_max"))));
        faults
    }
}

fn cors_faults(cors: &CorsOptions) -> Vec<bounds::Fault> {
    if cors.origins.is_empty() {
        return vec![("cors.origins", "no page may call: name its origin, or leave edge.cors out".to_owned())];
    }
    let named: Vec<&String> = cors.origins.iter().filter(|origin| *origin != cors::ANY).collect();
    if !named.is_empty() && named.len() < cors.origins.len() {
        return vec![("cors.origins", "`*` stands for all others: let it stand alone".to_owned())];
    }
    named.into_iter().filter_map(|origin| cors::fault(origin)).map(|fault| ("cors.origins", fault)).collect()
}

#[cfg(test)]
mod tests {
    use farebox_types::Secret;

    use super::*;

    fn named(options: Options) -> Vec<&'static str> {
        options.faults("127.0.0.1:4000".parse().unwrap()).into_iter().map(|fault| fault.0).collect()
    }

    #[test]
    fn keys_do_not_travel_in_the_clear_unasked() {
        let everywhere = "0.0.0.0:4000".parse().unwrap();
        assert_eq!(named(Options::default()), Vec::<&str>::new());
        assert_eq!(Options::default().faults(everywhere).iter().map(|fault| fault.0).collect::<Vec<_>>(), ["tls"]);
        let asked = Options { allow_plaintext: true, ..Options::default() };
        assert_eq!(asked.faults(everywhere), Vec::new());
        let file = |name: &str| Secret::File(name.into());
        let tls = TlsOptions::new(file("/c.pem"), file("/k.pem"));
        assert_eq!(Options { tls: Some(tls), ..Options::default() }.faults(everywhere), Vec::new());
    }

    #[test]
    fn what_lets_nothing_through_is_named() {
        let zero = Span::from_millis(0);
        let options = Options {
            body_max: ByteSize(0),
            headers_max: ByteSize(100),
            connections_max: 0,
            requests_max: 0,
            streams_max: 0,
            resets_max: 0,
            buffer_max: ByteSize(0),
            body_timeout: zero,
            headers_timeout: zero,
            handshake_timeout: zero,
            default_deadline: zero,
            first_piece_wait: zero,
            ping_interval: zero,
            write_timeout: zero,
            answer_grace: zero,
            bus_patience: zero,
            // At once is a choice here.
            drain_timeout: zero,
            ready_timeout: zero,
            ..Options::default()
        };
        assert_eq!(
            named(options),
            [
                "body_max",
                "connections_max",
                "requests_max",
                "streams_max",
                "resets_max",
                "buffer_max",
                "headers_max",
                "body_timeout",
                "headers_timeout",
                "handshake_timeout",
                "default_deadline",
                "first_piece_wait",
                "ping_interval",
                "write_timeout",
                "answer_grace",
                "bus_patience",
                "ready_timeout",
            ]
        );
    }

    #[test]
    fn there_is_room_for_one_body() {
        let little = || Options { bodies_max: ByteSize(1), ..Options::default() };
        assert_eq!(named(little()), ["bodies_max"]);
        let options = Options { bodies_per_project: Some(ByteSize(1)), ..little() };
        assert_eq!(named(options), ["bodies_max", "bodies_per_project"]);
    }

    #[test]
    fn a_share_is_some_and_not_more_than_all() {
        let shares = |count: usize, bodies: u64| Options {
            connections_max: 8,
            connections_per_address: Some(count),
            requests_max: 8,
            requests_per_project: Some(count),
            requests_per_address: Some(count),
            body_max: ByteSize(8),
            bodies_max: ByteSize(8),
            bodies_per_project: Some(ByteSize(bodies)),
            ..Options::default()
        };
        assert_eq!(named(shares(8, 8)), Vec::<&str>::new());
        let counts = ["connections_per_address", "requests_per_project", "requests_per_address"];
        assert_eq!(named(shares(0, 8)), counts);
        assert_eq!(named(shares(9, 9)), [&counts[..], &["bodies_per_project"]].concat());
    }

    #[test]
    fn what_is_not_said_of_shares_follows_from_what_all_have() {
        for (all, of_project, of_address) in [(4096, 2048, 512), (8, 4, 1), (1, 1, 1)] {
            let options = Options { requests_max: all, ..Options::default() };
            assert_eq!((options.requests_of_a_project(), options.requests_of_an_address()), (of_project, of_address));
        }
        for (all, of_project) in [(512, 256), (64, 32), (48, 32)] {
            let mib = |count: u64| ByteSize(count << 20);
            let options = Options { bodies_max: mib(all), ..Options::default() };
            assert_eq!(options.bodies_of_a_project(), mib(of_project));
        }
    }

    #[test]
    fn an_origin_is_what_browsers_send() {
        for (origins, faults) in [
            (vec!["*"], 0),
            (vec!["https://app.example", "http://localhost:3000", "app://notes"], 0),
            (vec![], 1),
            (vec!["*", "https://app.example"], 1),
            (vec!["app.example", "https://app.example/", "https://"], 3),
        ] {
            let origins: Vec<String> = origins.into_iter().map(str::to_owned).collect();
            let cors = CorsOptions { origins: origins.clone(), max_age: None };
            let found = named(Options { cors: Some(cors), ..Options::default() });
            assert_eq!(found, vec!["cors.origins"; faults], "{origins:?}");
        }
    }
}
