//! Cohere embed: <https://docs.cohere.com/reference/embed>. Answers of version 1 are read too. Bedrock's InvokeModel takes
//! the same body, but for the model, which stands in the path:
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html>.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{billing::Metered, error};
use crate::{
    bedrock_converse,
    canonical::{Content, EmbedCall, EmbedInput, Embeddings, Extra, Part, Refusal, Vector, VectorEncoding},
    dialect::{DialectName, EmbedDialect, Encoded, Head, Hosting, Target},
    error::{DecodeError, EncodeError},
    json::{Object, RawJson},
    notes::Notes,
    rewrite::Edit,
};

const NAME: DialectName = DialectName::CohereEmbed;
const PATH: &str = "/v2/embed";

pub(crate) struct CohereEmbed;

impl EmbedDialect for CohereEmbed {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
        encode(call, target)
    }

    fn edits(&self, target: &Target) -> Vec<Edit<'static>> {
        match target.hosting {
            Hosting::Bedrock => vec![Edit::remove("model")],
            Hosting::Own | Hosting::Vertex => vec![Edit::string("model", &target.model)],
        }
    }

    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        post(target, body)
    }

    fn decode(&self, head: &Head, body: &[u8]) -> Result<Embeddings, DecodeError> {
        let mut answer = decode(body)?;
        // Bedrock, which hosts the same models, takes the billing out of the answer and counts in a header.
        let counted = head.headers.get("x-amzn-bedrock-input-token-count").and_then(|count| count.to_str().ok());
        answer.usage.input = answer.usage.input.or_else(|| counted?.trim().parse().ok());
        Ok(answer)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        // So says Bedrock.
        if head.headers.contains_key("x-amzn-errortype") {
            return bedrock_converse::decode_error(head, body);
        }
        error::decode(head, body)
    }
}

fn post(target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    match target.hosting {
        Hosting::Bedrock => target.post(&bedrock_converse::model_path(&target.model, "invoke"), body),
        Hosting::Own | Hosting::Vertex => target.post(PATH, body),
    }
}

fn encode(call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
    let mut notes = Notes::new(NAME, target);
    let own = call.dialect == Some(NAME);
    for name in call.extra.keys().filter(|_| !own) {
        notes.drop(&format!("`{name}`"))?;
    }
    if call.user.is_some() {
        notes.drop("`user`")?;
    }
    let inputs = inputs(call, &notes)?;
    let wire = WireCall {
        model: (target.hosting != Hosting::Bedrock).then_some(&target.model),
        input_type: input_type(call, &inputs, &mut notes),
        inputs,
        // Base64 is made of the numbers where the answer is rendered: older models have no word for it.
        embedding_types: [match &call.encoding {
            None | Some(VectorEncoding::Float | VectorEncoding::Base64) => "float",
            Some(VectorEncoding::Other(word)) => word,
        }],
        output_dimension: call.dimensions,
        truncate: call.truncate.as_deref(),
        extra: own.then_some(&call.extra),
    };
    let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
    Ok(Encoded { request: post(target, Bytes::from(body))?, warnings: notes.into_warnings() })
}

/// Models from version 3 on must be told what the vectors are for.
fn input_type<'a>(call: &'a EmbedCall, inputs: &WireInputs<'_>, notes: &mut Notes) -> &'a str {
    if let Some(purpose) = &call.purpose {
        return purpose.as_str();
    }
    if matches!(inputs, WireInputs::Images(_)) {
        return "image";
    }
    notes.say(
        "the vectors are made for `search_document`, because the call names no `input_type`: \
         name `search_query` where they search",
    );
    "search_document"
}

