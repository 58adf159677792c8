//! Every answer towards every caller: `snapshots/answers`, one file for each tape; and what comes back when a caller's
//! library, which is a provider's decoder of the same dialect, reads it.

use bytes::Bytes;
use farebox_dialect::{
    Call, Choice, Completion, Content, DialectName, Ending, Event, FinishReason, Part, Reasoning, Stamp, sse, typed,
};
use farebox_types::Usage;
use serde_json::Value;

use crate::{
    golden,
    laws::{assert_grammar, run},
    openai_responses::collect,
    tape::{Tape, streams, tape, wholes},
};

const CALLERS: [DialectName; 4] = [
    DialectName::OpenAiChat,
    DialectName::OpenAiResponses,
    DialectName::OpenAiCompletions,
    DialectName::AnthropicMessages,
];

const SHOWN: [&str; 24] = [
    "anthropic-messages/document-citations",
    "anthropic-messages/search-citations-s",
    "anthropic-messages/text",
    "anthropic-messages/thinking-tools",
    "anthropic-messages/thinking-tools-s",
    "bedrock-converse/blocks",
    "bedrock-converse/thinking-tools-s",
    "cohere-chat/thinking-citations",
    "cohere-chat/tools-s",
    "gemini/grounded",
    "gemini/image",
    "gemini/text-s",
    "gemini/tools",
    "gemini/tools-s",
    "gemini/two-candidates-s",
    "ollama-chat/length",
    "ollama-chat/tools-s",
    "openai-chat/openrouter",
    "openai-chat/perplexity",
    "openai-chat/tools-parallel-s",
    "openai-chat/two-choices-logprobs-s",
    "openai-completions/text-s",
    "openai-responses/tools",
    "openai-responses/web-search",
];

fn call() -> Call {
    Call { include_usage: true, ..Call::default() }
}

fn stamp() -> Stamp {
    Stamp { id: "own-1".into(), created: 1_770_000_000, model: None }
}

fn chunks(dialect: DialectName, events: &[Event]) -> Vec<Bytes> {
    let mut renderer = crate::caller(dialect).renderer(&call(), &stamp());
    let mut chunks = Vec::new();
    events.iter().for_each(|event| renderer.encode(event, &mut chunks));
    renderer.finish(&mut chunks);
    chunks
}

fn events(tape: &Tape) -> Option<Vec<Event>> {
    let (events, fed, ending) = run(tape.dialect, [tape.body.as_slice()]);
    (fed.is_ok() && ending == Ok(Ending::Complete)).then_some(events)
}

