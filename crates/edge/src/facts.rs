//! What farebox knows of a call, as headers of its answer; on request also in its body.

use std::{cmp::Reverse, time::Duration};

use farebox_proto::{json, v1};
use farebox_types::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::failure::Shape;

/// Of which request the facts are, and who reads them.
pub(crate) struct Facts<'a> {
    pub(crate) shape: Shape,
    pub(crate) request_id: &'a str,
    pub(crate) now: Timestamp,
}

/// The longest value of a header here.
const VALUE_MAX: usize = 4096;

/// A value of a header, whatever the text holds: what cannot stand there becomes `?`.
pub(crate) fn text(given: &str) -> HeaderValue {
    let fits = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let value: String = given.chars().take(VALUE_MAX).map(fits).collect();
    HeaderValue::from_str(&value).expect("printable ASCII can stand in a header")
}

fn say(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if !value.is_empty() {
        headers.insert(HeaderName::from_static(name), text(value));
    }
}

impl Facts<'_> {
    /// What is known from the first byte.
    pub(crate) fn asked(&self, headers: &mut HeaderMap) {
        say(headers, "farebox-request-id", self.request_id);
        match self.shape {
            Shape::OpenAi => say(headers, "x-request-id", self.request_id),
            Shape::Anthropic => say(headers, "request-id", self.request_id),
        }
    }

    /// What is known when the answer begins.
    pub(crate) fn begun(&self, headers: &mut HeaderMap, begun: &v1::CallBegun) {
        say(headers, "farebox-call-id", &begun.call_id);
        say(headers, "farebox-model", &begun.model);
        say(headers, "farebox-provider", &begun.provider);
        say(headers, "farebox-provider-request-id", &begun.provider_request_id);
        if begun.attempt > 0 {
            say(headers, "farebox-attempts", &begun.attempt.to_string());
        }
        let left = begun.budgets.iter().map(|budget| format!("{}={}", budget.budget, v1::Money::of(&budget.left)));
        say(headers, "farebox-budget-left", &left.collect::<Vec<_>>().join(";"));
        self.limits(headers, &begun.limits);
    }

    /// How limits stand: those that hold for a call, or those that refused it.
    pub(crate) fn limits(&self, headers: &mut HeaderMap, limits: &[v1::LimitLeft]) {
        for measure in [v1::LimitMeasure::Requests, v1::LimitMeasure::Tokens] {
            self.limit(headers, measure, limits);
        }
    }

    /// What is known at the end, `elapsed` after the request came.
    pub(crate) fn ended(&self, headers: &mut HeaderMap, report: &v1::CallReport, elapsed: Duration) {
        self.begun(headers, &beginning(report));
        say(headers, "farebox-served-model", &report.served_model);
        say(headers, "farebox-cost-usd", &v1::Money::of(&report.cost).to_string());
        say(headers, "farebox-cached", if report.cached { "true" } else { "false" });
        say(headers, "farebox-clamped", if report.clamped { "true" } else { "" });
        say(headers, "farebox-warnings", &report.warnings.join("; "));
        let overhead = overhead_us(report, elapsed);
        say(headers, "farebox-overhead-ms", &format!("{}.{:03}", overhead / 1000, overhead % 1000));
    }

    /// Of several limits the one of which least is left.
    fn limit(&self, headers: &mut HeaderMap, measure: v1::LimitMeasure, limits: &[v1::LimitLeft]) {
        let of_measure = limits.iter().filter(|limit| limit.measure() == measure);
        let Some(nearest) = of_measure.min_by_key(|limit| (limit.left, Reverse(limit.reset_ms))) else { return };
        let [allowed, left, reset] = limit_names(self.shape, measure);
        say(headers, allowed, &nearest.allowed.to_string());
        say(headers, left, &nearest.left.to_string());
        let after = Duration::from_millis(nearest.reset_ms);
        let resets = match self.shape {
            Shape::OpenAi => span(after),
            Shape::Anthropic => moment(self.now.after(after)),
        };
        say(headers, reset, &resets);
    }
}

/// <https://platform.openai.com/docs/guides/rate-limits>, <https://docs.anthropic.com/en/api/rate-limits>
fn limit_names(shape: Shape, measure: v1::LimitMeasure) -> [&'static str; 3] {
    match (shape, measure == v1::LimitMeasure::Requests) {
        (Shape::OpenAi, true) => {
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        }
        (Shape::OpenAi, false) => {
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"]
        }
        (Shape::Anthropic, true) => [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        (Shape::Anthropic, false) => [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
    }
}

/// As OpenAI writes a span of time: `6m0s`, `1.5s`, `120ms`.
fn span(given: Duration) -> String {
    let (seconds, millis) = (given.as_secs(), given.subsec_millis());
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let part = format!(".{millis:03}");
    let part = part.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) if rest == 0 && millis > 0 => format!("{millis}ms"),
        (0, 0) => format!("{rest}{part}s"),
        (0, _) => format!("{minutes}m{rest}{part}s"),
        _ => format!("{hours}h{minutes}m{rest}{part}s"),
    }
}

