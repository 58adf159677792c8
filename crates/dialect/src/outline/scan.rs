//! Goes through a caller's content without keeping it: what it carries, and what it makes a provider fetch.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny},
};
use serde_json::value::RawValue;

use super::{Tools, folded, tools_of};
use crate::{dialect::DialectName, json::Path};

/// What was found.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) messages: usize,
    pub(super) remote: Option<String>,
    /// What the provider is to take from its own store.
    pub(super) stored: Option<String>,
    pub(super) media: usize,
    pub(super) media_bytes: usize,
    pub(super) documents: usize,
    pub(super) named_reasoning: usize,
    /// Tools that stand among the messages (`additional_tools` of responses).
    pub(super) tools: Tools,
    /// Items of responses: a file stands in its part without a member around it, and tools may stand among them.
    responses: bool,
}

impl Scan {
    pub(super) fn of(dialect: DialectName) -> Scan {
        Scan { responses: dialect == DialectName::OpenAiResponses, ..Scan::default() }
    }
}

/// The list of messages (or items) that stands in the member `name`.
pub(super) struct Messages<'s, 'n> {
    pub(super) scan: &'s mut Scan,
    pub(super) name: &'n str,
}

impl<'de> DeserializeSeed<'de> for Messages<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> de::Visitor<'de> for Messages<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let root = Path::Root;
        let messages = root.member(self.name);
        let scan = self.scan;
        loop {
            let at = messages.item(scan.messages);
            if seq.next_element_seed(MessageScan { scan, at })?.is_none() {
                return Ok(());
            }
            scan.messages += 1;
        }
    }
}

struct MessageScan<'s, 'p> {
    scan: &'s mut Scan,
    at: Path<'p>,
}

impl<'de> DeserializeSeed<'de> for MessageScan<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> de::Visitor<'de> for MessageScan<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message object")
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut reasoning, mut carried) = (false, false);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if matches!(&*key, "content" | "output") {
                map.next_value_seed(Content {
                    scan: self.scan,
                    at: self.at.member(&key),
                    is_address: false,
                    counted: false,
                })?;
            } else if key == "type" {
                let kind = map.next_value::<Option<Cow<'de, str>>>()?.unwrap_or_default();
                reasoning |= kind == "reasoning";
                self.scan.media += usize::from(kind == "image_generation_call");
                if kind == "item_reference" && self.scan.stored.is_none() {
                    self.scan.stored = Some(self.at.to_string());
                }
            } else if self.scan.responses && folded(&key) == "tools" {
                let raw = map.next_value::<&'de RawValue>()?;
                let more = tools_of(DialectName::OpenAiResponses, raw, self.at.member(&key), true);
                self.scan.tools.add(more);
            } else if key == "encrypted_content" {
                carried = map.next_value::<Option<IgnoredAny>>()?.is_some();
            } else if key == "audio" {
                // An earlier answer's recording, by its id.
                self.scan.media += usize::from(map.next_value::<Option<IgnoredAny>>()?.is_some());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        // Reasoning that is only named is read from the provider's store, and is as long as it is.
        self.scan.named_reasoning += usize::from(reasoning && !carried);
        Ok(())
    }
}

/// Any value below a message's content. An address is a string in a place where dialects put one; what tools were
/// given (`input`, `arguments`) is data, not something to fetch.
struct Content<'s, 'p> {
    scan: &'s mut Scan,
    at: Path<'p>,
    is_address: bool,
    /// It has been counted as a document by the name of its member.
    counted: bool,
}

impl<'de> DeserializeSeed<'de> for Content<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Content<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        // A data URL carries its bytes; whatever else stands here, the provider has to resolve. How freely it reads an
        // address is its own business, so nothing else passes for one.
        let carries = text.len() >= 5 && text.as_bytes()[..5].eq_ignore_ascii_case(b"data:");
        let bare = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
            && !text.starts_with('/');
        if self.is_address && (carries || bare) {
            self.scan.media_bytes += text.len();
        }
        let picture = !carries || text.len() >= 11 && text.as_bytes()[5..11].eq_ignore_ascii_case(b"image/");
        self.scan.documents += usize::from(self.is_address && !self.counted && !picture);
        if self.is_address && self.scan.remote.is_none() && !carries && !bare {
            self.scan.remote = Some(self.at.to_string());
        }
        Ok(())
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        let (scan, at) = (self.scan, self.at);
        while seq.next_element_seed(Content { scan, at: at.item(index), is_address: false, counted: false })?.is_some()
        {
            index += 1;
        }
        Ok(())
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "data" {
                let data = map.next_value::<&'de RawValue>()?.get();
                self.scan.media_bytes += if data.starts_with('"') { data.len() } else { 0 };
                continue;
            }
            if matches!(&*key, "input" | "arguments" | "text" | "citations") {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if matches!(&*key, "image_url" | "video_url" | "file" | "input_audio" | "source") {
                self.scan.media += 1;
            }
            let flat = self.scan.responses && matches!(&*key, "file_data" | "file_url");
            self.scan.media += usize::from(flat);
            self.scan.documents += usize::from(flat || key == "file");
            if key == "file_id" {
                let given = map.next_value::<Option<IgnoredAny>>()?.is_some();
                if given && self.scan.stored.is_none() {
                    self.scan.stored = Some(self.at.member(&key).to_string());
                }
                continue;
            }
            if key == "media_type" {
                // What is neither a picture nor a text is read page by page.
                let kind = map.next_value::<Option<Cow<'de, str>>>()?.unwrap_or_default();
                let pages = !kind.is_empty() && !kind.starts_with("image/") && !kind.starts_with("text/");
                self.scan.documents += usize::from(pages);
                continue;
            }
            let is_address = matches!(&*key, "url" | "image_url" | "file_url" | "video_url" | "file_data");
            map.next_value_seed(Content {
                scan: self.scan,
                at: self.at.member(&key),
                is_address,
                counted: key == "file_data",
            })?;
        }
        Ok(())
    }
}
