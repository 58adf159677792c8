//! What routing must know of a body, without reading it as a call.

mod scan;

use std::{borrow::Cow, ops::Range};

use farebox_types::Fault;
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use self::scan::{Messages, Scan};
use crate::{
    dialect::{DialectName, Operation},
    error::BadRequest,
    json::{Object, Path, read},
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
    /// Messages, items, texts or documents that a model is to read.
    pub messages: usize,
    pub has_tools: bool,
    /// How many of the tools are the provider's own designs that the caller runs: each brings its own preamble.
    pub designed_tools: usize,
    /// Bytes of what is read again with each text or document: the query of a ranking.
    pub repeated: usize,
    /// The first field that makes the provider fetch something: `messages[2].content[0].image_url.url`.
    pub remote_media: Option<String>,
    /// How many images, documents and recordings the messages carry.
    pub inline_media: usize,
    /// Bytes of them, as they stand in the body.
    pub media_bytes: usize,
    /// How many of them are documents.
    pub inline_documents: usize,
    /// Earlier reasoning that is named and not carried: the provider that has kept it reads it again.
    pub named_reasoning: usize,
    /// The first field whose cost nothing in the body bounds: a file that the provider keeps, a tool that it runs.
    pub unbounded: Option<String>,
    /// Something of it has a price that no usage shows: a tool that the provider runs, another model.
    pub unmetered: bool,
    /// The first such field, and whether there is such a price, at a provider of another dialect: tools that the caller's own
    /// providers run are left out there.
    pub unbounded_elsewhere: Option<String>,
    pub unmetered_elsewhere: bool,
    /// The provider is to search the web, and its usage says how often it did.
    pub searches: bool,
    /// A field that lets the provider go on where nobody sees what it uses.
    pub unseen: Option<&'static str>,
    pub service_tier: Option<String>,
    /// Where the value of the top-level member `farebox` stands in the body; it is an object.
    pub farebox: Option<Range<usize>>,
    /// Where the object `metadata` stands, by which callers say what they want to find a call by.
    pub metadata: Option<Range<usize>>,
    /// Whom the call is made for, as the caller names them (`user`, `safety_identifier`).
    pub user: Option<String>,
}

/// Reads the outline of a caller's body. Of duplicate members the last one counts.
pub fn outline(dialect: DialectName, body: &[u8]) -> Result<Outline, Fault> {
    Ok(read_outline(dialect, body)?)
}

fn read_outline(dialect: DialectName, body: &[u8]) -> Result<Outline, BadRequest> {
    let text = text_of(body)?;
    let mut top: Object<'_> = object_of(text)?;
    let root = Path::Root;
    let facts = Members::of(dialect);
    unambiguous(&top, &facts)?;
    let mut max_output_tokens: Option<u64> = None;
    for name in facts.limits {
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
        Some(raw) if raw.get().starts_with('{') => Some(place(raw, body)),
        Some(_) => {
            return Err(BadRequest::field("farebox", "must be an object with farebox's own options"));
        }
        None => None,
    };
    let metadata = top.take("metadata").filter(|raw| raw.get().starts_with('{')).map(|raw| place(raw, body));
    // Whether they are as they should be is the provider's to say.
    let mut named = |name: &str| serde_json::from_str::<String>(top.take(name)?.get()).ok().filter(|u| !u.is_empty());
    let user = named("user").or_else(|| named("safety_identifier"));
    let mut scan = content(&mut top, dialect, facts.content)?;
    let tools = top.take("tools").filter(|raw| raw.get() != "[]");
    let has_functions = top.take("functions").is_some_and(|raw| raw.get() != "[]");
    let has_tools = tools.is_some() || has_functions || scan.tools.any;
    let groups = dialect == DialectName::OpenAiResponses;
    let mut tools = tools.map(|raw| tools_of(dialect, raw, root.member("tools"), groups)).unwrap_or_default();
    tools.add(std::mem::take(&mut scan.tools));
    let mut says = |name: &str| top.take(name).is_some_and(|raw| !matches!(raw.get(), "null" | "false" | "[]"));
    let unseen = facts.unseen.iter().copied().find(|name| says(name));
    let metered: Vec<&str> = facts.metered.iter().copied().filter(|name| says(name)).collect();
    let unmetered: Vec<&str> = facts.unmetered.iter().copied().filter(|name| says(name)).collect();
    let named = unmetered.iter().chain(&metered).next().map(|name| (*name).to_owned());
    let unbounded_elsewhere = named.clone().or(scan.stored.clone());
    let unbounded = named.or(tools.providers).or(scan.stored);
    let whole = "a whole number";
    let (n, best_of) = (top.optional::<u64>("n", root, whole)?, top.optional::<u64>("best_of", root, whole)?);
    Ok(Outline {
        model: top.optional::<String>("model", root, "a string")?.filter(|m| !m.is_empty()),
        stream: top.optional("stream", root, "true or false")?.unwrap_or(false),
        include_usage,
        max_output_tokens,
        n: n.max(best_of),
        messages: scan.messages,
        has_tools,
        designed_tools: tools.designed,
        repeated: top.take("query").map_or(0, |query| query.get().len()),
        remote_media: scan.remote,
        inline_media: scan.media,
        media_bytes: scan.media_bytes,
        inline_documents: scan.documents,
        named_reasoning: scan.named_reasoning,
        unbounded,
        unbounded_elsewhere,
        unmetered: tools.unmetered || !unmetered.is_empty(),
        unmetered_elsewhere: !unmetered.is_empty(),
        searches: tools.searches,
        unseen,
        service_tier: top.optional::<String>("service_tier", root, "a string")?,
        farebox,
        metadata,
        user,
    })
}

