//! What a recorded answer means, read from its raw JSON or SSE and from nothing else: what farebox makes of it is
//! compared with this, so it shares no code with farebox.

use std::collections::BTreeMap;

use farebox_testkit::Tape;
use serde_json::Value;

/// Disjoint buckets, by the names of the ledger's columns; what was not reported is not in it.
pub(super) type Tokens = BTreeMap<&'static str, u64>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Family {
    OpenAi,
    Anthropic,
}

impl Family {
    /// `None`: another API.
    pub(super) fn of(tape: &Tape) -> Option<Family> {
        match (tape.provider.as_str(), tape.endpoint.as_str()) {
            (_, "chat.completions") => Some(Family::OpenAi),
            ("anthropic", "messages") => Some(Family::Anthropic),
            _ => None,
        }
    }
}

/// One choice of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) refusal: String,
    /// Id, name, arguments.
    pub(super) tools: Vec<(String, String, Value)>,
    pub(super) finish: Option<String>,
}

/// A provider's no.
#[derive(Clone, Debug)]
pub(super) struct No {
    pub(super) message: String,
    pub(super) code: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Meaning {
    pub(super) choices: BTreeMap<u64, Said>,
    pub(super) tokens: Tokens,
    /// The answer is an error, or broke off with one.
    pub(super) error: Option<No>,
    /// A stream came to the provider's own end.
    pub(super) ended: bool,
}

/// `Err`: there is nothing that could be played.
pub(super) fn read(tape: &Tape, family: Family) -> Result<Meaning, String> {
    if tape.response.events.is_some() {
        return Err("payloads of a stream without its framing".to_owned());
    }
    let events = match &tape.response.body {
        None => return Err("no body as text or JSON".to_owned()),
        Some(Value::String(text)) if text.trim().is_empty() => return Err("an empty body".to_owned()),
        Some(Value::String(text)) => sse(text)?,
        Some(Value::Object(body)) => return Ok(whole(&Value::Object(body.clone()), family)),
        Some(_) => return Err("a body that is no object".to_owned()),
    };
    if events.is_empty() {
        return Err("text that is no event stream".to_owned());
    }
    Ok(match family {
        Family::OpenAi => openai_stream(&events),
        Family::Anthropic => anthropic_stream(&events),
    })
}

/// The data of each event.
fn sse(text: &str) -> Result<Vec<String>, String> {
    let (mut events, mut data) = (Vec::new(), Vec::new());
    for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
        if line.is_empty() && !data.is_empty() {
            events.push(data.join("\n"));
            data.clear();
        } else if let Some(rest) = line.strip_prefix("data:") {
            data.push(rest.strip_prefix(' ').unwrap_or(rest).to_owned());
        }
    }
    if !data.is_empty() {
        return Err("a stream whose last event was cut off".to_owned());
    }
    Ok(events)
}

fn no(error: &Value) -> No {
    let word = |name: &str| error[name].as_str().map(str::to_owned);
    No { message: word("message").unwrap_or_default(), code: word("code").or_else(|| word("type")) }
}

