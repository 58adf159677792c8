//! Streamed answers: what the decoder sees, and what becomes of it on its way to a caller.

use bytes::Bytes;
use farebox_dialect::{
    Asked, Call, Collector, DecodeError, DialectName, Ending, Event, Exchange, Framing, Hosting, Provider,
    ProviderDialect, Quirk, RawJson, ResponseFormat, StreamLimits, Target, Truncated, emulate::emulation, typed,
};
use farebox_proto::v1::llm_chunk::Piece;
use serde_json::Value;

use super::sound;
use crate::grammar::grammar;

const LIMITS: StreamLimits = StreamLimits { max_frame_bytes: 32 * 1024 };

/// One way in which a provider streams.
pub(super) struct Stream {
    dialect: &'static dyn ProviderDialect,
    target: Target,
}

type Run = (Vec<Event>, Result<(), DecodeError>, Result<Ending, Truncated>);

impl Stream {
    pub(super) fn new(dialect: &'static dyn ProviderDialect, hosting: Hosting, quirks: Vec<Quirk>) -> Stream {
        Stream { dialect, target: Target { hosting, quirks, ..Target::new("m") } }
    }

    pub(super) fn check(&self, input: &[u8]) -> Result<(), String> {
        let whole = self.run([input]);
        let bytewise = self.run(input.chunks(1));
        if whole != bytewise {
            return Err(format!("cut: in one piece {whole:?}, byte by byte {bytewise:?}"));
        }
        let frames = self.frames([input]);
        if frames != self.frames(input.chunks(1)) {
            return Err("cut: the framing gives other frames byte by byte".to_owned());
        }
        let (events, _, ending) = whole;
        let complete = ending == Ok(Ending::Complete);
        grammar(&events, complete).map_err(|problem| format!("grammar: {problem}"))?;
        if complete && !frames.iter().any(|frame| self.may_end(frame)) {
            return Err(format!("end: complete, and no frame of {} is an end", frames.len()));
        }
        for event in &events {
            if let Event::Usage(usage) = event {
                sound::usage(usage)?;
            }
        }
        rendered(&events, complete, input.len())?;
        filtered(&events, complete)?;
        self.relayed(input)
    }

    fn run<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Run {
        let mut decoder = self.dialect.decoder(&self.target, &LIMITS);
        let (mut events, mut fed) = (Vec::new(), Ok(()));
        for piece in pieces {
            fed = decoder.feed(piece, &mut events);
        }
        let ending = decoder.finish(&mut events);
        (events, fed, ending)
    }

    fn frames<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, Vec<u8>)> {
        let mut framing = self.dialect.framing(&self.target, &LIMITS);
        let mut frames = Vec::new();
        for piece in pieces {
            framing.push(piece);
            if !take(framing.as_mut(), &mut frames) {
                return frames;
            }
        }
        frames.extend(framing.finish().map(|last| (last.event.to_owned(), last.data.to_vec())));
        frames
    }

    /// Whether a frame can be what its dialect ends with, as far as can be told without the decoder.
    fn may_end(&self, (event, data): &(String, Vec<u8>)) -> bool {
        if data.trim_ascii() == b"[DONE]" {
            return matches!(self.dialect.name(), DialectName::OpenAiChat | DialectName::OpenAiCompletions);
        }
        // What is too deep for a `Value` is no reason to doubt.
        let Ok(value) = serde_json::from_slice::<Value>(data) else { return true };
        let kind = value["type"].as_str().unwrap_or_default();
        match self.dialect.name() {
            DialectName::OpenAiChat => self.target.has(Quirk::NoDone) && value["choices"].is_array(),
            DialectName::OpenAiCompletions => false,
            DialectName::OpenAiResponses => matches!(kind, "response.completed" | "response.incomplete"),
            DialectName::AnthropicMessages => kind == "message_stop" || event == "message_stop",
            DialectName::CohereChat => kind == "message-end" || event == "message-end",
            DialectName::OllamaChat => value["done"] == true,
            DialectName::BedrockConverse => event == "messageStop" || event == "metadata",
            DialectName::Gemini => value["candidates"].is_array() || value["promptFeedback"].is_object(),
            _ => true,
        }
    }

    /// The same bytes on their way to a caller of the same dialect.
    fn relayed(&self, input: &[u8]) -> Result<(), String> {
        let name = self.dialect.name();
        let prompt = match name {
            DialectName::OpenAiChat => r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#,
            DialectName::AnthropicMessages => {
                r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#
            }
            DialectName::OpenAiResponses => r#"{"model":"m","input":"x","stream":true}"#,
            DialectName::OpenAiCompletions => r#"{"model":"m","prompt":"x","stream":true}"#,
            _ => return Ok(()),
        };
        let asked = Asked::raw(name, Bytes::from_static(prompt.as_bytes()), true).map_err(|f| format!("relay: {f}"))?;
        let provider = Provider::Generate(self.dialect);
        let (exchange, _, _) = Exchange::begin(&asked, provider, self.target.clone(), Default::default())
            .map_err(|fault| format!("relay: {fault}"))?;
        let whole = relay(&exchange, [input]);
        let bytewise = relay(&exchange, input.chunks(1));
        if let (Some(whole), Some(bytewise)) = (&whole, &bytewise)
            && whole != bytewise
        {
            return Err(format!("relay: in one piece {whole:?}, byte by byte {bytewise:?}"));
        }
        for piece in whole.into_iter().flatten() {
            if let Piece::Raw(piece) = piece {
                sound::structure("relay", &piece)?;
            }
        }
        Ok(())
    }
}

