//! From a request to a worker: plan, reservation, offer.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, CallError, Headers, Reach, Refusal, topology};
use farebox_proto::{subjects, v1};
use farebox_runtime::Tasks;
use farebox_types::{CallId, Clock, ErrorKind, Fault, ReservationId, Timestamp};
use prost::Message;
use tokio::time::{Instant, sleep};

use crate::{
    answer::Results,
    grace::{Grace, Graced, WARNING},
    options::Options,
    request::Request,
    route::{Plan, Router},
};

/// Admits requests.
pub(crate) struct Admitter {
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) results: Results,
    pub(crate) grace: Grace,
    pub(crate) options: Options,
    pub(crate) router: Router,
}

/// How a request travels on.
pub(crate) struct Road<'a> {
    /// Where chunks and the final answer go; empty: nowhere.
    pub(crate) reply_to: &'a str,
    /// The final answer is also stored.
    pub(crate) keep: bool,
    pub(crate) job: bool,
    pub(crate) received: Timestamp,
    pub(crate) traceparent: Option<&'a str>,
}

/// What covers a request.
enum Cover {
    Answered(v1::reserve_reply::Result),
    /// No guard leads, and the budgets allow to go on.
    Graced(Graced),
}

/// What the guard, or grace, said yes to.
struct Covered {
    reservation: ReservationId,
    /// One for each deployment of the plan that the guard was asked about.
    calls: Vec<CallId>,
    granted: v1::Granted,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// A worker has it: the answer comes from there, or from the guard if the worker dies.
    Taken,
    /// The caller has its final answer, or is being told: nothing is left to do.
    Answered,
    /// The request id is known: attach to the running call or fetch its answer.
    Existing(v1::Existing),
    Refused(v1::Error),
}

impl Admitter {
    pub(crate) async fn admit(&self, request: &Request, road: &Road<'_>) -> Admission {
        let now = self.clock.now();
        let latest = now.after(self.options.max_deadline.get());
        let deadline = request.deadline.min(latest);
        if deadline <= now {
            let message = "the deadline lies in the past: give milliseconds since the Unix epoch, ahead of now";
            return Admission::Refused(Fault::new(ErrorKind::DeadlineExceeded, message).into());
        }
        let plan = match self.router.plan(request, now) {
            Ok(plan) => plan,
            Err(fault) => return Admission::Refused(fault.into()),
        };
        let reservation = ReservationId::generate();
        let offered = plan.deployments.iter().take(1 + self.options.alternatives_max);
        let calls: Vec<CallId> = offered.map(|_| CallId::generate()).collect();
        let ask = reserve_request(request, road, &plan.deployments, reservation, &calls, deadline);
        let granted = match self.reserve(&ask, deadline).await {
            Ok(Cover::Answered(v1::reserve_reply::Result::Granted(granted))) => granted,
            // This very one ended before it was heard that it was granted: the guard has told its caller.
            Ok(Cover::Answered(v1::reserve_reply::Result::Existing(existing)))
                if !road.job && !existing.open && existing.reservation_id == reservation.to_string() =>
            {
                return Admission::Answered;
            }
            Ok(Cover::Answered(v1::reserve_reply::Result::Existing(existing))) => {
                return Admission::Existing(existing);
            }
            Ok(Cover::Answered(v1::reserve_reply::Result::Refused(error))) => {
                return Admission::Refused(error);
            }
            Ok(Cover::Graced(graced)) => {
                // The guard may find the question yet.
                self.release_later(reservation);
                return self.go_on(request, road, plan, &graced, deadline).await;
            }
            Err(fault) => {
                // Unheard is not undone: the guard may store the reservation yet.
                self.release_later(reservation);
                return Admission::Refused(fault.into());
            }
        };
        if road.job && self.answered(request).await {
            self.release(reservation).await;
            return Admission::Answered;
        }
        let covered = Covered { reservation, calls, granted };
        let work = match self.work(request, road, plan, covered, deadline).await {
            Ok(work) => work,
            Err(fault) => {
                self.release(reservation).await;
                return Admission::Refused(fault.into());
            }
        };
        match self.hand_over(work, road.traceparent, deadline).await {
            Ok(()) => Admission::Taken,
            Err(fault) => {
                self.release(reservation).await;
                Admission::Refused(fault.into())
            }
        }
    }

    /// Hands over what was reserved without a guard.
    async fn go_on(
        &self,
        request: &Request,
        road: &Road<'_>,
        plan: Plan,
        graced: &Graced,
        deadline: Timestamp,
    ) -> Admission {
        let handed = async {
            let (reservation, calls) = (graced.reservation, vec![graced.call]);
            let granted = v1::Granted { bound: Some(graced.bound.into()), ..Default::default() };
            let covered = Covered { reservation, calls, granted };
            let mut work = self.work(request, road, plan, covered, deadline).await?;
            work.grace = true;
            if let Some(envelope) = &mut work.envelope {
                envelope.warnings.push(WARNING.to_owned());
            }
            self.hand_over(work, road.traceparent, deadline).await
        };
        match handed.await {
            Ok(()) => Admission::Taken,
            Err(fault) => {
                self.grace.release(graced.reservation).await;
                Admission::Refused(fault.into())
            }
        }
    }

