//! Calls as they end, usage, and what callers may ask for.

use std::time::Duration;

use farebox_admin::v1::{
    self, call_service_client::CallServiceClient, deployment_health::State, key_service_client::KeyServiceClient,
    model_service_client::ModelServiceClient,
};
use farebox_bus::Delivery;
use farebox_proto::{headers, subjects, v1 as wire};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{Clock, SystemClock};
use prost::Message;
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Streaming};

use crate::world::{World, fields};

fn fact(project: &str, n: i64) -> wire::CallFact {
    wire::CallFact {
        call_id: format!("c{n}"),
        principal: Some(wire::Principal { project: project.to_owned(), ..Default::default() }),
        provider: "local".to_owned(),
        upstream_model: "s1".to_owned(),
        model: "small".to_owned(),
        outcome: wire::Outcome::Ok.into(),
        latency_ms: 12,
        ended_unix_ms: SystemClock.now().millis(),
        ..Default::default()
    }
}

impl World {
    async fn publish(&self, fact: &wire::CallFact) {
        let subject = format!("llm.{}.call.{}", fact.principal.as_ref().unwrap().project, fact.call_id);
        self.bus.publish(&subject, Default::default(), fact.encode_to_vec().into()).await.unwrap();
    }

    /// Answers on a subject, until the set is dropped.
    async fn answer(&self, subject: &str, with: impl Fn(Delivery) -> Vec<u8> + Send + 'static) -> JoinSet<()> {
        let mut asked = self.bus.subscribe(subject, None).await.unwrap();
        self.bus.flush().await.unwrap();
        let (bus, mut answering) = (self.bus.clone(), JoinSet::new());
        answering.spawn(async move {
            while let Some(delivery) = asked.next().await {
                let reply = delivery.reply.clone().unwrap();
                bus.publish(&reply, Default::default(), with(delivery).into()).await.unwrap();
            }
        });
        answering
    }
}

async fn next(tail: &mut Streaming<v1::TailedCall>) -> wire::CallFact {
    timeout(PATIENCE, tail.message()).await.unwrap().unwrap().unwrap().call.unwrap()
}

#[tokio::test]
async fn a_tail_shows_what_it_asks_for_and_ends_with_its_key() {
    let world = World::start().await;
    let viewer = wire::Key { id: "watcher".to_owned(), role: wire::AdminRole::Viewer.into(), ..Default::default() };
    let viewer = world.key(viewer).await;
    let mut calls = CallServiceClient::new(world.connect(&viewer).await);
    let ask = v1::TailCallsRequest { project: "acme".to_owned(), ..Default::default() };
    let mut tail = calls.tail_calls(ask).await.unwrap().into_inner();
    world.publish(&fact("other", 1)).await;
    world.publish(&fact("acme", 2)).await;
    world.publish(&fact("acme", 3)).await;
    assert_eq!(next(&mut tail).await.call_id, "c2");
    assert_eq!(next(&mut tail).await.call_id, "c3");

    let mut keys = KeyServiceClient::new(world.master().await);
    keys.revoke_key(v1::RevokeKeyRequest { id: "watcher".to_owned(), write: None }).await.unwrap();
    let ended = timeout(Duration::from_secs(1), tail.message()).await.expect("within a second").unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");

    let mut calls = CallServiceClient::new(world.master().await);
    let mut tail = calls.tail_calls(v1::TailCallsRequest::default()).await.unwrap().into_inner();
    world.begin_drain();
    let ended = timeout(PATIENCE, tail.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "a server that stops lets nobody wait: {ended:?}");
    world.stop().await;
}

