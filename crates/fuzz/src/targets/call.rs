//! What callers send.

use bytes::Bytes;
use farebox_dialect::{
    Asked, Call, Caller, DialectName, Edit, EncodeError, Encoded, Hosting, Provider, Quirk, Target, caller_dialect,
    outline, provider_dialect, rewrite, typed,
};
use farebox_proto::v1;
use http::HeaderMap;
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::sound;

/// A body read as a call, and written for every provider.
pub(super) fn parsed(name: DialectName, input: &[u8]) -> Result<(), String> {
    let headers = HeaderMap::new();
    if let Ok(asked) = Asked::raw(name, Bytes::copy_from_slice(input), false) {
        drop((asked.written(), asked.stream()));
    }
    match caller_dialect(name) {
        Some(Caller::Generate(caller)) => match caller.parse(&headers, input) {
            Ok(call) => everywhere(&call, input.len()),
            Err(error) => sound::fault(&error.into(), input.len()),
        },
        Some(Caller::CountTokens(caller)) => match caller.parse(&headers, input) {
            Ok(call) => everywhere(&call, input.len()),
            Err(error) => sound::fault(&error.into(), input.len()),
        },
        Some(Caller::Embed(caller)) => match caller.parse(&headers, input) {
            Ok(call) => each_provider(input.len(), |provider, target| match provider {
                Provider::Embed(dialect) => Some(dialect.encode(&call, target)),
                _ => None,
            }),
            Err(error) => sound::fault(&error.into(), input.len()),
        },
        Some(Caller::Rerank(caller)) => match caller.parse(&headers, input) {
            Ok(call) => each_provider(input.len(), |provider, target| match provider {
                Provider::Rerank(dialect) => Some(dialect.encode(&call, target)),
                _ => None,
            }),
            Err(error) => sound::fault(&error.into(), input.len()),
        },
        None => Ok(()),
    }
}

/// A typed conversation, encoded.
pub(super) fn typed(input: &[u8]) -> Result<(), String> {
    let Ok(conversation) = v1::Conversation::decode(input) else { return Ok(()) };
    drop(typed::outline("m", &conversation, true));
    match typed::call("m", &conversation, true) {
        Ok(call) => everywhere(&call, input.len()),
        Err(error) => sound::fault(&error.into(), input.len()),
    }
}

fn everywhere(call: &Call, read: usize) -> Result<(), String> {
    sound::size("texts", call.written().len(), read)?;
    each_provider(read, |provider, target| Some(provider.generate()?.encode(call, target)))?;
    each_provider(read, |provider, target| Some(provider.generate()?.counting()?.encode(call, target)))
}

/// What is encoded for a provider is JSON, however the provider differs from its dialect.
fn each_provider(
    read: usize,
    encode: impl Fn(Provider, &Target) -> Option<Result<Encoded, EncodeError>>,
) -> Result<(), String> {
    let quirks = vec![
        Quirk::MaxTokens,
        Quirk::NoStreamOptions,
        Quirk::OneSampling,
        Quirk::NoDeveloper,
        Quirk::CacheControl,
        Quirk::AsksForCost,
        Quirk::ReasoningObject,
        Quirk::AdaptiveThinking,
    ];
    for provider in DialectName::ALL.into_iter().filter_map(provider_dialect) {
        for hosting in [Hosting::Own, Hosting::Vertex, Hosting::Bedrock] {
            for quirks in [Vec::new(), quirks.clone()] {
                let target = Target { hosting, quirks, ..Target::new("m") };
                if let Some(Ok(encoded)) = encode(provider, &target) {
                    sound::json(provider.name().as_str(), encoded.request.body())?;
                    sound::size("requests", encoded.request.body().len(), read)?;
                }
            }
        }
    }
    Ok(())
}