/// What a caller gets of an answer in which every frame could be read.
fn relay<'a>(exchange: &Exchange<'_>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<Piece>> {
    let mut relay = exchange.stream(&LIMITS, &sound::stamp())?;
    let mut out = Vec::new();
    for piece in pieces {
        relay.feed(piece, &mut out).ok()?;
    }
    relay.finish(&mut out).ok()?;
    drop((relay.facts(), relay.unfinished_facts(), relay.into_answer()));
    Some(out)
}

/// Takes every whole frame; `false`: there will be no more.
fn take(framing: &mut dyn Framing, frames: &mut Vec<(String, Vec<u8>)>) -> bool {
    loop {
        match framing.next_frame() {
            Ok(Some(frame)) => frames.push((frame.event.to_owned(), frame.data.to_vec())),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn call() -> Call {
    Call { stream: true, include_usage: true, ..Call::default() }
}

/// Every caller's stream of these events, and the answer that they make in the end.
fn rendered(events: &[Event], complete: bool, read: usize) -> Result<(), String> {
    let call = call();
    let mut written = 0;
    for caller in sound::callers() {
        let mut encoder = caller.renderer(&call, &sound::stamp());
        let mut chunks = Vec::new();
        events.iter().for_each(|event| encoder.encode(event, &mut chunks));
        if complete {
            encoder.finish(&mut chunks);
        }
        for chunk in &chunks {
            sound::json(caller.name().as_str(), chunk)?;
            written += chunk.len();
        }
    }
    sound::size("streams", written, read)?;
    let mut collector = Collector::new();
    let mut deltas = typed::Deltas::new();
    for event in events {
        collector.push(event);
        drop(deltas.encode(event));
    }
    sound::completion(&call, &collector.into_completion(), read)
}

/// An emulated JSON mode takes one tool's calls out: with the name of one that is called, or with none of them.
fn filtered(events: &[Event], complete: bool) -> Result<(), String> {
    let named = events.iter().find_map(|event| match event {
        Event::PartStart { kind: farebox_dialect::PartKind::ToolCall { name, .. }, .. } => Some(name.clone()),
        _ => None,
    });
    let format = ResponseFormat::JsonSchema {
        name: named.unwrap_or_else(|| "none".to_owned()),
        description: None,
        schema: RawJson::new("{}"),
        strict: None,
    };
    let call = Call { response_format: Some(format), ..call() };
    let target = Target { quirks: vec![Quirk::JsonByTool], ..Target::new("m") };
    let Some(emulation) = emulation(&call, &target) else { return Ok(()) };
    let mut filter = emulation.filter();
    let mut out = Vec::new();
    events.iter().for_each(|event| filter.push(event.clone(), &mut out));
    grammar(&out, complete).map_err(|problem| format!("filter: {problem}"))
}
