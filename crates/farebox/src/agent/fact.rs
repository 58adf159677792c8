//! A call fact for a person.

use farebox_proto::v1;
use farebox_types::{ErrorKind, Money, Outcome, Timestamp, Usage};
use jiff::tz::TimeZone;

use super::{answer::millis, output::clean, period::wall};

/// The words that tables and lines are made of.
pub(crate) struct Words {
    pub(crate) ended: Timestamp,
    /// `ok`, or how it ended and why: `error rate_limited`.
    pub(crate) outcome: String,
    pub(crate) model: String,
    /// `openai/gpt-4-0613`.
    pub(crate) served: String,
    pub(crate) project: String,
    /// `-` where there is none.
    pub(crate) actor: String,
    pub(crate) task: String,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cost: Money,
    pub(crate) latency: String,
}

/// A cell that is never empty.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { clean(text) }
}

pub(crate) fn words(fact: &v1::CallFact) -> Words {
    let labels = fact.labels.clone().unwrap_or_default();
    let principal = fact.principal.clone().unwrap_or_default();
    let usage = fact.usage.map(Usage::from).unwrap_or_default();
    let served = if fact.served_model.is_empty() { &fact.upstream_model } else { &fact.served_model };
    let outcome = fact.outcome().known();
    let name = outcome.map_or("unknown", Outcome::as_str);
    // The kind of a cancelled or lost call says the same again.
    let why = fact.error_kind().known().filter(|_| outcome == Some(Outcome::Error)).map(ErrorKind::as_str);
    Words {
        ended: Timestamp(fact.ended_unix_ms),
        outcome: why.map_or(name.to_owned(), |why| format!("{name} {why}")),
        model: or_dash(&fact.model),
        served: format!("{}/{}", or_dash(&fact.provider), or_dash(served)),
        project: or_dash(&principal.project),
        actor: or_dash(&labels.actor),
        task: or_dash(&labels.task_id),
        input: usage.total_input(),
        output: usage.total_output(),
        cost: v1::Money::of(&fact.cost),
        latency: millis(fact.latency_ms),
    }
}

/// One call on one line: time, outcome, model and who served it, for whom, tokens, cost, latency.
pub(crate) fn line(fact: &v1::CallFact, zone: &TimeZone) -> String {
    let words = words(fact);
    format!(
        "{}  {:<9}  {} → {}  {}  {}/{}  {}→{} tokens  ${}{}  {}",
        wall(words.ended, "%H:%M:%S", zone),
        words.outcome,
        words.model,
        words.served,
        words.project,
        words.actor,
        words.task,
        words.input,
        words.output,
        words.cost,
        if fact.estimated { " (estimated)" } else { "" },
        words.latency,
    )
}

/// A fact with everything in it, for tests.
#[cfg(test)]
pub(crate) fn sample(call_id: &str) -> v1::CallFact {
    v1::CallFact {
        call_id: call_id.into(),
        request_id: "r-1".into(),
        attempt: 1,
        principal: Some(v1::Principal { project: "acme".into(), ..v1::Principal::default() }),
        labels: Some(v1::Labels { actor: "writer".into(), task_id: "t-7".into(), ..v1::Labels::default() }),
        model: "gpt-4".into(),
        provider: "openai".into(),
        upstream_model: "gpt-4".into(),
        served_model: "gpt-4-0613".into(),
        outcome: v1::Outcome::Ok.into(),
        usage: Some(v1::Usage { input: Some(12), output: Some(34), ..v1::Usage::default() }),
        cost: Some("0.000123".parse::<Money>().unwrap().into()),
        ended_unix_ms: 1_795_249_384_000,
        latency_ms: 812,
        ..v1::CallFact::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_one_line() {
        let whole = sample("c1");
        let refused = v1::CallFact {
            outcome: v1::Outcome::Error.into(),
            error_kind: v1::ErrorKind::RateLimited.into(),
            labels: None,
            served_model: String::new(),
            usage: None,
            cost: None,
            ..sample("c2")
        };
        let lost = v1::CallFact {
            outcome: v1::Outcome::Lost.into(),
            error_kind: v1::ErrorKind::Lost.into(),
            estimated: true,
            model: "a\nb".into(),
            ..sample("c3")
        };
        let lines = [whole, refused, lost].map(|fact| line(&fact, &TimeZone::UTC)).join("\n");
        insta::assert_snapshot!(lines);
    }
}
