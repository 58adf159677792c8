//! A call towards a provider.

use bytes::Bytes;
use serde::Serialize;

use super::{NAME, TitanEmbeddings};
use crate::{
    canonical::{Content, EmbedCall, EmbedInput, Extra, Part, Source, VectorEncoding},
    dialect::{EmbedDialect, Encoded, Target},
    error::EncodeError,
    notes::Notes,
};

/// What the three models take differs; their ids tell. An ARN that does not is taken as the latest model for text.
#[derive(Clone, Copy, PartialEq)]
enum Model {
    /// A text, nothing else.
    TextV1,
    TextV2,
    /// A text, an image or both.
    Image,
}

impl Model {
    fn of(target: &Target) -> Model {
        match target.model.as_str() {
            id if id.contains("titan-embed-image") => Model::Image,
            id if id.contains("titan-embed-text-v1") || id.contains("titan-embed-g1-text") => Model::TextV1,
            _ => Model::TextV2,
        }
    }
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    input_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_types: Option<[&'a str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_config: Option<Config>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Extra>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    output_embedding_length: u64,
}

pub(super) fn encode(call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let own = call.dialect == Some(NAME);
    drop_unknown(call, own, &mut notes)?;
    let [input] = call.inputs.as_slice() else {
        return Err(notes.unsupported("several inputs in one call (one call for each of them works)"));
    };
    let model = Model::of(target);
    let mut wire = Wire { extra: own.then_some(&call.extra), ..Wire::default() };
    put_input(&mut wire, input, model, &notes)?;
    match (call.dimensions, model) {
        (None, _) => {}
        (Some(_), Model::TextV1) => return Err(notes.unsupported("another length of its vectors (`dimensions`)")),
        (length, Model::TextV2) => wire.dimensions = length,
        (Some(output_embedding_length), Model::Image) => {
            wire.embedding_config = Some(Config { output_embedding_length });
        }
    }
    match &call.encoding {
        // Base64 is made of the numbers where the answer is written.
        None | Some(VectorEncoding::Float | VectorEncoding::Base64) => {}
        Some(VectorEncoding::Other(kind)) if kind == "binary" && model == Model::TextV2 => {
            wire.embedding_types = Some(["binary"]);
        }
        Some(VectorEncoding::Other(kind)) => return Err(notes.unsupported(format!("vectors of `{kind}`"))),
    }
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: TitanEmbeddings.request(target, Bytes::from(body))?, warnings: notes.into_warnings() })
}

fn drop_unknown(call: &EmbedCall, own: bool, notes: &mut Notes) -> Result<(), EncodeError> {
    for (given, name) in [
        (call.purpose.is_some(), "`input_type`"),
        (call.truncate.as_deref().is_some_and(|how| !how.eq_ignore_ascii_case("none")), "`truncate`"),
        (call.user.is_some(), "`user`"),
    ] {
        if given {
            notes.drop(name)?;
        }
    }
    for name in call.extra.keys().filter(|_| !own) {
        notes.drop(&format!("`{name}`"))?;
    }
    Ok(())
}

fn put_input<'a>(wire: &mut Wire<'a>, input: &'a EmbedInput, model: Model, notes: &Notes) -> Result<(), EncodeError> {
    let parts: &[Part] = match input {
        EmbedInput::Text(text) => {
            wire.input_text = Some(text);
            return Ok(());
        }
        EmbedInput::Tokens(_) => return Err(notes.unsupported("token ids of another model's tokenizer")),
        EmbedInput::Parts(parts) => parts,
    };
    for part in parts {
        match &part.content {
            Content::Text(text) if wire.input_text.is_none() => wire.input_text = Some(text),
            Content::Image(media) if model == Model::Image && wire.input_image.is_none() => match &media.source {
                Source::Base64 { data, .. } => wire.input_image = Some(data),
                _ => return Err(notes.unsupported("an image that is not sent in base64")),
            },
            _ => {
                return Err(
                    notes.unsupported("an input of other parts than one text and, for its image model, one image")
                );
            }
        }
    }
    if wire.input_text.is_none() && wire.input_image.is_none() {
        return Err(notes.unsupported("an empty input"));
    }
    Ok(())
}
