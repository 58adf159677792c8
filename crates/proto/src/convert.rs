//! Between the messages and the values of `farebox-types`.

use std::time::Duration;

use farebox_types::{CallId, ErrorKind, Fault, Money, Outcome, Project, RequestId, ReservationId, Timestamp, Usage};

use crate::v1;

/// A message that misses a field or has one that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` of the message is missing or malformed")]
pub struct InvalidMessage {
    pub field: &'static str,
}

fn invalid(field: &'static str) -> InvalidMessage {
    InvalidMessage { field }
}

impl From<Money> for v1::Money {
    fn from(amount: Money) -> v1::Money {
        let (usd, pico) = (amount.picos() / Money::PICOS_PER_USD, amount.picos() % Money::PICOS_PER_USD);
        let saturated = if usd > 0 { i64::MAX } else { i64::MIN };
        v1::Money { usd: i64::try_from(usd).unwrap_or(saturated), pico: i64::try_from(pico).unwrap_or_default() }
    }
}

impl From<v1::Money> for Money {
    fn from(amount: v1::Money) -> Money {
        Money::from_picos(i128::from(amount.usd) * Money::PICOS_PER_USD + i128::from(amount.pico))
    }
}

impl v1::Money {
    /// The amount of a field that may be absent: absent is zero.
    pub fn of(field: &Option<v1::Money>) -> Money {
        field.map(Money::from).unwrap_or_default()
    }
}

impl v1::LimitMeasure {
    pub const ALL: [v1::LimitMeasure; 3] =
        [v1::LimitMeasure::Requests, v1::LimitMeasure::Tokens, v1::LimitMeasure::Concurrent];

    /// As people and JSON write it.
    pub fn word(self) -> &'static str {
        match self {
            v1::LimitMeasure::Requests => "requests",
            v1::LimitMeasure::Tokens => "tokens",
            v1::LimitMeasure::Concurrent => "concurrent",
            v1::LimitMeasure::Unspecified => "unknown",
        }
    }
}

impl v1::OutputShare {
    /// What a call costs at most with all of its output.
    pub fn bound(&self) -> Money {
        let output = v1::Money::of(&self.per_token).picos().saturating_mul(i128::from(self.max_tokens));
        v1::Money::of(&self.fixed).saturating_add(Money::from_picos(output))
    }
}

impl v1::Granted {
    /// Which of these attempts is covered, by their order. A grant that names none covers the first.
    pub fn covered(&self, calls: &[CallId]) -> Option<usize> {
        if self.call_id.is_empty() {
            return Some(0);
        }
        calls.iter().position(|call| call.to_string() == self.call_id)
    }
}

impl v1::Deployment {
    /// One attempt here, as the guard is asked to cover it: whatever an attempt before was clamped to.
    pub fn attempt(&self, call: CallId) -> v1::Attempt {
        v1::Attempt {
            call_id: call.to_string(),
            provider: self.provider.clone(),
            upstream_model: self.model.clone(),
            model: self.alias.clone(),
            bound: self.output.map_or(self.bound, |share| Some(share.bound().into())),
            price_version: self.price_version.clone(),
            unbounded: self.unbounded.clone(),
            output: self.output,
            expected_tokens: self.expected_tokens,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            concurrent: self.concurrent,
        }
    }

    /// Takes over what the grant of an attempt here says. One that names no bound leaves the one that was asked for.
    pub fn grant(&mut self, granted: &v1::Granted) {
        self.bound = granted.bound.or(self.bound);
        self.clamped_max_tokens = granted.clamped_max_tokens;
    }
}

impl From<Usage> for v1::Usage {
    fn from(u: Usage) -> v1::Usage {
        v1::Usage {
            input: u.input,
            cache_read: u.cache_read,
            cache_write_5m: u.cache_write_5m,
            cache_write_1h: u.cache_write_1h,
            output: u.output,
            reasoning: u.reasoning,
            audio_input: u.audio_input,
            audio_output: u.audio_output,
            image_input: u.image_input,
            image_output: u.image_output,
            cache_read_audio: u.cache_read_audio,
            searches: u.searches,
        }
    }
}

impl From<v1::Usage> for Usage {
    fn from(u: v1::Usage) -> Usage {
        Usage {
            input: u.input,
            cache_read: u.cache_read,
            cache_write_5m: u.cache_write_5m,
            cache_write_1h: u.cache_write_1h,
            output: u.output,
            reasoning: u.reasoning,
            audio_input: u.audio_input,
            audio_output: u.audio_output,
            image_input: u.image_input,
            image_output: u.image_output,
            cache_read_audio: u.cache_read_audio,
            searches: u.searches,
        }
    }
}

