//! Log probabilities in the form in which they are told on, OpenAI's: a list of tokens.

use serde::{Deserialize, Serialize};

use crate::json::RawJson;

/// A piece of text and the log probabilities of its tokens.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    logprobs: Option<Vec<f64>>,
}

#[derive(Serialize)]
struct Told<'a> {
    content: Vec<Token<'a>>,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Token<'a> {
    token: &'a str,
    logprob: f64,
    bytes: Option<()>,
    top_logprobs: [(); 0],
}

/// Where a piece has several tokens, the API does not say which letters are whose: it is told as one token, with the sum
/// of its log probabilities, which is that of the whole piece.
pub(super) fn told(items: &[Item]) -> Option<RawJson> {
    let content = items.iter().map(|item| Token {
        token: item.text.as_deref().unwrap_or_default(),
        logprob: item.logprobs.iter().flatten().sum(),
        bytes: None,
        top_logprobs: [],
    });
    RawJson::new(serde_json::to_string(&Told { content: content.collect(), refusal: None }).ok()?)
}
