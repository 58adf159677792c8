//! The file form of a recorded exchange. Whatever may be missing is optional.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

#[derive(Clone, Debug)]
pub struct Exchange {
    pub provider: String,
    pub endpoint: String,
    pub request: Option<Request>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub url: String,
    /// JSON as it stands in the file; `None` where there is none.
    pub body: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Body {
    /// A whole answer, as it stands in the file.
    Json(String),
    /// The text of a stream, or of an error that is no JSON.
    Text(String),
    /// A binary stream.
    Binary(Vec<u8>),
    /// What a stream's frames carried; the frames are lost.
    Events(Vec<Value>),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    provider: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    request: Option<FileRequest>,
    response: FileResponse,
}

#[derive(Deserialize)]
struct FileRequest {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct FileResponse {
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default)]
    body_base64: Option<String>,
    #[serde(default)]
    events: Option<Vec<Value>>,
}

impl Exchange {
    /// `Err`: why it is no exchange.
    pub fn load(path: &Path) -> Result<Exchange, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("the file cannot be read: {error}"))?;
        Exchange::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Exchange, String> {
        let file: File =
            serde_json::from_str(text).map_err(|error| format!("not in the form of a recorded exchange: {error}"))?;
        let response = file.response;
        let body = match (response.body, response.body_base64, response.events) {
            (Some(raw), None, None) => match serde_json::from_str::<String>(raw.get()) {
                Ok(text) => Body::Text(text),
                Err(_) => Body::Json(raw.get().to_owned()),
            },
            (None, Some(base64), None) => {
                Body::Binary(BASE64_STANDARD.decode(base64).map_err(|_| "`body_base64` is no base64".to_owned())?)
            }
            (None, None, Some(events)) => Body::Events(events),
            (None, None, None) => return Err("no body".to_owned()),
            _ => return Err("more than one body".to_owned()),
        };
        let word = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(Exchange {
            provider: file.provider.unwrap_or_default(),
            endpoint: file.endpoint.unwrap_or_default(),
            request: file.request.map(|request| Request {
                url: request.url.unwrap_or_default(),
                body: request.body.map(|raw| raw.get().to_owned()).filter(|raw| raw != "null"),
            }),
            status: response.status.unwrap_or(200),
            headers: response.headers.unwrap_or_default().into_iter().map(|(name, v)| (name, word(v))).collect(),
            body,
        })
    }

    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The model that the request's path or body names.
    pub fn model(&self) -> Option<String> {
        let request = self.request.as_ref()?;
        let in_path = request.url.split_once("/model/").or_else(|| request.url.split_once("/models/"));
        let in_path = in_path.and_then(|(_, rest)| rest.split(['/', '?']).next());
        let body =
            || serde_json::from_str::<Value>(request.body.as_deref()?).ok()?["model"].as_str().map(str::to_owned);
        in_path.map(|model| model.replace("%3A", ":")).or_else(body)
    }
}

/// All exchanges below a directory, in order of their paths.
pub fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
