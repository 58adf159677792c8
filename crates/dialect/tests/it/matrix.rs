//! Every call towards every provider's dialect: `snapshots/calls`, one file for each case. A line that begins with `!` is
//! a warning, or why the call cannot be sent; `!!` says that the call is refused where nothing may be left out.

use std::fmt::Write as _;

use farebox_dialect::{
    Call, DialectName, EncodeError, Encoded, Hosting, OnUnsupported, Provider, Quirk, Target, emulate::emulation,
    provider_dialect,
};
use http::HeaderMap;
use serde_json::Value;

use crate::{calls, golden};

/// A place to which calls go.
pub(crate) struct Place {
    pub(crate) title: &'static str,
    pub(crate) dialect: DialectName,
    pub(crate) target: Target,
}

fn place(title: &'static str, dialect: DialectName, model: &str, quirks: &[Quirk]) -> Place {
    Place { title, dialect, target: Target { quirks: quirks.to_vec(), ..Target::new(model) } }
}

fn hosted(title: &'static str, hosting: Hosting, model: &str) -> Place {
    let own = place(title, DialectName::AnthropicMessages, model, &[]);
    Place { target: Target { hosting, ..own.target }, ..own }
}

pub(crate) fn places() -> Vec<Place> {
    use DialectName::*;
    vec![
        place("openai-chat", OpenAiChat, "gpt-tape-1", &[]),
        place(
            "openai-chat, no JSON schema",
            OpenAiChat,
            "gpt-tape-1",
            &[Quirk::SchemaByTool, Quirk::MaxTokens, Quirk::NoDeveloper],
        ),
        place(
            "openai-chat, OpenRouter",
            OpenAiChat,
            "gpt-tape-1",
            &[Quirk::ReasoningObject, Quirk::CacheControl, Quirk::AsksForCost],
        ),
        place("openai-chat, thinking switch", OpenAiChat, "gpt-tape-1", &[Quirk::ThinkingSwitch]),
        place("openai-chat, DashScope", OpenAiChat, "gpt-tape-1", &[Quirk::EnableThinking, Quirk::CacheControl]),
        place("openai-responses", OpenAiResponses, "gpt-tape-1", &[]),
        place("openai-completions", OpenAiCompletions, "gpt-tape-instruct", &[]),
        place("anthropic-messages", AnthropicMessages, "claude-tape-1", &[]),
        place(
            "anthropic-messages, no JSON modes, adaptive",
            AnthropicMessages,
            "claude-tape-1",
            &[Quirk::JsonByTool, Quirk::AdaptiveThinking],
        ),
        hosted("anthropic-messages at Vertex", Hosting::Vertex, "claude-tape@1"),
        hosted("anthropic-messages at Bedrock", Hosting::Bedrock, "anthropic.claude-tape-1:0"),
        place("bedrock-converse, Claude", BedrockConverse, "eu.anthropic.claude-tape-1:0", &[]),
        place("bedrock-converse, Nova", BedrockConverse, "amazon.nova-tape-1:0", &[Quirk::JsonByTool]),
        place("gemini 2.5", Gemini, "gemini-2.5-tape", &[]),
        place("gemini 3", Gemini, "gemini-3-tape", &[]),
        place("cohere-chat", CohereChat, "command-tape", &[]),
        place("ollama-chat", OllamaChat, "llama-tape", &[]),
    ]
}

/// As an exchange sends it: with the JSON mode that the place lacks emulated.
pub(crate) fn sent(call: &Call, place: &Place, unsupported: OnUnsupported) -> Result<Encoded, EncodeError> {
    let target = Target { unsupported, ..place.target.clone() };
    let mut call = call.clone();
    let emulation = emulation(&call, &target);
    if let Some(emulation) = &emulation {
        emulation.apply(&mut call);
    }
    let mut encoded = crate::provider(place.dialect).encode(&call, &target)?;
    encoded.warnings.extend(emulation.map(|emulation| emulation.warning()));
    Ok(encoded)
}

