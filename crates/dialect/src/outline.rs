//! What routing must know of a body, without reading it as a call.

use std::{borrow::Cow, fmt, ops::Range};

use farebox_types::Fault;
use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny},
};
use serde_json::Value;

use crate::{
    dialect::DialectName,
    error::BadRequest,
    json::{Object, Path},
};

/// The facts of a body that routing, limits and pass-through need. The whole body has been checked to be one JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// `None`: the caller named none (or `null`, or an empty string).
    pub model: Option<String>,
    pub stream: bool,
    /// Whether the caller asked for usage at the end of a stream (`stream_options.include_usage`).
    pub include_usage: bool,
    /// The loosest output limit given: which of two a server heeds is not known.
    pub max_output_tokens: Option<u64>,
    pub n: Option<u64>,
    pub messages: usize,
    pub has_tools: bool,
    /// The first field that makes the provider fetch something: `messages[2].content[0].image_url.url`.
    pub remote_media: Option<String>,
    /// How many images, documents and recordings the messages carry.
    pub inline_media: usize,
    /// How many of them are documents.
    pub inline_documents: usize,
    /// The first field whose cost nothing in the body bounds: a file that the provider keeps, a tool that it runs.
    pub unbounded: Option<String>,
    pub service_tier: Option<String>,
    /// Where the value of the top-level member `farebox` stands in the body; it is an object.
    pub farebox: Option<Range<usize>>,
}

/// Reads the outline of a caller's body. Of duplicate members the last one counts.
pub fn outline(dialect: DialectName, body: &[u8]) -> Result<Outline, Fault> {
    Ok(read_outline(dialect, body)?)
}

fn read_outline(dialect: DialectName, body: &[u8]) -> Result<Outline, BadRequest> {
    let text = text_of(body)?;
    let mut top: Object<'_> = object_of(text)?;
    let root = Path::Root;
    unambiguous(&top)?;
    let limits: &[&str] = match dialect {
        DialectName::OpenAiChat => &["max_completion_tokens", "max_tokens"],
        _ => &["max_tokens"],
    };
    let mut max_output_tokens: Option<u64> = None;
    for name in limits {
        if let Some(limit) = top.optional::<u64>(name, root, "a whole number of tokens")? {
            max_output_tokens = Some(max_output_tokens.map_or(limit, |other| other.max(limit)));
        }
    }
    let include_usage = match top.take("stream_options") {
        Some(raw) => {
            let at = root.member("stream_options");
            Object::read(raw, at)?.optional("include_usage", at, "true or false")?.unwrap_or(false)
        }
        None => false,
    };
    let farebox = match top.take("farebox") {
        Some(raw) if raw.get().starts_with('{') => {
            // The raw value borrows from the body, so its offset is the distance of the two.
            let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
            Some(start..start + raw.get().len())
        }
        Some(_) => {
            return Err(BadRequest::field("farebox", "must be an object with farebox's own options"));
        }
        None => None,
    };
    let mut scan = Scan::default();
    let raw = top
        .take("messages")
        .ok_or_else(|| BadRequest::field("messages", "is missing: it must be an array with at least one message"))?;
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    Messages(&mut scan)
        .deserialize(&mut reader)
        .map_err(|_| BadRequest::field("messages", "must be an array of message objects"))?;
    if scan.messages == 0 {
        return Err(BadRequest::field("messages", "is empty: it must hold at least one message"));
    }
    let tools = top.take("tools").filter(|raw| raw.get() != "[]");
    let unbounded = UNBOUNDED
        .into_iter()
        .find(|name| top.take(name).is_some_and(|raw| raw.get() != "null"))
        .map(str::to_owned)
        .or_else(|| tools.and_then(|raw| provider_tool(dialect, raw.get())))
        .or(scan.stored);
    Ok(Outline {
        model: top.optional::<String>("model", root, "a string")?.filter(|m| !m.is_empty()),
        stream: top.optional("stream", root, "true or false")?.unwrap_or(false),
        include_usage,
        max_output_tokens,
        n: top.optional("n", root, "a whole number")?,
        messages: scan.messages,
        has_tools: tools.is_some() || top.take("functions").is_some_and(|raw| raw.get() != "[]"),
        remote_media: scan.remote,
        inline_media: scan.media,
        inline_documents: scan.documents,
        unbounded,
        service_tier: top.optional::<String>("service_tier", root, "a string")?,
        farebox,
    })
}

/// Members that make a provider do, or bill, what nothing in the body bounds: searches, other models, plug-ins, and tokens
/// of a prediction that is not taken.
const UNBOUNDED: [&str; 5] = ["web_search_options", "models", "route", "plugins", "prediction"];
/// Members by which a call is priced, bounded or read. `true`: it may stand there once only.
const DECIDING: [(&str, bool); 6] = [
    ("model", false),
    ("stream", false),
    ("max_tokens", true),
    ("max_completion_tokens", true),
    ("n", true),
    ("service_tier", true),
];

