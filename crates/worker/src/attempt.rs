//! One attempt at one provider: encode, send, decode, relay.

mod course;
mod stream;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farebox_dialect::{
    Answer, Asked, DecodeError, Defaults, DialectName, Exchange, Facts, FinishReason, OnUnsupported, Operation, Stamp,
    Target, provider_dialect,
};
use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault, Money, Outcome, Project, Usage};
use tokio::time::Instant;

use self::course::{Broken, Course, Done, Patience};
use crate::{
    billing::{Said, Terms, Used, bill, count},
    counts::Counts,
    held::Stop,
    hush,
    keys::Keys,
    options::Options,
    reply::Reply,
    reservation::{OpenAttempt, Reservation},
    upstream::{Answering, Connection, Recipient, Upstream},
};

/// The longest warning, in characters: it may repeat what the caller wrote.
const WARNING_MAX: usize = 400;

/// What an attempt needs to know of its call.
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Options,
    pub(crate) upstream: &'a Upstream,
    pub(crate) keys: &'a Keys,
    /// Whose call it is.
    pub(crate) project: &'a Project,
    pub(crate) counts: &'a Counts,
    pub(crate) asked: &'a Asked,
    /// The caller's dialect.
    pub(crate) dialect: v1::Dialect,
    pub(crate) deployment: &'a v1::Deployment,
    pub(crate) deadline: Instant,
    /// For answers that are made here.
    pub(crate) stamp: Stamp,
}

/// An attempt that has come to its end, not yet recorded.
pub(crate) struct Ended {
    pub(crate) attempt: OpenAttempt,
    pub(crate) end: v1::AttemptEnd,
    pub(crate) result: Result<v1::llm_response::Result, Fault>,
    pub(crate) warnings: Vec<String>,
    /// How long the provider was waited for.
    pub(crate) upstream: Duration,
    /// The provider's own id of the request; empty: it gave none.
    pub(crate) provider_request_id: String,
    /// Whether a further attempt makes sense.
    pub(crate) again: bool,
}

impl Ended {
    /// It ended before anything was sent.
    pub(crate) fn before_sending(reservation: Reservation, fault: Fault) -> Ended {
        let attempt = reservation.use_up();
        let end = v1::AttemptEnd {
            call_id: attempt.call.to_string(),
            outcome: v1::Outcome::Error.into(),
            error_kind: v1::ErrorKind::from(fault.kind).into(),
            cost: Some(Money::ZERO.into()),
            ..Default::default()
        };
        Ended {
            attempt,
            end,
            result: Err(fault),
            warnings: Vec::new(),
            upstream: Duration::ZERO,
            provider_request_id: String::new(),
            again: false,
        }
    }
}

/// Makes one attempt. It returns whatever happens: the caller may have gone, the provider may hang.
pub(crate) async fn make(job: &Job<'_>, reservation: Reservation, reply: &mut Reply) -> Ended {
    let began = Instant::now();
    let chunks_before = reply.chunks;
    let (attempt, course) = run(job, reservation, reply, began).await;
    let bill = bill(course.used, &Terms::of(job.deployment, attempt.bound), &course.said);
    let leaving = reply.handle.why() == Some(Stop::Leaving);
    let (outcome, kind) = match &course.result {
        Ok(_) => (Outcome::Ok, None),
        Err(Broken::Stopped) if leaving => (Outcome::Error, Some(ErrorKind::Unavailable)),
        Err(Broken::Stopped) => (Outcome::Cancelled, Some(ErrorKind::Cancelled)),
        Err(Broken::Fault(fault)) => (Outcome::Error, Some(fault.kind)),
    };
    let done = course.result.as_ref().ok();
    let end = v1::AttemptEnd {
        call_id: attempt.call.to_string(),
        outcome: v1::Outcome::from(outcome).into(),
        error_kind: kind.map_or(v1::ErrorKind::Unspecified, Into::into).into(),
        usage: (bill.usage != Usage::default()).then(|| bill.usage.into()),
        cost: Some(bill.cost.into()),
        estimated: bill.estimated,
        cost_reported: bill.reported,
        service_tier: course.said.tier.clone(),
        served_model: done.map(|done| done.served_model.clone()).unwrap_or_default(),
        latency_ms: millis(began.elapsed()),
        first_token_ms: course.first_token.map(millis),
        finish_reason: done.map(|done| done.finish.clone()).unwrap_or_default(),
    };
    let again = match &course.result {
        Err(Broken::Fault(fault)) => {
            reply.chunks == chunks_before && worth_another_try(fault) && Instant::now() < job.deadline
        }
        _ => false,
    };
    let result = match course.result {
        Ok(done) => Ok(done.result),
        Err(Broken::Stopped) if leaving => Err(left()),
        Err(Broken::Stopped) => Err(cancelled()),
        Err(Broken::Fault(fault)) => Err(fault),
    };
    let Course { upstream, provider_request_id, warnings, .. } = course;
    Ended { attempt, end, result, warnings, upstream, provider_request_id, again }
}

