//! A caller's message, read and checked.

use bytes::Bytes;
use farebox_bus::{Caller, Headers};
use farebox_dialect::{DialectName, Operation, Outline, UnknownDialect, caller_dialect, outline, typed};
use farebox_directory::Models;
use farebox_proto::{
    headers,
    v1::{self, llm_request::Body},
};
use farebox_types::{ErrorKind, Fault, Money, RequestId, Timestamp};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::{
    options::Options,
    said::{self, Extension},
};

/// What a request asks to be served by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Model(String),
    TaskType(String),
    AgentRole(String),
    Default,
}

/// A request that is well-formed. Who is calling comes from the connection, everything else from the message.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) principal: v1::Principal,
    pub(crate) id: RequestId,
    /// The caller chose the id: a repeat attaches or fetches, and the answer is kept.
    pub(crate) id_chosen: bool,
    pub(crate) target: Target,
    pub(crate) labels: v1::Labels,
    pub(crate) stream: bool,
    pub(crate) deadline: Timestamp,
    pub(crate) fallback_models: Vec<String>,
    /// Which its caller may ask for.
    pub(crate) models: Models,
    pub(crate) max_cost: Option<Money>,
    pub(crate) json: bool,
    pub(crate) dialect: v1::Dialect,
    pub(crate) body: Bytes,
    /// Where the body is stored already, if it is.
    pub(crate) stored_body: Option<v1::ObjectRef>,
    pub(crate) outline: Outline,
    /// What the caller's dialect says beside the body.
    pub(crate) headers: Vec<v1::Header>,
    pub(crate) query: String,
    /// See [`Request::digest`].
    pub(crate) digest: [u8; 32],
    pub(crate) warnings: Vec<String>,
}

/// Whether a message is JSON: it says so, or begins like an object.
pub(crate) fn is_json(headers: &Headers, payload: &[u8]) -> bool {
    match headers.get(headers::CONTENT_TYPE) {
        Some(said) => said.starts_with(headers::JSON),
        None => payload.trim_ascii_start().first() == Some(&b'{'),
    }
}

/// A message, and what is known of it beside what it says.
pub(crate) struct Arrival<'a> {
    /// Who is calling, as the entrance found out.
    pub(crate) principal: v1::Principal,
    pub(crate) message: Payload<'a>,
    pub(crate) now: Timestamp,
    pub(crate) default_deadline: std::time::Duration,
    /// The id that an earlier role gave to this message.
    pub(crate) assigned: Option<RequestId>,
}

/// A request in one of the forms in which it may come.
pub(crate) enum Payload<'a> {
    Json {
        payload: &'a Bytes,
        /// The body's dialect, where the message names one.
        dialect: Option<&'a str>,
    },
    /// An encoded `LlmRequest`.
    Protobuf(&'a Bytes),
    /// What the edge made of a request over HTTP.
    Edge {
        /// With its body, also where that was stored.
        request: Box<v1::LlmRequest>,
        /// Where its body is stored.
        stored: Option<v1::ObjectRef>,
        id_chosen: bool,
    },
}

impl<'a> Payload<'a> {
    /// A message from the bus.
    pub(crate) fn new(json: bool, payload: &'a Bytes, dialect: Option<&'a str>) -> Payload<'a> {
        if json { Payload::Json { payload, dialect } } else { Payload::Protobuf(payload) }
    }

    fn len(&self) -> usize {
        match self {
            Payload::Json { payload, .. } | Payload::Protobuf(payload) => payload.len(),
            Payload::Edge { request, .. } => match &request.body {
                Some(Body::Raw(raw)) => raw.bytes.len(),
                _ => 0,
            },
        }
    }
}

/// A caller on the bus.
pub(crate) fn on_the_bus(caller: &Caller) -> v1::Principal {
    v1::Principal {
        project: caller.project.as_str().to_owned(),
        key_id: caller.key_id.clone().unwrap_or_default(),
        entrance: v1::Entrance::Bus.into(),
        ..Default::default()
    }
}

/// Whether a body is as small as `body_max` asks.
pub(crate) fn within_body_max(size: usize, options: &Options) -> Result<(), Fault> {
    if size <= options.body_max.len() {
        return Ok(());
    }
    let message = format!(
        "the request has {size} bytes, more than body_max ({}): send less, or raise intake.body_max",
        options.body_max
    );
    Err(Fault::new(ErrorKind::TooLarge, message))
}

