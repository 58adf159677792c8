//! What must hold for whatever a dialect writes.

use farebox_dialect::Call;
use farebox_dialect::{Caller, CallerDialect, Completion, DialectName, Stamp, caller_dialect, typed};
use farebox_types::{Fault, Usage};
use prost::Message as _;
use serde::de::IgnoredAny;

/// Everything that is written for one input may be this much longer than it, and as long by itself.
const FACTOR: usize = 100;
const ALLOWANCE: usize = 1 << 20;

pub(super) fn stamp() -> Stamp {
    Stamp { id: "id".to_owned(), created: 1, model: None }
}

/// Every dialect in which a caller may have a conversation.
pub(super) fn callers() -> impl Iterator<Item = &'static dyn CallerDialect> {
    DialectName::ALL.into_iter().filter_map(|name| caller_dialect(name).and_then(Caller::generate))
}

pub(super) fn json(what: &str, text: &[u8]) -> Result<(), String> {
    std::str::from_utf8(text).map_err(|error| format!("no text: {what}: {error}"))?;
    structure(what, text)
}

/// What a provider's own bytes must be: texts within them are the provider's affair.
pub(super) fn structure(what: &str, text: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<IgnoredAny>(text).map(|_| ()).map_err(|error| {
        let text = String::from_utf8_lossy(text).chars().take(2_000).collect::<String>();
        format!("no JSON: {what}: {error} in {text}")
    })
}

pub(super) fn size(what: &str, written: usize, read: usize) -> Result<(), String> {
    let most = FACTOR * read + ALLOWANCE;
    if written > most { Err(format!("too large: {what}: {written} bytes of {read}")) } else { Ok(()) }
}

/// The buckets can be added up, as far as there are numbers.
pub(super) fn usage(usage: &Usage) -> Result<(), String> {
    let inputs = [usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.audio_input];
    let more = [usage.image_input, usage.cache_read_audio];
    let outputs = [usage.output, usage.reasoning, usage.audio_output, usage.image_output];
    let all = inputs.into_iter().chain(more).chain(outputs).flatten();
    let sum: u128 = all.map(u128::from).sum();
    if sum.min(u64::MAX.into()) == u128::from(usage.total()) {
        Ok(())
    } else {
        Err(format!("usage: {usage:?} adds up to {sum}"))
    }
}

/// Every caller can be given this answer.
pub(super) fn completion(call: &Call, done: &Completion, read: usize) -> Result<(), String> {
    usage(&done.usage)?;
    let mut written = done.written().len() + typed::completion(done).encoded_len();
    for caller in callers() {
        let body = caller.render(call, done, &stamp());
        json(caller.name().as_str(), &body)?;
        written += body.len();
    }
    size("answers", written, read)
}

/// Every caller can be told of this fault.
pub(super) fn fault(fault: &Fault, read: usize) -> Result<(), String> {
    let mut written = fault.to_string().len();
    for name in DialectName::ALL {
        let (_, body) = match caller_dialect(name) {
            Some(Caller::Generate(caller)) => caller.render_error(fault),
            Some(Caller::Embed(caller)) => caller.render_error(fault),
            Some(Caller::Rerank(caller)) => caller.render_error(fault),
            Some(Caller::CountTokens(caller)) => caller.render_error(fault),
            None => continue,
        };
        json(name.as_str(), &body)?;
        written += body.len();
    }
    size("faults", written, read)
}
