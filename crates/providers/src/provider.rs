//! One provider as the config sets it up.

use farebox_dialect::{DialectName, Hosting, Operation, Target, segment};
use farebox_types::{ErrorKind, Secret};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::AUTHORIZATION,
    uri::{PathAndQuery, Scheme},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    egress::{Egress, Host},
    options::{EntraOptions, ProviderOptions},
    row::{Auth, KeyNeed, Row, known_kinds, matches, row},
};

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
    #[error("a provider of the kind `{kind}` needs a `{option}`: it is part of its address")]
    MissingOption { kind: String, option: &'static str },
    #[error("a provider of the kind `{kind}` has no use for `{option}`")]
    UselessOption { kind: String, option: &'static str },
    #[error("`{given}` is no {option}: letters, digits, `-`, `_` and `.` only")]
    BadOption { option: &'static str, given: String },
    #[error("`entra` needs either a `client_secret` or a `token_file`")]
    EntraProof,
    #[error("give `access_key_id` and `secret_access_key` together, or neither")]
    HalfAKey,
    #[error("`api_base` names a private address ({host}): list its network in `egress.allow`, such as `{host}/32`")]
    Private { host: String },
    #[error("`{given}` is no proxy: write http:// or https://, a host and a port,")]
    BadProxy { given: String },
}

impl ProviderError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::BadRequest
    }

    /// The option that is wrong, below `providers.<name>`.
    pub fn option(&self) -> &'static str {
        match self {
            ProviderError::UnknownKind { .. } => "kind",
            ProviderError::MissingBase { .. }
            | ProviderError::NoBaseYet { .. }
            | ProviderError::BadBase { .. }
            | ProviderError::Private { .. } => "api_base",
            ProviderError::MissingKey { .. } => "api_key",
            ProviderError::BadHeader { .. } => "headers",
            ProviderError::MissingOption { option, .. }
            | ProviderError::UselessOption { option, .. }
            | ProviderError::BadOption { option, .. } => option,
            ProviderError::HalfAKey => "aws",
            ProviderError::EntraProof => "entra",
            ProviderError::BadProxy { .. } => "proxy",
        }
    }
}

/// A request that cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("the provider's key holds characters that no header can carry: check where it comes from")]
    Key,
    #[error(
        "the model's name makes a path that does not stay below the provider's base URL: check the config's `target`"
    )]
    Path,
}

impl ApplyError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// How a provider is shown whose request it is, once the config is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody's.
    Anonymous,
    /// The key that the config refers to.
    Key { secret: Secret },
    /// Amazon's signature by the credentials of `options.aws`, or of the process.
    Aws { region: String },
    /// A token of Google's, by `options.google_credentials`, or of the process.
    Google,
    /// A token of Microsoft's.
    Entra(EntraOptions),
}

/// A provider that requests can be sent to.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: String,
    pub kind: String,
    /// Under which name the price table knows it.
    pub prices: String,
    pub identity: Identity,
    pub options: ProviderOptions,
    base: Uri,
    headers: HeaderMap,
    row: Row,
}

impl Provider {
    pub fn new(name: &str, options: &ProviderOptions, egress: &Egress) -> Result<Provider, ProviderError> {
        let kind = options.kind.as_deref().unwrap_or(name);
        let row =
            row(kind).ok_or_else(|| ProviderError::UnknownKind { kind: kind.to_owned(), known: known_kinds() })?;
        check_options(&row, options)?;
        let base = base(&row, options)?;
        if let Some(given) = &options.api_base {
            match egress.judge(&base) {
                Host::Private(host) => return Err(ProviderError::Private { host }),
                Host::Disguised => return Err(ProviderError::BadBase { given: given.clone() }),
                Host::Fine => {}
            }
        }
        Ok(Provider {
            name: name.to_owned(),
            kind: row.kind.clone(),
            prices: options.prices.clone().or_else(|| row.prices.clone()).unwrap_or_else(|| name.to_owned()),
            identity: identity(&row, options)?,
            headers: headers(&row, options)?,
            options: options.clone(),
            base,
            row,
        })
    }

    /// The endpoints it has, the one for new conversations first.
    pub fn dialects(&self) -> &[DialectName] {
        &self.row.dialects
    }

    /// What the provider says that a call cost is its cost.
    pub fn reports_cost(&self) -> bool {
        self.row.reports_cost
    }

    /// Whether the model searches the web of its own accord, and bills it.
    pub fn searches(&self, model: &str) -> bool {
        self.row.searches.iter().any(|pattern| matches(pattern, model))
    }

