//! A call from taking it to its settled end: attempts by plan, retries, fallbacks, the answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use farebox_bus::Bus;
use farebox_dialect::{Asked, Beside, DialectName, Stamp};
use farebox_proto::{InvalidMessage, subjects::Tenancy, v1};
use farebox_types::{CallId, Clock, ErrorKind, Fault, Money, Project, RequestId, ReservationId, Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    attempt::{self, Ended, Job},
    counts::Counts,
    guard::{Amended, Guard},
    held::{Handle, Held, Stop},
    keys::Keys,
    listeners::{Listeners, Place},
    options::Options,
    reply::Reply,
    reservation::Reservation,
    upstream::Upstream,
};

/// What all calls of a worker share.
pub(crate) struct Shared {
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) held: Arc<Held>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) guard: Guard,
    pub(crate) upstream: watch::Receiver<Arc<Upstream>>,
    pub(crate) keys: Keys,
    pub(crate) counts: Counts,
}

/// Work that this worker has taken.
pub(crate) struct Taken {
    work: v1::Work,
    envelope: v1::Envelope,
    project: Project,
    request: RequestId,
    reservation: Reservation,
    handle: Handle,
}

impl Taken {
    /// Checks work and puts it on this worker's list.
    pub(crate) fn take(mut work: v1::Work, shared: &Shared, now: Timestamp) -> Result<Taken, InvalidMessage> {
        let envelope = work.envelope.take().ok_or(InvalidMessage { field: "envelope" })?;
        let (project, request) = (envelope.project()?, envelope.request_id()?);
        let reservation = Reservation::admitted(&work)?;
        let age = now.remaining(Timestamp(envelope.received_unix_ms));
        let drains = drains(&work.plan, shared.options.drain_up_to);
        let handle = shared.held.take(reservation.id(), project.clone(), request.clone(), age, drains);
        if work.grace {
            handle.needs_no_guard();
        }
        Ok(Taken { work, envelope, project, request, reservation, handle })
    }
}

/// Whether a call costs so little that it is read to its end when its caller has gone, whichever deployment serves it.
fn drains(plan: &[v1::Deployment], up_to: Money) -> bool {
    let is_cheap =
        |deployment: &v1::Deployment| deployment.unbounded.is_empty() && v1::Money::of(&deployment.bound) <= up_to;
    up_to > Money::ZERO && plan.iter().all(is_cheap)
}

/// Where a call stands between two attempts.
struct Progress {
    /// Index into the plan.
    at: usize,
    /// Tries at this deployment so far.
    tries: u32,
    spent: Money,
    /// How long providers were waited for.
    upstream: Duration,
    warnings: Vec<String>,
    /// What was left when this attempt was admitted.
    budgets: Vec<v1::BudgetLeft>,
    limits: Vec<v1::LimitLeft>,
}

impl Progress {
    fn begun(envelope: &v1::Envelope) -> Progress {
        Progress {
            at: 0,
            tries: 0,
            spent: Money::ZERO,
            upstream: Duration::ZERO,
            warnings: envelope.warnings.clone(),
            budgets: envelope.budgets.clone(),
            limits: envelope.limits.clone(),
        }
    }

    /// The guard covers a further attempt, at this place of the plan.
    fn granted(&mut self, at: usize, granted: v1::Granted) {
        if at != self.at {
            (self.at, self.tries) = (at, 0);
        }
        let known = std::mem::take(&mut self.warnings);
        let news = granted.warnings.into_iter().filter(|warning| !known.contains(warning)).collect::<Vec<_>>();
        self.warnings = [known, news].concat();
        (self.budgets, self.limits) = (granted.budgets, granted.limits);
    }

    /// The guard covers no further attempt, by these limits.
    fn refused(&mut self, limits: Vec<v1::LimitLeft>) {
        if !limits.is_empty() {
            self.limits = limits;
        }
    }

    /// What the caller is told in any case.
    fn report(self, deployment: &v1::Deployment) -> v1::CallReport {
        let mut warnings = self.warnings;
        let clamped = deployment.clamped_max_tokens;
        if clamped > 0 {
            warnings.push(format!("clamped to {clamped} tokens by budget"));
        }
        v1::CallReport {
            model: deployment.alias.clone(),
            provider: deployment.provider.clone(),
            cost: Some(self.spent.into()),
            warnings,
            clamped: clamped > 0,
            budgets: self.budgets,
            limits: self.limits,
            upstream_us: u64::try_from(self.upstream.as_micros()).unwrap_or(u64::MAX),
            ..Default::default()
        }
    }
}

/// Carries a call to its end. The end is recorded by the guard whether the caller is still there or not.
pub(crate) async fn carry(shared: &Shared, taken: Taken) {
    let (id, project, request) = (taken.reservation.id(), taken.project.clone(), taken.request.clone());
    let received = taken.envelope.received_unix_ms;
    let mut reply = reply_of(shared, &taken);
    let last = attempts(shared, taken, &mut reply).await;
    if let Some((ended, progress, deployment)) = last {
        conclude(shared, id, ended, progress, &deployment, &mut reply, received).await;
    }
    shared.held.end(id, &project, &request);
}

