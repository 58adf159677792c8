//! `llm.job`: stored first, run when there is capacity, answered once.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Delivery, Fence, Headers, Inbox, PublishError, Pulled, StoreError, caller, topology};
use farebox_dialect::DialectName;
use farebox_proto::{headers, json, subjects, v1};
use farebox_types::{Disposition, ErrorKind, Fault, Project, RequestId, Timestamp};
use prost::Message;
use tokio::time::{Instant, interval_at, sleep};

use crate::{
    admit::{Admission, Road},
    answer::{Outgoing, error_kind, is_to, used_before},
    live::Shared,
    queries,
    request::{Arrival, Payload, Request, is_json, on_the_bus},
};

/// Stores a job and sends the receipt.
pub(crate) async fn submit(shared: &Shared, delivery: Delivery) {
    let json = is_json(&delivery.headers, &delivery.payload);
    let receipt = match store(shared, &delivery, json).await {
        Ok(receipt) => receipt,
        Err((id, fault)) => v1::JobReceipt { request_id: id, duplicate: false, error: Some(fault.into()) },
    };
    let Some(to) = &delivery.reply else { return };
    let mut outgoing = Outgoing::receipt(json, &receipt);
    if let Some(error) = receipt.error {
        outgoing.headers.set(headers::ERROR, Fault::from(error).kind.as_str());
    }
    shared.say(to, outgoing).await;
}

async fn store(shared: &Shared, delivery: &Delivery, json: bool) -> Result<v1::JobReceipt, (String, Fault)> {
    let unnamed = |fault: Fault| (String::new(), fault);
    let caller = caller(delivery, shared.tenancy).map_err(|unknown| unnamed(unknown.into()))?;
    let now = shared.clock.now();
    let arrival = Arrival {
        principal: on_the_bus(&caller),
        message: Payload::new(json, &delivery.payload, delivery.headers.get(headers::DIALECT)),
        now,
        default_deadline: shared.options.default_job_deadline.get(),
        assigned: Some(RequestId::generate()),
    };
    // What cannot work is refused now, not when its turn comes.
    shared.authoriser.admit(&arrival.principal).map_err(unnamed)?;
    let request = Request::read(arrival, &shared.options)
        .and_then(|request| shared.authoriser.authorise(request))
        .map_err(unnamed)?;
    let id = request.id.as_str().to_owned();
    let named = |fault: Fault| (id.clone(), fault);
    shared.admitter.router.plan(&request, now).map_err(named)?;
    let digest = request.digest_text();
    if let Some(result) = shared.results.find(&caller.project, &request.id).await.map_err(|e| named(unavailable(e)))? {
        return if is_to(&result, &digest) {
            Ok(receipt(&request, true))
        } else {
            Err(named(used_before(&request.id)))
        };
    }
    let job = v1::Job {
        principal: Some(request.principal.clone()),
        request_id: id.clone(),
        message: delivery.payload.clone(),
        json,
        dialect: request.dialect.into(),
        stored_unix_ms: now.millis(),
        deadline_unix_ms: request.deadline.millis(),
        traceparent: delivery.headers.traceparent().unwrap_or_default().to_owned(),
    };
    let subject = subjects::job(&caller.project, &request.id);
    let fence = Fence::after_subject_seq(0).with_id(format!("{}/{id}", caller.project));
    let within = shared.options.store_timeout.get();
    let head = Headers::new().with(headers::BODY_DIGEST, &digest);
    match shared.bus.store(&subject, head, fence, job.encode_to_vec().into(), within).await {
        Ok(stored) if !stored.duplicate => Ok(receipt(&request, false)),
        // Stored before: by its message id, or it still waits under its subject.
        Ok(_) | Err(StoreError::WrongLastSequence { .. }) => {
            let before =
                shared.bus.last_by_subject(topology::JOBS, &subject).await.map_err(|e| named(unavailable(e)))?;
            let same = before.is_none_or(|job| is_to(&job, &digest));
            if same { Ok(receipt(&request, true)) } else { Err(named(used_before(&request.id))) }
        }
        Err(StoreError::Publish(PublishError::TooLarge { size, max, .. })) => {
            let message = format!(
                "the job has {size} bytes as it is stored, above the NATS server's max_payload of {max}: send less, or \
                 raise max_payload"
            );
            Err(named(Fault::new(ErrorKind::TooLarge, message)))
        }
        Err(error) => Err(named(unavailable(error))),
    }
}

