//! The caller's body, on its way to a provider and back.

use bytes::Bytes;
use farebox_dialect::{
    Call, Caller, CallerDialect, Completion, Defaults, DialectName, Edit, Event, Passing, ProviderDialect, Quirk,
    Stamp, StreamEncoder, Target, caller_dialect, outline, rewrite, typed,
};
use farebox_proto::v1::{self, llm_chunk::Piece, llm_response::Result as Answer};
use farebox_types::{ErrorKind, Fault};
use prost::Message;
use serde::Deserialize;

/// Service tiers with the standard prices, the only ones that are known.
const STANDARD_TIERS: [&str; 4] = ["auto", "default", "standard", "standard_only"];

/// The longest warning, in characters: it may repeat what the caller wrote.
const WARNING_MAX: usize = 400;

/// How the caller speaks.
#[derive(Clone, Copy)]
enum Language {
    Raw(&'static dyn CallerDialect),
    /// The contract's own typed messages.
    Typed,
}

/// A caller's body, and what it says.
pub(crate) struct Body {
    bytes: Bytes,
    language: Language,
    call: Call,
    /// Why the call could not be read in full: its bytes may still go through to a provider of the same dialect, which
    /// may understand them.
    unreadable: Option<Fault>,
    pub(crate) stream: bool,
    /// What the caller's own bytes say; a job is not streamed whatever they say.
    asked_stream: bool,
    /// Id of the answer, where it is made here.
    id: String,
    /// The model as the caller knows it.
    alias: String,
}

/// How a stream's pieces get to the caller.
pub(crate) enum ChunkForm {
    /// The provider's frames as they are.
    Pass {
        /// The caller asked for usage at the end.
        keep_usage: bool,
    },
    Render(Rendering),
}

/// Makes a caller's pieces of a stream's events.
pub(crate) enum Rendering {
    Raw(Box<dyn StreamEncoder>),
    Typed(typed::Deltas),
}

impl Rendering {
    pub(crate) fn push(&mut self, event: &Event, pieces: &mut Vec<Piece>) {
        match self {
            Rendering::Raw(encoder) => {
                let mut raw = Vec::new();
                encoder.encode(event, &mut raw);
                pieces.extend(raw.into_iter().map(Piece::Raw));
            }
            Rendering::Typed(deltas) => pieces.extend(deltas.encode(event).map(Piece::Delta)),
        }
    }

    /// What stands after the last event.
    pub(crate) fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if let Rendering::Raw(encoder) = self {
            let mut raw = Vec::new();
            encoder.finish(&mut raw);
            pieces.extend(raw.into_iter().map(Piece::Raw));
        }
    }
}

impl Body {
    pub(crate) fn read(envelope: &v1::Envelope, bytes: Bytes) -> Result<Body, Fault> {
        let (language, mut call, unreadable) = match envelope.dialect() {
            v1::Dialect::Unspecified => {
                let conversation = v1::Conversation::decode(bytes.clone()).map_err(|error| {
                    Fault::new(ErrorKind::BadRequest, format!("the conversation cannot be read: {error}"))
                })?;
                (Language::Typed, typed::call(&envelope.model, &conversation, envelope.stream)?, None)
            }
            given => {
                let name = DialectName::known(given).ok_or_else(|| {
                    Fault::new(ErrorKind::BadRequest, "the body's dialect is not known to this worker")
                })?;
                parse(name, &bytes)?
            }
        };
        let asked_stream = std::mem::replace(&mut call.stream, envelope.stream);
        call.extra.shift_remove("farebox");
        if let Some(tier) = call.service_tier.as_deref().filter(|tier| !STANDARD_TIERS.contains(tier)) {
            let message =
                format!("service_tier `{tier}` has other prices than those the call is reserved with: leave it out");
            return Err(Fault::new(ErrorKind::Unsupported, message));
        }
        Ok(Body {
            bytes,
            language,
            call,
            unreadable,
            stream: envelope.stream,
            asked_stream,
            id: format!("farebox-{}", envelope.request_id),
            alias: envelope.model.clone(),
        })
    }

    /// Whether the provider speaks the caller's dialect: its bytes go through untouched.
    pub(crate) fn speaks(&self, provider: DialectName) -> bool {
        matches!(self.language, Language::Raw(dialect) if dialect.name() == provider)
    }

