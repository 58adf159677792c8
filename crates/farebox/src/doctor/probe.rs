//! What is asked, and what the answers mean.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use farebox_types::Money;
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use super::finding::{Finding, Verdict};
use crate::agent::clean;

const KEY_REMEDY: &str = "make a key with `farebox key create`, and give it with --key or FAREBOX_KEY";
/// Enough for a word; some APIs take no less.
const TOKENS: u32 = 16;
/// The longest text of an error that is shown, in characters.
const SHOWN: usize = 400;

/// The kind of call that a model answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Chat,
    Embeddings,
    Rerank,
}

impl Way {
    const ALL: [Way; 3] = [Way::Chat, Way::Embeddings, Way::Rerank];

    fn path(self) -> &'static str {
        match self {
            Way::Chat => "/v1/chat/completions",
            Way::Embeddings => "/v1/embeddings",
            Way::Rerank => "/v1/rerank",
        }
    }

    fn body(self, model: &str) -> Value {
        match self {
            // OpenAI's models that reason refuse `max_tokens`.
            Way::Chat => json!({
                "model": model, "max_completion_tokens": TOKENS, "messages": [{ "role": "user", "content": "Answer with: ok" }],
            }),
            Way::Embeddings => json!({ "model": model, "input": "ok" }),
            Way::Rerank => json!({ "model": model, "query": "ok", "documents": ["ok"] }),
        }
    }
}

/// A farebox, over HTTP.
pub(super) struct Edge {
    url: String,
    key: Option<String>,
    client: reqwest::Client,
}

/// An answer that is no failure of the connection.
struct Answer {
    status: StatusCode,
    cost: Option<Money>,
    /// Which provider served, as farebox says.
    provider: String,
    body: Value,
}

impl Edge {
    /// `Err`: no such address can be.
    pub(super) fn new(
        url: &str,
        key: Option<&str>,
        ca: Option<Certificate>,
        timeout: Duration,
    ) -> Result<Edge, String> {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix("/v1").unwrap_or(url);
        let wrong = |error: String| format!("`{url}` is no URL like http://127.0.0.1:4000: {error}");
        let parsed = reqwest::Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        // It is printed.
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("a key does not belong in the URL: say it with --key or in FAREBOX_KEY".to_owned());
        }
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("it must begin with http:// or https://".to_owned()));
        }
        let client = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
        let client = ca.into_iter().fold(client, |client, ca| client.tls_certs_merge([ca]));
        let client = client.build().map_err(|error| error.to_string())?;
        Ok(Edge { url: url.to_owned(), key: key.map(str::to_owned), client })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn connection(&self) -> Finding {
        let began = Instant::now();
        let verdict = match self.ask(self.request(Method::GET, "/health")).await {
            Ok(answer) if answer.status.is_success() => Verdict::Well("farebox answers".to_owned()),
            Ok(answer) => Verdict::Ill {
                what: format!("what answers at {} is no farebox (status {})", self.url, answer.status),
                remedy: "check the URL: it is the address of `listen.http`, 127.0.0.1:4000 unless set".to_owned(),
            },
            Err(what) => {
                let remedy = "start `farebox up`, or check the URL; a certificate of one's own needs --ca".to_owned();
                Verdict::Ill { what, remedy }
            }
        };
        finding("connection", began, None, verdict)
    }

    /// Bus, guard and workers.
    pub(super) async fn parts(&self) -> Finding {
        let began = Instant::now();
        let verdict = match self.ask(self.request(Method::GET, "/ready")).await {
            Ok(answer) if answer.status.is_success() => Verdict::Well("ready".to_owned()),
            Ok(answer) => Verdict::Ill {
                what: format!("not ready: {}", shown(&answer.body.to_string())),
                remedy: "see the logs of the parts that are not ready".to_owned(),
            },
            Err(what) => Verdict::Ill { what, remedy: String::new() },
        };
        finding("parts", began, None, verdict)
    }

    /// Whether the key opens, and the models that it may ask for.
    pub(super) async fn models(&self) -> (Finding, Vec<String>) {
        let began = Instant::now();
        let mut known = Vec::new();
        let verdict = match self.ask(self.request(Method::GET, "/v1/models")).await {
            Ok(answer) if answer.status.is_success() => {
                let ids = answer.body["data"].as_array().into_iter().flatten().filter_map(|model| model["id"].as_str());
                // Task types and agent roles lead to the same models.
                let models = ids.filter(|id| !id.starts_with("task:") && !id.starts_with("agent:"));
                known.extend(models.map(str::to_owned));
                let who = if self.key.is_some() { "the key is good" } else { "no key is needed from here" };
                match known.len() {
                    0 => Verdict::Ill {
                        what: format!("{who}, but there is no model that it may ask for"),
                        remedy: "list models in farebox.yaml, or allow some with `farebox key set`".to_owned(),
                    },
                    count => Verdict::Well(format!("{who}, models: {count}")),
                }
            }
            Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                Verdict::Ill { what: answer.message(), remedy: KEY_REMEDY.to_owned() }
            }
            Ok(answer) => Verdict::Ill { what: answer.message(), remedy: String::new() },
            Err(what) => Verdict::Ill { what, remedy: String::new() },
        };
        (finding("key", began, None, verdict), known)
    }

    /// A tiny call, in the way that the model answers.
    pub(super) async fn whole(&self, model: &str) -> (Finding, Option<Way>) {
        let began = Instant::now();
        let mut first = None;
        for way in Way::ALL {
            let answer = match self.ask(self.request(Method::POST, way.path()).json(&way.body(model))).await {
                Ok(answer) => answer,
                Err(what) => {
                    return (finding(model, began, None, Verdict::Ill { what, remedy: String::new() }), None);
                }
            };
            if answer.status.is_success() {
                let seen = format!("answered by {}", answer.provider);
                return (finding(model, began, answer.cost, Verdict::Well(seen)), Some(way));
            }
            let other_way = answer.body["error"]["code"] == "unsupported";
            first.get_or_insert(answer);
            if !other_way {
                break;
            }
        }
        let what = first.map(|answer| answer.message()).unwrap_or_default();
        (finding(model, began, None, Verdict::Ill { what, remedy: String::new() }), None)
    }

    /// The same, streamed: pieces, and an end that says that it is one.
    pub(super) async fn streamed(&self, model: &str) -> Finding {
        let began = Instant::now();
        let mut body = Way::Chat.body(model);
        body["stream"] = true.into();
        let sent =
            self.request(Method::POST, Way::Chat.path()).header("farebox-facts", "body").json(&body).send().await;
        let (cost, verdict) = match sent {
            Ok(response) if response.status().is_success() => read_stream(response).await,
            Ok(response) => (None, Verdict::Ill { what: answer(response).await.message(), remedy: String::new() }),
            Err(error) => (None, Verdict::Ill { what: unreached(&self.url, &error), remedy: String::new() }),
        };
        finding(&format!("{model} streamed"), began, cost, verdict)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Answer, String> {
        let response = request.send().await.map_err(|error| unreached(&self.url, &error))?;
        Ok(answer(response).await)
    }
}