/// What the caller is told when the worker shuts down before the call has ended.
pub(crate) fn left() -> Fault {
    let message = "the worker that held this call was shut down before it ended; what was used until then is billed: send \
                   it again";
    Fault::new(ErrorKind::Unavailable, message)
}

/// What the caller of a cancelled call is told.
pub(crate) fn cancelled() -> Fault {
    Fault::new(ErrorKind::Cancelled, "the call was cancelled; what was used until then is billed")
}

/// A provider's refusal of the request, or of farebox's own key, is the answer; what may pass is tried again.
fn worth_another_try(fault: &Fault) -> bool {
    match fault.kind {
        ErrorKind::RateLimited | ErrorKind::Truncated => true,
        ErrorKind::Upstream => !matches!(fault.provider_status, Some(401..=403)),
        // A timeout of ours: the caller's own deadline is looked at by who asks.
        ErrorKind::DeadlineExceeded => true,
        _ => false,
    }
}

async fn run(job: &Job<'_>, reservation: Reservation, reply: &mut Reply, began: Instant) -> (OpenAttempt, Course) {
    let failed = |fault: Fault| Course::ended(Used::Nothing, Err(fault.into()));
    let Some(connection) = job.upstream.provider(&job.deployment.provider) else {
        let message = format!("this worker knows no provider `{}`: check its config", job.deployment.provider);
        return (reservation.use_up(), failed(Fault::new(ErrorKind::Internal, message)));
    };
    if let Some(counted) = counted_here(job).await {
        return (reservation.use_up(), counted);
    }
    let (exchange, request, warnings) = match begin(job, &connection) {
        Ok(begun) => begun,
        Err(fault) => return (reservation.use_up(), failed(fault)),
    };
    let key = match job.keys.find(job.project, &connection).await {
        Ok(key) => key,
        Err(fault) => return (reservation.use_up(), failed(fault)),
    };
    let timeouts = job.deployment.timeouts.unwrap_or_default();
    let limits = Limits {
        first: began + or(timeouts.first_token_ms, job.options.first_token_timeout.get()),
        idle: or(timeouts.idle_ms, job.options.idle_timeout.get()),
        total: (began + or(timeouts.total_ms, job.options.total_timeout.get())).min(job.deadline),
        deadline: job.deadline,
    };
    let connect_timeout = or(timeouts.connect_ms, job.options.connect_timeout.get());
    let to = Recipient { connection: &connection, key: key.as_ref(), connect_timeout };
    let opening = Opening { job, to, exchange, limits, began };
    let (attempt, mut course) = opening.open(reservation, request, reply).await;
    course.warnings.extend(warnings);
    if let Err(Broken::Fault(fault)) = course.result {
        course.result = Err(hush::fault(key.as_ref(), fault).into());
    }
    (attempt, course)
}

/// The call in the words of this deployment, and what its caller should know about it.
fn begin<'a>(
    job: &Job<'a>,
    connection: &Connection,
) -> Result<(Exchange<'a>, http::Request<Bytes>, Vec<String>), Fault> {
    let deployment = job.deployment;
    let Some((name, provider)) = spoken(deployment) else {
        let message = "the plan speaks to a provider in a dialect that this worker does not know: update it";
        return Err(Fault::new(ErrorKind::Internal, message));
    };
    let limit = Some(deployment.default_max_tokens).filter(|limit| *limit > 0);
    let target = Target {
        default_max_output_tokens: limit.unwrap_or(Target::DEFAULT_MAX_OUTPUT_TOKENS),
        max_output_tokens: Some(deployment.max_output_tokens).filter(|most| *most > 0),
        never_reasons: deployment.never_reasons,
        unsupported: if deployment.refuse_unknown_params { OnUnsupported::Refuse } else { OnUnsupported::Drop },
        ..connection.provider.target(name, &deployment.model)
    };
    let clamp = Some(deployment.clamped_max_tokens).filter(|clamp| *clamp > 0);
    let defaults = Defaults { max_output_tokens: limit, temperature: deployment.default_temperature, clamp };
    let (exchange, request, warnings) = Exchange::begin(job.asked, provider, target, defaults)?;
    let warnings = warnings.into_iter().map(|warning| warning.0.chars().take(WARNING_MAX).collect()).collect();
    Ok((exchange, request, warnings))
}