    /// A model without a price costs nothing: it runs on a machine of one's own.
    pub fn is_free(&self) -> bool {
        self.row.free
    }

    /// The region or location that prices may depend on.
    pub fn region(&self) -> Option<&str> {
        self.options.region.as_deref().or(self.options.location.as_deref())
    }

    /// What a call is sent in: its caller's own dialect where this provider has it for the model, else the first that does
    /// what is asked. `None`: the provider does no such thing.
    pub fn dialect_for(&self, operation: Operation, caller: Option<DialectName>, model: &str) -> Option<DialectName> {
        // Tokens are counted beside the endpoint that would answer.
        let (does, caller) = match (operation, caller) {
            (Operation::CountTokens, Some(DialectName::AnthropicCountTokens)) => {
                (Operation::Generate, Some(DialectName::AnthropicMessages))
            }
            (Operation::CountTokens, caller) => (Operation::Generate, caller),
            other => other,
        };
        let own = caller.filter(|own| self.row.speaks(*own, model));
        let fits = |dialect: &DialectName| dialect.operation() == does && self.row.speaks(*dialect, model);
        own.or_else(|| self.row.dialects.iter().copied().find(fits))
    }

    /// What an encoder must know of `model` at this provider.
    pub fn target(&self, dialect: DialectName, model: &str) -> Target {
        let quirks = self.row.quirks.iter().filter(|(_, models)| models.iter().any(|pattern| matches(pattern, model)));
        let mut quirks: Vec<_> = quirks.map(|(quirk, _)| *quirk).collect();
        quirks.sort_unstable();
        let path = match &self.options.api_version {
            Some(version) => self.row.versioned_paths.get(&dialect).map(|path| format!("{path}?api-version={version}")),
            None => self.row.paths.get(&dialect).cloned(),
        };
        let hosted =
            matches!(dialect, DialectName::AnthropicMessages | DialectName::Gemini | DialectName::GeminiEmbeddings);
        Target {
            path: path.map(|path| path.replace("{model}", &segment(model))),
            hosting: if hosted { self.row.hosting } else { Hosting::Own },
            quirks,
            ..Target::new(model)
        }
    }

    /// Whether it can be opened with a plain key, the config's or another.
    pub fn takes_key(&self) -> bool {
        self.row.key != KeyNeed::None && matches!(self.identity, Identity::Key { .. } | Identity::Anonymous)
    }

    /// The base URL, without a slash at its end.
    pub fn base_url(&self) -> String {
        self.base.to_string().trim_end_matches('/').to_owned()
    }

    /// The host that requests go to, and whether the config has allowed it by name.
    pub fn host(&self) -> &str {
        self.base.host().unwrap_or_default()
    }

    /// Completes a request that a dialect has encoded: its path goes below the base URL; the config's headers are added,
    /// and the key where there is one.
    pub fn apply<B>(&self, key: Option<&SecretString>, request: Request<B>) -> Result<Request<B>, ApplyError> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if climbs(parts.uri.path()) {
            return Err(ApplyError::Path);
        }
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
        if let Some(key) = key.filter(|_| self.takes_key()) {
            let (name, value) = match &self.row.auth {
                Auth::Header(name) => (name.clone(), key.expose_secret().to_owned()),
                Auth::Bearer | Auth::SigV4 | Auth::Google => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            };
            let mut value = HeaderValue::try_from(value).map_err(|_| ApplyError::Key)?;
            value.set_sensitive(true);
            parts.headers.insert(name, value);
        }
        Ok(Request::from_parts(parts, body))
    }
}