fn whole(body: &Value, family: Family) -> Meaning {
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        return Meaning { error: Some(no(error)), ended: true, ..Meaning::default() };
    }
    match family {
        Family::OpenAi => Meaning {
            choices: openai_choices(body),
            tokens: openai_tokens(&body["usage"]),
            ended: true,
            ..Meaning::default()
        },
        Family::Anthropic => {
            let mut said = Said { finish: body["stop_reason"].as_str().map(finish_of), ..Said::default() };
            for block in items(&body["content"]) {
                match block["type"].as_str() {
                    Some("text") => said.text.push_str(&string(&block["text"])),
                    Some("tool_use") => {
                        said.tools.push((string(&block["id"]), string(&block["name"]), block["input"].clone()));
                    }
                    _ => {}
                }
            }
            Meaning {
                choices: BTreeMap::from([(0, said)]),
                tokens: anthropic_tokens(&body["usage"]),
                ended: true,
                ..Meaning::default()
            }
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Text, or a list of blocks of which those of text count.
fn content(value: &Value) -> String {
    match value {
        Value::Array(blocks) => {
            blocks.iter().filter(|block| block["type"] == "text").map(|block| string(&block["text"])).collect()
        }
        other => string(other),
    }
}

/// No arguments at all are no members; what is no JSON is compared as text.
fn arguments(text: &str) -> Value {
    let text = if text.trim().is_empty() { "{}" } else { text };
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// The choices of a whole answer in OpenAI's form: a provider's, or farebox's.
pub(super) fn openai_choices(answer: &Value) -> BTreeMap<u64, Said> {
    let read = |choice: &Value| {
        let message = &choice["message"];
        let tools = items(&message["tool_calls"]).map(|call| {
            let function = &call["function"];
            (string(&call["id"]), string(&function["name"]), arguments(&string(&function["arguments"])))
        });
        let said = Said {
            text: content(&message["content"]),
            refusal: string(&message["refusal"]),
            tools: tools.collect(),
            finish: choice["finish_reason"].as_str().map(str::to_owned),
        };
        (choice["index"].as_u64().unwrap_or(0), said)
    };
    items(&answer["choices"]).map(read).collect()
}

#[derive(Default)]
struct Growing {
    said: Said,
    /// Number, id, name, arguments.
    tools: Vec<(u64, String, String, String)>,
}

/// The choices that the chunks of a stream in OpenAI's form add up to: a provider's, or farebox's.
pub(super) fn openai_chunks<'a>(chunks: impl IntoIterator<Item = &'a Value>) -> BTreeMap<u64, Said> {
    let mut growing: BTreeMap<u64, Growing> = BTreeMap::new();
    for choice in chunks.into_iter().flat_map(|chunk| items(&chunk["choices"])) {
        let choice_so_far = growing.entry(choice["index"].as_u64().unwrap_or(0)).or_default();
        let delta = &choice["delta"];
        choice_so_far.said.text.push_str(&content(&delta["content"]));
        choice_so_far.said.refusal.push_str(&string(&delta["refusal"]));
        for piece in items(&delta["tool_calls"]) {
            let tools = &mut choice_so_far.tools;
            let count = u64::try_from(tools.len()).expect("few tools");
            // Without a number: one with an id is a new call, one without belongs to the last.
            let begins = piece["id"].as_str().is_some();
            let number = piece["index"].as_u64().unwrap_or(if begins { count } else { count.saturating_sub(1) });
            if !tools.iter().any(|tool| tool.0 == number) {
                tools.push((number, string(&piece["id"]), string(&piece["function"]["name"]), String::new()));
            }
            let tool = tools.iter_mut().find(|tool| tool.0 == number).expect("it was just put there");
            tool.3.push_str(&string(&piece["function"]["arguments"]));
        }
        if let Some(word) = choice["finish_reason"].as_str().filter(|word| !word.is_empty()) {
            choice_so_far.said.finish = Some(word.to_owned());
        }
    }
    let done = |(index, Growing { said, tools })| {
        let tools = tools.into_iter().map(|(_, id, name, text)| (id, name, arguments(&text))).collect();
        (index, Said { tools, ..said })
    };
    growing.into_iter().map(done).collect()
}

fn openai_stream(events: &[String]) -> Meaning {
    let mut meaning = Meaning::default();
    let mut chunks: Vec<Value> = Vec::new();
    for event in events {
        if event.trim() == "[DONE]" {
            meaning.ended = true;
            break;
        }
        let chunk: Value = serde_json::from_str(event).expect("a recorded chunk is JSON");
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            meaning.error = Some(no(error));
            break;
        }
        if chunk["usage"].is_object() {
            meaning.tokens = openai_tokens(&chunk["usage"]);
        }
        chunks.push(chunk);
    }
    meaning.choices = openai_chunks(&chunks);
    meaning
}

/// Totals, of which the details are shares. A detail never takes more than its total has left.
fn openai_tokens(usage: &Value) -> Tokens {
    let mut tokens = Tokens::new();
    let count = |value: &Value| value.as_u64();
    let (prompt, completion) = (&usage["prompt_tokens_details"], &usage["completion_tokens_details"]);
    let mut input = count(&usage["prompt_tokens"]);
    let mut output = count(&usage["completion_tokens"]);
    // Some say what was cached beside the totals instead of in their details.
    let beside = ["cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens"];
    let cached = count(&prompt["cached_tokens"]).or_else(|| beside.iter().find_map(|name| count(&usage[*name])));
    let mut reasoning = count(&completion["reasoning_tokens"]);
    if let (Some(total), Some(input), Some(said)) = (count(&usage["total_tokens"]), input, output) {
        // Tokens that stand in neither part, but in the total, were thought.
        let unnamed = total.saturating_sub(input + said);
        if unnamed > 0 && reasoning.is_none_or(|reasoning| reasoning == 0 || reasoning == unnamed) {
            reasoning = Some(unnamed);
            output = Some(said + unnamed);
        }
    }
    let mut take = |bucket, left: &mut Option<u64>, detail: Option<u64>| {
        let Some(detail) = detail else { return };
        let taken = detail.min(left.unwrap_or(detail));
        *left = left.map(|left| left - taken);
        tokens.insert(bucket, taken);
    };
    take("cache_read", &mut input, cached);
    take("cache_write_5m", &mut input, count(&prompt["cache_write_tokens"]));
    take("audio_input", &mut input, count(&prompt["audio_tokens"]));
    take("image_input", &mut input, count(&prompt["image_tokens"]));
    take("reasoning", &mut output, reasoning);
    take("audio_output", &mut output, count(&completion["audio_tokens"]));
    take("image_output", &mut output, count(&completion["image_tokens"]));
    tokens.extend(input.map(|rest| ("input", rest)));
    tokens.extend(output.map(|rest| ("output", rest)));
    tokens
}

/// OpenAI's word for it.
fn finish_of(word: &str) -> String {
    match word {
        "end_turn" | "stop_sequence" => "stop",
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        other => other,
    }
    .to_owned()
}

#[derive(Default)]
struct Block {
    kind: String,
    text: String,
    id: String,
    name: String,
    /// What the block began with, and the pieces that came after.
    input: Value,
    pieces: String,
}

fn anthropic_stream(events: &[String]) -> Meaning {
    let mut meaning = Meaning::default();
    let mut blocks: BTreeMap<u64, Block> = BTreeMap::new();
    let mut usage = serde_json::Map::new();
    let mut finish = None;
    let mut report = |more: &Value| {
        let said = more.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        usage.extend(said.map(|(name, value)| (name.clone(), value.clone())));
    };
    for event in events {
        let event: Value = serde_json::from_str(event).expect("a recorded event is JSON");
        let index = event["index"].as_u64().unwrap_or(0);
        match event["type"].as_str().expect("an event has a type") {
            "message_start" => report(&event["message"]["usage"]),
            "message_delta" => {
                report(&event["usage"]);
                finish = event["delta"]["stop_reason"].as_str().map(finish_of).or(finish);
            }
            "content_block_start" => {
                let block = &event["content_block"];
                let begun = Block {
                    kind: string(&block["type"]),
                    text: string(&block["text"]),
                    id: string(&block["id"]),
                    name: string(&block["name"]),
                    input: block["input"].clone(),
                    pieces: String::new(),
                };
                blocks.insert(index, begun);
            }
            "content_block_delta" => {
                let block = blocks.get_mut(&index).expect("a block begins before it goes on");
                block.text.push_str(&string(&event["delta"]["text"]));
                block.pieces.push_str(&string(&event["delta"]["partial_json"]));
            }
            "message_stop" => {
                meaning.ended = true;
                break;
            }
            "error" => {
                meaning.error = Some(no(&event["error"]));
                break;
            }
            _ => {}
        }
    }
    let mut said = Said { finish, ..Said::default() };
    for block in blocks.into_values() {
        match block.kind.as_str() {
            "text" => said.text.push_str(&block.text),
            "tool_use" => {
                let input = if block.pieces.is_empty() { block.input } else { arguments(&block.pieces) };
                said.tools.push((block.id, block.name, input));
            }
            _ => {}
        }
    }
    meaning.choices.insert(0, said);
    meaning.tokens = anthropic_tokens(&Value::Object(usage));
    meaning
}

/// Disjoint already, but for the thinking within the output and the cache writes of both lifetimes. The tokens of
/// compactions come on top.
fn anthropic_tokens(usage: &Value) -> Tokens {
    let mut tokens = anthropic_sampling(usage);
    for iteration in items(&usage["iterations"]).filter(|iteration| iteration["type"] == "compaction") {
        for (bucket, more) in anthropic_sampling(iteration) {
            *tokens.entry(bucket).or_default() += more;
        }
    }
    tokens
}

fn anthropic_sampling(usage: &Value) -> Tokens {
    let count = |value: &Value| value.as_u64();
    let mut tokens = Tokens::new();
    tokens.extend(count(&usage["input_tokens"]).map(|n| ("input", n)));
    tokens.extend(count(&usage["cache_read_input_tokens"]).map(|n| ("cache_read", n)));
    let written = count(&usage["cache_creation_input_tokens"]);
    let hour = count(&usage["cache_creation"]["ephemeral_1h_input_tokens"]);
    let five = count(&usage["cache_creation"]["ephemeral_5m_input_tokens"]);
    let hour = hour.map(|hour| hour.min(written.unwrap_or(hour)));
    tokens.extend(written.map(|all| all - hour.unwrap_or(0)).or(five).map(|n| ("cache_write_5m", n)));
    tokens.extend(hour.map(|n| ("cache_write_1h", n)));
    let thought = count(&usage["output_tokens_details"]["thinking_tokens"]);
    tokens.extend(count(&usage["output_tokens"]).map(|n| ("output", n - thought.unwrap_or(0))));
    tokens.extend(thought.map(|n| ("reasoning", n)));
    tokens
}