/// As Anthropic writes a moment: RFC 3339 in whole seconds.
fn moment(at: Timestamp) -> String {
    let seconds = at.millis().saturating_add(999).div_euclid(1000);
    jiff::Timestamp::from_second(seconds).map(|at| at.to_string()).unwrap_or_default()
}

/// What of a report was known at the beginning of its answer.
fn beginning(report: &v1::CallReport) -> v1::CallBegun {
    v1::CallBegun {
        call_id: report.call_id.clone(),
        model: report.model.clone(),
        provider: report.provider.clone(),
        attempt: report.attempts,
        budgets: report.budgets.clone(),
        limits: report.limits.clone(),
        provider_request_id: report.provider_request_id.clone(),
    }
}

/// The time that was not the providers'.
fn overhead_us(report: &v1::CallReport, elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).saturating_sub(report.upstream_us)
}

/// The facts as an object, `elapsed` after the request came.
pub(crate) fn object(response: &v1::LlmResponse, elapsed: Duration) -> Value {
    let mut facts = json::facts(response);
    if let (Some(members), Some(report)) = (facts.as_object_mut(), &response.report) {
        members.insert("overhead_us".to_owned(), overhead_us(report, elapsed).into());
    }
    facts
}

#[cfg(test)]
mod tests {
    use farebox_types::Money;

    use super::*;

    fn report() -> v1::CallReport {
        let limit = |measure: v1::LimitMeasure, left, reset_ms| v1::LimitLeft {
            limit: "l".to_owned(),
            measure: measure.into(),
            allowed: 100,
            left,
            reset_ms,
        };
        v1::CallReport {
            call_id: "c-1".to_owned(),
            model: "fast".to_owned(),
            provider: "openai".to_owned(),
            served_model: "gpt-\u{fc}\r\nx: y".to_owned(),
            cost: Some(Money::from_picos(11_700_000).into()),
            attempts: 2,
            clamped: true,
            upstream_us: 1_500,
            provider_request_id: "req_1".to_owned(),
            warnings: vec!["one".to_owned(), "two".to_owned()],
            budgets: vec![v1::BudgetLeft {
                budget: "team".to_owned(),
                limit: Some(Money::usd(2).into()),
                left: Some(Money::from_picos(1_250_000_000_000).into()),
            }],
            limits: vec![
                limit(v1::LimitMeasure::Requests, 9, 60_000),
                limit(v1::LimitMeasure::Requests, 3, 90_500),
                limit(v1::LimitMeasure::Tokens, 50, 120),
                limit(v1::LimitMeasure::Concurrent, 0, 0),
            ],
            ..Default::default()
        }
    }

    fn headers(shape: Shape) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let facts = Facts { shape, request_id: "r-1", now: Timestamp(1_700_000_000_000) };
        facts.asked(&mut headers);
        facts.ended(&mut headers, &report(), Duration::from_micros(2_742));
        headers
    }

    fn value<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_call_is_told_in_headers() {
        let headers = headers(Shape::OpenAi);
        for (name, said) in [
            ("farebox-request-id", "r-1"),
            ("x-request-id", "r-1"),
            ("farebox-call-id", "c-1"),
            ("farebox-model", "fast"),
            ("farebox-provider", "openai"),
            ("farebox-provider-request-id", "req_1"),
            ("farebox-served-model", "gpt-???x: y"),
            ("farebox-cost-usd", "0.0000117"),
            ("farebox-cached", "false"),
            ("farebox-clamped", "true"),
            ("farebox-attempts", "2"),
            ("farebox-warnings", "one; two"),
            ("farebox-budget-left", "team=1.25"),
            ("farebox-overhead-ms", "1.242"),
            ("x-ratelimit-limit-requests", "100"),
            ("x-ratelimit-remaining-requests", "3"),
            ("x-ratelimit-reset-requests", "1m30.5s"),
            ("x-ratelimit-remaining-tokens", "50"),
            ("x-ratelimit-reset-tokens", "120ms"),
            ("request-id", ""),
        ] {
            assert_eq!(value(&headers, name), said, "{name}");
        }
    }

    #[test]
    fn anthropics_sdks_find_their_own_names() {
        let headers = headers(Shape::Anthropic);
        for (name, said) in [
            ("request-id", "r-1"),
            ("anthropic-ratelimit-requests-limit", "100"),
            ("anthropic-ratelimit-requests-remaining", "3"),
            ("anthropic-ratelimit-requests-reset", "2023-11-14T22:14:51Z"),
            ("anthropic-ratelimit-tokens-remaining", "50"),
            ("x-request-id", ""),
            ("x-ratelimit-limit-requests", ""),
        ] {
            assert_eq!(value(&headers, name), said, "{name}");
        }
    }

    #[test]
    fn spans_as_openai_writes_them() {
        for (millis, said) in
            [(0, "0s"), (120, "120ms"), (1_500, "1.5s"), (20_000, "20s"), (360_000, "6m0s"), (3_661_000, "1h1m1s")]
        {
            assert_eq!(span(Duration::from_millis(millis)), said);
        }
    }
}
