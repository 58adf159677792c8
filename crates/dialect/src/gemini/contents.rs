//! The conversation: system text apart, turns of `user` and `model`, results of functions as parts of the user's turn.

use std::collections::HashMap;

use serde::Serialize;

use super::{model::Generation, types::NAME};
use crate::{
    canonical::{Call, Content, Media, Message, Part, Reasoning, Role, Source, ToolCall, ToolResult},
    dialect::{DialectName, Target},
    error::EncodeError,
    json::RawJson,
    notes::{Notes, unsupported},
};

/// Stands in for the signature of calls that another model made, which Gemini 3 would refuse without one:
/// <https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>.
const FOREIGN_SIGNATURE: &str = "skip_thought_signature_validator";

#[derive(Serialize)]
pub(super) struct WireContent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<WirePart<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WirePart<'a> {
    #[serde(rename_all = "camelCase")]
    Known {
        #[serde(flatten)]
        data: Data<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    Raw(&'a RawJson),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Data<'a> {
    Text(&'a str),
    #[serde(rename = "inlineData", rename_all = "camelCase")]
    Inline {
        mime_type: &'a str,
        data: &'a str,
    },
    #[serde(rename = "fileData", rename_all = "camelCase")]
    File {
        #[serde(skip_serializing_if = "Option::is_none")]
        mime_type: Option<&'static str>,
        file_uri: String,
    },
    FunctionCall {
        id: &'a str,
        name: &'a str,
        args: RawJson,
    },
    FunctionResponse {
        id: &'a str,
        name: &'a str,
        response: FunctionAnswer,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        parts: Vec<WirePart<'a>>,
    },
}

/// What a function gave back is an object: its own, or one with the API's word for text or for an error.
#[derive(Serialize)]
#[serde(untagged)]
enum FunctionAnswer {
    Object(RawJson),
    Output { output: String },
    Error { error: String },
}

impl<'a> From<Data<'a>> for WirePart<'a> {
    fn from(data: Data<'a>) -> WirePart<'a> {
        WirePart::Known { data, thought: None, thought_signature: None }
    }
}

/// The system instruction and the turns. Messages of the same role in a row become one turn.
pub(super) fn encode<'a>(
    call: &'a Call,
    target: &Target,
    notes: &mut Notes,
) -> Result<(Option<WireContent<'a>>, Vec<WireContent<'a>>), EncodeError> {
    let mut turns = Turns::of(target, notes);
    call.messages.iter().try_for_each(|message| turns.message(message))?;
    let Turns { system, contents, .. } = turns;
    if contents.is_empty() {
        return Err(EncodeError::Invalid {
            field: "`messages`".to_owned(),
            problem: "beside system messages there must be at least one with content".to_owned(),
        });
    }
    Ok(((!system.is_empty()).then_some(WireContent { role: None, parts: system }), contents))
}

struct Turns<'a, 'n> {
    system: Vec<WirePart<'a>>,
    contents: Vec<WireContent<'a>>,
    /// Names of the functions called so far, by the id of the call.
    called: HashMap<&'a str, &'a str>,
    /// Whether media may stand within a function's answer; before generation 3 they come right behind it.
    nested_media: bool,
    /// Whether a call without a signature may be refused.
    wants_signatures: bool,
    notes: &'n mut Notes,
}

impl<'a, 'n> Turns<'a, 'n> {
    fn of(target: &Target, notes: &'n mut Notes) -> Turns<'a, 'n> {
        let generation = Generation::of(&target.model);
        Turns {
            system: Vec::new(),
            contents: Vec::new(),
            called: HashMap::new(),
            nested_media: generation >= Some(Generation::THREE),
            wants_signatures: generation.is_none_or(|generation| generation >= Generation::THREE),
            notes,
        }
    }

    fn message(&mut self, message: &'a Message) -> Result<(), EncodeError> {
        if message.name.is_some() && message.role != Role::Tool {
            self.notes.drop("`name` of a message")?;
        }
        let mut parts = Vec::with_capacity(message.parts.len());
        for part in &message.parts {
            self.part(part, message.name.as_deref(), &mut parts)?;
        }
        let role = match message.role {
            Role::System | Role::Developer => {
                if !self.contents.is_empty() {
                    self.notes.say("a system message in the middle of the conversation was moved to its beginning");
                }
                self.system.extend(parts);
                return Ok(());
            }
            Role::User | Role::Tool => "user",
            Role::Assistant => {
                self.prove(&mut parts);
                "model"
            }
        };
        match self.contents.last_mut() {
            _ if parts.is_empty() => {}
            Some(turn) if turn.role == Some(role) => turn.parts.extend(parts),
            _ => self.contents.push(WireContent { role: Some(role), parts }),
        }
        Ok(())
    }

    /// The first call of each step bears the signature; one that has none was made by another model.
    fn prove(&self, parts: &mut [WirePart<'a>]) {
        let first = parts.iter_mut().find_map(|part| match part {
            WirePart::Known { data: Data::FunctionCall { .. }, thought_signature, .. } => Some(thought_signature),
            _ => None,
        });
        if let (true, Some(signature @ None)) = (self.wants_signatures, first) {
            *signature = Some(FOREIGN_SIGNATURE);
        }
    }

    fn part(&mut self, part: &'a Part, named: Option<&'a str>, out: &mut Vec<WirePart<'a>>) -> Result<(), EncodeError> {
        let signature = part.signature.as_deref();
        let data = match &part.content {
            Content::Text(text) | Content::Refusal(text) => {
                if text.is_empty() && signature.is_none() {
                    return Ok(());
                }
                Data::Text(text)
            }
            Content::Image(media) => self.media(media, "an image")?,
            Content::File(media) => self.media(media, "a document")?,
            Content::Audio(media) => self.media(media, "audio")?,
            Content::Reasoning(reasoning) => {
                out.extend(self.thought(reasoning)?);
                return Ok(());
            }
            Content::ToolCall(call) => self.function_call(call)?,
            Content::ToolResult(result) => return self.function_response(result, named, out),
            Content::Other { dialect: DialectName::Gemini, raw, .. } => {
                out.push(WirePart::Raw(raw));
                return Ok(());
            }
            Content::Other { dialect, kind, .. } => return Err(unsupported(NAME, format!("`{kind}` of {dialect}"))),
        };
        out.push(WirePart::Known { data, thought: None, thought_signature: signature });
        Ok(())
    }

    fn thought(&mut self, reasoning: &'a Reasoning) -> Result<Option<WirePart<'a>>, EncodeError> {
        if reasoning.origin != Some(NAME) {
            self.notes.drop("reasoning of another model's answer")?;
            return Ok(None);
        }
        let data = Data::Text(&reasoning.text);
        Ok(Some(WirePart::Known { data, thought: Some(true), thought_signature: reasoning.signature.as_deref() }))
    }

    fn function_call(&mut self, call: &'a ToolCall) -> Result<Data<'a>, EncodeError> {
        self.called.insert(&call.id, &call.name);
        Ok(Data::FunctionCall { id: &call.id, name: &call.name, args: call.object()? })
    }

    fn function_response(
        &mut self,
        result: &'a ToolResult,
        named: Option<&'a str>,
        out: &mut Vec<WirePart<'a>>,
    ) -> Result<(), EncodeError> {
        let id = result.call_id.as_str();
        let name = self.called.get(id).copied().or(named).ok_or_else(|| EncodeError::Invalid {
            field: format!("the result of tool call `{id}`"),
            problem: "no call before it has this id".to_owned(),
        })?;
        let (mut text, mut media) = (String::new(), Vec::new());
        for part in &result.parts {
            match &part.content {
                Content::Text(piece) | Content::Refusal(piece) => text.push_str(piece),
                _ => self.part(part, None, &mut media)?,
            }
        }
        let response = answer(text, result.is_error);
        let (nested, behind) = if self.nested_media { (media, Vec::new()) } else { (Vec::new(), media) };
        out.push(Data::FunctionResponse { id, name, response, parts: nested }.into());
        out.extend(behind);
        Ok(())
    }

    fn media(&mut self, media: &'a Media, what: &str) -> Result<Data<'a>, EncodeError> {
        self.notes.no_detail(media);
        if media.name.is_some() {
            self.notes.say("the name of a file was left out");
        }
        Ok(match &media.source {
            Source::Base64 { media_type, data } => Data::Inline { mime_type: media_type, data },
            Source::Text(text) => Data::Text(text),
            Source::Url(url) => Data::File { mime_type: media_type_of(url), file_uri: url.clone() },
            Source::Uploaded(id) if id.starts_with("files/") => Data::File {
                mime_type: None,
                file_uri: format!("https://generativelanguage.googleapis.com/v1beta/{id}"),
            },
            Source::Uploaded(id) if id.contains("://") => {
                Data::File { mime_type: media_type_of(id), file_uri: id.clone() }
            }
            Source::Uploaded(_) => return Err(unsupported(NAME, format!("{what} uploaded to another provider"))),
        })
    }
}

fn answer(text: String, is_error: bool) -> FunctionAnswer {
    if is_error {
        return FunctionAnswer::Error { error: text };
    }
    match RawJson::new(text.trim()).filter(RawJson::is_object) {
        Some(object) => FunctionAnswer::Object(object),
        None => FunctionAnswer::Output { output: text },
    }
}

/// A media type from the end of a URL's path. Vertex wants one with every address; the Gemini API finds out by itself.
fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, file) = path.rsplit_once('/')?;
    let (_, ending) = file.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        _ => return None,
    })
}
