//! Limits, as the SDKs of both APIs read them: in the headers of answers, and in those of refusals.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    Api, http, shared,
    wire::{self, Answer},
};
use crate::stage::{LIMITED, Stage, play};

/// Of the key `limited`, for a minute.
const REQUESTS: u64 = 6;
const TOKENS: u64 = 1_000_000;
/// What a minute may be left of, in seconds.
const MINUTE: std::ops::RangeInclusive<u64> = 1..=60;

async fn ask(stage: &Stage, api: Api, stream: bool) -> Answer {
    let body = api.body(&api.model("plain"), stream, Some(20)).to_string();
    wire::ask(http(stage), &wire::post(api.path(), &[("x-api-key", LIMITED)], body.as_bytes())).await
}

fn number(answer: &Answer, name: &str) -> u64 {
    let value = answer.get(name).unwrap_or_else(|| panic!("no {name} in {answer:?}"));
    value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

/// Limit and rest of a measure.
fn left(api: Api, answer: &Answer, measure: &str) -> (u64, u64) {
    match api {
        Api::Messages => {
            let name = |what: &str| format!("anthropic-ratelimit-{measure}-{what}");
            let reset = answer.get(&name("reset")).unwrap_or_else(|| panic!("{answer:?}"));
            // A moment in RFC 3339.
            let reset: jiff::Timestamp = reset.parse().unwrap_or_else(|error| panic!("{reset}: {error}"));
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
            let after = u64::try_from(reset.as_second()).expect("it is later").saturating_sub(now);
            // Both are whole seconds.
            assert!(after <= MINUTE.end() + 1, "{reset}");
            (number(answer, &name("limit")), number(answer, &name("remaining")))
        }
        _ => {
            let name = |what: &str| format!("x-ratelimit-{what}-{measure}");
            // A span: `20s`, `59.5s`, `120ms`, `1m0s`.
            let reset = answer.get(&name("reset")).unwrap_or_else(|| panic!("{answer:?}"));
            let span: jiff::SignedDuration = reset.parse().unwrap_or_else(|error| panic!("{reset}: {error}"));
            assert!((0..=60).contains(&span.as_secs()), "{reset}");
            (number(answer, &name("limit")), number(answer, &name("remaining")))
        }
    }
}

#[test]
fn a_limit_of_a_key_stands_in_the_headers_that_sdks_read() {
    play(async {
        let stage = shared().await;
        let mut requests = Api::ALL.iter().flat_map(|api| [(*api, false), (*api, true)]);
        let mut tokens_before = TOKENS;
        for (number, (api, stream)) in (1..=REQUESTS).zip(requests.by_ref()) {
            let answer = ask(stage, api, stream).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            assert_eq!(left(api, &answer, "requests"), (REQUESTS, REQUESTS - number), "{api:?} {answer:?}");
            let (allowed, tokens) = left(api, &answer, "tokens");
            assert!(allowed == TOKENS && tokens < tokens_before, "{tokens} after {tokens_before}");
            tokens_before = tokens + 100_000;
        }
        for (api, stream) in Api::ALL.iter().flat_map(|api| [(*api, false), (*api, true)]) {
            let answer = ask(stage, api, stream).await;
            let said = answer.text();
            assert_eq!((answer.status(), answer.get("farebox-error")), (429, Some("rate_limited")), "{said}");
            assert_eq!(left(api, &answer, "requests"), (REQUESTS, 0), "{api:?} {answer:?}");
            // Before it the SDKs try again in vain; both read the milliseconds first.
            let (after, millis) = (number(&answer, "retry-after"), number(&answer, "retry-after-ms"));
            assert!(MINUTE.contains(&after) && millis.div_ceil(1000) == after, "{after} s, {millis} ms");
            // They try again by themselves.
            assert_eq!(answer.get("x-should-retry"), None, "{answer:?}");
            let (kind, message) = api.error(&answer.json());
            let known = if api == Api::Messages { "rate_limit_error" } else { "requests" };
            assert!(kind == known || kind.contains("rate_limit"), "{said}");
            assert!(message.contains("`a-minute`"), "{message}");
        }
    });
}
