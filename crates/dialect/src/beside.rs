//! What a caller says beside the body, in headers and in the query, and which of it a provider of the same dialect has to
//! hear. Everything else between caller and farebox is nobody's business upstream.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::dialect::DialectName;

/// What is handed on, by name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub headers: &'static [&'static str],
    /// Members of the query.
    pub query: &'static [&'static str],
}

/// What a provider of a dialect has to hear of its callers.
pub fn heard(name: DialectName) -> Heard {
    match name {
        // <https://docs.anthropic.com/en/api/versioning>, <https://docs.anthropic.com/en/api/beta-headers>
        DialectName::AnthropicMessages | DialectName::AnthropicCountTokens => {
            Heard { headers: &["anthropic-beta", "anthropic-version"], query: &["beta"] }
        }
        DialectName::OpenAiChat
        | DialectName::OpenAiResponses
        | DialectName::OpenAiCompletions
        | DialectName::OpenAiEmbeddings => Heard { headers: &["openai-beta"], query: &[] },
        _ => Heard { headers: &[], query: &[] },
    }
}

/// What one caller said that has to be heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    pub(crate) headers: HeaderMap,
    query: String,
}

impl Beside {
    /// Of all that a caller said in its dialect.
    pub fn new<'a>(name: DialectName, headers: impl IntoIterator<Item = (&'a str, &'a str)>, query: &str) -> Beside {
        let heard = heard(name);
        let mut kept = HeaderMap::new();
        for (name, value) in headers {
            let name = heard.headers.iter().find(|known| known.eq_ignore_ascii_case(name));
            if let (Some(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                // More than a map can hold are not heard.
                let _ = kept.try_append(HeaderName::from_static(name), value);
            }
        }
        let is_heard = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            heard.query.contains(&name) && pair.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%=".contains(&b))
        };
        let query: Vec<&str> = query.split('&').filter(is_heard).collect();
        Beside { headers: kept, query: query.join("&") }
    }

    /// Says it to a provider of the same dialect, in place of what farebox would have said.
    pub(crate) fn say<B>(&self, request: &mut http::Request<B>) {
        for name in self.headers.keys() {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        if self.query.is_empty() {
            return;
        }
        let uri = request.uri();
        let mark = if uri.query().is_some() { '&' } else { '?' };
        if let Ok(uri) = format!("{uri}{mark}{}", self.query).parse() {
            *request.uri_mut() = uri;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dialect_lists_is_heard() {
        let given = [
            ("Anthropic-Beta", "a-1,b-2"),
            ("anthropic-beta", "c-3"),
            ("anthropic-version", "2026-10-21"),
            ("x-api-key", "secret"),
            ("openai-beta", "x"),
            ("anthropic-beta", "no\nheader"),
        ];
        let said = |name, path: &str| {
            let mut request = http::Request::post(path).header("anthropic-version", "ours").body(()).unwrap();
            Beside::new(name, given, "beta=true&key=secret&beta=a b&betas=1").say(&mut request);
            let pairs = request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
            let mut pairs: Vec<String> = pairs.collect();
            pairs.sort();
            (request.uri().to_string(), pairs)
        };
        let heard = ["anthropic-beta: a-1,b-2", "anthropic-beta: c-3", "anthropic-version: 2026-10-21"];
        let heard = heard.map(str::to_owned).to_vec();
        let expected = ("/v1/messages?beta=true".to_owned(), heard.clone());
        assert_eq!(said(DialectName::AnthropicMessages, "/v1/messages"), expected);
        let expected = ("/v1/messages?v=1&beta=true".to_owned(), heard);
        assert_eq!(said(DialectName::AnthropicCountTokens, "/v1/messages?v=1"), expected);
        let expected = vec!["anthropic-version: ours".to_owned(), "openai-beta: x".to_owned()];
        assert_eq!(said(DialectName::OpenAiChat, "/v1/chat"), ("/v1/chat".to_owned(), expected));
    }
}
