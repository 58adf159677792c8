//! One request put to one provider: what goes there, and what comes back, in the caller's words.
//!
//! | caller and provider speak | to the provider | to the caller |
//! |---|---|---|
//! | the same dialect | the caller's bytes, with the dialect's closed list of edits | the provider's bytes |
//! | different dialects | the canonical call, encoded | the canonical answer, rendered |
//! | a typed conversation | the canonical call, encoded | typed messages |
//!
//! A body of the caller's that cannot be read in full may still go through to a provider of its own dialect, which may
//! understand it. An emulated JSON mode (see [`crate::emulate`]) always takes the way through the canonical call.

mod asked;
mod relay;

use bytes::Bytes;
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Money, Usage};

pub use self::{asked::Asked, relay::Relay};
use self::{asked::Task, relay::Side};
use crate::{
    anthropic_messages::spell_out,
    canonical::{Call, Completion, EmbedCall, FinishReason, ReasoningRequest, RerankCall},
    dialect::{
        CallerDialect, CountCaller, CountDialect, Defaults, DialectName, EmbedCaller, EmbedDialect, Encoded, Head,
        Hosting, Passing, Provider, ProviderDialect, RerankCaller, RerankDialect, Stamp, StreamLimits, Target, Warning,
    },
    emulate::{Emulation, emulation},
    error::{DecodeError, EncodeError},
    notes::Notes,
    outline::{object_of, text_of},
    rewrite::{Edit, rewrite},
    tool_names::Renamed,
    typed,
};

/// A request that is on its way to one provider.
pub struct Exchange<'a> {
    way: Way<'a>,
    target: Target,
}

enum Way<'a> {
    Generate {
        dialect: &'static dyn ProviderDialect,
        /// `None`: a typed conversation.
        caller: Option<&'static dyn CallerDialect>,
        /// As it was encoded, or as the caller's bytes say.
        call: Box<Call>,
        /// The bytes of both sides go through.
        passes: bool,
        emulation: Option<Box<Emulation>>,
        renamed: Option<Renamed>,
    },
    Count {
        dialect: &'static dyn ProviderDialect,
        count: &'static dyn CountDialect,
        caller: &'static dyn CountCaller,
        /// The provider's answer goes through.
        passes: bool,
    },
    Embed {
        dialect: &'static dyn EmbedDialect,
        caller: &'static dyn EmbedCaller,
        call: &'a EmbedCall,
        passes: bool,
    },
    Rerank {
        dialect: &'static dyn RerankDialect,
        caller: &'static dyn RerankCaller,
        call: &'a RerankCall,
        passes: bool,
    },
}

/// A whole answer, as the caller reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Typed(v1::Completion),
    /// In the caller's dialect.
    Raw(Bytes),
}

/// What is known of an answer besides its content.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The model that answered, in the provider's words.
    pub model: String,
    /// Why the first choice ended.
    pub finish: Option<FinishReason>,
    pub usage: Usage,
    /// The tier in which the provider served, in its own words.
    pub service_tier: Option<String>,
    pub reported_cost: Option<Money>,
    /// Tokens that the provider counted, where that was asked.
    pub counted: Option<u64>,
    /// Everything the model wrote, for counting where the provider did not; empty where it did.
    pub written: String,
}

impl Facts {
    fn of(done: &Completion) -> Facts {
        Facts {
            model: done.model.clone(),
            finish: done.finish().cloned(),
            usage: done.usage,
            service_tier: done.service_tier.clone(),
            reported_cost: done.reported_cost,
            counted: None,
            written: if done.usage.output.is_none() { done.written() } else { String::new() },
        }
    }
}

impl<'a> Exchange<'a> {
    /// Puts a request to a provider: the HTTP request for it, and what the caller should know about it.
    pub fn begin(
        asked: &'a Asked,
        provider: Provider,
        target: Target,
        defaults: Defaults,
    ) -> Result<(Exchange<'a>, http::Request<Bytes>, Vec<Warning>), Fault> {
        let (way, encoded) = match (&asked.task, provider) {
            (Task::Generate { call, caller }, Provider::Generate(dialect)) => {
                generate(asked, call, *caller, dialect, &target, defaults)?
            }
            (Task::CountTokens { call, caller }, Provider::Generate(dialect)) => {
                let Some(count) = dialect.counting() else {
                    let message = format!("{} has no endpoint that counts tokens", dialect.name());
                    return Err(Fault::new(ErrorKind::Unsupported, message));
                };
                let passes = caller.name() == count.name();
                let encoded = if passes {
                    let mut request = count.request(call, &target, asked.edited(count.edits(call, &target))?)?;
                    if target.hosting == Hosting::Own {
                        asked.beside.say(&mut request);
                    }
                    Encoded { request, warnings: Vec::new() }
                } else {
                    asked.readable()?;
                    let mut call = call.clone();
                    if dialect.name() != DialectName::AnthropicMessages {
                        spell_out(&mut call);
                    }
                    count.encode(&call, &target)?
                };
                // Bedrock's answer is its own, whatever is in its question.
                let passes = passes && target.hosting != Hosting::Bedrock;
                (Way::Count { dialect, count, caller: *caller, passes }, encoded)
            }
            (Task::Embed { call, caller }, Provider::Embed(dialect)) => {
                let passes = caller.name() == dialect.name();
                let encoded = if passes {
                    sent(asked, dialect.request(&target, asked.edited(dialect.edits(&target))?)?)
                } else {
                    asked.readable()?;
                    dialect.encode(call, &target)?
                };
                (Way::Embed { dialect, caller: *caller, call, passes }, encoded)
            }
            (Task::Rerank { call, caller }, Provider::Rerank(dialect)) => {
                let passes = caller.name() == dialect.name();
                let encoded = if passes {
                    sent(asked, dialect.request(&target, asked.edited(dialect.edits(&target))?)?)
                } else {
                    asked.readable()?;
                    dialect.encode(call, &target)?
                };
                (Way::Rerank { dialect, caller: *caller, call, passes }, encoded)
            }
            (_, provider) => {
                let message = format!(
                    "what the request asks for cannot be asked of a provider in {}: choose a model that serves it",
                    provider.name()
                );
                return Err(Fault::new(ErrorKind::Unsupported, message));
            }
        };
        Ok((Exchange { way, target }, encoded.request, encoded.warnings))
    }

