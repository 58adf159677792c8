//! What is wrong with options that many sections of the config have: a name below the section, and the reason.

use std::net::SocketAddr;

use farebox_types::Span;

use crate::tls::TlsOptions;

/// Below it, a wait is over before anything can happen.
const SHORTEST: Span = Span::from_millis(10);

/// An option, and what is wrong with it.
pub type Fault = (&'static str, String);

/// Others can reach an address (`option`) that keys travel to unprotected.
pub fn in_the_clear(
    listen: SocketAddr,
    tls: Option<&TlsOptions>,
    allowed: bool,
    option: &str,
    section: &str,
) -> Option<Fault> {
    if listen.ip().is_loopback() || tls.is_some() || allowed {
        return None;
    }
    let message = format!(
        "keys would travel unprotected to {listen} ({option}): set {section}.tls, listen on 127.0.0.1, or set \
         {section}.allow_plaintext: true where something in front speaks TLS"
    );
    Some(("tls", message))
}

/// Those of which there must be one at least.
pub fn zero(counts: impl IntoIterator<Item = (&'static str, usize)>) -> impl Iterator<Item = Fault> {
    let zero = counts.into_iter().filter(|(_, count)| *count == 0);
    zero.map(|(name, _)| (name, "0 would let nothing through: at least 1".to_owned()))
}

/// Those that cannot be so short.
pub fn too_short(spans: impl IntoIterator<Item = (&'static str, Span)>) -> impl Iterator<Item = Fault> {
    let short = spans.into_iter().filter(|(_, span)| span.millis() < SHORTEST.millis());
    short.map(|(name, span)| (name, format!("{span} is too short: at least {SHORTEST}")))
}
