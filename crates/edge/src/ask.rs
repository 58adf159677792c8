//! An HTTP request as `EdgeRequest`: what stands in its headers and its address. Its body is intake's to read.

use farebox_dialect::{DialectName, heard};
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Money, RequestId, Span, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use sha2::{Digest, Sha256};

use crate::{access::Caller, options::Options};

const PREFIX: &str = "farebox-";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// <https://code.claude.com/docs/en/llm-gateway>
const CLAUDE_CODE_SESSION: HeaderName = HeaderName::from_static("x-claude-code-session-id");

/// What is asked for, but for the body.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) request: v1::EdgeRequest,
    pub(crate) deadline: Timestamp,
    /// farebox's facts are wanted in the body, too.
    pub(crate) facts_in_body: bool,
}

impl Ask {
    pub(crate) fn request_id(&self) -> &str {
        self.request.request.as_ref().map_or("", |request| &request.request_id)
    }
}

/// Reads the head of a request. A header of farebox's own that cannot be understood is refused by its name.
pub(crate) fn read(
    head: &Parts,
    dialect: DialectName,
    caller: &Caller,
    options: &Options,
    now: Timestamp,
) -> Result<Ask, Fault> {
    let wishes = Wishes::read(&head.headers)?;
    let (id, id_chosen) = request_id(&head.headers)?;
    let deadline = now.after(wishes.timeout.unwrap_or(options.default_deadline).get());
    let request = v1::LlmRequest {
        request_id: id.as_str().to_owned(),
        labels: Some(wishes.labels),
        deadline_unix_ms: deadline.millis(),
        fallback_models: wishes.fallback_models,
        max_cost: wishes.max_cost.map(v1::Money::from),
        headers: passed_on(&head.headers, dialect),
        query: head.uri.query().unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let request = v1::EdgeRequest {
        principal: Some(caller.principal()),
        request: Some(request),
        id_chosen,
        received_unix_ms: now.millis(),
    };
    Ok(Ask { request, deadline, facts_in_body: wishes.facts_in_body })
}

/// farebox's own headers.
#[derive(Debug, Default)]
struct Wishes {
    labels: v1::Labels,
    timeout: Option<Span>,
    max_cost: Option<Money>,
    fallback_models: Vec<String>,
    facts_in_body: bool,
}

impl Wishes {
    fn read(headers: &HeaderMap) -> Result<Wishes, Fault> {
        let mut wishes = Wishes::default();
        for (name, value) in headers {
            if let Some(wish) = name.as_str().strip_prefix(PREFIX) {
                wishes.take(wish, readable(name, value)?).map_err(|problem| faulty(name, &problem))?;
            }
        }
        if wishes.labels.session_id.is_empty()
            && let Some(session) = headers.get(CLAUDE_CODE_SESSION)
        {
            wishes.labels.session_id = readable(&CLAUDE_CODE_SESSION, session)?.to_owned();
        }
        Ok(wishes)
    }

    fn take(&mut self, wish: &str, given: &str) -> Result<(), String> {
        match wish {
            "actor" => self.labels.actor = given.to_owned(),
            "task-id" => self.labels.task_id = given.to_owned(),
            "session-id" => self.labels.session_id = given.to_owned(),
            "end-user" => self.labels.end_user = given.to_owned(),
            "tags" => self.labels.tags.extend(list(given)),
            "timeout" => self.timeout = Some(timeout(given)?),
            "max-cost" => {
                let cost: Money = given.parse().map_err(|error: farebox_types::MoneyError| error.to_string())?;
                if cost < Money::ZERO {
                    return Err("is below zero".to_owned());
                }
                self.max_cost = Some(cost);
            }
            "fallback-models" => self.fallback_models.extend(list(given)),
            "facts" if given == "body" => self.facts_in_body = true,
            "facts" => return Err("can only be `body`".to_owned()),
            _ => {
                return Err(
                    "is no header of farebox's; there are farebox-actor, -task-id, -session-id, -end-user, -tags, \
                            -timeout, -max-cost, -fallback-models and -facts"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }
}

/// Seconds, or a number with its unit.
fn timeout(given: &str) -> Result<Span, String> {
    let span = match given.parse::<u64>() {
        Ok(seconds) => Span::from_millis(seconds.saturating_mul(1000)),
        Err(_) => given.parse().map_err(|error: farebox_types::UnitError| error.to_string())?,
    };
    if span.is_zero() { Err("is zero: leave it out, or give some time".to_owned()) } else { Ok(span) }
}

fn list(given: &str) -> impl Iterator<Item = String> {
    given.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned)
}

fn faulty(name: &HeaderName, problem: &str) -> Fault {
    Fault::new(ErrorKind::BadRequest, format!("the header {name}: {problem}"))
}

fn readable<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, Fault> {
    std::str::from_utf8(value.as_bytes()).map(str::trim).map_err(|_| faulty(name, "is not UTF-8"))
}

/// The id of a request, and whether its caller chose it. A key that cannot be an id stands for one.
fn request_id(headers: &HeaderMap) -> Result<(RequestId, bool), Fault> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok((RequestId::generate(), false)) };
    if key.is_empty() {
        return Err(faulty(&IDEMPOTENCY_KEY, "is empty: leave it out, or send the same key with each repeat"));
    }
    let as_it_is = key.to_str().ok().and_then(|key| RequestId::parse(key).ok());
    let id = as_it_is.unwrap_or_else(|| {
        let digest: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        RequestId::parse(&format!("idem-{digest}")).expect("hexadecimal digits are valid in ids")
    });
    Ok((id, true))
}

/// What a provider of the same dialect is to hear.
fn passed_on(headers: &HeaderMap, dialect: DialectName) -> Vec<v1::Header> {
    let said =
        heard(dialect).headers.iter().flat_map(|name| headers.get_all(*name).iter().map(move |value| (name, value)));
    let readable = said.filter_map(|(name, value)| Some(((*name).to_owned(), value.to_str().ok()?.to_owned())));
    readable.map(|(name, value)| v1::Header { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use farebox_types::Project;
    use http::Request;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn ask(uri: &str, headers: &[(&str, &[u8])], dialect: DialectName) -> Result<Ask, Fault> {
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value).unwrap());
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let caller = Caller { project: Project::parse("acme").unwrap(), key: None };
        read(&head, dialect, &caller, &Options::default(), NOW)
    }

    fn asked(headers: &[(&str, &[u8])]) -> v1::LlmRequest {
        ask("/v1/messages", headers, DialectName::AnthropicMessages).unwrap().request.request.unwrap()
    }

    #[test]
    fn everything_in_headers_is_asked_for() {
        let ask = ask(
            "/v1/messages?beta=true&x=1",
            &[
                ("farebox-actor", b"writer"),
                ("farebox-task-id", b"t-1"),
                ("farebox-session-id", b"s-1"),
                ("x-claude-code-session-id", b"s-2"),
                ("farebox-end-user", "J\u{fc}rgen".as_bytes()),
                ("farebox-tags", b"a, b"),
                ("farebox-tags", b"c,"),
                ("farebox-timeout", b"90"),
                ("farebox-max-cost", b"0.05"),
                ("farebox-fallback-models", b"fast,cheap"),
                ("farebox-facts", b"body"),
                ("anthropic-beta", b"one,two"),
                ("anthropic-beta", b"three"),
                ("anthropic-version", b"2023-06-01"),
                ("openai-beta", b"not-this-dialects"),
                ("x-api-key", b"fb-secret"),
            ],
            DialectName::AnthropicMessages,
        )
        .unwrap();
        assert!(ask.facts_in_body);
        assert_eq!(ask.deadline, Timestamp(1_090_000));
        let v1::EdgeRequest { principal, request, id_chosen, received_unix_ms } = ask.request;
        assert_eq!((principal.unwrap().project.as_str(), id_chosen, received_unix_ms), ("acme", false, NOW.millis()));
        let request = request.unwrap();
        let word = |text: &str| text.to_owned();
        let labels = v1::Labels {
            actor: word("writer"),
            task_id: word("t-1"),
            session_id: word("s-1"),
            end_user: word("J\u{fc}rgen"),
            tags: vec![word("a"), word("b"), word("c")],
        };
        assert_eq!(request.labels, Some(labels));
        assert_eq!(request.deadline_unix_ms, 1_090_000);
        assert_eq!(request.fallback_models, ["fast", "cheap"]);
        assert_eq!(v1::Money::of(&request.max_cost).to_string(), "0.05");
        let heard: Vec<String> = request.headers.iter().map(|h| format!("{}: {}", h.name, h.value)).collect();
        assert_eq!(heard, ["anthropic-beta: one,two", "anthropic-beta: three", "anthropic-version: 2023-06-01"]);
        assert_eq!(request.query, "beta=true&x=1");
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let request = asked(&[("x-claude-code-session-id", b"s-2")]);
        assert_eq!(request.deadline_unix_ms, NOW.after(Options::default().default_deadline.get()).millis());
        assert_eq!(request.labels.unwrap().session_id, "s-2");
        assert_eq!((request.max_cost, request.query.as_str()), (None, ""));
        assert_ne!(request.request_id, asked(&[]).request_id);
    }

    #[test]
    fn an_idempotency_key_names_the_request() {
        let named = |key: &[u8]| {
            let ask = ask("/", &[("idempotency-key", key)], DialectName::OpenAiChat).unwrap();
            assert!(ask.request.id_chosen);
            ask.request_id().to_owned()
        };
        assert_eq!(named(b"order-42"), "order-42");
        let made = named(b"an order: 42");
        assert!(made.starts_with("idem-") && made.len() == 69, "{made}");
        assert_eq!(named(b"an order: 42"), made);
        assert_ne!(named(b"an order: 43"), made);
        assert_ne!(named(b"an order: \xff"), made);
    }

    #[test]
    fn a_faulty_header_is_refused_by_its_name() {
        let cases: [(&str, &[u8]); 11] = [
            ("farebox-timeout", b"soon"),
            ("farebox-timeout", b"0"),
            ("farebox-timeout", b"-5"),
            ("farebox-max-cost", b"ten"),
            ("farebox-max-cost", b"-1"),
            ("farebox-max-cost", b"5 EUR"),
            ("farebox-facts", b"yes"),
            ("farebox-actor", b"\xff\xfe"),
            ("farebox-task", b"t-1"),
            ("x-claude-code-session-id", b"\xff"),
            ("idempotency-key", b""),
        ];
        for (name, value) in cases {
            let fault = ask("/", &[(name, value)], DialectName::OpenAiChat).unwrap_err();
            assert_eq!(fault.kind, ErrorKind::BadRequest, "{name}");
            assert!(fault.message.contains(name), "{name}: {fault}");
        }
        for (given, millis) in [("20", 20_000), ("250ms", 250), ("1h30m", 5_400_000)] {
            assert_eq!(timeout(given).unwrap().millis(), millis);
        }
    }
}