    /// An answer with a status of failure.
    pub fn refused(&self, head: &Head, body: &[u8]) -> Fault {
        match &self.way {
            Way::Generate { dialect, .. } | Way::Count { dialect, .. } => dialect.decode_error(head, body),
            Way::Embed { dialect, .. } => dialect.decode_error(head, body),
            Way::Rerank { dialect, .. } => dialect.decode_error(head, body),
        }
        .into()
    }

    /// A whole answer with a status of success.
    pub fn whole(&self, head: &Head, body: Bytes, stamp: &Stamp) -> Result<(Answer, Facts), DecodeError> {
        match &self.way {
            Way::Generate { dialect, caller, call, passes, emulation, renamed } => {
                let mut done = dialect.decode(head, &body)?;
                let mut facts = Facts::of(&done);
                if let Some(renamed) = renamed {
                    renamed.restore(&mut done);
                }
                if let Some(emulation) = emulation {
                    emulation.restore(&mut done);
                    facts.finish = done.finish().cloned();
                }
                let answer = match caller {
                    Some(_) if *passes => Answer::Raw(body),
                    Some(caller) => Answer::Raw(caller.render(call, &done, stamp)),
                    None => Answer::Typed(typed::completion(&done)),
                };
                Ok((answer, facts))
            }
            Way::Count { count, caller, passes, .. } => {
                let tokens = count.decode(&body)?;
                let answer = if *passes { body } else { caller.render(tokens) };
                Ok((Answer::Raw(answer), Facts { counted: Some(tokens), ..Facts::default() }))
            }
            Way::Embed { dialect, caller, call, passes } => {
                let done = dialect.decode(head, &body)?;
                let answer = if *passes { body } else { caller.render(call, &done, stamp)? };
                Ok((Answer::Raw(answer), Facts { model: done.model, usage: done.usage, ..Facts::default() }))
            }
            Way::Rerank { dialect, caller, call, passes } => {
                let done = dialect.decode(head, &body)?;
                let answer = if *passes { body } else { caller.render(call, &done, stamp) };
                Ok((Answer::Raw(answer), Facts { model: done.model, usage: done.usage, ..Facts::default() }))
            }
        }
    }

    /// A whole answer with the input tokens that were counted here because its provider told none: callers' libraries look
    /// for them. What goes through stays as it is.
    pub fn counted(&self, answer: Answer, input: u64) -> Answer {
        match (&self.way, answer) {
            (Way::Embed { caller, passes: false, .. }, Answer::Raw(bytes)) => Answer::Raw(caller.counted(bytes, input)),
            (_, answer) => answer,
        }
    }

    /// A streamed answer that begins; `None` where only whole ones come.
    pub fn stream(&self, limits: &StreamLimits, stamp: &Stamp) -> Option<Relay<'_>> {
        match &self.way {
            Way::Generate { dialect, caller, call, passes, emulation, renamed } => {
                let renamed = renamed.as_ref();
                let side = Side { caller: *caller, call, renamed, stamp: stamp.clone(), passes: *passes };
                Some(Relay::new(*dialect, &self.target, limits, side, emulation.as_deref()))
            }
            Way::Count { .. } | Way::Embed { .. } | Way::Rerank { .. } => None,
        }
    }
}