impl Request {
    pub(crate) fn read(arrival: Arrival<'_>, options: &Options) -> Result<Request, Fault> {
        within_body_max(arrival.message.len(), options)?;
        let Arrival { principal, message, now, default_deadline, assigned } = arrival;
        let given = Given { principal, now, default_deadline, assigned };
        let request = match message {
            Payload::Json { payload, dialect } => {
                let raw =
                    v1::RawBody { dialect: v1::Dialect::from(json_dialect(dialect)?).into(), bytes: payload.clone() };
                let message = v1::LlmRequest { body: Some(Body::Raw(raw)), ..Default::default() };
                Ok(Request { json: true, ..Request::of(given, message, options)? })
            }
            Payload::Protobuf(payload) => Request::of(given, decode(payload)?, options),
            Payload::Edge { request, stored, id_chosen } => {
                let request = Request::of(given, *request, options)?;
                Ok(Request { stored_body: stored, id_chosen, ..request })
            }
        }?;
        request.check(options)?;
        Ok(Request { digest: request.digest(), ..request })
    }

    pub(crate) fn operation(&self) -> Operation {
        DialectName::known(self.dialect).map_or(Operation::Generate, DialectName::operation)
    }

    /// The digest as headers carry it.
    pub(crate) fn digest_text(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What makes two messages the same request: what is asked, and of whom. A deadline or a label may differ.
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}\n{:?}\n", self.target, self.dialect));
        match &self.outline.farebox {
            Some(options) => {
                hash.update(&self.body[..options.start]);
                hash.update(&self.body[options.end..]);
            }
            None => hash.update(&self.body),
        }
        hash.finalize().into()
    }

    fn of(given: Given, mut message: v1::LlmRequest, options: &Options) -> Result<Request, Fault> {
        let (dialect, body, outline) = body(&mut message)?;
        let said = Extension::read(&outline, &body)?;
        let labels = said::labels(message.labels.take().unwrap_or_default(), &said, &outline, &body, options);
        let mut warnings = Vec::new();
        if said.asks_for_cache() || message.cache.is_some_and(|cache| cache.r#use) {
            warnings.push("there is no response cache yet: `cache` was not used".to_owned());
        }
        if given.principal.entrance() == v1::Entrance::Http && !said.request_id.is_empty() {
            warnings.push("`farebox.request_id` was not used: over HTTP, send it as Idempotency-Key".to_owned());
        }
        let (id, id_chosen) = given.id(first([&message.request_id, &said.request_id]))?;
        let task = first([&message.task_type, &said.task_type]);
        let role = first([&message.agent_role, &said.agent_role]);
        Ok(Request {
            id,
            id_chosen,
            target: Target::of(first([&message.model, outline.model.as_deref().unwrap_or_default()]), task, role),
            labels,
            stream: message.stream || outline.stream,
            deadline: given.deadline(message.deadline_unix_ms, said.deadline(given.now)),
            principal: given.principal,
            fallback_models: if message.fallback_models.is_empty() {
                said.fallback_models
            } else {
                message.fallback_models
            },
            models: Models::default(),
            max_cost: message.max_cost.map(Money::from).or(said.max_cost),
            json: false,
            dialect,
            body,
            stored_body: None,
            outline,
            headers: message.headers,
            query: message.query,
            digest: [0; 32],
            warnings,
        })
    }

    fn check(&self, options: &Options) -> Result<(), Fault> {
        let labels = &self.labels;
        let named = [
            ("actor", &labels.actor),
            ("task_id", &labels.task_id),
            ("session_id", &labels.session_id),
            ("end_user", &labels.end_user),
        ];
        let tags = labels.tags.iter().map(|tag| ("tags", tag));
        for (name, value) in named.into_iter().chain(tags) {
            if value.len() > options.label_max.len() {
                let message =
                    format!("`{name}` has {} bytes, at most {} are kept", value.len(), options.label_max.len());
                return Err(Fault::new(ErrorKind::BadRequest, message));
            }
        }
        if labels.tags.len() > options.tags_max {
            let message = format!("{} tags are too many: at most {}", labels.tags.len(), options.tags_max);
            return Err(Fault::new(ErrorKind::BadRequest, message));
        }
        sensible(&self.outline, options)
    }
}

/// Whether the call makes sense as it is, and all that it costs will be seen.
fn sensible(outline: &Outline, options: &Options) -> Result<(), Fault> {
    let bad = |message: String| Err(Fault::new(ErrorKind::BadRequest, message));
    if let Some(field) = outline.unseen {
        let message =
            format!("`{field}` is answered before the call has ended, so that its cost is never seen: leave it out");
        return Err(Fault::new(ErrorKind::Unsupported, message));
    }
    if outline.max_output_tokens == Some(0) {
        return bad("an output limit of 0 leaves no room for an answer: give at least 1, or leave it out".to_owned());
    }
    match outline.n {
        Some(0) => bad("`n` is 0: ask for at least one answer, or leave it out".to_owned()),
        Some(n) if n > options.choices_max => bad(format!(
            "`n` is {n}, at most {} answers fit into one request: send several requests",
            options.choices_max
        )),
        _ => Ok(()),
    }
}