impl Answer {
    fn message(&self) -> String {
        let said = self.body["error"]["message"].as_str().map(str::to_owned);
        format!("{} ({})", shown(&said.unwrap_or_else(|| self.body.to_string())), self.status.as_u16())
    }
}

async fn answer(response: Response) -> Answer {
    let head = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let cost = head("farebox-cost-usd").and_then(|cost| cost.parse().ok());
    let provider = head("farebox-provider").unwrap_or("an unnamed provider").to_owned();
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, cost, provider, body }
}

async fn read_stream(mut response: Response) -> (Option<Money>, Verdict) {
    let mut text = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => text.extend_from_slice(&bytes),
            Ok(None) => break,
            Err(error) => {
                let what = format!("the stream broke off: {}", cause(&error));
                return (None, Verdict::Ill { what, remedy: String::new() });
            }
        }
    }
    judge(&String::from_utf8_lossy(&text))
}

/// What a whole stream of server-sent events says (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
fn judge(text: &str) -> (Option<Money>, Verdict) {
    let ill = |what: String| Verdict::Ill { what, remedy: String::new() };
    let facts = text.lines().find_map(|line| line.strip_prefix(": farebox "));
    let facts: Value = facts.and_then(|facts| serde_json::from_str(facts).ok()).unwrap_or_default();
    let cost = facts["cost_usd"].as_str().and_then(|cost| cost.parse().ok());
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let error =
        data.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok()).find(|v| v["error"].is_object());
    let verdict = match (error, data.split_last()) {
        (Some(error), _) => ill(shown(error["error"]["message"].as_str().unwrap_or("an error without a message"))),
        (None, Some((&"[DONE]", pieces))) if !pieces.is_empty() => Verdict::Well(format!("{} pieces", pieces.len())),
        (None, None) => ill("the stream was empty".to_owned()),
        (None, Some(_)) => ill("the stream ended before its end".to_owned()),
    };
    (cost, verdict)
}

fn finding(name: &str, began: Instant, cost: Option<Money>, verdict: Verdict) -> Finding {
    Finding { name: clean(name), took: began.elapsed(), cost, verdict }
}

fn unreached(url: &str, error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("{url} did not answer in time");
    }
    format!("{url} cannot be reached: {}", cause(error))
}

/// The deepest cause says it best.
fn cause(error: &reqwest::Error) -> String {
    let mut deepest = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        deepest = inner.to_string();
        next = inner.source();
    }
    deepest
}

fn shown(text: &str) -> String {
    clean(&text.chars().take(SHOWN).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_with_pieces_and_an_end_is_well() {
        let piece = "data: {\"choices\":[]}\n\n";
        let cases = [
            (format!("{piece}data: [DONE]\n\n"), Ok("1 pieces")),
            (format!("{piece}{piece}"), Err("the stream ended before its end")),
            (format!("{piece}data: {{\"error\":{{\"message\":\"too much\"}}}}\n\n"), Err("too much")),
            ("data: [DONE]\n\n".to_owned(), Err("the stream ended before its end")),
            (String::new(), Err("the stream was empty")),
        ];
        for (text, expected) in cases {
            let verdict = judge(&text).1;
            match expected {
                Ok(seen) => assert_eq!(verdict, Verdict::Well(seen.to_owned()), "{text}"),
                Err(what) => assert!(matches!(&verdict, Verdict::Ill { what: said, .. } if said == what), "{text}"),
            }
        }
        let told = format!("{piece}: farebox {{\"cost_usd\":\"0.5\"}}\n\ndata: [DONE]\n\n");
        assert_eq!(judge(&told).0, Some("0.5".parse().unwrap()));
    }

    #[test]
    fn a_url_may_have_the_path_that_sdks_want() {
        let url = |text: &str| Edge::new(text, None, None, Duration::from_secs(1)).map(|edge| edge.url);
        assert_eq!(url("http://127.0.0.1:4000/v1/").unwrap(), "http://127.0.0.1:4000");
        assert!(url("127.0.0.1:4000").unwrap_err().contains("http"));
        let secret = url("http://me:hidden@127.0.0.1:4000").unwrap_err();
        assert!(secret.contains("--key") && !secret.contains("hidden"), "{secret}");
    }
}
