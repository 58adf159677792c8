//! What farebox makes of an answer, in the words of [`Meaning`].

use farebox_dialect::{
    Choice, Completion, Content, DecodeError, FinishReason, Head, Provider, Refusal, Target, Vector, provider_dialect,
};
use farebox_providers::{Egress, ProviderOptions};
use farebox_types::{Secret, Usage};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use super::{Subject, stream};
use crate::{
    carried,
    exchange::Exchange,
    meaning::{Meaning, No, Said, Tokens},
};

/// An answer as farebox understood it.
pub(super) struct Got {
    pub(super) meaning: Meaning,
    /// Only of errors.
    pub(super) kind: Option<&'static str>,
    pub(super) raw: Option<String>,
}

impl Got {
    pub(super) fn new(meaning: Meaning) -> Got {
        Got { meaning, kind: None, raw: None }
    }

    pub(super) fn refused(refusal: &Refusal, said: Meaning) -> Got {
        let no = No { message: refusal.message.clone(), code: refusal.code.clone() };
        let meaning = Meaning { error: Some(no), ended: true, ..said };
        Got { meaning, kind: Some(refusal.kind.as_str()), raw: Some(refusal.raw.clone()) }
    }
}

pub(super) fn head(exchange: &Exchange) -> Head {
    let mut head = Head { status: StatusCode::from_u16(exchange.status).unwrap_or_default(), ..Head::default() };
    for (name, value) in &exchange.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            head.headers.append(name, value);
        }
    }
    head
}

/// The place that the exchange was with, as the table of providers knows it; none of its addresses and keys matter here.
pub(super) fn target(exchange: &Exchange, subject: &Subject) -> Target {
    let model = exchange.model().unwrap_or_else(|| "model".to_owned());
    let options = ProviderOptions {
        api_base: Some("https://recorded.invalid".to_owned()),
        api_key: Some(Secret::Env("RECORDED".to_owned())),
        ..ProviderOptions::default()
    };
    let known = farebox_providers::Provider::new(&exchange.provider, &options, &Egress::default()).ok();
    let quirks = known.map(|provider| provider.target(subject.dialect, &model).quirks).unwrap_or_default();
    Target { hosting: subject.hosting(), quirks, ..Target::new(model) }
}

/// `Err`: what the decoder says against it.
pub(super) fn decode(exchange: &Exchange, subject: &Subject) -> Result<Got, String> {
    let provider = provider_dialect(subject.dialect).ok_or("farebox has no decoder of it")?;
    let bytes = carried::bytes(exchange, subject.family, subject.host)?;
    let head = head(exchange);
    if !exchange.is_ok() {
        let refusal = match provider {
            Provider::Generate(dialect) => dialect.decode_error(&head, &bytes),
            Provider::Embed(dialect) => dialect.decode_error(&head, &bytes),
            Provider::Rerank(dialect) => dialect.decode_error(&head, &bytes),
        };
        return Ok(Got::refused(&refusal, Meaning::default()));
    }
    if subject.meaning.streamed {
        return stream::decode(&bytes, exchange, subject);
    }
    let decoded = match provider {
        Provider::Generate(dialect) if !subject.family.generates() => {
            let counting = dialect.counting().ok_or("farebox does not count with it")?;
            counting.decode(&bytes).map(|tokens| Meaning { counted: Some(tokens), ..Meaning::default() })
        }
        Provider::Generate(dialect) => dialect.decode(&head, &bytes).map(|answer| said(&answer)),
        Provider::Embed(dialect) => dialect.decode(&head, &bytes).map(|answer| Meaning {
            vectors: answer.vectors.iter().map(vector).collect(),
            tokens: tokens(&answer.usage),
            ..Meaning::default()
        }),
        Provider::Rerank(dialect) => dialect.decode(&head, &bytes).map(|answer| Meaning {
            ranking: answer.results.iter().map(|one| (one.index, json(one.score.as_str()))).collect(),
            tokens: tokens(&answer.usage),
            ..Meaning::default()
        }),
    };
    match decoded {
        Ok(meaning) => Ok(Got::new(Meaning { ended: true, ..meaning })),
        Err(DecodeError::Refused(refusal)) => Ok(Got::refused(&refusal, Meaning::default())),
        Err(DecodeError::BrokenOff { refusal, usage }) => {
            Ok(Got::refused(&refusal, Meaning { tokens: tokens(&usage), ..Meaning::default() }))
        }
        Err(error) => Err(format!("it is not decoded: {error}")),
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn vector(vector: &Vector) -> Value {
    match vector {
        Vector::Numbers(raw) => json(raw.as_str()),
        Vector::Base64(text) => Value::from(text.as_str()),
    }
}

pub(super) fn said(answer: &Completion) -> Meaning {
    Meaning {
        choices: answer.choices.iter().map(|choice| (u64::from(choice.index), choice_said(choice))).collect(),
        tokens: tokens(&answer.usage),
        ..Meaning::default()
    }
}

fn choice_said(choice: &Choice) -> Said {
    let mut said = Said { finish: choice.finish.as_ref().map(word), ..Said::default() };
    for part in &choice.parts {
        match &part.content {
            Content::Text(text) => said.text.push_str(text),
            Content::Refusal(text) => said.refusal.push_str(text),
            Content::Reasoning(reasoning) => said.reasoning.push_str(&reasoning.text),
            Content::ToolCall(call) => {
                let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
                said.tools.push((call.id.clone(), call.name.clone(), json(arguments)));
            }
            _ => {}
        }
    }
    said
}

fn word(reason: &FinishReason) -> String {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause",
        FinishReason::Other(word) => return format!("other: {word}"),
    }
    .to_owned()
}

fn tokens(usage: &Usage) -> Tokens {
    let buckets = [
        ("input", usage.input),
        ("cache_read", usage.cache_read),
        ("cache_write_5m", usage.cache_write_5m),
        ("cache_write_1h", usage.cache_write_1h),
        ("output", usage.output),
        ("reasoning", usage.reasoning),
        ("audio_input", usage.audio_input),
        ("audio_output", usage.audio_output),
        ("image_input", usage.image_input),
        ("image_output", usage.image_output),
        ("cache_read_audio", usage.cache_read_audio),
        ("searches", usage.searches),
    ];
    buckets.into_iter().filter_map(|(bucket, count)| Some((bucket, count?))).collect()
}