fn generate<'a>(
    asked: &'a Asked,
    call: &Call,
    caller: Option<&'static dyn CallerDialect>,
    dialect: &'static dyn ProviderDialect,
    target: &Target,
    defaults: Defaults,
) -> Result<(Way<'a>, Encoded), Fault> {
    let mut call = call.clone();
    let emulation = emulation(&call, target).map(Box::new);
    let passes = emulation.is_none() && caller.is_some_and(|caller| caller.name() == dialect.name());
    let fitted = if passes { Vec::new() } else { fit(&mut call, dialect.name(), target)? };
    let thought_less = defaults.clamp.and_then(|clamp| thinks_below(&call, clamp, dialect.name()));
    let mut renamed = None;
    let mut encoded = if passes {
        let passing = Passing { call: &call, asked_stream: asked.asked_stream, defaults, target };
        let edits = dialect.edits(&passing);
        let warnings = left_out(asked, &edits, dialect.name(), target)?;
        let body = asked.edited(edits)?;
        let mut request = dialect.request(target, call.stream, body)?;
        request.headers_mut().extend(dialect.headers(&passing));
        if target.hosting == Hosting::Own {
            asked.beside.say(&mut request);
        }
        Encoded { request, warnings }
    } else {
        asked.readable()?;
        call.sampling.temperature = call.sampling.temperature.or(defaults.temperature);
        call.max_output_tokens = defaults.limit(call.max_output_tokens);
        if let Some((reasoning, _)) = &thought_less {
            call.reasoning = Some(reasoning.clone());
        }
        if let Some(emulation) = &emulation {
            emulation.apply(&mut call);
        }
        renamed = Renamed::of(&call);
        match &renamed {
            Some(renamed) => dialect.encode(&renamed.apply(&call), target)?,
            None => dialect.encode(&call, target)?,
        }
    };
    encoded.warnings.extend(fitted);
    encoded.warnings.extend(emulation.as_deref().map(Emulation::warning));
    encoded.warnings.extend(thought_less.map(|(_, warning)| warning));
    Ok((Way::Generate { dialect, caller, call: Box::new(call), passes, emulation, renamed }, encoded))
}

/// Takes from a call what its model is known to refuse. A caller of another dialect asks as for a model of its own, which
/// thinks and writes as much as that one does.
fn fit(call: &mut Call, dialect: DialectName, target: &Target) -> Result<Vec<Warning>, EncodeError> {
    let mut notes = Notes::new(dialect, target);
    if dialect != DialectName::AnthropicMessages {
        spell_out(call);
    }
    if target.never_reasons
        && let Some(asked) = call.reasoning.take()
        && asked.is_on() == Some(true)
    {
        notes.refused_by_target("reasoning", &target.model)?;
    }
    if let (Some(most), Some(asked)) = (target.max_output_tokens, call.max_output_tokens)
        && asked > most
    {
        call.max_output_tokens = Some(most);
        notes.say(format!("the output limit became {most} tokens, the most that {} writes", target.model));
        if let Some((less, warning)) = thinks_below(call, most, dialect) {
            call.reasoning = Some(less);
            notes.say(warning.0);
        }
    }
    Ok(notes.into_warnings())
}

/// Less thinking, where a call was clamped to less output than it wanted to think, and the API refuses that.
fn thinks_below(call: &Call, clamp: u64, dialect: DialectName) -> Option<(ReasoningRequest, Warning)> {
    let asked = call.reasoning.as_ref().filter(|_| dialect == DialectName::AnthropicMessages)?;
    let less = asked.below(clamp)?;
    let told = match less.budget_tokens.filter(|budget| *budget > 0) {
        Some(budget) => format!("the budget for thinking was lowered to {budget} tokens, below the output limit"),
        None => "thinking was switched off: the output limit leaves no room for it".to_owned(),
    };
    Some((less, Warning(told)))
}

/// Members that edits take out because they are said in another way, or are farebox's own business.
const MOVED: [&str; 6] =
    ["model", "stream", "stream_options", "max_completion_tokens", "reasoning", "reasoning_effort"];

/// What a body that goes through loses, as its caller is told; refused where the target says so.
fn left_out(
    asked: &Asked,
    edits: &[Edit<'static>],
    dialect: DialectName,
    target: &Target,
) -> Result<Vec<Warning>, EncodeError> {
    let mut notes = Notes::new(dialect, target);
    let removed = edits.iter().filter_map(|edit| if let Edit::Remove { key } = edit { Some(*key) } else { None });
    for key in removed.filter(|key| !MOVED.contains(key)) {
        if asked.has(key) {
            notes.refused_by_target(&format!("`{key}`"), &target.model)?;
        }
    }
    Ok(notes.into_warnings())
}

fn sent(asked: &Asked, mut request: http::Request<Bytes>) -> Encoded {
    asked.beside.say(&mut request);
    Encoded { request, warnings: Vec::new() }
}

impl Asked {
    /// Whether the caller's body has this member.
    fn has(&self, name: &str) -> bool {
        text_of(&self.bytes).and_then(object_of).is_ok_and(|mut top| top.take(name).is_some())
    }

    /// The caller's bytes with these edits, and without farebox's own member.
    fn edited(&self, edits: Vec<Edit<'static>>) -> Result<Bytes, Fault> {
        let mut all = vec![Edit::remove("farebox")];
        all.extend(edits);
        Ok(rewrite(&self.bytes, &all)?)
    }
}
