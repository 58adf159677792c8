//! An error in the caller's shape.

use axum::{body::Body, response::Response};
use farebox_dialect::{DialectName, caller_dialect};
use farebox_types::{ErrorKind, Fault};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};

use crate::facts::text;

/// The kind in farebox's own word, which no shape has room for.
const ERROR: HeaderName = HeaderName::from_static("farebox-error");
/// What OpenAI's and Anthropic's SDKs look at before they decide by the status.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Whose SDKs are to understand an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    OpenAi,
    Anthropic,
}

impl Shape {
    pub(crate) fn of(dialect: DialectName) -> Shape {
        match dialect {
            DialectName::AnthropicMessages | DialectName::AnthropicCountTokens => Shape::Anthropic,
            _ => Shape::OpenAi,
        }
    }

    fn dialect(self) -> DialectName {
        match self {
            Shape::OpenAi => DialectName::OpenAiChat,
            Shape::Anthropic => DialectName::AnthropicMessages,
        }
    }
}

/// The answer to a request that is of no dialect.
pub(crate) fn refusal(shape: Shape, fault: &Fault) -> Response {
    in_dialect(shape.dialect(), fault)
}

/// The answer to a path that is none, with OpenAI's own code: that of other faults of the kind says that a model is missing.
pub(crate) fn unknown_url(shape: Shape, message: String) -> Response {
    let provider_body = Some(r#"{"error":{"code":"unknown_url"}}"#.to_owned());
    refusal(shape, &Fault { provider_body, ..Fault::new(ErrorKind::NotFound, message) })
}

/// The answer to a request in a dialect that callers speak.
pub(crate) fn in_dialect(dialect: DialectName, fault: &Fault) -> Response {
    let spoken = caller_dialect(dialect).or_else(|| caller_dialect(DialectName::OpenAiChat));
    let (status, body) = spoken.expect("OpenAI's chat is spoken by callers").render_error(fault);
    // Not its message: a provider's words may repeat the prompt.
    tracing::debug!(%dialect, status = status.as_u16(), kind = %fault.kind, "a request failed");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(ERROR, HeaderValue::from_static(fault.kind.as_str()));
    retry(fault, status, headers);
    response
}

/// The answer was kept under the request's key: the same request would only hear it again.
pub(crate) fn settled(headers: &mut HeaderMap) {
    headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

/// When the same request may work, and where it never will.
fn retry(fault: &Fault, status: StatusCode, headers: &mut HeaderMap) {
    if let Some(after) = fault.retry_after {
        let whole = after.as_millis().div_ceil(1000);
        headers.insert(RETRY_AFTER, text(&whole.to_string()));
        headers.insert(RETRY_AFTER_MS, text(&after.as_millis().to_string()));
    }
    // Those that the SDKs try again by themselves.
    let again = matches!(status.as_u16(), 408 | 409 | 429 | 500..);
    if again && !fault.kind.is_retryable() {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;

    async fn read(response: Response) -> Value {
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn an_error_has_the_callers_shape() {
        let fault = Fault::new(ErrorKind::NotFound, "there is no model `x`");
        let answer = refusal(Shape::OpenAi, &fault);
        assert_eq!((answer.status(), &answer.headers()["farebox-error"]), (StatusCode::NOT_FOUND, &text("not_found")));
        let error = json!({
            "message": "there is no model `x`", "type": "invalid_request_error", "param": null, "code": "model_not_found",
        });
        assert_eq!(read(answer).await, json!({ "error": error }));
        let answer = in_dialect(DialectName::AnthropicCountTokens, &fault);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let error = json!({ "type": "not_found_error", "message": "there is no model `x`" });
        assert_eq!(read(answer).await, json!({ "type": "error", "error": error }));
    }

    #[test]
    fn sdks_are_told_whether_to_try_again() {
        let headers = |shape, fault: Fault| {
            let answer = refusal(shape, &fault);
            let value = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), value("retry-after"), value("retry-after-ms"), value("x-should-retry"))
        };
        let word = |text: &str| Some(text.to_owned());
        let limited = Fault::new(ErrorKind::RateLimited, "").retry_after(Duration::from_millis(1_200));
        assert_eq!(headers(Shape::OpenAi, limited), (429, word("2"), word("1200"), None));
        for (shape, kind, status, again) in [
            (Shape::OpenAi, ErrorKind::OverBudget, 429, word("false")),
            (Shape::OpenAi, ErrorKind::Conflict, 409, word("false")),
            (Shape::OpenAi, ErrorKind::Internal, 500, word("false")),
            (Shape::OpenAi, ErrorKind::Unavailable, 503, None),
            (Shape::OpenAi, ErrorKind::BadRequest, 400, None),
            (Shape::Anthropic, ErrorKind::OverBudget, 402, None),
            (Shape::Anthropic, ErrorKind::Unavailable, 529, None),
        ] {
            assert_eq!(headers(shape, Fault::new(kind, "")), (status, None, None, again), "{kind}");
        }
    }
}
