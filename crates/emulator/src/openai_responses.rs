//! OpenAI's responses, as they stand on the wire.

use serde_json::{Value, json};

use crate::{
    Finish,
    body::Piece,
    openai,
    reply::{Resolved, Writer, split},
};

pub(crate) const WRITER: Writer =
    Writer { whole, stream, refusal: openai::WRITER.refusal, corrupt: CORRUPT, error: ERROR };

const CORRUPT: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_te\n\n";
const ERROR: &str = "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"The server had an \
                     error while processing your request. Sorry about that!\",\"param\":null,\"sequence_number\":99}\n\n";

/// What an answer is called at its end, and why it is not complete.
fn ending(finish: Finish) -> (&'static str, Value) {
    match finish {
        Finish::Stop | Finish::ToolUse => ("completed", Value::Null),
        Finish::Length => ("incomplete", json!({ "reason": "max_output_tokens" })),
        Finish::Refusal => ("incomplete", json!({ "reason": "content_filter" })),
    }
}

fn response(r: &Resolved, status: &str, output: &[Value]) -> Value {
    let is_running = status == "in_progress";
    let details = if is_running { Value::Null } else { ending(r.finish).1 };
    let usage = json!({
        "input_tokens": r.usage.prompt(),
        "input_tokens_details": { "cached_tokens": r.usage.cache_read },
        "output_tokens": r.usage.output,
        "output_tokens_details": { "reasoning_tokens": r.usage.reasoning },
        "total_tokens": r.usage.prompt() + r.usage.output,
    });
    json!({
        "id": format!("resp_emu{}", r.seq), "object": "response", "created_at": r.created, "status": status,
        "background": false, "error": null, "incomplete_details": details, "instructions": null,
        "max_output_tokens": null, "max_tool_calls": null, "model": &*r.model, "output": output,
        "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
        "reasoning": { "effort": null, "summary": null }, "safety_identifier": null, "service_tier": "default",
        "store": true, "temperature": 1.0, "text": { "format": { "type": "text" }, "verbosity": "medium" },
        "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled",
        "usage": if is_running { Value::Null } else { usage }, "user": null, "metadata": {},
    })
}

/// An item of the output: as it is added, what is streamed of it, and as it is done.
struct Item {
    added: Value,
    deltas: Vec<Value>,
    done: Value,
}

fn items(r: &Resolved) -> Vec<Item> {
    let mut items = Vec::new();
    if let Some(thinking) = &r.thinking {
        let id = format!("rs_emu{}", r.seq);
        let item = |summary: Value| json!({ "id": id, "type": "reasoning", "summary": summary });
        items.push(Item {
            added: item(json!([])),
            deltas: part(&id, items.len(), &PARTS[0], thinking, r.chunks),
            done: item(json!([{ "type": "summary_text", "text": thinking }])),
        });
    }
    if !r.text.is_empty() || r.tool_calls.is_empty() {
        let id = format!("msg_emu{}", r.seq);
        let item = |status: &str, content: Value| json!({ "id": id, "type": "message", "status": status, "content": content, "role": "assistant" });
        let text = json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": r.text });
        items.push(Item {
            added: item("in_progress", json!([])),
            deltas: part(&id, items.len(), &PARTS[1], &r.text, r.chunks),
            done: item(ending(r.finish).0, json!([text])),
        });
    }
    for (n, call) in r.tool_calls.iter().enumerate() {
        let id = format!("fc_emu{}_{n}", r.seq);
        let item = |status: &str, arguments: &str| {
            json!({ "id": id, "type": "function_call", "status": status, "arguments": arguments, "call_id": call.id,
                "name": call.name })
        };
        let at = items.len();
        let about = |kind: &str| json!({ "type": kind, "item_id": id, "output_index": at });
        let mut deltas: Vec<Value> = split(&call.arguments, r.chunks)
            .map(|piece| with(about("response.function_call_arguments.delta"), "delta", piece.into()))
            .collect();
        let done = about("response.function_call_arguments.done");
        deltas.push(with(done, "arguments", call.arguments.as_str().into()));
        items.push(Item { added: item("in_progress", ""), deltas, done: item("completed", &call.arguments) });
    }
    items
}

/// How a part with text is streamed: its events, where it is counted, and what it is.
struct Part {
    added: &'static str,
    delta: &'static str,
    text_done: &'static str,
    done: &'static str,
    index: &'static str,
    kind: &'static str,
}

const PARTS: [Part; 2] = [
    Part {
        added: "response.reasoning_summary_part.added",
        delta: "response.reasoning_summary_text.delta",
        text_done: "response.reasoning_summary_text.done",
        done: "response.reasoning_summary_part.done",
        index: "summary_index",
        kind: "summary_text",
    },
    Part {
        added: "response.content_part.added",
        delta: "response.output_text.delta",
        text_done: "response.output_text.done",
        done: "response.content_part.done",
        index: "content_index",
        kind: "output_text",
    },
];

fn part(item: &str, at: usize, part: &Part, text: &str, chunks: Option<usize>) -> Vec<Value> {
    let event = |kind: &str, name: &str, value: Value| {
        let event = json!({ "type": kind, "item_id": item, "output_index": at });
        with(with(event, part.index, 0.into()), name, value)
    };
    let whole = |text: &str| {
        let whole = json!({ "type": part.kind, "text": text });
        if part.kind == "output_text" { with(whole, "annotations", json!([])) } else { whole }
    };
    let mut events = vec![event(part.added, "part", whole(""))];
    events.extend(split(text, chunks).map(|piece| event(part.delta, "delta", piece.into())));
    events.push(event(part.text_done, "text", text.into()));
    events.push(event(part.done, "part", whole(text)));
    events
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn whole(r: &Resolved) -> String {
    let output: Vec<Value> = items(r).into_iter().map(|item| item.done).collect();
    response(r, ending(r.finish).0, &output).to_string()
}

fn stream(r: &Resolved) -> (Vec<Piece>, usize) {
    let begun = response(r, "in_progress", &[]);
    let mut events = vec![
        json!({ "type": "response.created", "response": begun }),
        json!({ "type": "response.in_progress", "response": begun }),
    ];
    let begins = events.len();
    let mut output = Vec::new();
    for (at, item) in items(r).into_iter().enumerate() {
        let around = |kind: &str, item: &Value| json!({ "type": kind, "output_index": at, "item": item });
        events.push(around("response.output_item.added", &item.added));
        events.extend(item.deltas);
        events.push(around("response.output_item.done", &item.done));
        output.push(item.done);
    }
    let status = ending(r.finish).0;
    events.push(json!({ "type": format!("response.{status}"), "response": response(r, status, &output) }));
    let count = (events.len() - begins) as u64;
    let pieces = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = number.into();
        let text = format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        match (number + 1).checked_sub(begins) {
            None | Some(0) => Piece::free(text),
            Some(done) => Piece::billed(text, r.produced(done as u64, count)),
        }
    });
    (pieces.collect(), 1)
}
