//! What a caller asks for, read once.

use bytes::Bytes;
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault};
use prost::Message;

use crate::{
    beside::Beside,
    canonical::{Call, EmbedCall, ReasoningRequest, RerankCall},
    dialect::{Caller, CallerDialect, CountCaller, DialectName, EmbedCaller, Operation, RerankCaller, caller_dialect},
    error::BadRequest,
    outline::outline,
    typed,
};

/// A caller's request, ready to be put to any provider.
pub struct Asked {
    pub(super) bytes: Bytes,
    pub(super) beside: Beside,
    pub(super) task: Task,
    /// Why the bytes could not be read in full.
    unreadable: Option<Fault>,
    /// What the caller's own bytes say; a job is not streamed whatever they say.
    pub(super) asked_stream: bool,
}

pub(super) enum Task {
    /// `caller`: `None` for a typed conversation.
    Generate {
        call: Call,
        caller: Option<&'static dyn CallerDialect>,
    },
    CountTokens {
        call: Call,
        caller: &'static dyn CountCaller,
    },
    Embed {
        call: EmbedCall,
        caller: &'static dyn EmbedCaller,
    },
    Rerank {
        call: RerankCall,
        caller: &'static dyn RerankCaller,
    },
}

impl Asked {
    /// Reads a body in a caller's dialect. `stream`: whether the answer is streamed, whatever the body says.
    pub fn raw(name: DialectName, bytes: Bytes, stream: bool) -> Result<Asked, Fault> {
        Asked::raw_beside(name, bytes, Beside::default(), stream)
    }

    /// Reads a body whose caller said more beside it.
    pub fn raw_beside(name: DialectName, bytes: Bytes, beside: Beside, stream: bool) -> Result<Asked, Fault> {
        let Some(caller) = caller_dialect(name) else {
            let message = format!("requests in {name} are not served: that dialect is spoken to providers only");
            return Err(Fault::new(ErrorKind::Unsupported, message));
        };
        let headers = &beside.headers;
        let (mut task, unreadable) = match caller {
            Caller::Generate(caller) => {
                let (call, fault) = or_outline(caller.parse(headers, &bytes), || outlined(name, &bytes))?;
                (Task::Generate { call, caller: Some(caller) }, fault)
            }
            Caller::CountTokens(caller) => {
                let (call, fault) = or_outline(caller.parse(headers, &bytes), || outlined(name, &bytes))?;
                (Task::CountTokens { call, caller }, fault)
            }
            Caller::Embed(caller) => {
                let (call, fault) = or_outline(caller.parse(headers, &bytes), || Some(EmbedCall::default()))?;
                (Task::Embed { call, caller }, fault)
            }
            Caller::Rerank(caller) => {
                let (call, fault) = or_outline(caller.parse(headers, &bytes), || Some(RerankCall::default()))?;
                (Task::Rerank { call, caller }, fault)
            }
        };
        let mut asked_stream = false;
        match &mut task {
            Task::Generate { call, .. } | Task::CountTokens { call, .. } => {
                asked_stream = std::mem::replace(&mut call.stream, stream);
                call.extra.shift_remove("farebox");
            }
            Task::Embed { call, .. } => drop(call.extra.shift_remove("farebox")),
            Task::Rerank { call, .. } => drop(call.extra.shift_remove("farebox")),
        }
        Ok(Asked { bytes, beside, task, unreadable, asked_stream })
    }

    /// Reads an encoded typed conversation.
    pub fn typed(model: &str, bytes: Bytes, stream: bool) -> Result<Asked, Fault> {
        let conversation = v1::Conversation::decode(bytes.clone())
            .map_err(|error| Fault::new(ErrorKind::BadRequest, format!("the conversation cannot be read: {error}")))?;
        let call = typed::call(model, &conversation, stream)?;
        let task = Task::Generate { call, caller: None };
        Ok(Asked { bytes, beside: Beside::default(), task, unreadable: None, asked_stream: stream })
    }

    pub fn operation(&self) -> Operation {
        match &self.task {
            Task::Generate { .. } => Operation::Generate,
            Task::CountTokens { .. } => Operation::CountTokens,
            Task::Embed { .. } => Operation::Embed,
            Task::Rerank { .. } => Operation::Rerank,
        }
    }

    /// Whether the answer comes in pieces.
    pub fn stream(&self) -> bool {
        matches!(&self.task, Task::Generate { call, .. } if call.stream)
    }

    /// Everything that a model would read, for counting.
    pub fn written(&self) -> String {
        match &self.task {
            Task::Generate { call, .. } | Task::CountTokens { call, .. } => call.written(),
            Task::Embed { call, .. } => call.written(),
            Task::Rerank { call, .. } => call.written(),
        }
    }

    /// As the caller sent it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What the caller said beside it.
    pub fn beside(&self) -> &Beside {
        &self.beside
    }

    /// Whether there are pictures, documents or recordings in it, which no count of words shows.
    pub fn has_media(&self) -> bool {
        match &self.task {
            Task::Generate { call, .. } | Task::CountTokens { call, .. } => call.has_media(),
            Task::Embed { call, .. } => call.has_media(),
            Task::Rerank { .. } => false,
        }
    }

    /// Whether the caller asks the model to reason.
    pub fn asks_reasoning(&self) -> bool {
        match &self.task {
            Task::Generate { call, .. } => call.reasoning.as_ref().and_then(ReasoningRequest::is_on) == Some(true),
            _ => false,
        }
    }

    /// A count made here, in the caller's words.
    pub fn counted(&self, tokens: u64) -> Option<Bytes> {
        match &self.task {
            Task::CountTokens { caller, .. } => Some(caller.render(tokens)),
            _ => None,
        }
    }

    /// Fails where only a provider of the caller's own dialect may understand the body.
    pub(super) fn readable(&self) -> Result<(), Fault> {
        self.unreadable.clone().map_or(Ok(()), Err)
    }
}

/// What was read, or as much of it as going through needs, with the reason why it is not more.
fn or_outline<T>(
    read: Result<T, BadRequest>,
    outlined: impl FnOnce() -> Option<T>,
) -> Result<(T, Option<Fault>), Fault> {
    match read {
        Ok(call) => Ok((call, None)),
        Err(bad) => {
            let fault = Fault::from(bad);
            let call = outlined().ok_or_else(|| fault.clone())?;
            Ok((call, Some(fault)))
        }
    }
}

fn outlined(name: DialectName, bytes: &Bytes) -> Option<Call> {
    let outline = outline(name, bytes).ok()?;
    Some(Call {
        stream: outline.stream,
        include_usage: outline.include_usage,
        max_output_tokens: outline.max_output_tokens,
        service_tier: outline.service_tier,
        dialect: Some(name),
        ..Call::default()
    })
}