    /// The request for a provider, and what the caller should know about it.
    pub(crate) fn request(
        &self,
        dialect: &dyn ProviderDialect,
        quirks: Vec<Quirk>,
        deployment: &v1::Deployment,
    ) -> Result<(http::Request<Bytes>, Vec<String>), Fault> {
        let mut target = Target { quirks, ..Target::new(&deployment.model) };
        if deployment.default_max_tokens > 0 {
            target.default_max_output_tokens = deployment.default_max_tokens;
        }
        if self.speaks(dialect.name()) {
            let defaults = Defaults {
                max_output_tokens: Some(deployment.default_max_tokens).filter(|limit| *limit > 0),
                temperature: deployment.default_temperature,
            };
            let passing = Passing { call: &self.call, asked_stream: self.asked_stream, defaults, target: &target };
            let mut edits = vec![Edit::remove("farebox")];
            edits.extend(dialect.edits(&passing));
            let body = rewrite(&self.bytes, &edits)?;
            return Ok((dialect.request(&target, self.stream, body)?, Vec::new()));
        }
        if let Some(fault) = &self.unreadable {
            return Err(fault.clone());
        }
        let mut call = self.call.clone();
        if call.sampling.temperature.is_none() {
            call.sampling.temperature = deployment.default_temperature;
        }
        if call.max_output_tokens.is_none() && deployment.default_max_tokens > 0 {
            call.max_output_tokens = Some(deployment.default_max_tokens);
        }
        let encoded = dialect.encode(&call, &target)?;
        Ok((
            encoded.request,
            encoded.warnings.into_iter().map(|warning| warning.0.chars().take(WARNING_MAX).collect()).collect(),
        ))
    }

    fn stamp(&self, created: i64) -> Stamp {
        Stamp { id: self.id.clone(), created, model: Some(self.alias.clone()) }
    }

    /// A whole answer as the caller reads it; `raw` where the provider's own bytes will do.
    pub(crate) fn answer(&self, completion: &Completion, raw: Option<Bytes>, created: i64) -> Answer {
        match self.language {
            Language::Typed => Answer::Completion(typed::completion(completion)),
            Language::Raw(dialect) => {
                let bytes = raw.unwrap_or_else(|| dialect.render(&self.call, completion, &self.stamp(created)));
                Answer::Raw(v1::RawBody { dialect: v1::Dialect::OpenaiChat.into(), bytes })
            }
        }
    }

    pub(crate) fn chunk_form(&self, provider: DialectName, created: i64) -> ChunkForm {
        match self.language {
            _ if self.speaks(provider) => ChunkForm::Pass { keep_usage: self.call.include_usage },
            Language::Raw(dialect) => {
                ChunkForm::Render(Rendering::Raw(dialect.renderer(&self.call, &self.stamp(created))))
            }
            Language::Typed => ChunkForm::Render(Rendering::Typed(typed::Deltas::new())),
        }
    }
}

fn parse(name: DialectName, bytes: &Bytes) -> Result<(Language, Call, Option<Fault>), Fault> {
    let Some(dialect) = caller_dialect(name).and_then(Caller::generate) else {
        let message = format!("requests in the dialect {name} are not served: use openai-chat");
        return Err(Fault::new(ErrorKind::Unsupported, message));
    };
    match dialect.parse(&http::HeaderMap::new(), bytes) {
        Ok(call) => Ok((Language::Raw(dialect), call, None)),
        Err(bad) => {
            let fault = Fault::from(bad);
            let call = outlined(name, bytes).ok_or(fault.clone())?;
            Ok((Language::Raw(dialect), call, Some(fault)))
        }
    }
}

/// As much of a call as going through needs, from a body that cannot be read in full.
fn outlined(name: DialectName, bytes: &Bytes) -> Option<Call> {
    #[derive(Deserialize)]
    struct Priced {
        service_tier: Option<String>,
    }
    let outline = outline(name, bytes).ok()?;
    let priced: Priced = serde_json::from_slice(bytes).ok()?;
    Some(Call {
        stream: outline.stream,
        include_usage: outline.include_usage,
        max_output_tokens: outline.max_output_tokens,
        service_tier: priced.service_tier,
        ..Call::default()
    })
}