/// A model's name may be such a segment: it would lead out of the base.
fn climbs(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn identity(row: &Row, options: &ProviderOptions) -> Result<Identity, ProviderError> {
    if let Some(secret) = options.api_key.clone().filter(|_| row.key != KeyNeed::None) {
        return Ok(Identity::Key { secret });
    }
    if row.key == KeyNeed::Required {
        let variable = format!("{}_API_KEY", row.kind.to_uppercase().replace('-', "_"));
        return Err(ProviderError::MissingKey { kind: row.kind.clone(), variable });
    }
    Ok(match &row.auth {
        Auth::SigV4 => Identity::Aws { region: options.region.clone().unwrap_or_default() },
        Auth::Google => Identity::Google,
        Auth::Bearer | Auth::Header(_) => options.entra.clone().map_or(Identity::Anonymous, Identity::Entra),
    })
}

fn headers(row: &Row, options: &ProviderOptions) -> Result<HeaderMap, ProviderError> {
    let mut headers = HeaderMap::new();
    for (name, value) in row.headers.iter().chain(&options.headers) {
        let bad = || ProviderError::BadHeader { name: name.clone() };
        let header: HeaderName = name.parse().map_err(|_| bad())?;
        let value = HeaderValue::from_str(value).map_err(|_| bad())?;
        headers.insert(header, value);
    }
    Ok(headers)
}

/// What a kind has no use for is a misunderstanding, found now and not at the first call.
fn check_options(row: &Row, options: &ProviderOptions) -> Result<(), ProviderError> {
    let addressed = |word: &str| row.base_url.as_deref().is_some_and(|base| base.contains(word));
    let useless = [
        ("region", options.region.is_some(), row.auth == Auth::SigV4),
        ("aws", options.aws.is_some(), row.auth == Auth::SigV4),
        ("project", options.project.is_some(), addressed("{project}")),
        ("location", options.location.is_some(), addressed("{location}")),
        ("google_credentials", options.google_credentials.is_some(), row.auth == Auth::Google),
        ("api_version", options.api_version.is_some(), !row.versioned_paths.is_empty()),
        ("entra", options.entra.is_some(), !row.versioned_paths.is_empty()),
        ("api_key", options.api_key.is_some(), row.key != KeyNeed::None || row.base_at_run_time),
    ];
    if let Some((option, ..)) = useless.into_iter().find(|(_, given, useful)| *given && !*useful) {
        return Err(ProviderError::UselessOption { kind: row.kind.clone(), option });
    }
    let words = [
        ("region", &options.region),
        ("project", &options.project),
        ("location", &options.location),
        ("api_version", &options.api_version),
    ];
    for (option, given) in words.into_iter().filter_map(|(option, given)| Some((option, given.as_ref()?))) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if given.is_empty() || !given.chars().all(plain) {
            return Err(ProviderError::BadOption { option, given: given.chars().take(80).collect() });
        }
    }
    if row.auth == Auth::SigV4 && options.region.is_none() {
        return Err(ProviderError::MissingOption { kind: row.kind.clone(), option: "region" });
    }
    if options.aws.as_ref().is_some_and(|aws| aws.access_key_id.is_some() != aws.secret_access_key.is_some()) {
        return Err(ProviderError::HalfAKey);
    }
    if options.entra.as_ref().is_some_and(|entra| entra.client_secret.is_some() == entra.token_file.is_some()) {
        return Err(ProviderError::EntraProof);
    }
    if let Some(proxy) = &options.proxy {
        let shown = proxy.rsplit_once('@').map_or(proxy.as_str(), |(_, host)| host);
        let good = proxy.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
        });
        if !good {
            return Err(ProviderError::BadProxy { given: shown.to_owned() });
        }
    }
    Ok(())
}

fn base(row: &Row, options: &ProviderOptions) -> Result<Uri, ProviderError> {
    if let Some(given) = &options.api_base {
        let base = parse_base(given)?;
        return match &row.base_path {
            Some(path) if base.path() == "/" && options.api_version.is_none() => {
                parse_base(&format!("{}{path}", given.trim_end_matches('/')))
            }
            _ => Ok(base),
        };
    }
    let Some(template) = &row.base_url else {
        let kind = row.kind.clone();
        return Err(match row.base_at_run_time {
            true => ProviderError::NoBaseYet { kind },
            false => ProviderError::MissingBase { kind },
        });
    };
    let mut base = template.clone();
    for (word, option, given) in [
        ("{region}", "region", &options.region),
        ("{project}", "project", &options.project),
        ("{location}", "location", &options.location),
    ] {
        if base.contains(word) {
            let given = given.as_deref().ok_or(ProviderError::MissingOption { kind: row.kind.clone(), option })?;
            base = base.replace(word, given);
        }
    }
    // https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations: the global endpoint has no prefix.
    let location = options.location.as_deref().filter(|location| *location != "global");
    base = base.replace("{location_host}", &location.map(|location| format!("{location}-")).unwrap_or_default());
    parse_base(&base)
}

fn parse_base(given: &str) -> Result<Uri, ProviderError> {
    // What stands before the `@` may be a password.
    let shown = given.rsplit_once('@').map_or(given, |(_, host)| host);
    let bad = || ProviderError::BadBase { given: shown.to_owned() };
    let uri: Uri = given.parse().map_err(|_| bad())?;
    let scheme = uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let host = uri.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
    if scheme && host && uri.query().is_none() && !given.contains('#') { Ok(uri) } else { Err(bad()) }
}

#[cfg(test)]
mod tests;