/// The first that is said.
fn first<const N: usize>(texts: [&str; N]) -> String {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned()
}

impl Target {
    /// `task:code` and `agent:writer` are names that every SDK can send.
    fn of(model: String, task: String, role: String) -> Target {
        if let Some(task) = model.strip_prefix("task:") {
            return Target::TaskType(task.to_owned());
        }
        if let Some(role) = model.strip_prefix("agent:") {
            return Target::AgentRole(role.to_owned());
        }
        match (model.is_empty(), task.is_empty(), role.is_empty()) {
            (false, _, _) => Target::Model(model),
            (_, false, _) => Target::TaskType(task),
            (_, _, false) => Target::AgentRole(role),
            _ => Target::Default,
        }
    }
}

/// What is asked, and what routing must know of it.
fn body(message: &mut v1::LlmRequest) -> Result<(v1::Dialect, Bytes, Outline), Fault> {
    match message.body.take() {
        Some(Body::Raw(raw)) => {
            if raw.dialect() == v1::Dialect::Unspecified {
                let text = "`raw.dialect` is missing: say which API family the body is in";
                return Err(Fault::new(ErrorKind::BadRequest, text));
            }
            let name = DialectName::known(raw.dialect())
                .ok_or_else(|| Fault::new(ErrorKind::BadRequest, "`raw.dialect` is none of the contract's"))?;
            spoken_by_callers(name)?;
            let outline = outline(name, &raw.bytes)?;
            Ok((raw.dialect(), raw.bytes, outline))
        }
        Some(Body::Conversation(conversation)) => {
            if conversation.messages.is_empty() {
                let text = "`conversation.messages` is empty: send at least one message";
                return Err(Fault::new(ErrorKind::BadRequest, text));
            }
            let outline = typed::outline(&message.model, &conversation, message.stream);
            Ok((v1::Dialect::Unspecified, conversation.encode_to_vec().into(), outline))
        }
        Some(Body::Stored(_)) => {
            let text = "a stored body can only be named by farebox's own HTTP edge: send the body in the message";
            Err(Fault::new(ErrorKind::Unsupported, text))
        }
        None => Err(Fault::new(ErrorKind::BadRequest, "the request has no body: set `conversation` or `raw`")),
    }
}

/// The dialect of a JSON body: OpenAI chat completions, unless the message says otherwise.
fn json_dialect(said: Option<&str>) -> Result<DialectName, Fault> {
    let Some(said) = said else { return Ok(DialectName::OpenAiChat) };
    let name = said.parse().map_err(|error: UnknownDialect| {
        Fault::new(ErrorKind::BadRequest, format!("the header {}: {error}", headers::DIALECT))
    })?;
    spoken_by_callers(name)?;
    Ok(name)
}

fn spoken_by_callers(name: DialectName) -> Result<(), Fault> {
    if caller_dialect(name).is_some() {
        return Ok(());
    }
    let known: Vec<&str> =
        DialectName::ALL.into_iter().filter(|name| caller_dialect(*name).is_some()).map(DialectName::as_str).collect();
    let text = format!(
        "requests in the dialect {name} are not served: send `conversation`, or a body in {}",
        known.join(", ")
    );
    Err(Fault::new(ErrorKind::Unsupported, text))
}

fn decode(payload: &Bytes) -> Result<v1::LlmRequest, Fault> {
    v1::LlmRequest::decode(payload.clone()).map_err(|error| {
        let text =
            format!("the message is neither JSON (it does not begin with `{{`) nor a farebox.v1.LlmRequest: {error}");
        Fault::new(ErrorKind::BadRequest, text)
    })
}

/// What a request has beside its message.
struct Given {
    principal: v1::Principal,
    now: Timestamp,
    default_deadline: std::time::Duration,
    assigned: Option<RequestId>,
}

impl Given {
    /// The request's id, and whether its caller knows it.
    fn id(&self, chosen: String) -> Result<(RequestId, bool), Fault> {
        if !chosen.is_empty() {
            let id = RequestId::parse(&chosen).map_err(|error| Fault::new(ErrorKind::BadRequest, error.to_string()))?;
            return Ok((id, true));
        }
        match &self.assigned {
            // A job's id is known to its caller by the receipt, so a repeat means the same job.
            Some(assigned) => Ok((assigned.clone(), true)),
            None => Ok((RequestId::generate(), false)),
        }
    }

    /// The sooner of the one beside the body and the one in it.
    fn deadline(&self, beside: i64, said: Option<Timestamp>) -> Timestamp {
        let beside = Some(Timestamp(beside)).filter(|at| at.millis() > 0);
        let said = said.filter(|at| at.millis() > 0);
        beside.into_iter().chain(said).min().unwrap_or_else(|| self.now.after(self.default_deadline))
    }
}
