//! The conversation: system text apart, roles in turns, a cache point behind the block that bears its mark.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    media::{self, Document, Documents, WireMedia},
    types::{Family, NAME},
};
use crate::{
    canonical::{CacheMark, Call, Content, Part, Reasoning, Role, ToolCall, ToolResult, plain_id},
    dialect::DialectName,
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

/// What the user says where the caller's conversation begins with the assistant.
const OPENING: &str = "Begin.";

#[derive(Serialize)]
pub(super) struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(&'a str),
    Image(WireMedia<'a>),
    Video(WireMedia<'a>),
    Audio(WireMedia<'a>),
    Document(Document<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: &'a str,
        input: RawJson,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    ReasoningContent(WireReasoning<'a>),
    CachePoint(CachePoint),
    #[serde(untagged)]
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum WireReasoning<'a> {
    ReasoningText { text: &'a str, signature: &'a str },
    RedactedContent(&'a str),
}

#[derive(Serialize)]
pub(super) struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl CachePoint {
    /// `None`: models of this family have no cache that is asked for.
    fn new(mark: CacheMark, family: Family) -> Option<CachePoint> {
        let ttl = (mark == CacheMark::Long && !matches!(family, Family::Nova | Family::Nova2)).then_some("1h");
        let knows = !matches!(family, Family::OpenAi | Family::Qwen | Family::Other);
        knows.then_some(CachePoint { kind: "default", ttl })
    }

    pub(super) fn in_tools(mark: CacheMark, family: Family) -> Option<CachePoint> {
        CachePoint::new(mark, family).filter(|_| !matches!(family, Family::Nova | Family::Nova2))
    }
}

pub(super) fn encode<'a>(
    call: &'a Call,
    family: Family,
    notes: &mut Notes,
) -> Result<(Vec<Block<'a>>, Vec<Turn<'a>>), EncodeError> {
    let mut writer = Writer { family, notes, documents: Documents::default() };
    let mut system = Vec::new();
    let mut turns: Vec<(&'static str, Vec<Written<'a>>)> = Vec::new();
    for message in &call.messages {
        let role = match message.role {
            Role::System | Role::Developer => {
                if !turns.is_empty() {
                    writer.notes.say("a system message in the middle of the conversation was moved to its beginning");
                }
                system.extend(writer.blocks(&message.parts)?);
                continue;
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => "assistant",
        };
        if message.name.is_some() && message.role != Role::Tool {
            writer.notes.drop("`name` of a message")?;
        }
        let content = writer.blocks(&message.parts)?;
        match turns.last_mut() {
            _ if content.is_empty() => {}
            Some((last, blocks)) if *last == role => blocks.extend(content),
            _ => turns.push((role, content)),
        }
    }
    if turns.is_empty() {
        return Err(EncodeError::Invalid {
            field: "`messages`".to_owned(),
            problem: "beside system messages there must be at least one with content".to_owned(),
        });
    }
    if turns.first().is_some_and(|(role, _)| *role == "assistant") {
        writer.notes.say(format!(
            "the conversation begins with the assistant, which {NAME} refuses: `{OPENING}` stands before it"
        ));
        turns.insert(0, ("user", vec![Written { block: Block::Text(OPENING), cache: None }]));
    }
    Ok((
        flat(system),
        turns.into_iter().map(|(role, content)| Turn { role, content: results_first(content) }).collect(),
    ))
}

/// Results of tools come first in their turn, as the API wants them right behind the calls they answer.
fn results_first(mut content: Vec<Written<'_>>) -> Vec<Block<'_>> {
    content.sort_by_key(|written| !matches!(written.block, Block::ToolResult { .. }));
    flat(content)
}

fn flat(content: Vec<Written<'_>>) -> Vec<Block<'_>> {
    content
        .into_iter()
        .flat_map(|written| [Some(written.block), written.cache.map(Block::CachePoint)])
        .flatten()
        .collect()
}

/// A block, and the cache point behind it.
struct Written<'a> {
    block: Block<'a>,
    cache: Option<CachePoint>,
}

struct Writer<'n> {
    family: Family,
    notes: &'n mut Notes,
    documents: Documents,
}

impl Writer<'_> {
    fn blocks<'a>(&mut self, parts: &'a [Part]) -> Result<Vec<Written<'a>>, EncodeError> {
        let mut out = Vec::with_capacity(parts.len());
        for part in parts {
            let Some(block) = self.block(&part.content)? else {
                continue;
            };
            let cache = self.cache(part, &block);
            out.push(Written { block, cache });
        }
        Ok(out)
    }

    fn cache(&mut self, part: &Part, block: &Block<'_>) -> Option<CachePoint> {
        let inner = match &part.content {
            Content::ToolResult(result) => result.parts.iter().rev().find_map(|part| part.cache),
            _ => None,
        };
        let mark = part.cache.or(inner)?;
        if matches!(block, Block::Document(_) | Block::Video(_)) {
            self.notes.say(format!("a cache mark behind a document or a video was left out: {NAME} refuses it there"));
            return None;
        }
        CachePoint::new(mark, self.family)
    }

    /// `None`: there is nothing to send. The API refuses blank text.
    fn block<'a>(&mut self, content: &'a Content) -> Result<Option<Block<'a>>, EncodeError> {
        Ok(Some(match content {
            Content::Text(text) | Content::Refusal(text) if text.trim().is_empty() => return Ok(None),
            Content::Text(text) | Content::Refusal(text) => Block::Text(text),
            Content::Image(image) => {
                self.notes.no_detail(image);
                Block::Image(media::image(image)?)
            }
            Content::Audio(audio) => Block::Audio(media::audio(audio)?),
            Content::File(file) => match media::video(file)? {
                Some(video) => Block::Video(video),
                None => Block::Document(self.documents.document(file)?),
            },
            Content::Reasoning(reasoning) => match sealed(reasoning) {
                Some(sealed) => Block::ReasoningContent(sealed),
                None => {
                    self.notes.drop("reasoning of an earlier answer that bears no signature of this provider")?;
                    return Ok(None);
                }
            },
            Content::ToolCall(call) => tool_use(call)?,
            Content::ToolResult(result) => self.tool_result(result)?,
            Content::Other { dialect: DialectName::BedrockConverse, raw, .. } => Block::Raw(raw),
            Content::Other { dialect, kind, .. } => {
                return Err(unsupported(NAME, format!("`{kind}` of {dialect}")));
            }
        }))
    }

    fn tool_result<'a>(&mut self, result: &'a ToolResult) -> Result<Block<'a>, EncodeError> {
        let content = self.blocks(&result.parts)?.into_iter().map(|written| written.block).collect();
        let status = result.is_error.then_some("error");
        Ok(Block::ToolResult { tool_use_id: id(&result.call_id), content, status })
    }
}

fn sealed(reasoning: &Reasoning) -> Option<WireReasoning<'_>> {
    if reasoning.origin != Some(DialectName::BedrockConverse) {
        return None;
    }
    match (&reasoning.encrypted, &reasoning.signature) {
        (Some(data), _) => Some(WireReasoning::RedactedContent(data)),
        (None, Some(signature)) => Some(WireReasoning::ReasoningText { text: &reasoning.text, signature }),
        (None, None) => None,
    }
}

/// The API takes no longer ones.
fn id(given: &str) -> Cow<'_, str> {
    const LONGEST: usize = 64;
    match plain_id(given) {
        long if long.len() > LONGEST => Cow::Owned(long[long.len() - LONGEST..].to_owned()),
        id => id,
    }
}

fn tool_use(call: &ToolCall) -> Result<Block<'_>, EncodeError> {
    Ok(Block::ToolUse { tool_use_id: id(&call.id), name: &call.name, input: call.object()? })
}