fn decoded(tape: &Tape) -> Option<Completion> {
    crate::provider(tape.dialect).decode(&tape.head, &tape.body).ok()
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn towards_every_caller() {
    for name in SHOWN {
        let tape = tape(name);
        let mut told: Vec<(String, String)> = Vec::new();
        if tape.streamed {
            let events = events(&tape).unwrap();
            for caller in CALLERS {
                let lines: Vec<String> =
                    chunks(caller, &events).iter().map(|chunk| json_of(chunk).to_string()).collect();
                told.push((caller.to_string(), lines.join("\n")));
            }
            let mut deltas = typed::Deltas::new();
            let lines: Vec<String> = events
                .iter()
                .filter_map(|event| deltas.encode(event))
                .map(|delta| format!("{:?}", delta.event.unwrap()))
                .collect();
            told.push(("typed".to_owned(), lines.join("\n")));
        } else {
            let done = decoded(&tape).unwrap();
            for caller in CALLERS {
                let body = crate::caller(caller).render(&call(), &done, &stamp());
                told.push((caller.to_string(), golden::json(&json_of(&body))));
            }
            let done = typed::completion(&done);
            let parts = done.parts.iter().map(|part| format!("{:?}\n", part.kind.as_ref().unwrap()));
            let all: String = parts.collect();
            told.push(("typed".to_owned(), format!("{all}{:?}", done.finish_reason())));
        }
        golden::compare("answers", &name.replace('/', "-"), &golden::sections(told));
    }
}

/// What a dialect has no place for.
fn kept(caller: DialectName, done: &Completion) -> Completion {
    let mut done = Completion {
        id: String::new(),
        created: None,
        reported_cost: None,
        extra: farebox_dialect::Extra::new(),
        usage: sums(&done.usage),
        ..done.clone()
    };
    let single = matches!(caller, DialectName::OpenAiResponses | DialectName::AnthropicMessages);
    if single {
        done.choices.truncate(1);
    }
    if caller == DialectName::OpenAiCompletions {
        done.service_tier = None;
    }
    done.choices = done.choices.into_iter().map(|choice| kept_choice(caller, choice)).collect();
    done
}

/// The two sums that every dialect tells.
fn sums(given: &Usage) -> Usage {
    Usage { input: Some(given.total_input()), output: Some(given.total_output()), ..Usage::default() }
}

fn kept_choice(caller: DialectName, choice: Choice) -> Choice {
    let refuses = choice.parts.iter().any(|part| matches!(part.content, Content::Refusal(_)));
    let parts = choice.parts.into_iter().filter_map(|part| kept_part(caller, part));
    Choice {
        parts: merged(parts),
        finish: choice.finish.map(|reason| finish(caller, reason, refuses)),
        stop_sequence: choice.stop_sequence.filter(|_| caller == DialectName::AnthropicMessages),
        logprobs: None,
        extra: farebox_dialect::Extra::new(),
        ..choice
    }
}

/// Texts in a row are one text for a reader; reasoning stands before the words it led to, calls behind them.
fn merged(parts: impl Iterator<Item = Part>) -> Vec<Part> {
    let mut found: Vec<Part> = Vec::new();
    let same = |one: &Content, two: &Content| std::mem::discriminant(one) == std::mem::discriminant(two);
    for part in parts {
        let last = found.iter_mut().find(|last| same(&last.content, &part.content));
        match (last.map(|last| &mut last.content), &part.content) {
            (Some(Content::Text(all)), Content::Text(more)) | (Some(Content::Refusal(all)), Content::Refusal(more)) => {
                all.push_str(more);
            }
            (Some(Content::Reasoning(all)), Content::Reasoning(more)) => all.text.push_str(&more.text),
            _ => found.push(part),
        }
    }
    found.retain(|part| !matches!(&part.content, Content::Text(text) if text.is_empty()));
    found.sort_by_key(|part| match &part.content {
        Content::Reasoning(_) => 0,
        Content::Text(_) => 1,
        Content::Refusal(_) => 2,
        Content::ToolCall(_) => 3,
        _ => 4,
    });
    found
}

fn kept_part(caller: DialectName, part: Part) -> Option<Part> {
    use DialectName::{AnthropicMessages, OpenAiChat, OpenAiCompletions};
    let content = match (caller, part.content) {
        (_, Content::Text(text)) => Content::Text(text),
        // It is told as text there.
        (AnthropicMessages | OpenAiCompletions, Content::Refusal(text)) => Content::Text(text),
        (_, Content::Refusal(text)) => Content::Refusal(text),
        (OpenAiCompletions, _) => return None,
        (_, Content::ToolCall(mut call)) => {
            if call.arguments.trim().is_empty() {
                "{}".clone_into(&mut call.arguments);
            }
            Content::ToolCall(call)
        }
        (_, Content::Reasoning(reasoning)) if !reasoning.text.is_empty() => {
            Content::Reasoning(Reasoning { text: reasoning.text, ..Reasoning::default() })
        }
        (OpenAiChat, Content::Image(media)) => Content::Image(media),
        _ => return None,
    };
    Some(Part::from(content))
}

fn finish(caller: DialectName, reason: FinishReason, refuses: bool) -> FinishReason {
    use FinishReason::*;
    match (caller, reason) {
        (DialectName::AnthropicMessages, ContentFilter) => Refusal,
        (DialectName::AnthropicMessages, Other(_)) => Stop,
        (DialectName::AnthropicMessages, reason) => reason,
        (_, Pause) => Length,
        (DialectName::OpenAiCompletions, StopSequence | ToolCalls) | (_, StopSequence) => Stop,
        (DialectName::OpenAiResponses, Refusal) if refuses => Refusal,
        (_, Refusal) => ContentFilter,
        (_, reason) => reason,
    }
}

fn whole_again(caller: DialectName, done: &Completion) -> Completion {
    let body = crate::caller(caller).render(&call(), done, &stamp());
    crate::provider(caller).decode(&farebox_dialect::Head::default(), &body).unwrap()
}

fn stream_again(name: &str, caller: DialectName, events: &[Event]) -> Completion {
    let mut framed = Vec::new();
    chunks(caller, events).iter().for_each(|chunk| framed.extend_from_slice(&sse::frame(chunk)));
    if matches!(caller, DialectName::OpenAiChat | DialectName::OpenAiCompletions) {
        framed.extend_from_slice(sse::DONE);
    }
    let (again, fed, ending) = run(caller, [framed.as_slice()]);
    assert_eq!((fed, ending), (Ok(()), Ok(Ending::Complete)), "{name} for {caller}");
    assert_grammar(&format!("{name} for {caller}"), &again, true);
    collect(&again)
}

/// What a caller reads is what the provider said, less what the caller's dialect has no place for.
#[test]
fn a_caller_reads_what_the_provider_said() {
    let mut read = 0;
    for tape in wholes().iter().filter(|tape| crate::generating().any(|name| name == tape.dialect)) {
        let Some(done) = decoded(tape) else { continue };
        for caller in CALLERS {
            let again = whole_again(caller, &done);
            assert_eq!(kept(caller, &again), kept(caller, &done), "{} for {caller}", tape.name);
            read += 1;
        }
    }
    for tape in streams() {
        let Some(events) = events(&tape) else { continue };
        let done = collect(&events);
        for caller in CALLERS {
            let again = stream_again(&tape.name, caller, &events);
            assert_eq!(kept(caller, &again), kept(caller, &done), "{} for {caller}", tape.name);
            read += 1;
        }
    }
    assert!(read > 200, "only {read} answers were read");
}
