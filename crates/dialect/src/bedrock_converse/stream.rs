//! `messageStart` … `messageStop`, `metadata`. A text or a piece of reasoning has no beginning of its own: its first
//! delta is one.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    error,
    response::{citation, image, stop_reason},
    types::{ImageSource, NAME, ServiceTier, ToolUse},
    usage,
};
use crate::{
    canonical::{Delta, Event, FinishReason, PartId, PartKind},
    decoder::{Verdict, Wire},
    dialect::DialectName,
    framing::{Frame, event_stream::exception},
    json::RawJson,
};

/// More blocks open at once than this are taken as a corrupt stream.
const MAX_OPEN: usize = 256;

#[derive(Default)]
pub(super) struct Events {
    started: bool,
    parts: u32,
    open: Vec<(u32, Open)>,
    /// The two last events have come: why it finished, and what it used.
    finish: Option<FinishReason>,
    metered: bool,
}

/// A block that has begun, and what is held back until its end.
enum Open {
    Text {
        id: PartId,
        length: usize,
        citations: Vec<RawJson>,
    },
    Reasoning {
        id: PartId,
        signature: String,
        sealed: Vec<u8>,
    },
    ToolCall {
        id: PartId,
    },
    Image {
        format: String,
        data: String,
    },
    /// A call of a tool that the provider has, or its result: given out whole, as such blocks stand in whole answers.
    Theirs {
        kind: &'static str,
        begun: RawJson,
        input: String,
        content: Vec<RawJson>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockEvent<'a> {
    content_block_index: u32,
    #[serde(default, borrow)]
    start: Option<Start<'a>>,
    #[serde(default, borrow)]
    delta: Option<WireDelta<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Start<'a> {
    #[serde(borrow)]
    tool_use: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_result: Option<&'a RawValue>,
    image: Option<ImageStart>,
}

#[derive(Deserialize)]
struct ImageStart {
    format: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireDelta<'a> {
    text: Option<String>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
    reasoning_content: Option<ReasoningDelta>,
    tool_use: Option<InputDelta>,
    #[serde(borrow)]
    tool_result: Option<Vec<&'a RawValue>>,
    image: Option<ImageDelta>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReasoningDelta {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDelta {
    input: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ImageDelta {
    source: Option<ImageSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stop {
    stop_reason: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    usage: Option<usage::Wire>,
    service_tier: Option<ServiceTier>,
}

type Step = Result<Verdict, String>;

impl Events {
    fn step(&mut self, name: &str, data: &[u8], out: &mut Vec<Event>) -> Step {
        if !std::mem::replace(&mut self.started, true) {
            out.push(Event::Started { id: String::new(), model: String::new(), created: None });
        }
        match name {
            "messageStart" => {}
            "contentBlockStart" => return self.begin(read(data)?, out),
            "contentBlockDelta" => return self.extend(read(data)?, out),
            "contentBlockStop" => self.end(read::<BlockEvent<'_>>(data)?.content_block_index, out)?,
            "messageStop" => self.finish = Some(stop_reason(read::<Stop>(data)?.stop_reason)),
            "metadata" => {
                let metadata: Metadata = read(data)?;
                out.extend(metadata.service_tier.and_then(|tier| tier.kind).map(Event::ServiceTier));
                out.extend(metadata.usage.map(|wire| Event::Usage(usage::normalise(&wire))));
                self.metered = true;
            }
            _ => return Ok(Verdict::Unknown(name.to_owned())),
        }
        Ok(if self.metered && self.finish.is_some() { Verdict::Terminal } else { Verdict::Understood })
    }

    fn begin(&mut self, event: BlockEvent<'_>, out: &mut Vec<Event>) -> Step {
        let index = event.content_block_index;
        if self.open.iter().any(|(open, _)| *open == index) {
            return Err(format!("block {index} begins again"));
        }
        let theirs = |kind, raw: &RawValue| Open::Theirs {
            kind,
            begun: RawJson::from(raw),
            input: String::new(),
            content: Vec::new(),
        };
        let open = match event.start {
            Some(Start { tool_use: Some(raw), .. }) => {
                let call: ToolUse<'_> = read(raw.get().as_bytes())?;
                if call.is_the_providers() {
                    theirs("toolUse", raw)
                } else {
                    let id = self.part(PartKind::ToolCall { id: call.tool_use_id, name: call.name }, out);
                    Open::ToolCall { id }
                }
            }
            Some(Start { tool_result: Some(raw), .. }) => theirs("toolResult", raw),
            Some(Start { image: Some(ImageStart { format }), .. }) => Open::Image { format, data: String::new() },
            // Whatever it is, its first delta tells.
            Some(_) | None => return Ok(Verdict::Understood),
        };
        self.push(index, open)?;
        Ok(Verdict::Understood)
    }

    fn push(&mut self, index: u32, open: Open) -> Result<&mut Open, String> {
        if self.open.len() >= MAX_OPEN {
            return Err("too many blocks are open".to_owned());
        }
        self.open.push((index, open));
        Ok(&mut self.open.last_mut().expect("it was just pushed").1)
    }

    fn part(&mut self, kind: PartKind, out: &mut Vec<Event>) -> PartId {
        let id = PartId(self.parts);
        self.parts += 1;
        out.push(Event::PartStart { id, choice: 0, kind });
        id
    }

    /// The block of this index; one that never began begins as what its first delta is.
    fn block(&mut self, index: u32, delta: &WireDelta<'_>, out: &mut Vec<Event>) -> Result<Option<&mut Open>, String> {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == index) {
            return Ok(Some(&mut self.open[at].1));
        }
        let open = if delta.text.is_some() || delta.citation.is_some() {
            Open::Text { id: self.part(PartKind::Text, out), length: 0, citations: Vec::new() }
        } else if delta.reasoning_content.is_some() {
            let id = self.part(PartKind::Reasoning, out);
            out.push(Event::Delta { id, delta: Delta::Origin { dialect: NAME, id: None } });
            Open::Reasoning { id, signature: String::new(), sealed: Vec::new() }
        } else if delta.tool_use.is_some() || delta.tool_result.is_some() || delta.image.is_some() {
            return Err(format!("block {index} goes on without a beginning"));
        } else {
            return Ok(None);
        };
        self.push(index, open).map(Some)
    }

    fn extend(&mut self, event: BlockEvent<'_>, out: &mut Vec<Event>) -> Step {
        let index = event.content_block_index;
        let delta = event.delta.ok_or("a delta is missing")?;
        let Some(open) = self.block(index, &delta, out)? else {
            return Ok(Verdict::Unknown("contentBlockDelta".to_owned()));
        };
        let mut say = |id: PartId, piece: String, kind: fn(String) -> Delta| {
            out.extend((!piece.is_empty()).then(|| Event::Delta { id, delta: kind(piece) }));
        };
        match (open, delta) {
            (Open::Text { id, length, .. }, WireDelta { text: Some(text), .. }) => {
                *length += text.chars().count();
                say(*id, text, Delta::Text);
            }
            (Open::Text { citations, .. }, WireDelta { citation: Some(raw), .. }) => citations.push(RawJson::from(raw)),
            (Open::Reasoning { id, signature, sealed }, WireDelta { reasoning_content: Some(piece), .. }) => {
                say(*id, piece.text.unwrap_or_default(), Delta::Reasoning);
                signature.push_str(&piece.signature.unwrap_or_default());
                let bytes = STANDARD.decode(piece.redacted_content.unwrap_or_default());
                sealed.extend(bytes.map_err(|error| format!("redacted reasoning is no base64: {error}"))?);
            }
            (Open::ToolCall { id }, WireDelta { tool_use: Some(piece), .. }) => {
                say(*id, piece.input.unwrap_or_default(), Delta::Args);
            }
            (Open::Theirs { input, .. }, WireDelta { tool_use: Some(piece), .. }) => {
                input.push_str(&piece.input.unwrap_or_default());
            }
            (Open::Theirs { content, .. }, WireDelta { tool_result: Some(pieces), .. }) => {
                content.extend(pieces.into_iter().map(RawJson::from));
            }
            (Open::Image { data, .. }, WireDelta { image: Some(piece), .. }) => {
                data.push_str(&piece.source.and_then(|source| source.bytes).unwrap_or_default());
            }
            (_, WireDelta { text: None, citation: None, reasoning_content: None, tool_use: None, .. }) => {
                return Ok(Verdict::Unknown("contentBlockDelta".to_owned()));
            }
            _ => return Err(format!("block {index} goes on as something else")),
        }
        Ok(Verdict::Understood)
    }

    /// A block without a piece may end without having begun.
    fn end(&mut self, index: u32, out: &mut Vec<Event>) -> Result<(), String> {
        let Some(at) = self.open.iter().position(|(open, _)| *open == index) else {
            return Ok(());
        };
        let (_, open) = self.open.remove(at);
        self.close(open, out)
    }

    fn close(&mut self, open: Open, out: &mut Vec<Event>) -> Result<(), String> {
        let id = match open {
            Open::Text { id, length, citations } => {
                out.extend(citations.iter().filter_map(|raw| {
                    let raw: &RawValue = serde_json::from_str(raw.as_str()).ok()?;
                    Some(Event::Delta { id, delta: Delta::Citation(Box::new(citation(raw, length))) })
                }));
                id
            }
            Open::Reasoning { id, signature, sealed } => {
                let seal = (!signature.is_empty()).then_some(Delta::Signature(signature));
                let data = (!sealed.is_empty()).then(|| Delta::Encrypted(STANDARD.encode(&sealed)));
                out.extend([seal, data].into_iter().flatten().map(|delta| Event::Delta { id, delta }));
                id
            }
            Open::ToolCall { id } => id,
            Open::Image { format, data } => self.part(PartKind::Media(Box::new(image(&format, data))), out),
            Open::Theirs { kind, begun, input, content } => {
                let raw = theirs(kind, &begun, &input, &content).ok_or("a block of the provider's cannot be read")?;
                self.part(PartKind::Other { dialect: NAME, kind: kind.to_owned(), raw }, out)
            }
        };
        out.push(Event::PartEnd { id });
        Ok(())
    }
}

/// The block as it stands in whole answers.
fn theirs(kind: &str, begun: &RawJson, input: &str, content: &[RawJson]) -> Option<RawJson> {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        begun: std::collections::BTreeMap<String, serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        input: Option<RawJson>,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<&'a [RawJson]>,
    }
    let begun = serde_json::from_str(begun.as_str()).ok()?;
    let whole = match kind {
        "toolUse" => {
            let input = RawJson::new(if input.trim().is_empty() { "{}" } else { input })?;
            Whole { begun, input: Some(input), content: None }
        }
        _ => Whole { begun, input: None, content: Some(content) },
    };
    RawJson::new(format!("{{\"{kind}\":{}}}", serde_json::to_string(&whole).ok()?))
}

fn read<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(data).map_err(|error| format!("an event cannot be read: {error}"))
}

impl Wire for Events {
    const DIALECT: DialectName = NAME;
    const TERMINAL: &'static str = "`metadata`";
    const FINISH: &'static str = "`stopReason`";

    fn interpret(&mut self, frame: Frame<'_>, out: &mut Vec<Event>) -> Verdict {
        if let Some(name) = exception(&frame) {
            return Verdict::Refused(error::in_stream(name, frame.data));
        }
        self.step(frame.event, frame.data, out).unwrap_or_else(Verdict::Corrupt)
    }

    /// A message is whole or it is none: nothing is left over at the end of the bytes.
    fn is_terminal(&self, _frame: Frame<'_>) -> bool {
        false
    }

    fn complete(&mut self, out: &mut Vec<Event>) -> bool {
        for (_, open) in std::mem::take(&mut self.open) {
            if self.close(open, out).is_err() {
                return false;
            }
        }
        let finish = self.finish.take();
        let finished = finish.is_some();
        out.extend(finish.map(|reason| Event::Finish { choice: 0, reason, stop_sequence: None }));
        finished
    }
}