/// An answer that is kept is there for whoever asks later.
fn place_of(shared: &Shared, taken: &Taken) -> Option<Place> {
    let envelope = &taken.envelope;
    let kept = envelope.keep_result || envelope.job || shared.options.listener_patience.get().is_zero();
    let to = Some(envelope.reply_to.clone()).filter(|_| !kept)?;
    let asking = shared.bus.asking(&to);
    shared.listeners.watch(taken.reservation.id(), to, asking, taken.handle.clone())
}

fn reply_of(shared: &Shared, taken: &Taken) -> Reply {
    let envelope = &taken.envelope;
    Reply {
        bus: shared.bus.clone(),
        tenancy: shared.tenancy,
        held: shared.held.clone(),
        handle: taken.handle.clone(),
        project: taken.project.clone(),
        request: taken.request.clone(),
        to: envelope.reply_to.clone(),
        place: place_of(shared, taken),
        json: envelope.json,
        keep: envelope.keep_result,
        job: envelope.job,
        may_store: envelope.may_store_answer,
        begun: None,
        body_digest: envelope.body_digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        store_timeout: shared.options.guard_timeout.get(),
        until: Instant::now() + envelope.deadline().remaining(shared.clock.now()) + shared.options.guard_deadline.get(),
        chunks: 0,
    }
}

/// Tries the plan. The result is the last attempt, still to be recorded; none when the guard has ended the call.
async fn attempts(shared: &Shared, taken: Taken, reply: &mut Reply) -> Option<(Ended, Progress, v1::Deployment)> {
    let Taken { mut work, envelope, project, mut reservation, handle, .. } = taken;
    let upstream = shared.upstream.borrow().clone();
    let now = shared.clock.now();
    let deadline = Instant::now() + envelope.deadline().remaining(now);
    let mut progress = Progress::begun(&envelope);
    let asked = match read_body(shared, &envelope, deadline).await {
        Ok(asked) => asked,
        Err(fault) => {
            let ended = Ended::before_sending(reservation, fault);
            return Some((ended, progress, work.plan[0].clone()));
        }
    };
    loop {
        let deployment = work.plan[progress.at].clone();
        let job = Job {
            options: &shared.options,
            upstream: &upstream,
            keys: &shared.keys,
            project: &project,
            counts: &shared.counts,
            asked: &asked,
            dialect: envelope.dialect(),
            deployment: &deployment,
            deadline,
            stamp: Stamp {
                id: format!("farebox-{}", envelope.request_id),
                created: now.millis() / 1000,
                model: Some(envelope.model.clone()),
            },
        };
        progress.tries += 1;
        // Work may have waited longer than the lease: then the guard has ended it, and its next answer says so.
        if !shared.held.may_act(&handle) && timeout_at(deadline, shared.held.valid(&handle)).await.is_err() {
            let fault = Fault::new(ErrorKind::DeadlineExceeded, "no guard answered before the request's deadline");
            return Some((Ended::before_sending(reservation, fault), progress, deployment));
        }
        if handle.why() == Some(Stop::Closed) {
            return None;
        }
        reply.would_begin(v1::CallBegun {
            model: deployment.alias.clone(),
            provider: deployment.provider.clone(),
            budgets: progress.budgets.clone(),
            limits: progress.limits.clone(),
            ..Default::default()
        });
        let mut ended = Box::pin(attempt::make(&job, reservation, reply)).await;
        progress.warnings.append(&mut ended.warnings);
        progress.upstream += ended.upstream;
        if handle.why() == Some(Stop::Closed) {
            // The guard recorded its end and answered the caller.
            return None;
        }
        // Without a guard there is nobody to cover a further attempt, without its caller nobody to make it for.
        let next = if work.grace || handle.is_forsaken() {
            None
        } else {
            next_step(&shared.options, &work.plan, &progress, &ended)
        };
        let Some((next, pause)) = next else {
            return Some((ended, progress, deployment));
        };
        if !wait(pause, deadline, &handle).await || handle.is_forsaken() {
            match handle.why() {
                Some(Stop::Cancelled) => ended.result = Err(attempt::cancelled()),
                Some(Stop::Leaving) => ended.result = Err(attempt::left()),
                _ => {}
            }
            return Some((ended, progress, deployment));
        }
        let cost = v1::Money::of(&ended.end.cost);
        match amend(shared, &work.plan[next..], ended).await {
            Next::Covered(further, granted, covered) => {
                progress.spent += cost;
                reservation = covered;
                work.plan[next + further].grant(&granted);
                progress.granted(next + further, granted);
            }
            Next::Over(ended, limits) => {
                progress.refused(limits);
                return Some((*ended, progress, deployment));
            }
            Next::Closed => return None,
        }
    }
}