/// Parsers differ in which of two members counts, and some do not look at case: what decides about money must be said
/// once, in its own spelling. (A doubled `model` is no doubt: all of them are replaced.)
fn unambiguous(top: &Object<'_>) -> Result<(), BadRequest> {
    for (name, once) in DECIDING {
        let mut exact = 0;
        for key in top.keys() {
            if key == name {
                exact += 1;
            } else if folded(key) == name {
                return Err(BadRequest::body(format!(
                    "`{key}` is not `{name}`, but some servers take it for that: remove it"
                )));
            }
        }
        if once && exact > 1 {
            return Err(BadRequest::field(name, "stands in the body more than once: say it once"));
        }
    }
    Ok(())
}

/// As a server that ignores case reads a name: the Kelvin sign and the long s are letters of ours to it.
fn folded(key: &str) -> String {
    key.chars()
        .map(|c| {
            if c == '\u{17f}' {
                's'
            } else if c == '\u{212a}' {
                'k'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

pub(crate) fn text_of(body: &[u8]) -> Result<&str, BadRequest> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    std::str::from_utf8(body)
        .map_err(|e| BadRequest::body(format!("the body is not UTF-8 at byte {}; send JSON in UTF-8", e.valid_up_to())))
}

pub(crate) fn object_of(text: &str) -> Result<Object<'_>, BadRequest> {
    if text.trim_ascii().is_empty() {
        return Err(BadRequest::body("the body is empty; send one JSON object, like {\"messages\": […]}"));
    }
    serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            BadRequest::body("the body is JSON but not an object; send one JSON object, like {\"messages\": […]}")
        } else {
            BadRequest::json(&error)
        }
    })
}

/// The first tool that the provider would run itself, at a price of its own. What is no list of tools is left to the
/// provider to refuse.
fn provider_tool(dialect: DialectName, tools: &str) -> Option<String> {
    let tools: Vec<Value> = serde_json::from_str(tools).ok()?;
    let callers_own = |kind: &str| match dialect {
        DialectName::OpenAiChat => matches!(kind, "function" | "custom"),
        _ => kind == "custom",
    };
    let index = tools.iter().position(|tool| match tool.get("type") {
        None | Some(Value::Null) => false,
        Some(kind) => !kind.as_str().is_some_and(callers_own),
    })?;
    Some(Path::Root.member("tools").item(index).member("type").to_string())
}

#[derive(Default)]
struct Scan {
    messages: usize,
    remote: Option<String>,
    stored: Option<String>,
    media: usize,
    documents: usize,
}

struct Messages<'s>(&'s mut Scan);

impl<'de> DeserializeSeed<'de> for Messages<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> de::Visitor<'de> for Messages<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let root = Path::Root;
        let messages = root.member("messages");
        let scan = self.0;
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
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "content" {
                map.next_value_seed(Content { scan: self.scan, at: self.at.member("content"), is_address: false })?;
            } else if key == "audio" {
                // An earlier answer's recording, by its id.
                self.scan.media += usize::from(map.next_value::<Option<IgnoredAny>>()?.is_some());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Any value below a message's content. An address is a string in a place where dialects put one; what tools were
/// given (`input`, `arguments`) is data, not something to fetch.
struct Content<'s, 'p> {
    scan: &'s mut Scan,
    at: Path<'p>,
    is_address: bool,
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
        if self.is_address && self.scan.remote.is_none() && !carries && !bare {
            self.scan.remote = Some(self.at.to_string());
        }
        Ok(())
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        let (scan, at) = (self.scan, self.at);
        while seq.next_element_seed(Content { scan, at: at.item(index), is_address: false })?.is_some() {
            index += 1;
        }
        Ok(())
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if matches!(&*key, "input" | "arguments" | "text" | "data" | "citations") {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if matches!(&*key, "image_url" | "file" | "input_audio" | "source") {
                self.scan.media += 1;
            }
            if key == "file" {
                self.scan.documents += 1;
            }
            if key == "file_id" {
                let given = map.next_value::<Option<IgnoredAny>>()?.is_some();
                if given && self.scan.stored.is_none() {
                    self.scan.stored = Some(self.at.member(&key).to_string());
                }
                continue;
            }
            let is_address = matches!(&*key, "url" | "image_url" | "file_url" | "video_url" | "file_data");
            map.next_value_seed(Content { scan: self.scan, at: self.at.member(&key), is_address })?;
        }
        Ok(())
    }
}