/// Where a value stands that was read from `body`: it borrows from it, so its offset is the distance of the two.
fn place(raw: &RawValue, body: &[u8]) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

/// Looks through what a model is to read.
fn content(top: &mut Object<'_>, dialect: DialectName, name: &str) -> Result<Scan, BadRequest> {
    let root = Path::Root;
    let mut scan = Scan::of(dialect);
    let (what, many) = match dialect.operation() {
        Operation::Rerank => ("an array with at least one document", "an array of documents"),
        Operation::Embed => ("a text, or an array with at least one", "a text, or an array of texts"),
        _ => ("an array with at least one message", "an array of message objects"),
    };
    let raw =
        top.take(name).ok_or_else(|| BadRequest::field(root.member(name), format!("is missing: it must be {what}")))?;
    if !raw.get().starts_with('[') && dialect != DialectName::OpenAiChat && !raw.get().starts_with('{') {
        let text: Cow<'_, str> = read(raw, root.member(name), many)?;
        scan.messages = usize::from(!text.is_empty());
    } else if matches!(
        dialect,
        DialectName::OpenAiCompletions | DialectName::OpenAiEmbeddings | DialectName::CohereRerank
    ) {
        let items: Vec<&RawValue> = read(raw, root.member(name), many)?;
        // A picture among texts has a cost that no byte of it shows.
        scan.stored = items.iter().position(|item| is_media(dialect, item)).map(|index| {
            let list = root.member(name);
            list.item(index).to_string()
        });
        // A list of token ids is one text.
        let tokens = items.first().is_some_and(|first| first.get().starts_with(|c: char| c.is_ascii_digit()));
        scan.messages = if tokens { 1 } else { items.len() };
    } else {
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        Messages { scan: &mut scan, name }
            .deserialize(&mut reader)
            .map_err(|_| BadRequest::field(root.member(name), format!("must be {many}")))?;
    }
    if scan.messages == 0 {
        return Err(BadRequest::field(root.member(name), format!("is empty: it must be {what}")));
    }
    Ok(scan)
}

/// Documents to rank may have members of their own; texts to embed are none.
fn is_media(dialect: DialectName, item: &RawValue) -> bool {
    let members: Option<Object<'_>> = serde_json::from_str(item.get()).ok();
    members.is_some_and(|members| {
        dialect != DialectName::CohereRerank || members.keys().any(|key| matches!(key, "image" | "image_url" | "video"))
    })
}

/// Which members of a dialect say what routing needs.
struct Members {
    /// What a model is to read.
    content: &'static str,
    /// Output limits.
    limits: &'static [&'static str],
    /// What makes a provider read or write what nothing in the body bounds, and say so in its usage: what it keeps from
    /// earlier calls, tokens of a prediction that is not taken.
    metered: &'static [&'static str],
    /// What it may bill besides: searches, other models, plug-ins.
    unmetered: &'static [&'static str],
    /// What lets it go on where nobody sees it.
    unseen: &'static [&'static str],
}

impl Members {
    fn of(dialect: DialectName) -> Members {
        let none: &[&str] = &[];
        match dialect {
            DialectName::OpenAiResponses => Members {
                content: "input",
                limits: &["max_output_tokens"],
                metered: &["previous_response_id", "conversation"],
                // A stored prompt may have tools of its own.
                unmetered: &["prompt", "search_parameters"],
                unseen: &["background"],
            },
            DialectName::OpenAiCompletions => Members {
                content: "prompt",
                limits: &["max_tokens"],
                // Some servers heed the other API's limit here too, and some do not.
                metered: &["max_completion_tokens"],
                unmetered: &["models", "route", "preset", "plugins", "web_search_options"],
                unseen: none,
            },
            DialectName::OpenAiEmbeddings => {
                Members { content: "input", limits: none, metered: none, unmetered: none, unseen: none }
            }
            DialectName::CohereRerank => {
                Members { content: "documents", limits: none, metered: none, unmetered: none, unseen: none }
            }
            DialectName::AnthropicMessages | DialectName::AnthropicCountTokens => Members {
                content: "messages",
                limits: &["max_tokens"],
                metered: &["mcp_servers"],
                // A place and a speed have a price of their own, which no table here knows.
                unmetered: &["container", "inference_geo", "speed"],
                unseen: none,
            },
            _ => Members {
                content: "messages",
                limits: &["max_completion_tokens", "max_tokens"],
                metered: &["prediction"],
                unmetered: &[
                    "web_search_options",
                    "search_parameters",
                    "enable_search",
                    "models",
                    "route",
                    "preset",
                    "plugins",
                ],
                unseen: none,
            },
        }
    }