async fn read_body(shared: &Shared, envelope: &v1::Envelope, deadline: Instant) -> Result<Asked, Fault> {
    let bytes = match &envelope.stored_body {
        None => envelope.body.clone(),
        Some(object) => fetch(shared, object, deadline).await?,
    };
    if envelope.dialect() == v1::Dialect::Unspecified {
        return Asked::typed(&envelope.model, bytes, envelope.stream);
    }
    let name = DialectName::known(envelope.dialect())
        .ok_or_else(|| Fault::new(ErrorKind::Internal, "the body's dialect is not known to this worker: update it"))?;
    let headers = envelope.headers.iter().map(|header| (header.name.as_str(), header.value.as_str()));
    Asked::raw_beside(name, bytes, Beside::new(name, headers, &envelope.query), envelope.stream)
}

async fn fetch(shared: &Shared, object: &v1::ObjectRef, deadline: Instant) -> Result<Bytes, Fault> {
    let within = deadline.saturating_duration_since(Instant::now());
    let fetched = shared.bus.get_object(&object.clone().into(), within).await;
    fetched.map_err(|error| error.fault("the request's stored body cannot be fetched"))
}

/// Which deployment is tried next and after what pause; none when this attempt was the last.
fn next_step(
    options: &Options,
    plan: &[v1::Deployment],
    progress: &Progress,
    ended: &Ended,
) -> Option<(usize, Duration)> {
    let fault = ended.result.as_ref().err().filter(|_| ended.again)?;
    let asked = fault.retry_after.unwrap_or_default();
    let tries = progress.tries;
    let backoff = options.retry_pause.get() * 2_u32.saturating_pow(tries.saturating_sub(1));
    let pause = backoff.max(asked).min(options.retry_pause_max.get());
    let has_other = progress.at + 1 < plan.len();
    // Who asks for a long pause is not waited for while another deployment can serve.
    let moves_on = has_other && (asked > options.retry_pause.get() || tries > plan[progress.at].retries);
    if moves_on {
        return Some((progress.at + 1, Duration::ZERO));
    }
    (tries <= plan[progress.at].retries).then_some((progress.at, pause))
}

/// `false`: the call was stopped, or its deadline comes first.
async fn wait(pause: Duration, deadline: Instant, handle: &Handle) -> bool {
    if handle.why().is_some() {
        return false;
    }
    if pause.is_zero() {
        return true;
    }
    if Instant::now() + pause >= deadline {
        return false;
    }
    tokio::select! {
        () = sleep(pause) => true,
        () = sleep_until(deadline) => false,
        () = handle.woken.cancelled() => false,
    }
}

enum Next {
    /// How much further in the plan, and by what grant.
    Covered(usize, v1::Granted, Reservation),
    /// The guard covers no further attempt: this one was the last. Where limits are the reason, how they stand.
    Over(Box<Ended>, Vec<v1::LimitLeft>),
    Closed,
}

/// Asks to cover an attempt at the first of these deployments, or at one behind it where its provider's limits have no room.
async fn amend(shared: &Shared, plan: &[v1::Deployment], mut ended: Ended) -> Next {
    let offered: Vec<v1::Attempt> = plan.iter().map(|deployment| deployment.attempt(CallId::generate())).collect();
    let Some((first, others)) = offered.split_first() else { return Next::Closed };
    let id = ended.attempt.reservation;
    match shared.guard.amend(id, ended.end.clone(), first.clone(), others.to_vec()).await {
        Amended::Granted(granted) => {
            let Some((further, covered)) = ended.attempt.replaced_by(&offered, &granted) else {
                tracing::error!(call = granted.call_id, "the guard covered a call that it was not asked for");
                return Next::Closed;
            };
            Next::Covered(further, granted, covered)
        }
        Amended::Closed => Next::Closed,
        Amended::Refused(v1::Error { message, retry_after_ms, limits, .. }) => {
            if let Err(fault) = &mut ended.result {
                fault.message = format!("{} (no further attempt: {})", fault.message, message);
                fault.retry_after = fault.retry_after.or(retry_after_ms.map(Duration::from_millis));
            }
            Next::Over(Box::new(ended), limits)
        }
    }
}

/// Answers the caller, then records the end: on one connection, so that an answer is followed by its end at once.
async fn conclude(
    shared: &Shared,
    id: ReservationId,
    ended: Ended,
    progress: Progress,
    deployment: &v1::Deployment,
    reply: &mut Reply,
    received_unix_ms: i64,
) {
    let Ended { attempt, end, result, provider_request_id, .. } = ended;
    let latency = shared.clock.now().millis() - received_unix_ms;
    let report = v1::CallReport {
        call_id: end.call_id.clone(),
        served_model: end.served_model.clone(),
        usage: end.usage,
        cost: Some((progress.spent + v1::Money::of(&end.cost)).into()),
        latency_ms: u64::try_from(latency).unwrap_or_default(),
        first_token_ms: end.first_token_ms,
        attempts: attempt.number,
        outcome: end.outcome,
        estimated: end.estimated,
        provider_request_id,
        ..progress.report(deployment)
    };
    let result = result.unwrap_or_else(|fault| v1::llm_response::Result::Error(fault.into()));
    if reply.finish(result, report).await.is_err() {
        return;
    }
    shared.guard.settle(id, end).await;
}
