//! A streamed answer towards a caller: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use bytes::Bytes;
use serde::Serialize;

use super::{
    NAME,
    groups::Own,
    object::{self, ContentPart, Item, Response},
};
use crate::{
    canonical::{Call, Collector, Content, Delta, Event, Part, PartId},
    dialect::{DialectName, Stamp, StreamEncoder},
    json::RawJson,
};

/// One stream towards a caller. Its end says the whole answer again.
pub(super) struct Events {
    call: Call,
    stamp: Stamp,
    collector: Collector,
    sequence: u64,
    /// Items in the order in which they began; `null` until they are whole.
    output: Vec<RawJson>,
    open: Vec<Open>,
}

struct Open {
    id: PartId,
    /// Place of the item in the output.
    place: usize,
    item: String,
    /// A part of reasoning begins with its first words.
    begun: bool,
    logprobs: Vec<RawJson>,
}

/// One event; what it does not carry is left out.
#[derive(Default, Serialize)]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    sequence_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotation_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<ContentPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotation: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a [RawJson]>,
}

impl<'a> Wire<'a> {
    fn item(kind: &'a str, place: usize, item: &'a RawJson) -> Wire<'a> {
        Wire { kind, output_index: Some(place), item: Some(item), ..Wire::default() }
    }
}

impl Open {
    fn wire<'a>(&'a self, kind: &'a str) -> Wire<'a> {
        Wire { kind, output_index: Some(self.place), item_id: Some(&self.item), ..Wire::default() }
    }

    fn content<'a>(&'a self, kind: &'a str) -> Wire<'a> {
        Wire { content_index: Some(0), ..self.wire(kind) }
    }

    fn summary<'a>(&'a self, kind: &'a str) -> Wire<'a> {
        Wire { summary_index: Some(0), ..self.wire(kind) }
    }
}

impl Events {
    pub(super) fn new(call: Call, stamp: Stamp) -> Events {
        Events { call, stamp, collector: Collector::new(), sequence: 0, output: Vec::new(), open: Vec::new() }
    }

    fn whole(&mut self, kind: &str, done: bool, out: &mut Vec<Bytes>) {
        let completion = self.collector.completion();
        let done = done.then_some(completion);
        let response = object::response(&self.call, &self.stamp, &completion.model, &self.output, done);
        write(&mut self.sequence, Wire { kind, response: Some(response), ..Wire::default() }, out);
    }

    fn place(&mut self) -> usize {
        self.output.push(RawJson::new("null").expect("it is valid JSON"));
        self.output.len() - 1
    }

    fn push_whole(&mut self, item: RawJson, out: &mut Vec<Bytes>) {
        let place = self.place();
        write(&mut self.sequence, Wire::item("response.output_item.added", place, &item), out);
        write(&mut self.sequence, Wire::item("response.output_item.done", place, &item), out);
        self.output[place] = item;
    }

    fn start(&mut self, id: PartId, out: &mut Vec<Bytes>) {
        let Some(part) = self.collector.part(id) else { return };
        if let Content::Other { dialect: NAME, raw, .. } = &part.content {
            let raw = raw.clone();
            return self.push_whole(raw, out);
        }
        let number = self.output.len();
        let Some(item) = object::item(&self.call, part, &[], &self.stamp, number, false) else { return };
        let (item, text) = (item.id().to_owned(), object::raw(&item));
        let speaks = matches!(part.content, Content::Text(_) | Content::Refusal(_));
        let part = speaks.then(|| object::content(part, &[]));
        let open = Open { id, place: number, item, begun: false, logprobs: Vec::new() };
        write(&mut self.sequence, Wire::item("response.output_item.added", number, &text), out);
        if speaks {
            write(&mut self.sequence, Wire { part, ..open.content("response.content_part.added") }, out);
        }
        self.place();
        self.open.push(open);
    }