fn told(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let notable = headers.iter().filter(|(name, value)| *name != "content-type" || *value != "application/json");
    notable.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
}

fn section(dropped: Result<Encoded, EncodeError>, refused: Result<Encoded, EncodeError>) -> String {
    let encoded = match dropped {
        Ok(encoded) => encoded,
        Err(error) => return format!("! {error}"),
    };
    let request = &encoded.request;
    let mut out = format!("{} {}\n", request.method(), request.uri());
    told(request.headers()).for_each(|line| writeln!(out, "{line}").unwrap());
    writeln!(out, "{}", golden::json(&serde_json::from_slice(request.body()).unwrap())).unwrap();
    encoded.warnings.iter().for_each(|warning| writeln!(out, "! {warning}").unwrap());
    if let Err(error) = refused {
        write!(out, "!! {error}").unwrap();
    }
    out
}

fn both<T>(make: impl Fn(OnUnsupported) -> T) -> (T, T) {
    (make(OnUnsupported::Drop), make(OnUnsupported::Refuse))
}

#[test]
fn conversations() {
    for (name, call) in calls::generating() {
        let told = places().into_iter().map(|place| {
            let (dropped, refused) = both(|policy| sent(&call, &place, policy));
            (place.title.to_owned(), section(dropped, refused))
        });
        golden::compare("calls", name, &golden::sections(told.collect()));
    }
}

#[test]
fn embeddings() {
    for (name, call) in calls::embedding() {
        let told = DialectName::ALL.into_iter().filter_map(|dialect| {
            let Some(Provider::Embed(provider)) = provider_dialect(dialect) else { return None };
            let (dropped, refused) =
                both(|unsupported| provider.encode(&call, &Target { unsupported, ..Target::new("embed-tape") }));
            Some((dialect.to_string(), section(dropped, refused)))
        });
        golden::compare("calls", name, &golden::sections(told.collect()));
    }
}

#[test]
fn reranks() {
    for (name, call) in calls::reranking() {
        let told = DialectName::ALL.into_iter().filter_map(|dialect| {
            let Some(Provider::Rerank(provider)) = provider_dialect(dialect) else { return None };
            let (dropped, refused) =
                both(|unsupported| provider.encode(&call, &Target { unsupported, ..Target::new("rerank-tape") }));
            Some((dialect.to_string(), section(dropped, refused)))
        });
        golden::compare("calls", name, &golden::sections(told.collect()));
    }
}

/// What a dialect writes, it also reads: a call that went out whole comes in as a call that goes out the same.
#[test]
fn what_is_written_is_read_again() {
    let mut whole = 0;
    for (name, call) in calls::generating() {
        for place in places() {
            let Some(caller) =
                farebox_dialect::caller_dialect(place.dialect).and_then(farebox_dialect::Caller::generate)
            else {
                continue;
            };
            if place.target.hosting != Hosting::Own {
                continue;
            }
            let Ok(first) = sent(&call, &place, OnUnsupported::Drop) else { continue };
            let read = caller.parse(first.request.headers(), first.request.body());
            let again = read.unwrap_or_else(|error| panic!("{name} for {}: {error}", place.title));
            let second = crate::provider(place.dialect).encode(&again, &place.target);
            let second = second.unwrap_or_else(|error| panic!("{name} for {}: {error}", place.title));
            let body = |encoded: &Encoded| -> Value { serde_json::from_slice(encoded.request.body()).unwrap() };
            // All items of one turn are one message here.
            if (name, place.dialect) != ("turns", DialectName::OpenAiResponses) {
                assert_eq!(body(&second), body(&first), "{name} for {}", place.title);
            }
            assert!(second.warnings.is_empty(), "{name} for {}: {:?}", place.title, second.warnings);
            whole += 1;
        }
    }
    assert!(whole > 100, "only {whole} calls were compared");
}