#[tokio::test]
async fn the_newest_calls_say_how_a_deployment_does() {
    let world = World::start().await;
    let mut models = ModelServiceClient::new(world.master().await);
    let small = v1::GetModelRequest { name: "small".to_owned() };
    let model = models.get_model(small.clone()).await.unwrap().into_inner();
    assert!(model.default && model.fallback == ["large"], "{model:?}");
    let deployments: Vec<&str> = model.deployments.iter().map(|d| d.upstream_model.as_str()).collect();
    assert_eq!(deployments, ["s1", "s2"]);
    let allowed = model.deployments.iter().map(|d| (d.requests_per_minute, d.tokens_per_minute, d.concurrent));
    assert_eq!(allowed.collect::<Vec<_>>(), [(60, 90_000, 4), (0, 0, 0)], "what the provider allows there");
    assert_eq!(model.deployments[0].health.unwrap().state(), State::Unspecified);
    world.publish(&fact("acme", 1)).await;
    let failed = wire::CallFact {
        outcome: wire::Outcome::Error.into(),
        error_kind: wire::ErrorKind::Upstream.into(),
        ..fact("acme", 2)
    };
    world.publish(&failed).await;
    eventually(PATIENCE, "both were heard of", || {
        let (mut models, ask) = (models.clone(), small.clone());
        async move {
            let health = models.get_model(ask).await.unwrap().into_inner().deployments[0].health.unwrap();
            (health.calls, health.errors, health.state(), health.latency_ms) == (2, 1, State::Failing, 12)
        }
    })
    .await;
    let listed = models.list_models(v1::ListModelsRequest::default()).await.unwrap().into_inner().models;
    assert_eq!(listed.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["large", "small"]);
    assert_eq!(listed[0].tasks, ["code"]);
    let unknown = models.get_model(v1::GetModelRequest { name: "none".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let prices = models.list_prices(v1::ListPricesRequest::default()).await.unwrap().into_inner().prices;
    let known: Vec<(&str, bool)> = prices.iter().map(|p| (p.upstream_model.as_str(), p.rates.is_some())).collect();
    assert_eq!(known, [("l1", true), ("s1", false), ("s2", false)], "no price is not a price of zero");
    world.stop().await;
}

#[tokio::test]
async fn accounting_is_asked_for_usage_calls_and_the_books() {
    let world = World::start().await;
    let mut calls = CallServiceClient::new(world.master().await);
    let away = calls.query_usage(v1::QueryUsageRequest::default()).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable, "no accounting is there: {away:?}");
    let _accounting = world
        .answer(subjects::USAGE, |asked| {
            let query = wire::UsageQuery::decode(asked.payload.clone()).unwrap();
            let group = asked.headers.get(headers::PROJECT).unwrap_or_default().to_owned();
            let until = if query.until_unix_ms == 0 { 6 } else { query.until_unix_ms };
            let facts = (1..until).rev().map(|n| wire::CallFact { ended_unix_ms: n, ..fact("acme", n) });
            let report = wire::UsageReport {
                rows: vec![wire::UsageRow { group, calls: 2, ..Default::default() }],
                calls: facts.take(query.recent as usize).collect(),
                error: None,
            };
            report.encode_to_vec()
        })
        .await;
    let ask = v1::QueryUsageRequest { project: "acme".to_owned(), ..Default::default() };
    assert_eq!(calls.query_usage(ask).await.unwrap().into_inner().rows[0].group, "acme");
    let bad = v1::QueryUsageRequest { project: "no.dots".to_owned(), ..Default::default() };
    assert_eq!(fields(&calls.query_usage(bad).await.unwrap_err()), ["project"]);

    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let ask = v1::ListRecentCallsRequest { page_size: 2, page_token, ..Default::default() };
        let page = calls.list_recent_calls(ask).await.unwrap().into_inner();
        seen.extend(page.calls.into_iter().map(|call| call.call_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["c5", "c4", "c3", "c2", "c1"]);

    let _books = world
        .answer(subjects::BOOKS_CHECK, |_| {
            let difference =
                |project: &str| wire::BooksDifference { project: project.to_owned(), ..Default::default() };
            let differences = vec![difference("acme"), difference("other")];
            wire::BooksCheckReply { sequence: 5, days: 3, differences, error: None }.encode_to_vec()
        })
        .await;
    let ask = v1::ReconcileRequest { project: "acme".to_owned() };
    let told = calls.reconcile(ask).await.unwrap().into_inner();
    assert_eq!((told.differences.len(), told.days_compared, told.sequence), (1, 3, 5));
    world.stop().await;
}