    fn delta(&mut self, id: PartId, delta: &Delta, out: &mut Vec<Bytes>) {
        let Some(part) = self.collector.part(id) else { return };
        let Some(open) = self.open.iter_mut().find(|open| open.id == id) else { return };
        if let Delta::Logprobs(raw) = delta {
            let items = object::listed(raw);
            let wire = open.content("response.output_text.delta");
            write(&mut self.sequence, Wire { delta: Some(""), logprobs: Some(&items), ..wire }, out);
            open.logprobs.extend(items);
            return;
        }
        if matches!(delta, Delta::Reasoning(_)) && !std::mem::replace(&mut open.begun, true) {
            let part = Some(ContentPart::SummaryText { text: "" });
            write(&mut self.sequence, Wire { part, ..open.summary("response.reasoning_summary_part.added") }, out);
        }
        let annotation;
        let wire = match (delta, &part.content) {
            (Delta::Text(text), Content::Refusal(_)) => {
                Wire { delta: Some(text), ..open.content("response.refusal.delta") }
            }
            (Delta::Text(text), _) => {
                Wire { delta: Some(text), logprobs: Some(&[]), ..open.content("response.output_text.delta") }
            }
            (Delta::Args(text), _) => Wire { delta: Some(text), ..open.wire("response.function_call_arguments.delta") },
            (Delta::Reasoning(text), _) => {
                Wire { delta: Some(text), ..open.summary("response.reasoning_summary_text.delta") }
            }
            (Delta::Citation(citation), _) => {
                annotation = object::annotation(citation);
                let Some(annotation) = annotation.as_deref() else { return };
                let told = part.citations.iter().filter(|citation| object::annotation(citation).is_some()).count();
                Wire {
                    annotation: Some(annotation),
                    annotation_index: Some(told.saturating_sub(1)),
                    ..open.content("response.output_text.annotation.added")
                }
            }
            _ => return,
        };
        write(&mut self.sequence, wire, out);
    }

    fn end(&mut self, id: PartId, out: &mut Vec<Bytes>) {
        let Some(at) = self.open.iter().position(|open| open.id == id) else { return };
        let open = self.open.swap_remove(at);
        let Some(part) = self.collector.part(id) else { return };
        let Some(item) = object::item(&self.call, part, &open.logprobs, &self.stamp, open.place, true) else { return };
        last_pieces(&self.call, part, &open, &mut self.sequence, out);
        let item = object::raw(&item);
        write(&mut self.sequence, Wire::item("response.output_item.done", open.place, &item), out);
        self.output[open.place] = item;
        let proof: Option<Item<'_>> = object::proof(part, &self.stamp, self.output.len());
        if let Some(proof) = proof.map(|proof| object::raw(&proof)) {
            self.push_whole(proof, out);
        }
    }
}

/// What was said in pieces, once more as a whole.
fn last_pieces(asked: &Call, part: &Part, open: &Open, sequence: &mut u64, out: &mut Vec<Bytes>) {
    match &part.content {
        Content::Text(text) => {
            let wire = open.content("response.output_text.done");
            write(sequence, Wire { text: Some(text), logprobs: Some(&open.logprobs), ..wire }, out);
        }
        Content::Refusal(text) => {
            write(sequence, Wire { refusal: Some(text), ..open.content("response.refusal.done") }, out);
        }
        Content::Reasoning(reasoning) if open.begun => {
            let wire = open.summary("response.reasoning_summary_text.done");
            write(sequence, Wire { text: Some(&reasoning.text), ..wire }, out);
            let part = Some(object::content(part, &[]));
            write(sequence, Wire { part, ..open.summary("response.reasoning_summary_part.done") }, out);
        }
        Content::ToolCall(call) => {
            let mut arguments = call.arguments.as_str();
            if arguments.trim().is_empty() {
                arguments = "{}";
                let wire = open.wire("response.function_call_arguments.delta");
                write(sequence, Wire { delta: Some(arguments), ..wire }, out);
            }
            let (_, name) = Own::of(&asked.tools).name(&call.name);
            let wire = open.wire("response.function_call_arguments.done");
            write(sequence, Wire { name: Some(name), arguments: Some(arguments), ..wire }, out);
        }
        _ => {}
    }
    if matches!(part.content, Content::Text(_) | Content::Refusal(_)) {
        let part = Some(object::content(part, &open.logprobs));
        write(sequence, Wire { part, ..open.content("response.content_part.done") }, out);
    }
}

fn write(sequence: &mut u64, wire: Wire<'_>, out: &mut Vec<Bytes>) {
    let wire = Wire { sequence_number: *sequence, ..wire };
    *sequence += 1;
    out.push(Bytes::from(object::raw(&wire).as_str().to_owned()));
}

impl StreamEncoder for Events {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<Bytes>) {
        self.collector.push(event);
        match event {
            Event::Started { .. } => {
                self.whole("response.created", false, out);
                self.whole("response.in_progress", false, out);
            }
            // Nobody can ask for more than one answer in this dialect.
            Event::PartStart { id, choice: 0, .. } => self.start(*id, out),
            Event::Delta { id, delta } => self.delta(*id, delta, out),
            Event::PartEnd { id } => self.end(*id, out),
            // The rest stands in the last event; an error is the caller's final message, rendered by whoever runs this.
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<Bytes>) {
        let (status, _) = object::status(self.collector.completion());
        let kind = format!("response.{status}");
        self.whole(&kind, true, out);
    }
}
