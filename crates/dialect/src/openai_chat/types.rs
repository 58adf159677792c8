//! The wire types of answers, whole and in pieces. Requests are read member by member (`parse`) and written from borrowed
//! parts (`request`).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;

use super::{details::Detail, usage::Wire as Usage};
use crate::{
    dialect::DialectName,
    json::{RawJson, Word, objects},
};

pub(super) const NAME: DialectName = DialectName::OpenAiChat;

#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(default, borrow)]
    pub(super) id: Option<Word<'a>>,
    #[serde(default, borrow)]
    pub(super) model: Option<Word<'a>>,
    #[serde(default)]
    pub(super) created: Option<i64>,
    #[serde(default, deserialize_with = "objects")]
    pub(super) choices: Option<Vec<ChunkChoice>>,
    #[serde(default)]
    pub(super) usage: Option<Usage>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) x_groq: Option<Groq>,
    #[serde(default, borrow)]
    pub(super) service_tier: Option<Word<'a>>,
    /// Perplexity's sources, repeated in every chunk.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) citations: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) search_results: Option<Vec<RawJson>>,
    #[serde(default, borrow)]
    pub(super) object: Option<Word<'a>>,
    #[serde(default, borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// Groq's own member of the last chunk, where usage was not asked for.
#[derive(Deserialize)]
pub(super) struct Groq {
    pub(super) usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(super) struct ChunkChoice {
    #[serde(default)]
    pub(super) index: u32,
    /// Apart, for it is large: a list makes room for several at once.
    #[serde(default)]
    pub(super) delta: Option<Box<Message>>,
    #[serde(default)]
    pub(super) finish_reason: Option<String>,
    #[serde(default)]
    pub(super) logprobs: Option<Box<RawValue>>,
    /// OpenRouter's way to say that the provider behind it failed.
    #[serde(default)]
    pub(super) error: Option<Box<RawValue>>,
}

/// A whole message or a piece of one. What OpenAI itself does not send is read leniently: it never spoils an answer.
#[derive(Default, Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    pub(super) content: Option<Content>,
    #[serde(default)]
    pub(super) refusal: Option<String>,
    #[serde(default)]
    pub(super) tool_calls: Option<Vec<ToolCall>>,
    /// What `tool_calls` was before there could be several.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) function_call: Option<Function>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) annotations: Option<Vec<RawJson>>,
    #[serde(default)]
    pub(super) reasoning_content: Option<Text>,
    #[serde(default)]
    pub(super) reasoning: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) reasoning_details: Option<Vec<Detail>>,
    /// OpenRouter's images: <https://openrouter.ai/docs/features/multimodal/image-generation>.
    #[serde(default, deserialize_with = "lenient")]
    pub(super) images: Option<Vec<Image>>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) extra_content: Option<ExtraContent>,
}

impl Message {
    /// The members that are read here; all others are extra.
    pub(super) const MEMBERS: [&'static str; 11] = [
        "role",
        "content",
        "refusal",
        "tool_calls",
        "function_call",
        "annotations",
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "images",
        "extra_content",
    ];
}

#[derive(Deserialize)]
pub(super) struct ToolCall {
    #[serde(default)]
    pub(super) index: Option<u32>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) function: Option<Function>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) extra_content: Option<ExtraContent>,
}

#[derive(Deserialize)]
pub(super) struct Function {
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "arguments")]
    pub(super) arguments: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Image {
    pub(super) image_url: ImageUrl,
}

#[derive(Deserialize)]
pub(super) struct ImageUrl {
    pub(super) url: String,
}

/// Google's proof of reasoning in this dialect: <https://ai.google.dev/gemini-api/docs/thought-signatures>.
#[derive(Default, Deserialize)]
pub(super) struct ExtraContent {
    #[serde(default)]
    google: Option<Google>,
}

#[derive(Deserialize)]
struct Google {
    #[serde(default)]
    thought_signature: Option<String>,
}

impl ExtraContent {
    pub(super) fn signature(self) -> Option<String> {
        self.google?.thought_signature.filter(|signature| !signature.is_empty())
    }
}

/// Reads a member that is worth having and not worth failing for.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// JSON in a string; some servers send the object itself.
fn arguments<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    match raw.get().as_bytes().first() {
        Some(b'"' | b'n') => serde_json::from_str(raw.get()).map_err(de::Error::custom),
        Some(b'{' | b'[') => Ok(Some(raw.get().to_owned())),
        _ => Err(de::Error::custom("`arguments` are neither a string nor an object")),
    }
}

/// Text, or a list of typed pieces: Mistral mixes `text` with `thinking`, which has text of its own inside
/// (<https://docs.mistral.ai/capabilities/reasoning>).
#[derive(Default)]
pub(super) struct Content(pub(super) Vec<Said>);

pub(super) enum Said {
    Text(String),
    Thought(String),
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Content, D::Error> {
        #[derive(Deserialize)]
        struct Block {
            #[serde(default)]
            text: Option<Text>,
            #[serde(default)]
            thinking: Option<Text>,
        }
        let raw = <&RawValue>::deserialize(from)?;
        if !raw.get().starts_with('[') {
            let Text(text) = serde_json::from_str(raw.get()).map_err(de::Error::custom)?;
            return Ok(Content(vec![Said::Text(text)]));
        }
        let list: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(de::Error::custom)?;
        let mut said = Vec::with_capacity(list.len());
        for item in list {
            if !item.get().starts_with('{') {
                let Text(text) = serde_json::from_str(item.get()).map_err(de::Error::custom)?;
                said.push(Said::Text(text));
                continue;
            }
            let block: Block = serde_json::from_str(item.get()).map_err(de::Error::custom)?;
            said.extend(block.thinking.map(|Text(thought)| Said::Thought(thought)));
            said.extend(block.text.map(|Text(text)| Said::Text(text)));
        }
        Ok(Content(said))
    }
}

/// Text, or, as some compatible servers have it, a list of blocks whose text counts. Anything else is no text.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list of blocks")
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(text))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                let mut all = String::new();
                while let Some(Text(text)) = seq.next_element()? {
                    all.push_str(&text);
                }
                Ok(Text(all))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                let mut text = Text::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "text" {
                        text = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(text)
            }
            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text::default())
            }
        }
        from.deserialize_any(Reader)
    }
}
