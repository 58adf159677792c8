//! What all dialects share when a provider says no.

use std::time::Duration;

use farebox_types::ErrorKind;
use http::{HeaderMap, StatusCode};

/// The longest wait a provider may ask for; a larger figure is taken as this one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// When to try again, as `retry-after-ms` or `retry-after` in seconds. A date is not read: there is no clock here.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number("retry-after"))?;
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_AFTER).min(MAX_RETRY_AFTER))
}

/// When to try again, of a provider whose rate is exhausted: by the headers above, by the reset of what has nothing
/// remaining (`x-ratelimit-reset-tokens: 6m0s`), or by its own sentence ("Please try again in 1m30s.").
pub(crate) fn retry_hint(headers: &HeaderMap, message: &str) -> Option<Duration> {
    let word = |name: String| headers.get(name)?.to_str().ok();
    let resets = ["requests", "tokens"].into_iter().filter_map(|what| {
        let remaining = word(format!("x-ratelimit-remaining-{what}"))?;
        span(word(format!("x-ratelimit-reset-{what}"))?).filter(|_| remaining.trim() == "0")
    });
    retry_after(headers).or_else(|| resets.max()).or_else(|| said(message))
}

fn said(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    let marks = ["try again in ", "retry in ", "retry after "];
    marks.into_iter().find_map(|mark| span(message.split_once(mark)?.1))
}

/// The span of time at the front: `1h2m3.5s`, `450ms`, `26 seconds`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut seconds, mut found) = (text.trim_start(), 0.0, false);
    while let Some(end) = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0) {
        let Ok(number) = rest[..end].parse::<f64>() else { break };
        rest = rest[end..].trim_start();
        let unit = &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())];
        seconds += number
            * match unit {
                "ms" | "milliseconds" => 0.001,
                "s" | "second" | "seconds" => 1.0,
                "m" | "minute" | "minutes" => 60.0,
                "h" | "hour" | "hours" => 3600.0,
                _ => break,
            };
        found = true;
        rest = rest[unit.len()..].trim_start();
    }
    found.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_AFTER).min(MAX_RETRY_AFTER))
}

/// A kind from the status alone. That a provider does not accept farebox's own key, or that the bill of its account
/// is unpaid, is nothing the caller did: such a no counts as a failing upstream.
pub(crate) fn kind_of(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        400 | 405 | 406 | 415 | 422 => ErrorKind::BadRequest,
        404 | 410 => ErrorKind::NotFound,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        _ => ErrorKind::Upstream,
    }
}

/// A sentence for a body that holds none.
pub(crate) fn message_for(status: StatusCode) -> String {
    format!("the provider answered with status {status} and no message that can be read")
}

/// Says whose credentials were refused, before the provider's own sentence.
pub(crate) fn about_credentials(status: StatusCode, message: String) -> String {
    if matches!(status.as_u16(), 401 | 403) {
        return format!("the provider did not accept the credentials that farebox has for it: {message}");
    }
    message
}
