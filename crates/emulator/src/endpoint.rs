//! Which path is which endpoint of which dialect.

use http::Method;

use crate::Dialect;

#[derive(Debug, PartialEq)]
pub(crate) enum Endpoint<'a> {
    Complete(Dialect, Named<'a>),
    CountTokens(Dialect, Named<'a>),
    Embed(Dialect, Named<'a>),
    Models,
    Totals,
    Ledger,
    /// The last request for a model.
    Last(&'a str),
    Unknown,
}

/// Model and streaming, where the path says them.
pub(crate) type Named<'a> = Option<(&'a str, bool)>;

impl<'a> Endpoint<'a> {
    pub(crate) fn of(method: &Method, path: &'a str) -> Endpoint<'a> {
        if let Some(rest) = path.strip_prefix("/v1beta/models/") {
            return Endpoint::gemini(rest);
        }
        if let (&Method::GET, Some(model)) = (method, path.strip_prefix("/emulator/last/")) {
            return Endpoint::Last(model);
        }
        match (method, path.strip_prefix("/v1").unwrap_or(path)) {
            (&Method::POST, "/chat/completions") => Endpoint::Complete(Dialect::OpenAi, None),
            (&Method::POST, "/responses") => Endpoint::Complete(Dialect::OpenAiResponses, None),
            (&Method::POST, "/messages") => Endpoint::Complete(Dialect::Anthropic, None),
            (&Method::POST, "/messages/count_tokens") => Endpoint::CountTokens(Dialect::Anthropic, None),
            (&Method::POST, "/embeddings") => Endpoint::Embed(Dialect::OpenAi, None),
            (&Method::GET, "/models") => Endpoint::Models,
            (&Method::GET, "/emulator/totals") => Endpoint::Totals,
            (&Method::GET, "/emulator/ledger") => Endpoint::Ledger,
            _ => Endpoint::Unknown,
        }
    }

    fn gemini(rest: &'a str) -> Endpoint<'a> {
        let Some((model, action)) = rest.rsplit_once(':') else { return Endpoint::Unknown };
        let named = |stream| Some((model, stream));
        match action {
            "generateContent" => Endpoint::Complete(Dialect::Gemini, named(false)),
            "streamGenerateContent" => Endpoint::Complete(Dialect::Gemini, named(true)),
            "countTokens" => Endpoint::CountTokens(Dialect::Gemini, named(false)),
            "embedContent" | "batchEmbedContents" => Endpoint::Embed(Dialect::Gemini, named(false)),
            _ => Endpoint::Unknown,
        }
    }
}
