//! The items of a caller's `input` as messages.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::{FOREIGN_REASONING, NAME, input::PART, response};
use crate::{
    canonical::{Content, Extra, Media, Message, Part, Reasoning, Role, Source, ToolCall, ToolResult, sealed},
    error::BadRequest,
    json::{Object, Path, RawJson, read},
};

type Result<T> = std::result::Result<T, BadRequest>;
/// The names that the functions of groups are sent under.
type SentAs<'c> = HashMap<(&'c str, &'c str), &'c str>;

/// All items of one turn of the assistant are one message, whatever their number.
pub(super) fn read_input(
    raw: &RawValue,
    at: Path<'_>,
    sent_as: &SentAs<'_>,
    messages: &mut Vec<Message>,
) -> Result<()> {
    const EXPECTED: &str = "a string or an array of items";
    if raw.get().starts_with('"') {
        messages.push(Message::text(Role::User, read::<String>(raw, at, EXPECTED)?));
        return Ok(());
    }
    let list: Vec<&RawValue> = read(raw, at, EXPECTED)?;
    for (index, raw) in list.into_iter().enumerate() {
        item(raw, at.item(index), sent_as, messages)?;
    }
    Ok(())
}

fn item(raw: &RawValue, at: Path<'_>, sent_as: &SentAs<'_>, messages: &mut Vec<Message>) -> Result<()> {
    let mut object = Object::read(raw, at)?;
    let role: Option<String> = object.optional("role", at, "a string")?;
    let kind: Option<String> = object.optional("type", at, "a string")?;
    let kind = kind.unwrap_or_else(|| if role.is_some() { "message" } else { "item_reference" }.to_owned());
    match kind.as_str() {
        "message" => return message(role, object, at, messages),
        "function_call" => {
            let mut call = ToolCall {
                id: object.required("call_id", at, "the tool call's id")?,
                name: object.required("name", at, "the function's name")?,
                arguments: object.optional("arguments", at, "JSON as a string")?.unwrap_or_default(),
            };
            let mut extra = object.into_extra();
            let group = extra.get("namespace").and_then(|raw| serde_json::from_str::<String>(raw.as_str()).ok());
            // A group that the call does not have any more is left as it is written.
            let sent = group.and_then(|group| Some((*sent_as.get(&(group.as_str(), call.name.as_str()))?).to_owned()));
            if let Some(name) = sent {
                call.name = name;
                extra.shift_remove("namespace");
            }
            assistant(messages, Part::with_extra(Content::ToolCall(call), extra));
        }
        "function_call_output" => {
            let call_id = object.required("call_id", at, "the id of the tool call that this answers")?;
            let mut parts = Vec::with_capacity(1);
            if let Some(raw) = object.take("output") {
                content(raw, at.member("output"), &mut parts)?;
            }
            let result = Content::ToolResult(ToolResult { call_id, is_error: false, parts });
            messages.push(Message::new(Role::Tool, vec![Part::with_extra(result, object.into_extra())]));
        }
        "reasoning" => reasoning(raw, at, messages)?,
        _ => {
            let made_by_caller = kind.ends_with("_output") || kind.ends_with("_response");
            let part = Part::from(Content::Other { dialect: NAME, kind, raw: RawJson::from(raw) });
            match made_by_caller {
                true => messages.push(Message::new(Role::User, vec![part])),
                false => assistant(messages, part),
            }
        }
    }
    Ok(())
}

fn assistant(messages: &mut Vec<Message>, part: Part) {
    match messages.last_mut() {
        Some(last) if last.role == Role::Assistant => last.parts.push(part),
        _ => messages.push(Message::new(Role::Assistant, vec![part])),
    }
}