impl From<ErrorKind> for v1::ErrorKind {
    fn from(kind: ErrorKind) -> v1::ErrorKind {
        match kind {
            ErrorKind::BadRequest => v1::ErrorKind::BadRequest,
            ErrorKind::Unauthenticated => v1::ErrorKind::Unauthenticated,
            ErrorKind::Forbidden => v1::ErrorKind::Forbidden,
            ErrorKind::NotFound => v1::ErrorKind::NotFound,
            ErrorKind::Conflict => v1::ErrorKind::Conflict,
            ErrorKind::TooLarge => v1::ErrorKind::TooLarge,
            ErrorKind::Unsupported => v1::ErrorKind::Unsupported,
            ErrorKind::OverBudget => v1::ErrorKind::OverBudget,
            ErrorKind::RateLimited => v1::ErrorKind::RateLimited,
            ErrorKind::Cancelled => v1::ErrorKind::Cancelled,
            ErrorKind::DeadlineExceeded => v1::ErrorKind::DeadlineExceeded,
            ErrorKind::Unavailable => v1::ErrorKind::Unavailable,
            ErrorKind::Upstream => v1::ErrorKind::Upstream,
            ErrorKind::Truncated => v1::ErrorKind::Truncated,
            ErrorKind::Lost => v1::ErrorKind::Lost,
            ErrorKind::Internal => v1::ErrorKind::Internal,
        }
    }
}

impl v1::ErrorKind {
    /// The kind, or none where the field says unspecified.
    pub fn known(self) -> Option<ErrorKind> {
        ErrorKind::ALL.into_iter().find(|kind| v1::ErrorKind::from(*kind) == self)
    }
}

impl From<Outcome> for v1::Outcome {
    fn from(outcome: Outcome) -> v1::Outcome {
        match outcome {
            Outcome::Ok => v1::Outcome::Ok,
            Outcome::Error => v1::Outcome::Error,
            Outcome::Cancelled => v1::Outcome::Cancelled,
            Outcome::Lost => v1::Outcome::Lost,
        }
    }
}

impl v1::Outcome {
    pub fn known(self) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| v1::Outcome::from(*outcome) == self)
    }
}

impl From<Fault> for v1::Error {
    fn from(fault: Fault) -> v1::Error {
        v1::Error {
            kind: v1::ErrorKind::from(fault.kind).into(),
            retryable: fault.kind.is_retryable(),
            message: shortened(fault.message),
            retry_after_ms: fault.retry_after.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
            provider_status: fault.provider_status.map(u32::from),
            provider_body: fault.provider_body,
            limits: Vec::new(),
        }
    }
}

/// The longest sentence that travels: it may repeat what a caller wrote.
const MESSAGE_MAX: usize = 4096;

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Without how limits stand: who hands that on keeps the error.
impl From<v1::Error> for Fault {
    fn from(error: v1::Error) -> Fault {
        Fault {
            kind: error.kind().known().unwrap_or(ErrorKind::Internal),
            message: error.message,
            retry_after: error.retry_after_ms.map(Duration::from_millis),
            provider_status: error.provider_status.and_then(|s| u16::try_from(s).ok()),
            provider_body: error.provider_body,
        }
    }
}

impl v1::Principal {
    pub fn project(&self) -> Result<Project, InvalidMessage> {
        Project::parse(&self.project).map_err(|_| invalid("principal.project"))
    }
}

impl v1::Envelope {
    pub fn project(&self) -> Result<Project, InvalidMessage> {
        self.principal.as_ref().ok_or(invalid("principal"))?.project()
    }

    pub fn request_id(&self) -> Result<RequestId, InvalidMessage> {
        RequestId::parse(&self.request_id).map_err(|_| invalid("request_id"))
    }

    pub fn deadline(&self) -> Timestamp {
        Timestamp(self.deadline_unix_ms)
    }
}

/// Reads an id field.
pub trait ParseId: Sized {
    fn read(field: &'static str, given: &str) -> Result<Self, InvalidMessage>;
}

impl ParseId for CallId {
    fn read(field: &'static str, given: &str) -> Result<CallId, InvalidMessage> {
        given.parse().map_err(|_| invalid(field))
    }
}

impl ParseId for ReservationId {
    fn read(field: &'static str, given: &str) -> Result<ReservationId, InvalidMessage> {
        given.parse().map_err(|_| invalid(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_survives_the_wire() {
        for text in ["0", "0.000000000001", "-1.5", "12345678.000000000009"] {
            let amount: Money = text.parse().unwrap();
            assert_eq!(Money::from(v1::Money::from(amount)), amount, "{text}");
        }
    }

    #[test]
    fn every_kind_and_outcome_has_its_own_number() {
        for kind in ErrorKind::ALL {
            assert_eq!(v1::ErrorKind::from(kind).known(), Some(kind));
        }
        for outcome in Outcome::ALL {
            assert_eq!(v1::Outcome::from(outcome).known(), Some(outcome));
        }
    }
}
