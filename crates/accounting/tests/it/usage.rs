use farebox_bus::Headers;
use farebox_proto::{
    headers,
    subjects::{self, agent},
    v1,
};
use farebox_testkit::{PATIENCE, eventually};
use prost::Message as _;
use serde_json::{Value, json};

use crate::world::{START, World, fact};

async fn ask(world: &World, question: Value) -> Value {
    let body = question.to_string().into_bytes().into();
    let answer = world.bus.request(agent::USAGE, Headers::new(), body, PATIENCE).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

async fn ask_typed(world: &World, query: v1::UsageQuery) -> v1::UsageReport {
    let as_protobuf = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF);
    let body = query.encode_to_vec().into();
    let answer = world.bus.request(agent::USAGE, as_protobuf, body, PATIENCE).await.unwrap();
    answer.decode().unwrap()
}

fn used(model: &str, input: u64, output: u64, pico: i64) -> v1::CallFact {
    let usage = v1::Usage {
        input: Some(input),
        cache_read: Some(4),
        cache_read_audio: Some(2),
        searches: Some(9),
        output: Some(output),
        reasoning: Some(1),
        ..Default::default()
    };
    let cost = Some(v1::Money { usd: 0, pico });
    v1::CallFact { model: model.into(), usage: Some(usage), cost, bound: cost, ..fact(START) }
}

#[tokio::test]
async fn a_project_sees_its_own_calls_and_no_others() {
    let world = World::start().await;
    let accountant = world.accountant();
    let foreign = Some(v1::Principal { project: "acme".into(), ..Default::default() });
    let newest = v1::CallFact {
        labels: Some(v1::Labels { actor: "writer".into(), tags: vec!["é'\\".into()], ..Default::default() }),
        outcome: v1::Outcome::Error.into(),
        error_kind: v1::ErrorKind::Upstream.into(),
        first_token_ms: Some(3),
        service_tier: "priority".into(),
        cost_reported: true,
        ended_unix_ms: START + 1_000,
        ..used("slow", 100, 200, 333_333_333_333)
    };
    let facts = vec![
        used("fast", 10, 20, 1),
        used("fast", 30, 40, 2),
        v1::CallFact { principal: foreign, ..used("fast", 1_000, 1_000, 999) },
        newest.clone(),
    ];
    let calls: Vec<String> = facts.iter().map(|fact| fact.call_id.clone()).collect();
    world.ledger(facts).await;
    world.exactly(&calls).await;

    let expected = json!([
        { "group": "slow", "calls": 1, "errors": 1, "input_tokens": 106, "output_tokens": 201, "cached_tokens": 6,
          "cost_usd": "0.333333333333" },
        { "group": "fast", "calls": 2, "errors": 0, "input_tokens": 52, "output_tokens": 62, "cached_tokens": 12,
          "cost_usd": "0.000000000003" },
    ]);
    assert_eq!(ask(&world, json!({})).await["rows"], expected);
    assert_eq!(ask(&world, json!({ "group_by": "provider" })).await["rows"][0]["calls"], 3);
    let early = ask(&world, json!({ "from_unix_ms": START, "until_unix_ms": START + 1_000 })).await;
    assert_eq!(early["rows"][0]["group"], "fast");
    assert_eq!(early["rows"].as_array().unwrap().len(), 1, "the end is not in the period");

    let recent = ask_typed(&world, v1::UsageQuery { recent: 1, ..Default::default() }).await;
    let stored = v1::CallFact { labels: newest.labels.clone(), ..newest };
    assert_eq!(recent.calls, [stored]);
    let rows = ask_typed(&world, v1::UsageQuery::default()).await.rows;
    assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), 3);

    let of = |project: &'static str| {
        let world = &world;
        async move {
            let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF).with(headers::PROJECT, project);
            let query = v1::UsageQuery { group_by: v1::usage_query::GroupBy::Project.into(), ..Default::default() };
            let body = query.encode_to_vec().into();
            let answer = world.bus.request(subjects::USAGE, head, body, PATIENCE).await.unwrap();
            let report: v1::UsageReport = answer.decode().unwrap();
            report.rows.into_iter().map(|row| (row.group, row.calls)).collect::<Vec<_>>()
        }
    };
    assert_eq!(of("acme").await, [("acme".to_owned(), 1)]);
    assert_eq!(of("").await.iter().map(|row| row.1).sum::<u64>(), 4, "farebox's own roles see all projects");

    let bad = ask(&world, json!({ "group_by": "colour" })).await;
    assert_eq!(bad["error"]["type"], "bad_request", "{bad}");
    accountant.drain().await;
}

#[tokio::test]
async fn without_clickhouse_a_question_is_answered_with_a_clear_error() {
    let world = World::start().await;
    world.clickhouse.stop().await;
    let accountant = world.accountant();
    eventually(PATIENCE, "somebody who answers", || async {
        let body = b"{}".as_slice().into();
        world.bus.request(agent::USAGE, Headers::new(), body, PATIENCE).await.is_ok()
    })
    .await;
    let answer = ask(&world, json!({})).await;
    assert_eq!(answer["error"]["type"], "unavailable", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("ClickHouse"), "{answer}");
    accountant.drain().await;
}