fn spoken(deployment: &v1::Deployment) -> Option<(DialectName, farebox_dialect::Provider)> {
    let name = DialectName::known(deployment.dialect())?;
    Some((name, provider_dialect(name)?))
}

/// The answer to a count that the provider has given before, or has no endpoint for.
async fn counted_here(job: &Job<'_>) -> Option<Course> {
    if job.asked.operation() != Operation::CountTokens {
        return None;
    }
    let counting = spoken(job.deployment).and_then(|(_, dialect)| dialect.generate()?.counting());
    let mut warnings = Vec::new();
    let bytes = match (job.counts.find(job), counting) {
        (Some(answer), _) => answer,
        (None, Some(_)) => return None,
        (None, None) => {
            warnings.push(format!("`{}` cannot count tokens: the figure is an estimate", job.deployment.provider));
            job.asked.counted(count(&job.deployment.model, job.asked.written()).await)?
        }
    };
    let result = v1::llm_response::Result::Raw(v1::RawBody { dialect: job.dialect.into(), bytes });
    let done = Done { result, served_model: job.deployment.model.clone(), finish: String::new() };
    Some(Course { warnings, ..Course::ended(Used::Nothing, Ok(done)) })
}

fn or(given_ms: u64, default: Duration) -> Duration {
    if given_ms == 0 { default } else { Duration::from_millis(given_ms) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Until when things may take.
#[derive(Clone, Copy)]
struct Limits {
    first: Instant,
    idle: Duration,
    total: Instant,
    deadline: Instant,
}

impl Limits {
    /// The wait for the next bytes: until when, and what it is called when it has passed.
    fn wait(&self, first: bool) -> (Instant, &'static str) {
        let (until, name) = if first { (self.first, "first_token") } else { (Instant::now() + self.idle, "idle") };
        if self.deadline <= self.total && self.deadline <= until {
            return (self.deadline, "deadline");
        }
        if self.total <= until { (self.total, "total") } else { (until, name) }
    }
}

struct Opening<'a> {
    job: &'a Job<'a>,
    to: Recipient<'a>,
    exchange: Exchange<'a>,
    limits: Limits,
    began: Instant,
}

impl Opening<'_> {
    async fn open(
        &self,
        reservation: Reservation,
        request: http::Request<Bytes>,
        reply: &mut Reply,
    ) -> (OpenAttempt, Course) {
        let mut course = Course::ended(Used::Unknown, Err(Broken::Stopped));
        let is_over = reply.handle.why().is_some() || reply.handle.is_forsaken();
        if is_over || Instant::now() >= self.limits.deadline {
            // Nothing was sent, so nothing is billed.
            course.used = Used::Nothing;
            if !is_over {
                let message = "the request's deadline passed before the call was made";
                course.result = Err(Fault::new(ErrorKind::DeadlineExceeded, message).into());
            }
            return (reservation.use_up(), course);
        }
        let (attempt, opened) = self.job.upstream.open(reservation, self.to, request);
        match course.within(self.limits.wait(true), &mut Patience::of(reply), opened).await {
            Ok(Ok(answering)) => {
                course.provider_request_id = answering.request_id().unwrap_or_default().to_owned();
                reply.begins(&attempt, &course.provider_request_id);
                self.answered(answering, reply, &mut course).await;
            }
            Ok(Err(error)) => {
                course.used = if error.may_be_billed { Used::Unknown } else { Used::Nothing };
                course.result = Err(error.fault.into());
            }
            Err(broken) => {
                course.used = if attempt.sent.is_set() { Used::Unknown } else { Used::Nothing };
                course.result = Err(broken);
            }
        }
        (attempt, course)
    }

    async fn answered(&self, answering: Answering, reply: &mut Reply, course: &mut Course) {
        if !answering.head.status.is_success() {
            self.refused(answering, reply, course).await;
        } else if self.job.asked.stream() {
            stream::relay(self, answering, reply, course).await;
        } else {
            self.whole(answering, reply, course).await;
        }
    }

    /// An answer with a status of failure is not billed.
    async fn refused(&self, answering: Answering, reply: &Reply, course: &mut Course) {
        course.used = Used::Nothing;
        let head = answering.head.clone();
        let body = self.read(answering, reply, course).await.unwrap_or_default();
        course.result = Err(self.exchange.refused(&head, &hush::body(self.to.key, body)).into());
    }

    async fn whole(&self, answering: Answering, reply: &Reply, course: &mut Course) {
        let head = answering.head.clone();
        let body = match self.read(answering, reply, course).await {
            Ok(body) => body,
            Err(broken) => {
                course.result = Err(broken);
                return;
            }
        };
        match self.exchange.whole(&head, body, &self.job.stamp) {
            Ok((answer, facts)) => self.complete(answer, facts, course).await,
            Err(error) => {
                match &error {
                    DecodeError::Refused(_) => course.used = Used::Nothing,
                    DecodeError::BrokenOff { usage, .. } => course.used = Used::Reported(**usage),
                    DecodeError::Corrupt { .. } | DecodeError::Oversize(_) => {}
                }
                course.result = Err(Fault::from(error).into());
            }
        }
    }

    /// The whole body, bounded.
    async fn read(&self, mut answering: Answering, reply: &Reply, course: &mut Course) -> Result<Bytes, Broken> {
        let limit = self.job.options.answer_max.len();
        let mut patience = Patience::of(reply);
        let mut body = BytesMut::new();
        loop {
            let wait = self.limits.wait(course.first_token.is_none());
            let next = answering.next(&self.job.deployment.provider);
            let Some(bytes) = course.within(wait, &mut patience, next).await?? else { return Ok(body.freeze()) };
            course.first_token.get_or_insert_with(|| self.began.elapsed());
            if body.len() + bytes.len() > limit {
                let message = format!("the provider's answer is larger than answer_max ({limit} bytes)");
                return Err(Fault::new(ErrorKind::TooLarge, message).into());
            }
            if body.is_empty() && bytes.len() < limit / 2 {
                body = BytesMut::from(bytes.as_ref());
            } else {
                body.extend_from_slice(&bytes);
            }
        }
    }

    /// A whole answer is there: bill it, and hand it on.
    async fn complete(&self, answer: Answer, facts: Facts, course: &mut Course) {
        course.used = self.used(&facts).await;
        course.said = self.said(&facts);
        let answer = match course.used {
            Used::Partly { read, .. } => self.exchange.counted(answer, read),
            _ => answer,
        };
        if let (Some(_), Answer::Raw(bytes)) = (facts.counted, &answer) {
            self.job.counts.keep(self.job, bytes);
        }
        let result = match answer {
            Answer::Typed(completion) => v1::llm_response::Result::Completion(completion),
            Answer::Raw(bytes) => {
                v1::llm_response::Result::Raw(v1::RawBody { dialect: self.job.dialect.into(), bytes })
            }
        };
        let finish = facts.finish.as_ref().map(finish_name).unwrap_or_default();
        course.result = Ok(Done { result, served_model: facts.model, finish });
    }

    fn said(&self, facts: &Facts) -> Said {
        let cost = facts.reported_cost.filter(|_| self.job.deployment.trust_reported_cost);
        Said { tier: facts.service_tier.clone().unwrap_or_default(), cost }
    }

    /// What a whole answer says of its use; what it does not say is counted.
    async fn used(&self, facts: &Facts) -> Used {
        let usage = facts.usage;
        let read = usage.input.is_some() || usage.total_input() > 0;
        let is_whole = match self.job.asked.operation() {
            Operation::CountTokens => return Used::Nothing,
            Operation::Generate => read && usage.output.is_some(),
            Operation::Embed => read,
            Operation::Rerank => read || usage.searches.is_some(),
        };
        if is_whole { Used::Reported(usage) } else { self.counted(facts).await }
    }

    /// Whether output may have been billed that nobody has seen: models that can reason do, Claude where it is asked to.
    fn may_hide_reasoning(&self) -> bool {
        let deployment = self.job.deployment;
        let unasked = deployment.model.contains("claude") && !self.job.asked.asks_reasoning();
        deployment.may_reason && !unasked
    }

    /// The use of an answer whose provider did not say all of it.
    async fn counted(&self, facts: &Facts) -> Used {
        let (model, asked) = (&self.job.deployment.model, self.job.asked);
        if self.may_hide_reasoning() {
            // What was thought does not show in what was written, and is billed all the same.
            return Used::Unknown;
        }
        let told = facts.usage.total_input() > 0;
        if !told && asked.has_media() {
            // What a picture costs does not show in the words.
            return Used::Unknown;
        }
        let read = if told { 0 } else { count(model, asked.written()).await };
        Used::Partly { reported: facts.usage, read, wrote: count(model, facts.written.clone()).await, unread: 0 }
    }
}

fn finish_name(reason: &FinishReason) -> String {
    use FinishReason as F;
    match reason {
        F::Stop => "stop",
        F::StopSequence => "stop_sequence",
        F::Length => "length",
        F::ToolCalls => "tool_calls",
        F::ContentFilter => "content_filter",
        F::Refusal => "refusal",
        F::Pause => "pause",
        F::Other(word) => word,
    }
    .to_owned()
}