fn receipt(request: &Request, duplicate: bool) -> v1::JobReceipt {
    v1::JobReceipt { request_id: request.id.as_str().to_owned(), duplicate, error: None }
}

fn unavailable(error: impl std::fmt::Display) -> Fault {
    Fault::new(ErrorKind::Unavailable, format!("the job could not be stored: {error}"))
}

/// What to do with a job's message after a run.
enum After {
    /// Its final answer is stored.
    Done,
    /// It failed in passing.
    Again,
}

/// Runs one delivered job. Its message goes only once the final answer is stored.
pub(crate) async fn run(shared: Arc<Shared>, delivery: Pulled) {
    let alive = async {
        let beat = (shared.options.job_ack_wait.get() / 3).max(Duration::from_millis(1));
        let mut ticks = interval_at(Instant::now() + beat, beat);
        loop {
            ticks.tick().await;
            if let Err(error) = delivery.progress().await {
                tracing::debug!(%error, "a job's sign of life was not sent");
            }
        }
    };
    let after = tokio::select! {
        after = once(&shared, &delivery) => after,
        () = alive => return,
    };
    let acknowledged = match after {
        After::Done => delivery.double_ack(shared.options.store_timeout.get()).await,
        After::Again => delivery.nak(retry_pause(&shared, delivery.delivered)).await,
    };
    if let Err(error) = acknowledged {
        // It is delivered again, and its stored answer is found.
        tracing::debug!(job = delivery.subject, %error, "a job was not acknowledged");
    }
}

fn retry_pause(shared: &Shared, runs: u64) -> Duration {
    let doublings = u32::try_from(runs.saturating_sub(1)).unwrap_or(5).min(5);
    shared.options.job_retry_pause.get() * 2_u32.pow(doublings)
}

async fn once(shared: &Shared, delivery: &Pulled) -> After {
    let digest = delivery.headers.get(headers::BODY_DIGEST);
    let read = v1::Job::decode(delivery.payload.clone()).ok().and_then(|job| {
        let project = job.principal.as_ref()?.project().ok()?;
        let id = RequestId::parse(&job.request_id).ok()?;
        Some((job, project, id))
    });
    let Some((job, project, id)) = read else {
        return unreadable(shared, delivery, digest).await;
    };
    match shared.results.find(&project, &id).await {
        Ok(Some(_)) => return After::Done,
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, "stored answers cannot be read: the job waits");
            return After::Again;
        }
    }
    let outcome = attempt(shared, delivery, &job, &project, &id).await;
    let mut error = match outcome {
        Ok(()) => return After::Done,
        Err(error) => error,
    };
    let kind = error.kind().known().unwrap_or(ErrorKind::Internal);
    let passing = kind.disposition() == Disposition::Nak;
    if passing && delivery.delivered < shared.options.job_runs_max {
        tracing::info!(job = delivery.subject, %kind, runs = delivery.delivered, "a job will run again");
        return After::Again;
    }
    if passing {
        error.message = format!("given up after {} runs: {}", delivery.delivered, error.message);
    }
    end(shared, job.json, &project, &id, digest, error).await
}

/// Ends a job whose message cannot be read: its subject still says whose it is.
async fn unreadable(shared: &Shared, delivery: &Pulled, digest: Option<&str>) -> After {
    let Some((project, id)) = subjects::of_job(&delivery.subject) else {
        tracing::error!(job = delivery.subject, "a stored job cannot be read, names no caller and is dropped");
        return After::Done;
    };
    tracing::error!(job = delivery.subject, "a stored job cannot be read and is ended");
    let fault = Fault::new(ErrorKind::Internal, "the stored job cannot be read: submit it again under a new id");
    end(shared, true, &project, &id, digest, fault).await
}

/// Stores a final error.
async fn end(
    shared: &Shared,
    json: bool,
    project: &Project,
    id: &RequestId,
    digest: Option<&str>,
    error: impl Into<v1::Error>,
) -> After {
    let mut outgoing = Outgoing::refusal(json, id.as_str(), error);
    outgoing.headers.set(headers::BODY_DIGEST, digest.unwrap_or_default());
    match shared.results.keep(project, id, &outgoing).await {
        Ok(_) => After::Done,
        Err(error) => {
            tracing::warn!(request = id.as_str(), %error, "a job's answer was not kept: it is tried again");
            After::Again
        }
    }
}

