//! One provider as the config sets it up.

use std::collections::BTreeMap;

use farebox_dialect::{DialectName, Hosting, Operation, Quirk, Target};
use farebox_types::{ErrorKind, Secret};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header::AUTHORIZATION, uri::PathAndQuery};
use secrecy::{ExposeSecret, SecretString};

use crate::row::{Auth, KeyNeed, known_kinds, row};

/// One entry of `providers:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderOptions {
    /// `openai`, `anthropic`, `openai-compatible`, `anthropic-compatible`; without it the entry's name is the kind.
    pub kind: Option<String>,
    /// Base URL, in place of the kind's own.
    pub api_base: Option<String>,
    /// `os.environ/NAME` or `file:/path`.
    pub api_key: Option<Secret>,
    /// Sent with every request, as they stand here: no place for secrets.
    pub headers: BTreeMap<String, String>,
}

/// An entry of `providers:` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    #[error("`{kind}` is no kind of provider; known are: {}", known.join(", "))]
    UnknownKind { kind: String, known: Vec<String> },
    #[error("a provider of the kind `{kind}` needs an `api_base`, such as http://127.0.0.1:11434/v1")]
    MissingBase { kind: String },
    #[error("the provider `{kind}` is only there under `farebox up --demo`, which gives it its address")]
    NoBaseYet { kind: String },
    #[error("`{given}` is no base URL: write http:// or https://, a host and a path, without user, query or fragment")]
    BadBase { given: String },
    #[error("a provider of the kind `{kind}` needs an `api_key`, such as os.environ/{variable}")]
    MissingKey { kind: String, variable: String },
    #[error("`{name}` cannot be sent as a header: check its name and value for spaces and control characters")]
    BadHeader { name: String },
}

impl ProviderError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::BadRequest
    }

    /// The option that is wrong, below `providers.<name>`.
    pub fn option(&self) -> &'static str {
        match self {
            ProviderError::UnknownKind { .. } => "kind",
            ProviderError::MissingBase { .. } | ProviderError::NoBaseYet { .. } | ProviderError::BadBase { .. } => {
                "api_base"
            }
            ProviderError::MissingKey { .. } => "api_key",
            ProviderError::BadHeader { .. } => "headers",
        }
    }
}

/// A request that cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("the provider's key holds characters that no header can carry: check where it comes from")]
    Key,
    #[error("the encoded path does not fit the provider's base URL")]
    Path,
}

impl ApplyError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// A provider that requests can be sent to.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: String,
    pub kind: String,
    /// The endpoints it has, the one for new conversations first. Not empty.
    pub dialects: Vec<DialectName>,
    /// Under which name the price table knows it.
    pub prices: String,
    /// Where its key is; `None`: it takes none.
    pub api_key: Option<Secret>,
    base: Uri,
    auth: Auth,
    headers: HeaderMap,
    quirks: Vec<(Quirk, Vec<String>)>,
    paths: BTreeMap<DialectName, String>,
    hosting: Hosting,
}

