use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use farebox_emulator::{Recorded, Script, Usage};
use serde_json::Value;

/// An exchange with a provider, in the file form of `tests/tapes`: what was asked, what came, byte for byte where it
/// is text, and what it used, computed by hand.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Tape {
    pub provider: String,
    pub endpoint: String,
    #[serde(default)]
    pub features: Vec<String>,
    pub request: Option<TapeRequest>,
    pub response: TapeResponse,
    pub expect: Option<Expect>,
    #[serde(default)]
    pub note: Option<String>,
    #[serde(skip)]
    pub path: PathBuf,
}

#[derive(Clone, Debug, serde::Deserialize)]
pub struct TapeRequest {
    pub method: String,
    pub url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// Exactly one of `body`, `body_base64` and `events` is there.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct TapeResponse {
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// JSON, or the raw text of a stream as a string.
    pub body: Option<Value>,
    pub body_base64: Option<String>,
    /// The payloads of a stream whose framing was lost.
    pub events: Option<Vec<Value>>,
}

/// What a dialect must make of the response. Token buckets are disjoint, as in `farebox_types::Usage`: `input` is
/// without the cache's tokens, `output` without `reasoning`. `null`: the provider did not report it.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub input: Option<u64>,
    pub cache_read: Option<u64>,
    pub cache_write_5m: Option<u64>,
    pub cache_write_1h: Option<u64>,
    pub output: Option<u64>,
    pub reasoning: Option<u64>,
    /// The visible text, all of it.
    pub text: String,
    /// The provider's own word for why it ended; `null` for an error.
    pub finish: Option<String>,
    #[serde(default)]
    pub tool_calls: Vec<ExpectedToolCall>,
}

#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedToolCall {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

impl Tape {
    pub fn load(path: impl Into<PathBuf>) -> anyhow::Result<Tape> {
        let path = path.into();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut tape: Tape = serde_json::from_str(&text).with_context(|| format!("{} is no tape", path.display()))?;
        let r = &tape.response;
        let bodies = [r.body.is_some(), r.body_base64.is_some(), r.events.is_some()].into_iter().filter(|b| *b).count();
        ensure!(bodies == 1, "{} has {bodies} bodies", path.display());
        tape.path = path;
        Ok(tape)
    }

    /// The tapes that this repository keeps, of one provider or of all, in order of their names.
    pub fn kept(provider: Option<&str>) -> anyhow::Result<Vec<Tape>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tapes");
        let mut files = Vec::new();
        for folder in fs::read_dir(&root).with_context(|| format!("cannot read {}", root.display()))? {
            let folder = folder?.path();
            if folder.is_dir() && provider.is_none_or(|p| folder.ends_with(p)) {
                files.extend(fs::read_dir(folder)?.map(|f| f.map(|f| f.path())).collect::<Result<Vec<_>, _>>()?);
            }
        }
        files.retain(|f| f.extension().is_some_and(|e| e == "json"));
        files.sort();
        files.into_iter().map(Tape::load).collect()
    }

    /// The kept tape `tests/tapes/<provider>/<name>.json`.
    pub fn named(provider: &str, name: &str) -> anyhow::Result<Tape> {
        let tapes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tapes");
        Tape::load(tapes.join(provider).join(format!("{name}.json")))
    }

    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|n| n.to_str()).unwrap_or_default()
    }

    pub fn is_stream(&self) -> bool {
        self.response.events.is_some() || matches!(self.response.body, Some(Value::String(_)))
    }

    /// The model that the request named.
    pub fn model(&self) -> Option<&str> {
        self.request.as_ref()?.body.get("model")?.as_str()
    }

    /// What came over the wire.
    pub fn body(&self) -> anyhow::Result<Bytes> {
        let r = &self.response;
        Ok(match (&r.body, &r.body_base64, &r.events) {
            (Some(Value::String(text)), _, _) => Bytes::copy_from_slice(text.as_bytes()),
            (Some(json), _, _) => Bytes::from(serde_json::to_vec(json)?),
            (_, Some(base64), _) => Bytes::from(BASE64_STANDARD.decode(base64)?),
            (_, _, Some(events)) => Bytes::from(self.frame(events)?),
            (None, None, None) => bail!("{} has no body", self.path.display()),
        })
    }

    fn frame(&self, events: &[Value]) -> anyhow::Result<String> {
        let mut text = String::new();
        for event in events {
            if self.provider == "anthropic" {
                let kind = event.get("type").and_then(Value::as_str).context("an event without a type")?;
                text.push_str(&format!("event: {kind}\n"));
            }
            text.push_str(&format!("data: {event}\n\n"));
        }
        if self.provider == "openai" {
            text.push_str("data: [DONE]\n\n");
        }
        Ok(text)
    }

    /// For the emulator: answers with this exchange and bills what it says it used.
    pub fn script(&self) -> anyhow::Result<Script> {
        let mut headers: Vec<_> = self.response.headers.clone().into_iter().collect();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            let kind = if self.is_stream() { "text/event-stream; charset=utf-8" } else { "application/json" };
            headers.push(("content-type".into(), kind.into()));
        }
        let usage = self.expect.as_ref().map_or_else(Usage::default, Expect::usage);
        Ok(Script::recorded(Recorded { status: self.response.status, headers, body: self.body()?, usage }))
    }
}

impl Expect {
    /// In the emulator's terms, whose `output` includes the reasoning.
    pub fn usage(&self) -> Usage {
        let reasoning = self.reasoning.unwrap_or(0);
        Usage {
            input: self.input.unwrap_or(0),
            cache_read: self.cache_read.unwrap_or(0),
            cache_write_5m: self.cache_write_5m.unwrap_or(0),
            cache_write_1h: self.cache_write_1h.unwrap_or(0),
            output: self.output.unwrap_or(0) + reasoning,
            reasoning,
            searches: 0,
        }
    }
}
