//! From a script's answer to a response: what is decided, in which pieces it goes out, and what it costs.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    Dialect, Fault, Finish, Recorded, Refusal, Reply, Script, State, ToolCall, Usage, anthropic,
    body::{End, Opened, Piece, Played, ReplyBody, break_pieces},
    gemini,
    ledger::OpenEntry,
    openai, openai_responses,
    request::{Request, tokens},
    server::{request_id, response},
};

/// Pieces of a text where a script does not say how many.
const CHUNKS: usize = 8;
const ECHO_CHARS: usize = 120;

/// How a dialect stands on the wire.
pub(crate) struct Writer {
    pub(crate) whole: fn(&Resolved) -> String,
    /// The events of a stream, and how many of them at the end are its terminal ones.
    pub(crate) stream: fn(&Resolved) -> (Vec<Piece>, usize),
    /// With the request's id.
    pub(crate) refusal: fn(&Refusal, &str) -> String,
    /// An event that cannot be parsed.
    pub(crate) corrupt: &'static str,
    /// An error inside a stream.
    pub(crate) error: &'static str,
}

impl Dialect {
    pub(crate) fn writer(self) -> &'static Writer {
        match self {
            Dialect::OpenAi => &openai::WRITER,
            Dialect::OpenAiResponses => &openai_responses::WRITER,
            Dialect::Anthropic => &anthropic::WRITER,
            Dialect::Gemini => &gemini::WRITER,
        }
    }
}

/// A reply with everything decided, ready to be written in a dialect.
pub(crate) struct Resolved {
    pub(crate) seq: u64,
    pub(crate) created: u64,
    pub(crate) model: Arc<str>,
    pub(crate) thinking: Option<String>,
    pub(crate) search: Option<String>,
    pub(crate) text: String,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    pub(crate) include_usage: bool,
    pub(crate) chunks: Option<usize>,
}

impl Resolved {
    /// Output tokens produced after `done` of `count` content events; at least one once there is content.
    pub(crate) fn produced(&self, done: u64, count: u64) -> u64 {
        match done {
            0 => 0,
            _ => (self.usage.output * done / count.max(1)).max(self.usage.output.min(1)),
        }
    }
}

pub(crate) fn echo(request: &Request<'_>) -> String {
    let mut text = String::from("This is the farebox demo emulator, not a real model.");
    if let Some(said) = request.last_text() {
        text.push_str(" You said: ");
        text.extend(said.chars().take(ECHO_CHARS));
    }
    text
}

pub(crate) fn answer(
    dialect: Dialect,
    request: &Request<'_>,
    model: Arc<str>,
    script: &Script,
    reply: Reply,
    mut entry: OpenEntry,
) -> Response<ReplyBody> {
    let resolved = resolve(dialect, request, model, script, reply, entry.seq());
    let id = request_id(entry.seq());
    entry.status(200);
    let usage = resolved.usage;
    let Writer { whole, stream, corrupt, error, .. } = *dialect.writer();
    if request.streams() {
        let (mut pieces, terminal) = stream(&resolved);
        let end = break_pieces(script.fault, &mut pieces, terminal, corrupt, error);
        return played(pieces, end, script, usage, Some(entry), None).with_head(200, dialect, &id, true);
    }
    let body = whole(&resolved);
    entry.bill(&usage, usage.output);
    if script.fault == Fault::None && script.hold.is_none() {
        entry.end(State::Answered);
        return response(200, dialect, &id, body);
    }
    let length = Some(body.len() as u64);
    let mut pieces = vec![Piece::billed(body, usage.output)];
    let end = break_pieces(script.fault, &mut pieces, 1, corrupt, error);
    let length = if matches!(end, End::Clean(_)) { None } else { length };
    played(pieces, end, script, usage, Some(entry), length).with_head(200, dialect, &id, false)
}

/// What the model would say if nothing limited it, in tokens.
fn unlimited(reply: &Reply) -> u64 {
    let thinking = reply.thinking.as_deref().unwrap_or_default();
    let arguments: usize = reply.tool_calls.iter().map(|c| c.name.len() + c.arguments.len()).sum();
    tokens(reply.text.len() + thinking.len() + arguments).max(1)
}