#[derive(Serialize)]
struct WireCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    input_type: &'a str,
    #[serde(flatten)]
    inputs: WireInputs<'a>,
    embedding_types: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimension: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extra: Option<&'a Extra>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum WireInputs<'a> {
    Texts(Vec<&'a str>),
    /// One image alone: older models take it in no other form.
    Images([Cow<'a, str>; 1]),
    Inputs(Vec<WireInput<'a>>),
}

#[derive(Serialize)]
struct WireInput<'a> {
    content: Vec<WireContent<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireContent<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
}

fn inputs<'a>(call: &'a EmbedCall, notes: &Notes) -> Result<WireInputs<'a>, EncodeError> {
    let texts: Option<Vec<&str>> = call
        .inputs
        .iter()
        .map(|input| if let EmbedInput::Text(text) = input { Some(text.as_str()) } else { None })
        .collect();
    if let Some(texts) = texts {
        return Ok(WireInputs::Texts(texts));
    }
    if let [EmbedInput::Parts(parts)] = call.inputs.as_slice()
        && let [Part { content: Content::Image(media), .. }] = parts.as_slice()
    {
        return Ok(WireInputs::Images([super::image_url(media, notes)?]));
    }
    let inputs = call.inputs.iter().map(|input| wire_input(input, notes)).collect::<Result<Vec<_>, _>>()?;
    Ok(WireInputs::Inputs(inputs))
}

fn wire_input<'a>(input: &'a EmbedInput, notes: &Notes) -> Result<WireInput<'a>, EncodeError> {
    let content = match input {
        EmbedInput::Text(text) => vec![WireContent::Text { text }],
        EmbedInput::Parts(parts) => parts.iter().map(|part| content(part, notes)).collect::<Result<_, _>>()?,
        EmbedInput::Tokens(_) => return Err(notes.unsupported("an input of token ids")),
    };
    Ok(WireInput { content })
}

fn content<'a>(part: &'a Part, notes: &Notes) -> Result<WireContent<'a>, EncodeError> {
    match &part.content {
        Content::Text(text) => Ok(WireContent::Text { text }),
        Content::Image(media) => {
            Ok(WireContent::ImageUrl { image_url: ImageUrl { url: super::image_url(media, notes)? } })
        }
        _ => Err(notes.unsupported("an input that is neither text nor image")),
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(borrow)]
    embeddings: &'a RawValue,
    #[serde(default)]
    meta: Option<Metered>,
}

fn decode(body: &[u8]) -> Result<Embeddings, DecodeError> {
    let answer: Answer<'_> = serde_json::from_slice(body).map_err(corrupt)?;
    let vectors: Vec<&RawValue> = serde_json::from_str(of_one_type(answer.embeddings)?.get()).map_err(corrupt)?;
    Ok(Embeddings {
        id: answer.id.unwrap_or_default(),
        model: String::new(),
        vectors: vectors.into_iter().map(vector).collect::<Result<_, _>>()?,
        usage: answer.meta.map(|meta| meta.usage()).unwrap_or_default(),
    })
}

/// Vectors come by type (`{"float": […]}`), and one type was asked for; version 1 may leave the types out.
fn of_one_type(raw: &RawValue) -> Result<&RawValue, DecodeError> {
    if raw.get().starts_with('[') {
        return Ok(raw);
    }
    let mut types: Object<'_> = serde_json::from_str(raw.get()).map_err(corrupt)?;
    let names: Vec<String> = types.keys().map(str::to_owned).collect();
    let found = names.iter().filter_map(|name| types.take(name)).find(|vectors| vectors.get() != "[]");
    found.ok_or_else(|| corrupt("`embeddings` holds no vectors"))
}

fn vector(raw: &RawValue) -> Result<Vector, DecodeError> {
    match raw.get().as_bytes().first() {
        Some(b'[') => Ok(Vector::Numbers(RawJson::from(raw))),
        Some(b'"') => Ok(Vector::Base64(serde_json::from_str(raw.get()).map_err(corrupt)?)),
        _ => Err(corrupt("a vector is neither an array nor base64")),
    }
}

fn corrupt(problem: impl ToString) -> DecodeError {
    DecodeError::Corrupt { dialect: NAME, problem: problem.to_string() }
}