/// Id and state of a message are the handles of one provider; the words are sent without them.
fn message(role: Option<String>, mut object: Object<'_>, at: Path<'_>, messages: &mut Vec<Message>) -> Result<()> {
    let role = match role.as_deref() {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Err(BadRequest::field(at.member("role"), "must be `system`, `developer`, `user` or `assistant`")),
    };
    let mut parts = Vec::with_capacity(1);
    if let Some(raw) = object.take("content") {
        content(raw, at.member("content"), &mut parts)?;
    }
    object.take("id");
    object.take("status");
    let extra = object.into_extra();
    match messages.last_mut() {
        Some(last) if role == Role::Assistant && last.role == role && joins(last, &extra) => {
            last.parts.extend(parts);
            last.extra.extend(extra);
        }
        _ => messages.push(Message { role, name: None, parts, extra }),
    }
    Ok(())
}

/// Members such as `phase` hold for all words of a message.
fn joins(last: &Message, extra: &Extra) -> bool {
    let speaks = last.parts.iter().any(|part| matches!(part.content, Content::Text(_) | Content::Refusal(_)));
    !speaks || last.extra == *extra
}

/// Reasoning that bears the seal of another dialect is that dialect's; the proof behind a tool call goes back to it.
fn reasoning(raw: &RawValue, at: Path<'_>, messages: &mut Vec<Message>) -> Result<()> {
    let given = response::reasoning(raw).map_err(|problem| BadRequest::field(at, problem))?;
    if let (Some(seal), Some(last)) = (&given.encrypted, messages.last_mut())
        && sealed::give_back(seal, &mut last.parts)
    {
        return Ok(());
    }
    let reasoning = match given.encrypted.as_deref().and_then(sealed::reasoning) {
        Some(found) => Reasoning { text: given.text, ..found },
        None if given.encrypted.is_none()
            && given.id.as_deref().is_some_and(|id| id.starts_with(FOREIGN_REASONING)) =>
        {
            Reasoning { text: given.text, ..Reasoning::default() }
        }
        None => given,
    };
    assistant(messages, Part::from(Content::Reasoning(reasoning)));
    Ok(())
}

fn content(raw: &RawValue, at: Path<'_>, parts: &mut Vec<Part>) -> Result<()> {
    const EXPECTED: &str = "a string or an array of content parts";
    if raw.get().starts_with('"') {
        parts.push(Part::text(read::<String>(raw, at, EXPECTED)?));
        return Ok(());
    }
    let list: Vec<&RawValue> = read(raw, at, EXPECTED)?;
    for (index, raw) in list.into_iter().enumerate() {
        parts.push(part(raw, at.item(index))?);
    }
    Ok(())
}

fn part(raw: &RawValue, at: Path<'_>) -> Result<Part> {
    let mut object = Object::read(raw, at)?;
    let kind: String = object.required("type", at, "the kind of the part, such as `input_text`")?;
    let content = match kind.as_str() {
        "input_text" | "output_text" | "text" => Content::Text(object.required("text", at, "a string")?),
        "refusal" => Content::Refusal(object.required("refusal", at, "a string")?),
        "input_image" => {
            let detail = object.optional("detail", at, "a string")?;
            let source = match object.optional::<String>("file_id", at, "a string")? {
                Some(id) => Source::Uploaded(id),
                None => Source::of_url(object.required("image_url", at, "a URL, unless there is a `file_id`")?),
            };
            Content::Image(Media { source, name: None, detail })
        }
        "input_file" => Content::File(file(&mut object, at)?),
        _ => {
            let kind = format!("{PART}{kind}");
            return Ok(Part::from(Content::Other { dialect: NAME, kind, raw: RawJson::from(raw) }));
        }
    };
    Ok(Part::with_extra(content, object.into_extra()))
}

fn file(object: &mut Object<'_>, at: Path<'_>) -> Result<Media> {
    let name = object.optional("filename", at, "a string")?;
    let source = if let Some(id) = object.optional::<String>("file_id", at, "a string")? {
        Source::Uploaded(id)
    } else if let Some(url) = object.optional::<String>("file_url", at, "a URL")? {
        Source::of_url(url)
    } else {
        Source::of_url(object.required("file_data", at, "a data URL, unless there is a `file_id` or a `file_url`")?)
    };
    Ok(Media { source, name, detail: None })
}
