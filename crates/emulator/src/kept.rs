//! The last request for each model, as it arrived.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashMap<String, (HeaderMap, Bytes)>>);

impl Kept {
    pub(crate) fn keep(&self, model: &str, headers: &HeaderMap, body: &[u8]) {
        let request = (headers.clone(), Bytes::copy_from_slice(body));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned(), request);
    }

    pub(crate) fn body(&self, model: &str) -> Option<Bytes> {
        self.read(model).map(|(_, body)| body)
    }

    /// For who asks over HTTP: all headers, and the body as a text.
    pub(crate) fn told(&self, model: &str) -> Option<Value> {
        let (headers, body) = self.read(model)?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Value = headers.iter().map(|(name, value)| (name.to_string(), Value::from(text(value)))).collect();
        Some(json!({ "headers": headers, "body": String::from_utf8_lossy(&body) }))
    }

    fn read(&self, model: &str) -> Option<(HeaderMap, Bytes)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }
}
