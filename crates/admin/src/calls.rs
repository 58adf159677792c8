//! What was called and spent, by all projects.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use farebox_bus::{Headers, Subscription};
use farebox_proto::{headers, subjects, v1 as wire};
use farebox_types::{ErrorKind, Fault, Project};
use futures::{Stream, stream};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, broadcast, broadcast::error::RecvError, watch};
use tonic::{Request, Response, Status};

use crate::{
    api::{Answer, Api},
    gate::Admin,
    health::Health,
    paging::Page,
    refusal::Refusal,
    v1::{self, TailedCall, call_service_server::CallService},
};

/// The longest page of calls: accounting answers with so many rows and a few more.
const PAGE_MAX: usize = 500;
/// Calls that may have ended in the same millisecond as the last one of a page.
const SAME_MOMENT: usize = 200;

#[tonic::async_trait]
impl CallService for Api {
    type TailCallsStream = Pin<Box<dyn Stream<Item = Result<TailedCall, Status>> + Send>>;

    async fn list_recent_calls(
        &self,
        request: Request<v1::ListRecentCallsRequest>,
    ) -> Answer<v1::ListRecentCallsResponse> {
        let ask = request.into_inner();
        let size = Page::read(ask.page_size, "")?.size.min(PAGE_MAX);
        let mark = Mark::read(&ask.page_token)?;
        let query = wire::UsageQuery {
            from_unix_ms: ask.from_unix_ms,
            until_unix_ms: mark.as_ref().map_or(ask.until_unix_ms, |mark| mark.ended.saturating_add(1)),
            recent: u32::try_from(size + 1 + SAME_MOMENT).unwrap_or(u32::MAX),
            ..wire::UsageQuery::default()
        };
        let mut calls = self.usage(&ask.project, query).await?.calls;
        if let Some(mark) = mark {
            calls = mark.rest(calls);
        }
        let more = calls.len() > size;
        calls.truncate(size);
        let next_page_token = calls.last().filter(|_| more).map(Mark::token).unwrap_or_default();
        Ok(Response::new(v1::ListRecentCallsResponse { calls, next_page_token }))
    }

    async fn query_usage(&self, request: Request<v1::QueryUsageRequest>) -> Answer<v1::QueryUsageResponse> {
        let ask = request.into_inner();
        let query = wire::UsageQuery {
            group_by: ask.group_by,
            from_unix_ms: ask.from_unix_ms,
            until_unix_ms: ask.until_unix_ms,
            recent: 0,
        };
        let rows = self.usage(&ask.project, query).await?.rows;
        Ok(Response::new(v1::QueryUsageResponse { rows }))
    }

    async fn tail_calls(&self, request: Request<v1::TailCallsRequest>) -> Answer<Self::TailCallsStream> {
        let admin = Admin::of(&request)?;
        let place = Arc::clone(&self.0.tails).try_acquire_owned().map_err(|_| {
            let message = "too many tails are open: close one, or raise admin.tails_max";
            Refusal::new(ErrorKind::RateLimited, message)
        })?;
        let tail = Tail {
            api: self.clone(),
            admin,
            filter: request.into_inner(),
            calls: self.0.calls.subscribe(),
            rules: self.0.gate.directory.changes(),
            skipped: 0,
            ended: false,
            _place: place,
        };
        let calls = stream::unfold(tail, |mut tail| async move {
            let next = tail.next().await?;
            tail.ended = next.is_err();
            Some((next, tail))
        });
        Ok(Response::new(Box::pin(calls)))
    }

    async fn reconcile(&self, request: Request<v1::ReconcileRequest>) -> Answer<v1::ReconcileResponse> {
        let project = request.into_inner().project;
        let (ask, within) = (wire::BooksCheckRequest::default(), self.0.options.request_timeout.get());
        let reply: wire::BooksCheckReply =
            self.0.bus.call(subjects::BOOKS_CHECK, &ask, within).await.map_err(Refusal::from)?;
        if let Some(error) = reply.error {
            return Err(Refusal::from(Fault::from(error)).into());
        }
        let mut differences = reply.differences;
        differences.retain(|difference| project.is_empty() || difference.project == project);
        Ok(Response::new(v1::ReconcileResponse { differences, days_compared: reply.days, sequence: reply.sequence }))
    }
}

impl Api {
    /// Asks accounting about a project, or about all.
    async fn usage(&self, project: &str, query: wire::UsageQuery) -> Result<wire::UsageReport, Refusal> {
        if !project.is_empty() {
            Project::parse(project).map_err(|error| Refusal::field("project", error.to_string()))?;
        }
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF).with(headers::PROJECT, project);
        let (body, within) = (Bytes::from(query.encode_to_vec()), self.0.options.call_timeout.get());
        let report: wire::UsageReport = self.0.bus.request(subjects::USAGE, head, body, within).await?.decode()?;
        match report.error {
            Some(error) => Err(Fault::from(error).into()),
            None => Ok(report),
        }
    }
}

/// Where a page of calls ended.
struct Mark {
    ended: i64,
    call_id: String,
}