    /// Whether a final answer is stored: a job may have been cancelled while its money was reserved. Where that cannot be
    /// read, the job runs: the first answer stays the answer.
    async fn answered(&self, request: &Request) -> bool {
        let Ok(project) = request.principal.project() else { return false };
        matches!(self.results.find(&project, &request.id).await, Ok(Some(_)))
    }

    /// Asks the guard until it answers: the question is the same each time, so a lost answer is given again. Where no guard
    /// leads and the budgets allow it, the call is covered without one.
    async fn reserve(&self, ask: &v1::ReserveRequest, deadline: Timestamp) -> Result<Cover, Fault> {
        let allowed = self.options.guard_deadline.get().min(deadline.remaining(self.clock.now()));
        let until = Instant::now() + allowed;
        let subject = subjects::reserve(subjects::SHARD);
        loop {
            if self.grace.is_due()
                && let Some(leave) = self.grace.leave(ask)
                && let Some(graced) = self.grace.reserve(ask, &leave).await?
            {
                return Ok(Cover::Graced(graced));
            }
            let asked = Instant::now();
            let within = self.options.guard_timeout.get().min(until.saturating_duration_since(asked));
            let answer: Result<v1::ReserveReply, CallError> = self.bus.call(&subject, ask, within).await;
            match answer {
                Ok(v1::ReserveReply { result: Some(result) }) => {
                    self.grace.heard();
                    return Ok(Cover::Answered(result));
                }
                Ok(_) => tracing::warn!("the guard answered nothing to a reservation"),
                Err(error) if Instant::now() + self.options.offer_pause.get() >= until => {
                    if allowed < self.options.guard_deadline.get() {
                        let message = "the request's deadline passed before the guard had admitted it: allow more time";
                        return Err(Fault::new(ErrorKind::DeadlineExceeded, message));
                    }
                    let message = format!(
                        "no guard answers, so nothing may be spent ({error}): try again later, or start `farebox guard`"
                    );
                    return Err(
                        Fault::new(ErrorKind::Unavailable, message).retry_after(self.options.guard_timeout.get())
                    );
                }
                Err(error) => {
                    self.grace.unheard(asked);
                    tracing::debug!(%error, "asking the guard again");
                }
            }
            sleep(self.options.offer_pause.get()).await;
        }
    }

    /// Offers work to the pool until a worker takes it. A refusal, or nobody there, is known for certain; silence
    /// means that somebody has it.
    async fn hand_over(&self, work: v1::Work, traceparent: Option<&str>, deadline: Timestamp) -> Result<(), Fault> {
        let allowed = self.options.worker_deadline.get().min(deadline.remaining(self.clock.now()));
        let until = Instant::now() + allowed;
        let payload: bytes::Bytes = work.encode_to_vec().into();
        drop(work);
        let mut reach = Reach::Near;
        loop {
            let headers = traceparent.map_or_else(Headers::new, |parent| Headers::new().with_traceparent(parent));
            let reason = match self.bus.offer(reach, subjects::WORK, headers, payload.clone()).await {
                Ok(mut offer) => match offer.refused(self.options.offer_wait.get()).await {
                    None => return Ok(()),
                    Some(Refusal::NoResponders) => "no worker is running: start `farebox worker`".to_owned(),
                    Some(Refusal::Replied(delivery)) => delivery
                        .decode::<v1::WorkRefused>()
                        .map_or_else(|error| error.to_string(), |refused| refused.reason),
                    Some(Refusal::Forbidden) => "the NATS server forbids handing work to workers".to_owned(),
                    // Not known to be free: the lease decides.
                    Some(Refusal::Disconnected) => return Ok(()),
                },
                Err(error) => error.to_string(),
            };
            // The worker of this process does not want it: another one may.
            reach = Reach::Far;
            if Instant::now() + self.options.offer_pause.get() >= until {
                let message = format!("no worker took the request within {allowed:?}: {reason}");
                return Err(Fault::new(ErrorKind::Unavailable, message).retry_after(Duration::from_secs(1)));
            }
            sleep(self.options.offer_pause.get()).await;
        }
    }

    /// Gives back a reservation that nobody took.
    async fn release(&self, reservation: ReservationId) {
        release(&self.bus, &self.options, reservation, self.options.guard_timeout.get() * 3).await;
    }

    /// Gives back a reservation that the guard may hold without having said so. It travels behind the question on the
    /// same connection, so a guard that wakes up reads the two in this order.
    fn release_later(&self, reservation: ReservationId) {
        let (bus, options) = (self.bus.clone(), self.options.clone());
        self.tasks.spawn("release", async move {
            release(&bus, &options, reservation, options.release_deadline.get()).await;
        });
    }

