//! What the guard tells the world once the ledger has it: call facts, alerts, and typed errors to the callers of lost
//! calls.

use std::time::Duration;

use farebox_bus::{Bus, Fence, Headers, StoreError, topology};
use farebox_proto::{headers, json, subjects::Tenancy, v1};
use farebox_types::{CallId, ErrorKind, Fault, Project, RequestId};
use futures::{StreamExt, stream::FuturesUnordered};
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::handler::Orphan;

#[derive(Clone)]
pub(crate) struct Announcer {
    pub(crate) bus: Bus,
    pub(crate) tenancy: Tenancy,
    pub(crate) json_events: bool,
    /// The project that hears of what belongs to no project.
    pub(crate) operators: Project,
    /// How long all lost answers of one batch together may take to be kept.
    pub(crate) keep_timeout: Duration,
    /// How many of them are written at a time.
    pub(crate) keep_inflight: usize,
}

impl Announcer {
    /// Publishes one attempt's end. The calls stream captures it by its message id, live subscribers see it now.
    pub(crate) async fn fact(&self, fact: &v1::CallFact) {
        let Some(Ok(project)) = fact.principal.as_ref().map(v1::Principal::project) else {
            return;
        };
        let Ok(call) = fact.call_id.parse::<CallId>() else {
            return;
        };
        let id = Headers::new().with("Nats-Msg-Id", &fact.call_id);
        let subject = self.tenancy.call(&project, &call);
        if let Err(error) = self.bus.publish(&subject, id, fact.encode_to_vec().into()).await {
            tracing::warn!(call = fact.call_id, %error, "a call fact was not published; its ledger entry is stored");
        }
        if self.json_events {
            let headers = Headers::new().with(headers::CONTENT_TYPE, headers::JSON);
            // The fact above said so already if the connection is gone.
            let _ = self.bus.publish(&self.tenancy.event(&project, &call), headers, json::event(fact).into()).await;
        }
    }

    /// Publishes an alert. Said again after a failover, it has the same message id.
    pub(crate) async fn alert(&self, alert: &v1::Alert) {
        tracing::info!(rule = alert.rule, subject = alert.subject, window = alert.window, "{}", alert.message);
        let project = Project::parse(&alert.project).unwrap_or_else(|_| self.operators.clone());
        let headers =
            Headers::new().with("Nats-Msg-Id", &json::alert_id(alert)).with(headers::CONTENT_TYPE, headers::JSON);
        let subject = self.tenancy.alert(&project, &alert.rule);
        if let Err(error) = self.bus.publish(&subject, headers, json::alert(alert).into()).await {
            tracing::warn!(rule = alert.rule, %error, "an alert was not published; its ledger entry is stored");
        }
    }

    /// Answers the callers of calls that were lost. Those whose answers cannot be kept in time are told all the same:
    /// the guard has others to serve.
    pub(crate) async fn orphans(&self, orphans: &[Orphan]) {
        let mut waiting: FuturesUnordered<_> = FuturesUnordered::new();
        let until = Instant::now() + self.keep_timeout;
        for orphan in orphans {
            if waiting.len() >= self.keep_inflight.max(1) {
                waiting.next().await;
            }
            waiting.push(self.orphan(orphan, until));
        }
        while waiting.next().await.is_some() {}
    }

    async fn orphan(&self, orphan: &Orphan, until: Instant) {
        let response = lost_answer(orphan);
        let request = &orphan.request;
        let (content_type, bytes) = if request.json {
            (headers::JSON, json::final_answer(&response))
        } else {
            (headers::PROTOBUF, response.encode_to_vec())
        };
        let headers = Headers::new()
            .with(headers::CONTENT_TYPE, content_type)
            .with(headers::TYPE, "final")
            .with(headers::ERROR, ErrorKind::Lost.as_str())
            .with(headers::BODY_DIGEST, &hex(&request.body_digest));
        // A job is run again by its runner, who hears of this on its own inbox; only other answers are final.
        if request.keep_result && !request.job {
            let kept = timeout_at(until, self.keep(request, headers.clone(), bytes.clone())).await;
            if kept.is_err() {
                tracing::warn!(request = request.request_id, "a lost answer was not kept in time");
            }
        }
        if !request.reply_to.is_empty()
            && let Err(error) = self.bus.publish(&request.reply_to, headers, bytes.into()).await
        {
            tracing::warn!(request = request.request_id, %error, "the caller of a lost call was not told");
        }
    }

    async fn keep(&self, request: &v1::ReserveRequest, headers: Headers, bytes: Vec<u8>) {
        let Some(Ok(project)) = request.principal.as_ref().map(v1::Principal::project) else {
            return;
        };
        let Ok(id) = RequestId::parse(&request.request_id) else {
            return;
        };
        let subject = self.tenancy.response(&project, &id);
        // A refused write is still heard by those who listen on the subject: they are not to hear a second answer.
        if let Ok(Some(_)) = self.bus.last_by_subject(topology::RESULTS, &subject).await {
            return;
        }
        let stored =
            self.bus.store(&subject, headers, Fence::after_subject_seq(0), bytes.into(), self.keep_timeout).await;
        match stored {
            // Somebody stored an answer before: the first one is the answer.
            Ok(_) | Err(StoreError::WrongLastSequence { .. }) => {}
            Err(error) => tracing::warn!(request = request.request_id, %error, "a lost answer was not kept"),
        }
    }
}

fn lost_answer(orphan: &Orphan) -> v1::LlmResponse {
    let fact = &orphan.fact;
    let cost = v1::Money::of(&fact.cost);
    let message = format!(
        "the process that held this call died while it was, or may have been, out; it is recorded as lost with its \
         reserved cost of ${cost}: send it again if a second bill is acceptable"
    );
    v1::LlmResponse {
        request_id: orphan.request.request_id.clone(),
        chunks: 0,
        result: Some(v1::llm_response::Result::Error(Fault::new(ErrorKind::Lost, message).into())),
        report: Some(v1::CallReport {
            call_id: fact.call_id.clone(),
            model: fact.model.clone(),
            provider: fact.provider.clone(),
            cost: fact.cost,
            latency_ms: fact.latency_ms,
            attempts: fact.attempt,
            outcome: fact.outcome,
            ..Default::default()
        }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