impl Mark {
    fn read(token: &str) -> Result<Option<Mark>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let text = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let mark = text
            .as_deref()
            .and_then(|text| text.split_once(' '))
            .and_then(|(ended, call_id)| Some(Mark { ended: ended.parse().ok()?, call_id: call_id.to_owned() }));
        let bad = || Refusal::field("page_token", "this is no token of a page: take the one of the page before");
        mark.map(Some).ok_or_else(bad)
    }

    fn token(last: &wire::CallFact) -> String {
        BASE64URL_NOPAD.encode(format!("{} {}", last.ended_unix_ms, last.call_id).as_bytes())
    }

    /// What comes after it of calls that begin at its moment.
    fn rest(&self, mut calls: Vec<wire::CallFact>) -> Vec<wire::CallFact> {
        match calls.iter().position(|call| call.call_id == self.call_id) {
            Some(at) => calls.split_off(at + 1),
            None => {
                calls.retain(|call| call.ended_unix_ms < self.ended);
                calls
            }
        }
    }
}

/// One client that watches.
struct Tail {
    api: Api,
    admin: Admin,
    filter: v1::TailCallsRequest,
    calls: broadcast::Receiver<Arc<wire::CallFact>>,
    /// A key that is shut ends its tails.
    rules: watch::Receiver<Arc<farebox_policy::Policies>>,
    skipped: u64,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    async fn next(&mut self) -> Option<Result<TailedCall, Status>> {
        if self.ended {
            return None;
        }
        loop {
            let heard = tokio::select! {
                heard = self.calls.recv() => heard,
                changed = self.rules.changed() => match (changed, self.api.0.gate.still_open(&self.admin)) {
                    (Ok(()), Ok(())) => continue,
                    (Ok(()), Err(refusal)) => return Some(Err(refusal.into())),
                    (Err(_), _) => Err(RecvError::Closed),
                },
                () = self.api.0.drain.signaled() => Err(RecvError::Closed),
            };
            match heard {
                Ok(call) if wanted(&self.filter, &call) => {
                    let skipped = std::mem::take(&mut self.skipped);
                    return Some(Ok(TailedCall { call: Some((*call).clone()), skipped }));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => self.skipped += missed,
                Err(RecvError::Closed) => {
                    let message = "this server is about to stop: begin the tail again";
                    return Some(Err(Refusal::new(ErrorKind::Unavailable, message).into()));
                }
            }
        }
    }
}

/// Whether a call has all that is asked for.
fn wanted(filter: &v1::TailCallsRequest, call: &wire::CallFact) -> bool {
    let (nobody, nothing) = (wire::Principal::default(), wire::Labels::default());
    let principal = call.principal.as_ref().unwrap_or(&nobody);
    let labels = call.labels.as_ref().unwrap_or(&nothing);
    let same = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
    same(&filter.project, &principal.project)
        && same(&filter.key_id, &principal.key_id)
        && same(&filter.model, &call.model)
        && same(&filter.provider, &call.provider)
        && same(&filter.actor, &labels.actor)
        && same(&filter.task_id, &labels.task_id)
        && (filter.outcome == 0 || filter.outcome == call.outcome)
}

/// Hears of calls as they end, for tails and for the health of deployments, until the connection ends.
pub(crate) async fn listen(
    mut facts: Subscription,
    health: Arc<Health>,
    tails: broadcast::Sender<Arc<wire::CallFact>>,
) {
    while let Some(delivery) = facts.next().await {
        match delivery.decode::<wire::CallFact>() {
            Ok(fact) => {
                health.hear(&fact);
                // Nobody watches.
                let _ = tails.send(Arc::new(fact));
            }
            Err(error) => tracing::debug!(%error, "a call fact cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ended: i64, id: &str) -> wire::CallFact {
        wire::CallFact { ended_unix_ms: ended, call_id: id.to_owned(), ..Default::default() }
    }

    #[test]
    fn a_page_begins_after_the_one_before_also_within_a_moment() {
        let all = vec![call(5, "a"), call(5, "b"), call(5, "c"), call(4, "d")];
        let mark = Mark::read(&Mark::token(&all[1])).unwrap().unwrap();
        let ids = |calls: Vec<wire::CallFact>| calls.into_iter().map(|call| call.call_id).collect::<Vec<_>>();
        assert_eq!(ids(mark.rest(all.clone())), ["c", "d"]);
        let gone = Mark { ended: 5, call_id: "z".to_owned() };
        assert_eq!(ids(gone.rest(all)), ["d"], "what is no longer there is not waited for");
        assert!(Mark::read("no token").is_err());
    }

    #[test]
    fn a_filter_asks_for_all_that_it_names() {
        let principal = Some(wire::Principal { project: "acme".to_owned(), ..Default::default() });
        let fact = wire::CallFact { principal, model: "m".to_owned(), outcome: 1, ..Default::default() };
        let ask = |project: &str, model: &str, outcome: i32| {
            let filter = v1::TailCallsRequest {
                project: project.to_owned(),
                model: model.to_owned(),
                outcome,
                ..Default::default()
            };
            wanted(&filter, &fact)
        };
        assert!(ask("", "", 0) && ask("acme", "m", 1));
        assert!(!ask("acme", "other", 1) && !ask("other", "m", 0) && !ask("", "", 2));
    }
}