/// One run. `Ok`: its final answer is stored.
async fn attempt(
    shared: &Shared,
    delivery: &Pulled,
    job: &v1::Job,
    project: &Project,
    id: &RequestId,
) -> Result<(), v1::Error> {
    let deadline = Timestamp(job.deadline_unix_ms);
    let dialect = DialectName::known(job.dialect()).map(DialectName::as_str);
    let arrival = Arrival {
        principal: job.principal.clone().unwrap_or_default(),
        message: Payload::new(job.json, &job.message, dialect),
        now: Timestamp(job.stored_unix_ms),
        default_deadline: shared.options.default_job_deadline.get(),
        assigned: Some(id.clone()),
    };
    let request = Request { deadline, ..Request::read(arrival, &shared.options)? };
    let mut inbox = shared.bus.inbox();
    let reply_to = inbox.subject();
    let traceparent = Some(job.traceparent.as_str()).filter(|parent| !parent.is_empty());
    let road =
        Road { reply_to: &reply_to, keep: true, job: true, received: Timestamp(job.stored_unix_ms), traceparent };
    let mut pause = shared.options.job_retry_pause.get();
    loop {
        // What its caller may do now, not what it could when the job was stored.
        let admission = match shared.authoriser.authorise(request.clone()) {
            Ok(request) => shared.admitter.admit(&request, &road).await,
            Err(fault) => Admission::Refused(fault.into()),
        };
        match admission {
            // A part of farebox is away: that is no run, the job waits for its turn.
            Admission::Refused(error) if error.kind() == v1::ErrorKind::Unavailable => {
                tracing::debug!(job = delivery.subject, reason = error.message, "a job waits");
            }
            Admission::Refused(error) => return Err(error),
            // Existing: run by an intake that is no longer here; its worker stores the answer.
            Admission::Taken | Admission::Existing(_) => break,
            Admission::Answered => return Ok(()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(shared.options.job_wait_max.get());
        if stored(shared, project, id).await? {
            // It was cancelled meanwhile.
            return Ok(());
        }
    }
    ended(shared, job, project, id, &mut inbox, deadline).await
}

/// Waits until the job's call has ended. Whoever ends it says so here, but a message can be lost, and who ran it before
/// said it elsewhere: so the stored answers and the guard are asked now and then as well.
async fn ended(
    shared: &Shared,
    job: &v1::Job,
    project: &Project,
    id: &RequestId,
    inbox: &mut Inbox,
    deadline: Timestamp,
) -> Result<(), v1::Error> {
    let look = shared.options.result_wait.get();
    loop {
        if let Ok(Some(answer)) = tokio::time::timeout(look, inbox.next()).await {
            return take(shared, job, project, id, &answer).await;
        }
        let known = queries::lookup(shared, project, id).await;
        if stored(shared, project, id).await? {
            return Ok(());
        }
        if let Some(closed) = known.filter(|known| !known.open) {
            let kind = closed.error_kind().known().unwrap_or(ErrorKind::Lost);
            return Err(Fault::new(kind, format!("its call ended as {kind} and left no answer")).into());
        }
        if deadline.after(look) < shared.clock.now() {
            let message = format!("job `{id}` did not end before its deadline");
            return Err(Fault::new(ErrorKind::DeadlineExceeded, message).into());
        }
    }
}

async fn stored(shared: &Shared, project: &Project, id: &RequestId) -> Result<bool, Fault> {
    shared.results.find(project, id).await.map(|found| found.is_some()).map_err(unavailable)
}

/// The end of a call, as its worker or the guard said it.
async fn take(
    shared: &Shared,
    job: &v1::Job,
    project: &Project,
    id: &RequestId,
    answer: &Delivery,
) -> Result<(), v1::Error> {
    match error_kind(&answer.headers) {
        Some(kind) if kind.disposition() == Disposition::Nak => {
            let unsaid = || Fault::new(kind, format!("it ended as {kind}")).into();
            Err(said(job.json, &answer.payload).unwrap_or_else(unsaid))
        }
        // The worker stored it before it said so here; where it could not, this is the second try.
        _ => {
            let outgoing = Outgoing::delivered(answer);
            shared.results.keep(project, id, &outgoing).await.map(|_| ()).map_err(|error| unavailable(error).into())
        }
    }
}

/// The error that an answer carries, in the words of whoever said it.
fn said(json: bool, answer: &[u8]) -> Option<v1::Error> {
    if json {
        return json::error_of(answer);
    }
    match v1::LlmResponse::decode(answer).ok()?.result? {
        v1::llm_response::Result::Error(error) => Some(error),
        _ => None,
    }
}