/// What a reply costs, whole. Anthropic does not tell thoughts from the rest of what was written.
pub(crate) fn usage(dialect: Dialect, request: &Request<'_>, reply: &Reply) -> Usage {
    reply.usage.unwrap_or_else(|| {
        let output = unlimited(reply).min(request.output_limit().unwrap_or(u64::MAX));
        let thought = reply.thinking.as_deref().filter(|_| dialect != Dialect::Anthropic).unwrap_or_default();
        let reasoning = tokens(thought.len()).min(output);
        Usage { reasoning, searches: u64::from(reply.search.is_some()), ..Usage::new(request.prompt_tokens(), output) }
    })
}

fn resolve(
    dialect: Dialect,
    request: &Request<'_>,
    model: Arc<str>,
    script: &Script,
    reply: Reply,
    seq: u64,
) -> Resolved {
    let usage = usage(dialect, request, &reply);
    let is_cut = reply.usage.is_none() && usage.output < unlimited(&reply);
    let mut text = reply.text;
    let mut finish = reply.finish.unwrap_or(if reply.tool_calls.is_empty() { Finish::Stop } else { Finish::ToolUse });
    if is_cut {
        text.truncate(text.floor_char_boundary(usize::try_from(usage.output).unwrap_or(usize::MAX).saturating_mul(4)));
        finish = Finish::Length;
    }
    Resolved {
        seq,
        created: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        model,
        thinking: reply.thinking,
        search: reply.search,
        text,
        tool_calls: reply.tool_calls,
        finish,
        usage,
        include_usage: request.wants_usage(),
        chunks: script.chunks,
    }
}

pub(crate) fn replay(script: &Script, recorded: &Recorded, mut entry: Option<OpenEntry>) -> Response<ReplyBody> {
    if let Some(entry) = &mut entry {
        entry.status(recorded.status);
    }
    let is_error = recorded.status >= 400;
    let total = recorded.body.len().max(1) as u64;
    let size = recorded.body.len().div_ceil(script.chunks.unwrap_or(1).max(1)).max(1);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < recorded.body.len() {
        let next = (at + size).min(recorded.body.len());
        // Even where the recording reports no usage, something was produced: the call is billed.
        let produced = (!is_error).then_some(recorded.usage.output * next as u64 / total);
        pieces.push(Piece { bytes: recorded.body.slice(at..next), produced });
        at = next;
    }
    let end = match break_pieces(script.fault, &mut pieces, 1, openai::WRITER.corrupt, openai::WRITER.error) {
        End::Clean(State::Answered) if is_error => End::Clean(State::Error),
        end => end,
    };
    let body = played(pieces, end, script, recorded.usage, entry, None);
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(recorded.status).unwrap_or(StatusCode::OK);
    for (name, value) in &recorded.headers {
        if let (Ok(name), Ok(value)) =
            (header::HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn played(
    pieces: Vec<Piece>,
    end: End,
    script: &Script,
    usage: Usage,
    entry: Option<OpenEntry>,
    length: Option<u64>,
) -> ReplyBody {
    let pieces = pieces.into_iter();
    let hold = script.hold.clone().map(|(after, until)| (after, Box::pin(until.come()) as Opened));
    ReplyBody::Played(Box::new(Played {
        pieces,
        entry,
        usage,
        pace: script.pace,
        end,
        length,
        timer: None,
        ahead: script.ahead,
        waited: true, // The first piece follows the head at once.
        hold,
    }))
}

pub(crate) fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// `chunks` pieces of about the same size, never through a character; fewer where there are fewer characters.
pub(crate) fn split(text: &str, chunks: Option<usize>) -> impl Iterator<Item = &str> {
    let mut left = chunks.unwrap_or(CHUNKS).max(1);
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let size = rest.len().div_ceil(left);
        let at = if left == 1 { rest.len() } else { rest.ceil_char_boundary(size) };
        left = left.saturating_sub(1).max(1);
        let (piece, tail) = rest.split_at(at);
        rest = tail;
        Some(piece)
    })
}