    async fn work(
        &self,
        request: &Request,
        road: &Road<'_>,
        mut plan: Plan,
        covered: Covered,
        deadline: Timestamp,
    ) -> Result<v1::Work, Fault> {
        /// Room for everything but the body.
        const ENVELOPE: usize = 64 * 1024;
        let Covered { reservation, calls, granted } = covered;
        let at = granted.covered(&calls).ok_or_else(|| {
            Fault::new(ErrorKind::Internal, "the guard covered a call that it was not asked for: nothing was sent")
        })?;
        let mut warnings = request.warnings.clone();
        warnings.extend(plan.warnings);
        // Those before it have no room now.
        let mut plan = plan.deployments.split_off(at);
        if let Some(first) = plan.first_mut() {
            first.grant(&granted);
        }
        warnings.extend(granted.warnings);
        let stream = streams(request, road);
        if request.stream && !stream {
            warnings.push("the answer was not streamed: there is no reply subject for its pieces".to_owned());
        }
        let large = request.body.len() + ENVELOPE > self.bus.max_payload();
        let stored_body = match &request.stored_body {
            _ if !large => None,
            Some(stored) => Some(stored.clone()),
            None => Some(self.store_body(request, deadline).await?),
        };
        Ok(v1::Work {
            envelope: Some(v1::Envelope {
                principal: Some(request.principal.clone()),
                labels: Some(request.labels.clone()),
                request_id: request.id.as_str().to_owned(),
                keep_result: road.keep,
                job: road.job,
                reply_to: road.reply_to.to_owned(),
                json: request.json,
                stream,
                received_unix_ms: road.received.millis(),
                deadline_unix_ms: deadline.millis(),
                dialect: request.dialect.into(),
                body: if large { bytes::Bytes::new() } else { request.body.clone() },
                stored_body,
                model: plan.first().map(|first| first.alias.clone()).unwrap_or_default(),
                warnings,
                body_digest: request.digest.to_vec().into(),
                budgets: granted.budgets,
                limits: granted.limits,
                headers: request.headers.clone(),
                query: request.query.clone(),
                may_store_answer: request.principal.entrance() == v1::Entrance::Http,
            }),
            plan,
            reservation_id: reservation.to_string(),
            call_id: calls[at].to_string(),
            ..Default::default()
        })
    }

    async fn store_body(&self, request: &Request, deadline: Timestamp) -> Result<v1::ObjectRef, Fault> {
        let within = deadline.remaining(self.clock.now());
        let stored = self.bus.put_object(topology::BODIES, request.body.clone(), within).await;
        stored.map(Into::into).map_err(|error| error.fault("the request's body could not be stored"))
    }
}

/// Asks the guard to release until it answers. What it does not know, or what a worker holds, needs no release.
async fn release(bus: &Bus, options: &Options, reservation: ReservationId, within: Duration) {
    let ask = v1::ReleaseRequest { shard: subjects::SHARD, reservation_id: reservation.to_string() };
    let subject = subjects::release(subjects::SHARD);
    let until = Instant::now() + within;
    while Instant::now() < until {
        let answer: Result<v1::ReleaseReply, CallError> = bus.call(&subject, &ask, options.guard_timeout.get()).await;
        match answer {
            Ok(reply) if is_final(&reply) => return,
            Ok(_) => tracing::debug!(%reservation, "the guard could not release yet"),
            Err(error) => tracing::debug!(%reservation, %error, "releasing a reservation again"),
        }
        sleep(options.offer_pause.get()).await;
    }
    tracing::warn!(%reservation, "a reservation that nobody took was not released: its lease will run out");
}

/// Whether asking again would change nothing.
fn is_final(reply: &v1::ReleaseReply) -> bool {
    let passing = |error: &v1::Error| Fault::from(error.clone()).kind == ErrorKind::Unavailable;
    reply.released || !reply.error.as_ref().is_some_and(passing)
}

/// Whether the answer comes in pieces: only where somebody listens.
fn streams(request: &Request, road: &Road<'_>) -> bool {
    request.stream && !road.job && !road.reply_to.is_empty()
}

fn reserve_request(
    request: &Request,
    road: &Road<'_>,
    plan: &[v1::Deployment],
    reservation: ReservationId,
    calls: &[CallId],
    deadline: Timestamp,
) -> v1::ReserveRequest {
    let mut attempts = plan.iter().zip(calls).map(|(deployment, call)| deployment.attempt(*call));
    v1::ReserveRequest {
        shard: subjects::SHARD,
        reservation_id: reservation.to_string(),
        principal: Some(request.principal.clone()),
        labels: Some(request.labels.clone()),
        request_id: request.id.as_str().to_owned(),
        body_digest: if request.id_chosen { request.digest.to_vec().into() } else { bytes::Bytes::new() },
        reply_to: road.reply_to.to_owned(),
        json: request.json,
        stream: streams(request, road),
        keep_result: road.keep,
        job: road.job,
        received_unix_ms: road.received.millis(),
        deadline_unix_ms: deadline.millis(),
        trace_id: road.traceparent.and_then(trace_id).unwrap_or_default(),
        attempt: attempts.next(),
        max_cost: request.max_cost.map(Into::into),
        alternatives: attempts.collect(),
    }
}

fn trace_id(traceparent: &str) -> Option<String> {
    traceparent.parse::<farebox_telemetry::TraceContext>().ok().map(|context| context.trace_id())
}