impl Provider {
    pub fn new(name: &str, options: &ProviderOptions) -> Result<Provider, ProviderError> {
        let kind = options.kind.as_deref().unwrap_or(name);
        let row =
            row(kind).ok_or_else(|| ProviderError::UnknownKind { kind: kind.to_owned(), known: known_kinds() })?;
        let base = match (&options.api_base, &row.base_url) {
            (Some(base), _) | (None, Some(base)) => parse_base(base)?,
            (None, None) if row.base_at_run_time => return Err(ProviderError::NoBaseYet { kind: row.kind }),
            (None, None) => return Err(ProviderError::MissingBase { kind: row.kind }),
        };
        let api_key = match row.key {
            KeyNeed::None => None,
            KeyNeed::Required if options.api_key.is_none() => {
                return Err(ProviderError::MissingKey {
                    variable: format!("{}_API_KEY", row.kind.to_uppercase().replace('-', "_")),
                    kind: row.kind,
                });
            }
            KeyNeed::Required | KeyNeed::Optional => options.api_key.clone(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in row.headers.iter().chain(&options.headers) {
            let bad = || ProviderError::BadHeader { name: name.clone() };
            let header: HeaderName = name.parse().map_err(|_| bad())?;
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.insert(header, value);
        }
        Ok(Provider {
            name: name.to_owned(),
            kind: row.kind,
            dialects: row.dialects,
            quirks: row.quirks,
            paths: row.paths,
            hosting: row.hosting,
            prices: row.prices.unwrap_or_else(|| name.to_owned()),
            api_key,
            base,
            auth: row.auth,
            headers,
        })
    }

    /// What a call is sent in: its caller's own dialect where this provider has it, else the first that does what is asked.
    /// `None`: the provider does no such thing.
    pub fn dialect_for(&self, operation: Operation, caller: Option<DialectName>) -> Option<DialectName> {
        // Tokens are counted beside the endpoint that would answer.
        let does = match operation {
            Operation::CountTokens => Operation::Generate,
            other => other,
        };
        let own = caller.filter(|own| self.dialects.contains(own));
        own.or_else(|| self.dialects.iter().copied().find(|dialect| dialect.operation() == does))
    }

    /// What an encoder must know of `model` at this provider.
    pub fn target(&self, dialect: DialectName, model: &str) -> Target {
        let quirks = self.quirks.iter().filter(|(_, models)| models.iter().any(|pattern| matches(pattern, model)));
        Target {
            path: self.paths.get(&dialect).map(|path| path.replace("{model}", &percent_encoded(model))),
            hosting: self.hosting,
            quirks: quirks.map(|(quirk, _)| *quirk).collect(),
            ..Target::new(model)
        }
    }

    /// The base URL, without a slash at its end.
    pub fn base_url(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    /// Completes a request that a dialect has encoded: its path goes below the base URL; the config's headers and the
    /// key are added.
    pub fn apply<B>(&self, key: Option<&SecretString>, request: Request<B>) -> Result<Request<B>, ApplyError> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let below = self.base.path().trim_end_matches('/');
        // Many write the version into the base although the dialect's path has it.
        let below = match path.starts_with("/v1/") {
            true => below.strip_suffix("/v1").unwrap_or(below),
            false => below,
        };
        let mut uri = self.base.clone().into_parts();
        uri.path_and_query = Some(format!("{below}{path}").parse().map_err(|_| ApplyError::Path)?);
        parts.uri = Uri::from_parts(uri).map_err(|_| ApplyError::Path)?;
        for (name, value) in &self.headers {
            parts.headers.insert(name.clone(), value.clone());
        }
        if let Some(key) = key {
            let (name, value) = match &self.auth {
                Auth::Bearer => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
                Auth::Header(name) => (name.clone(), key.expose_secret().to_owned()),
            };
            let mut value = HeaderValue::try_from(value).map_err(|_| ApplyError::Key)?;
            value.set_sensitive(true);
            parts.headers.insert(name, value);
        }
        Ok(Request::from_parts(parts, body))
    }
}

/// Whether a name matches a pattern in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(first) else { return false };
    (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| matches(rest, &name[at..]))
}

/// One segment of a path.
fn percent_encoded(segment: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn parse_base(given: &str) -> Result<Uri, ProviderError> {
    // What stands before the `@` may be a password.
    let shown = given.rsplit_once('@').map_or(given, |(_, host)| host);
    let bad = || ProviderError::BadBase { given: shown.to_owned() };
    let uri: Uri = given.parse().map_err(|_| bad())?;
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
    if scheme && host && uri.query().is_none() && !given.contains('#') { Ok(uri) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<Secret> {
        Some(text.parse().unwrap())
    }

    fn with_key() -> ProviderOptions {
        ProviderOptions { api_key: key("os.environ/KEY"), ..ProviderOptions::default() }
    }

    fn sent(provider: &Provider, path: &str) -> Request<()> {
        let request = Request::post(path).header("content-type", "application/json").body(()).unwrap();
        provider.apply(Some(&SecretString::from("sk-1")), request).unwrap()
    }

    #[test]
    fn openai_takes_a_bearer_token() {
        let provider = Provider::new("openai", &with_key()).unwrap();
        let request = sent(&provider, "/chat/completions");
        assert_eq!(request.uri(), "https://api.openai.com/v1/chat/completions");
        assert_eq!(request.headers()["authorization"], "Bearer sk-1");
        assert!(request.headers()["authorization"].is_sensitive());
        assert_eq!(request.headers()["content-type"], "application/json");
        assert_eq!((provider.dialects[0], provider.prices.as_str()), (DialectName::OpenAiChat, "openai"));
    }

    #[test]
    fn anthropic_takes_a_header_of_its_own() {
        let options =
            ProviderOptions { headers: [("anthropic-beta".into(), "context-1m".into())].into(), ..with_key() };
        let provider = Provider::new("anthropic", &options).unwrap();
        let request = sent(&provider, "/v1/messages");
        assert_eq!(request.uri(), "https://api.anthropic.com/v1/messages");
        assert_eq!(request.headers()["x-api-key"], "sk-1");
        assert_eq!(request.headers()["anthropic-beta"], "context-1m");
        assert!(!request.headers().contains_key("authorization"));
    }

    #[test]
    fn a_compatible_server_is_named_by_its_base() {
        let options = |kind: &str, base: &str| ProviderOptions {
            kind: Some(kind.into()),
            api_base: Some(base.into()),
            ..ProviderOptions::default()
        };
        let local = Provider::new("local", &options("openai-compatible", "http://127.0.0.1:11434/v1/")).unwrap();
        let request = Request::post("/chat/completions?a=1").body(()).unwrap();
        let request = local.apply(None, request).unwrap();
        assert_eq!(request.uri(), "http://127.0.0.1:11434/v1/chat/completions?a=1");
        assert!(request.headers().is_empty());
        assert_eq!((local.prices.as_str(), local.api_key), ("local", None));
        for base in ["http://h/x", "http://h/x/", "http://h/x/v1"] {
            let provider = Provider::new("p", &options("anthropic-compatible", base)).unwrap();
            assert_eq!(sent(&provider, "/v1/messages").uri(), "http://h/x/v1/messages", "{base}");
        }
        let root = Provider::new("p", &options("openai-compatible", "http://h")).unwrap();
        assert_eq!(sent(&root, "/chat/completions").uri(), "http://h/chat/completions");
        assert_eq!(root.base_url(), "http://h");
    }

    #[test]
    fn a_call_goes_out_in_its_callers_own_dialect_where_there_is_one() {
        let openai = Provider::new("openai", &with_key()).unwrap();
        let sent = |operation, caller| openai.dialect_for(operation, caller);
        use DialectName as D;
        assert_eq!(sent(Operation::Generate, Some(D::OpenAiResponses)), Some(D::OpenAiResponses));
        assert_eq!(sent(Operation::Generate, Some(D::AnthropicMessages)), Some(D::OpenAiChat));
        assert_eq!(sent(Operation::Generate, None), Some(D::OpenAiChat));
        assert_eq!(sent(Operation::CountTokens, Some(D::AnthropicCountTokens)), Some(D::OpenAiChat));
        assert_eq!(sent(Operation::Embed, Some(D::OpenAiEmbeddings)), Some(D::OpenAiEmbeddings));
        assert_eq!(sent(Operation::Rerank, Some(D::CohereRerank)), None);
    }

    #[test]
    fn quirks_hold_for_the_models_they_name() {
        for (pattern, name, hit) in [
            ("*", "any", true),
            ("o1*", "o1-mini", true),
            ("o1*", "gpt-o1", false),
            ("a*b*c", "a1b2c", true),
            ("a*b", "abc", false),
            ("a", "a", true),
        ] {
            assert_eq!(matches(pattern, name), hit, "{pattern} {name}");
        }
        assert_eq!(percent_encoded("a.b-c:0/é"), "a.b-c%3A0%2F%C3%A9");
    }

    #[test]
    fn errors_say_what_to_do() {
        let said = |name: &str, options: ProviderOptions| Provider::new(name, &options).unwrap_err().to_string();
        let none = ProviderOptions::default;
        insta::assert_snapshot!(said("opanai", none()), @"`opanai` is no kind of provider; known are: openai, anthropic, openai-compatible, anthropic-compatible, demo");
        insta::assert_snapshot!(said("openai-compatible", none()), @"a provider of the kind `openai-compatible` needs an `api_base`, such as http://127.0.0.1:11434/v1");
        insta::assert_snapshot!(said("anthropic", none()), @"a provider of the kind `anthropic` needs an `api_key`, such as os.environ/ANTHROPIC_API_KEY");
        insta::assert_snapshot!(said("demo", none()), @"the provider `demo` is only there under `farebox up --demo`, which gives it its address");
        for base in ["127.0.0.1:80", "ftp://h/", "http://u:p@h/", "http://h/?q", "http://h/#f", "/v1", ""] {
            let options = ProviderOptions { api_base: Some(base.into()), ..with_key() };
            let base = base.trim_start_matches("http://u:p@");
            let error = Provider::new("openai", &options).unwrap_err();
            assert_eq!(error, ProviderError::BadBase { given: base.into() });
        }
        let headers = ProviderOptions { headers: [("a b".into(), "c".into())].into(), ..with_key() };
        assert_eq!(Provider::new("openai", &headers).unwrap_err().option(), "headers");
        let provider = Provider::new("openai", &with_key()).unwrap();
        let bad_key = provider.apply(Some(&SecretString::from("a\nb")), Request::new(()));
        assert_eq!(bad_key.unwrap_err(), ApplyError::Key);
    }
}
