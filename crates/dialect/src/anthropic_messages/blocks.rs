//! Content blocks of a caller's messages.

use serde_json::value::RawValue;

use super::{citations, types::NAME};
use crate::{
    canonical::{CacheMark, Content, Media, Part, Reasoning, Source, ToolCall, ToolResult, sealed},
    error::BadRequest,
    json::{Object, Path, RawJson, read},
};

pub(super) type Result<T> = std::result::Result<T, BadRequest>;

/// A string or an array of blocks. Proofs that stand beside their tool calls go back into them.
pub(super) fn content(raw: &RawValue, at: Path<'_>) -> Result<Vec<Part>> {
    const EXPECTED: &str = "a string or an array of content blocks";
    if raw.get().starts_with('"') {
        return Ok(vec![Part::text(read::<String>(raw, at, EXPECTED)?)]);
    }
    let list: Vec<&RawValue> = read(raw, at, EXPECTED)?;
    let mut parts = Vec::with_capacity(list.len());
    for (index, raw) in list.into_iter().enumerate() {
        parts.push(part(raw, at.item(index))?);
    }
    let (proofs, mut parts): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| proof(part).is_some());
    for proof in proofs.iter().filter_map(proof) {
        sealed::give_back(proof, &mut parts);
    }
    Ok(parts)
}

/// The proof behind a tool call, where this redacted block is one.
fn proof(part: &Part) -> Option<&str> {
    let Content::Reasoning(Reasoning { encrypted: Some(data), .. }) = &part.content else {
        return None;
    };
    sealed::give_back(data, &mut []).then_some(data)
}

/// `cache_control` of a block or a tool.
pub(super) fn mark(object: &mut Object<'_>, at: Path<'_>) -> Result<Option<CacheMark>> {
    let Some(raw) = object.take("cache_control") else {
        return Ok(None);
    };
    let at = at.member("cache_control");
    let ttl: Option<String> = Object::read(raw, at)?.optional("ttl", at, "`5m` or `1h`")?;
    Ok(Some(if ttl.as_deref() == Some("1h") { CacheMark::Long } else { CacheMark::Short }))
}

fn part(raw: &RawValue, at: Path<'_>) -> Result<Part> {
    let mut object = Object::read(raw, at)?;
    let kind: String = object.required("type", at, "the kind of the block, such as `text`")?;
    let mut citations = Vec::new();
    let content = match kind.as_str() {
        "text" => {
            if let Some(raw) = object.take("citations") {
                citations = citations::read(raw)
                    .ok_or_else(|| BadRequest::field(at.member("citations"), "must be an array of citations"))?;
            }
            Content::Text(object.required("text", at, "a string")?)
        }
        "image" => match source(&mut object, at)? {
            Some(source) => Content::Image(Media::from(source)),
            None => return Ok(other(kind, raw)),
        },
        "document" => match source(&mut object, at)? {
            Some(source) => {
                Content::File(Media { source, name: object.optional("title", at, "a string")?, detail: None })
            }
            None => return Ok(other(kind, raw)),
        },
        "thinking" => Content::Reasoning(Reasoning {
            text: object.required("thinking", at, "a string")?,
            ..signed(object.optional("signature", at, "a string")?.unwrap_or_default())
        }),
        "redacted_thinking" => Content::Reasoning(redacted(object.required("data", at, "a string")?)),
        "tool_use" => Content::ToolCall(ToolCall {
            id: object.required("id", at, "the tool call's id")?,
            name: object.required("name", at, "the tool's name")?,
            arguments: object.take("input").map_or("{}", RawValue::get).to_owned(),
        }),
        "tool_result" => Content::ToolResult(ToolResult {
            call_id: object.required("tool_use_id", at, "the id of the tool call that this answers")?,
            is_error: object.optional("is_error", at, "true or false")?.unwrap_or(false),
            parts: match object.take("content") {
                Some(raw) => self::content(raw, at.member("content"))?,
                None => Vec::new(),
            },
        }),
        _ => return Ok(other(kind, raw)),
    };
    let cache = mark(&mut object, at)?;
    Ok(Part { cache, citations, ..Part::with_extra(content, object.into_extra()) })
}

fn other(kind: String, raw: &RawValue) -> Part {
    Part::from(Content::Other { dialect: NAME, kind, raw: RawJson::from(raw) })
}

fn signed(signature: String) -> Reasoning {
    if signature.is_empty() {
        return Reasoning::default();
    }
    sealed::reasoning(&signature).unwrap_or_else(|| Reasoning {
        signature: Some(signature),
        origin: Some(NAME),
        ..Reasoning::default()
    })
}

fn redacted(data: String) -> Reasoning {
    sealed::reasoning(&data).unwrap_or_else(|| Reasoning {
        encrypted: Some(data),
        origin: Some(NAME),
        ..Reasoning::default()
    })
}

/// `None`: a source of another kind (blocks of its own), which only this dialect understands.
fn source(object: &mut Object<'_>, at: Path<'_>) -> Result<Option<Source>> {
    let at = at.member("source");
    let raw = object.take("source").ok_or_else(|| BadRequest::field(at, "is missing: it says where the bytes are"))?;
    let mut source = Object::read(raw, at)?;
    let kind: String = source.required("type", at, "`base64`, `url`, `text` or `file`")?;
    Ok(Some(match kind.as_str() {
        "base64" => Source::Base64 {
            media_type: source.required("media_type", at, "a media type")?,
            data: source.required("data", at, "base64")?,
        },
        "url" => Source::Url(source.required("url", at, "a URL")?),
        "text" => Source::Text(source.required("data", at, "a string")?),
        "file" => Source::Uploaded(source.required("file_id", at, "the id of a file")?),
        _ => return Ok(None),
    }))
}