    /// All that decides whether a call has a bound.
    fn unbounded(&self) -> impl Iterator<Item = &'static str> {
        [self.unseen, self.unmetered, self.metered].into_iter().flatten().copied()
    }
}

/// Members by which a call is priced, bounded or read. `true`: it may stand there once only.
const DECIDING: [(&str, bool); 8] = [
    ("model", false),
    ("stream", false),
    ("max_tokens", true),
    ("max_completion_tokens", true),
    ("max_output_tokens", true),
    ("best_of", true),
    ("n", true),
    ("service_tier", true),
];

/// Parsers differ in which of two members counts, and some do not look at case: what decides about money must be said
/// once, in its own spelling. (A doubled `model` is no doubt: all of them are replaced.)
fn unambiguous(top: &Object<'_>, facts: &Members) -> Result<(), BadRequest> {
    let query = (facts.content == "documents").then_some("query");
    let read = [facts.content, "tools", "functions"].into_iter().chain(query).chain(facts.unbounded());
    for (name, once) in DECIDING.into_iter().chain(read.map(|name| (name, true))) {
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

/// What stands in a list of tools.
#[derive(Default)]
struct Tools {
    any: bool,
    /// The first one that the provider would run itself, at a price of its own.
    providers: Option<String>,
    /// One of them has a price that no usage shows.
    unmetered: bool,
    searches: bool,
    designed: usize,
}

/// What is no list of tools is left to the provider to refuse. A kind that is said twice, or in letters of another size,
/// is no kind of the caller's.
fn tools_of(dialect: DialectName, tools: &RawValue, at: Path<'_>, groups: bool) -> Tools {
    let mut found = Tools::default();
    let list: Vec<&RawValue> = serde_json::from_str(tools.get()).unwrap_or_default();
    for (index, raw) in list.into_iter().enumerate() {
        found.any = true;
        let Ok(mut tool) = serde_json::from_str::<Object<'_>>(raw.get()) else { continue };
        let at = at.item(index);
        let said = |name: &str| tool.keys().filter(|key| folded(key) == name).count();
        let (kinds, lists) = (said("type"), said("tools"));
        let named = tool.keys().any(|key| matches!(key, "function" | "name"));
        let kind = tool.take("type").map(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).unwrap_or_default());
        let members = if groups && lists == 1 { tool.take("tools") } else { None };
        match kind {
            None if kinds <= 1 && named && !tool.keys().any(|key| folded(key) == "type") => {}
            Some(kind) if kinds == 1 && matches!(&*kind, "function" | "custom") => {}
            Some(kind) if kinds == 1 && designed(dialect, &kind) => found.designed += 1,
            kind => {
                // A group costs what is in it; there is none in a group.
                if let Some(members) = members.filter(|_| kinds == 1 && kind.as_deref() == Some("namespace")) {
                    found.add(tools_of(dialect, members, at.member("tools"), false));
                    continue;
                }
                match kind.as_deref().filter(|_| kinds == 1).map_or(Meter::Nothing, |kind| Meter::of(dialect, kind)) {
                    Meter::Tokens => {}
                    Meter::Searches => found.searches = true,
                    Meter::Nothing => found.unmetered = true,
                }
                found.providers.get_or_insert_with(|| at.member("type").to_string());
            }
        }
    }
    found
}

impl Tools {
    fn add(&mut self, more: Tools) {
        self.any |= more.any;
        self.unmetered |= more.unmetered;
        self.searches |= more.searches;
        self.designed += more.designed;
        self.providers = self.providers.take().or(more.providers);
    }
}

/// Of Anthropic's own tools, these are run by the caller.
fn designed(dialect: DialectName, kind: &str) -> bool {
    matches!(dialect, DialectName::AnthropicMessages | DialectName::AnthropicCountTokens)
        && ["bash_", "text_editor_", "computer_", "memory_"].iter().any(|own| kind.starts_with(own))
}

/// What an answer's usage shows of a tool that its provider runs.
enum Meter {
    /// It costs the tokens that it brings.
    Tokens,
    Searches,
    Nothing,
}

impl Meter {
    fn of(dialect: DialectName, kind: &str) -> Meter {
        match dialect {
            DialectName::AnthropicMessages | DialectName::AnthropicCountTokens => match kind {
                kind if kind.starts_with("web_search_") => Meter::Searches,
                kind if kind.starts_with("web_fetch_") || kind == "mcp_toolset" => Meter::Tokens,
                _ => Meter::Nothing,
            },
            DialectName::OpenAiResponses => match kind {
                kind if kind.starts_with("web_search") => Meter::Searches,
                "mcp" => Meter::Tokens,
                _ => Meter::Nothing,
            },
            _ => Meter::Nothing,
        }
    }
}