/// A body with some of its members changed in place: they are as wanted, all others as they were.
pub(super) fn edited(name: DialectName, input: &[u8]) -> Result<(), String> {
    let edits = [
        Edit::string("model", "other \"\\ one"),
        Edit::remove("farebox"),
        Edit::set_in("stream_options", "include_usage", "true"),
        Edit::default("temperature", "0.50"),
        Edit::lower("max_tokens", 100),
    ];
    let outlined = outline(name, input);
    let changed = rewrite(input, &edits);
    let outlined = match outlined {
        Ok(outlined) => outlined,
        Err(fault) => return sound::fault(&fault, input.len()),
    };
    sound::json("an outlined body", input)?;
    if let Some(place) = outlined.farebox {
        let own = input.get(place).unwrap_or_default();
        sound::json("farebox's own member", own)?;
    }
    let changed = changed.map_err(|error| format!("edit: {error}"))?;
    sound::json("an edited body", &changed)?;
    let (before, after) = (members(input)?, members(&changed)?);
    let touched = ["model", "farebox", "stream_options", "temperature", "max_tokens"];
    let rest = |all: &[(String, String)]| -> Vec<(String, String)> {
        all.iter().filter(|(key, _)| !touched.contains(&key.as_str())).cloned().collect()
    };
    if rest(&before) != rest(&after) {
        return Err("edit: a member changed that no edit names".to_owned());
    }
    let is = |key: &str, fits: &dyn Fn(&str) -> bool| {
        let mut values = after.iter().filter(|(name, _)| name == key).peekable();
        values.peek().is_some() && values.all(|(_, value)| fits(value))
    };
    let included =
        |value: &str| serde_json::from_str::<Value>(value).map_or(true, |options| options["include_usage"] == true);
    let low = |value: &str| serde_json::from_str::<Option<u64>>(value).is_ok_and(|said| said.is_none_or(|n| n <= 100));
    let limits = |all: &[(String, String)]| all.iter().filter(|(key, _)| key == "max_tokens").count();
    let sound = limits(&before) == limits(&after)
        && after.iter().all(|(key, value)| key != "max_tokens" || low(value))
        && is("model", &|value| value == r#""other \"\\ one""#)
        && is("stream_options", &included)
        && is("temperature", &|value| value != "null")
        && !after.iter().any(|(key, _)| key == "farebox");
    if sound { Ok(()) } else { Err("edit: a member is not as the edit says".to_owned()) }
}

/// The members of an object, duplicates too, with the values as they are spelled.
fn members(body: &[u8]) -> Result<Vec<(String, String)>, String> {
    struct Members(Vec<(String, String)>);
    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Members, D::Error> {
            from.deserialize_map(Members(Vec::new()))
        }
    }
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Members;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(mut self, mut map: A) -> Result<Members, A::Error> {
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                self.0.push((key, value.get().to_owned()));
            }
            Ok(self)
        }
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice::<Members>(body).map(|m| m.0).map_err(|error| format!("edit: {error}"))
}

/// Encoded conversations to begin with.
pub(super) fn conversations() -> Vec<Vec<u8>> {
    use v1::{media::Source, part::Kind};
    let part = |kind: Kind| v1::Part { kind: Some(kind), ..Default::default() };
    let message = |role: v1::Role, parts: Vec<Kind>| v1::Message {
        role: role.into(),
        parts: parts.into_iter().map(part).collect(),
    };
    let image =
        Kind::Image(v1::Media { media_type: "image/png".into(), source: Some(Source::Data(vec![1, 2].into())) });
    let tool = v1::ToolCall { id: "c1".into(), name: "look".into(), arguments_json: "{\"a\": 1}".into() };
    let result =
        v1::ToolResult { tool_call_id: "c1".into(), parts: vec![part(Kind::Text("a boat".into()))], is_error: true };
    let hm = v1::Reasoning { text: "hm".into(), signature: "sig".into() };
    let long = v1::Conversation {
        messages: vec![
            message(v1::Role::System, vec![Kind::Text("Be brief.".into())]),
            message(v1::Role::User, vec![Kind::Text("What?".into()), image]),
            message(v1::Role::Assistant, vec![Kind::Reasoning(hm), Kind::ToolCall(tool)]),
            message(v1::Role::Tool, vec![Kind::ToolResult(result)]),
        ],
        ..v1::Conversation::default()
    };
    let short = v1::Conversation {
        messages: vec![message(v1::Role::User, vec![Kind::Text("What?".into())])],
        ..v1::Conversation::default()
    };
    vec![long.encode_to_vec(), short.encode_to_vec()]
}
