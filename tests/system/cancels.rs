//! Calls that are cancelled in the middle cost no less than their provider bills for them.

use std::time::Duration;

use farebox_emulator::Script;
use farebox_proto::v1;
use farebox_testkit::Dice;
use farebox_types::{ErrorKind, RequestId};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    books::{ledger, ledgers_match},
    cluster::Cluster,
    load::{ask, call},
};

const DEADLINE: Duration = Duration::from_secs(60);
/// More than is read before the last cancel, by more than the margin.
const MAX_TOKENS: u64 = 1000;

fn long(model: &str, id: &RequestId) -> v1::LlmRequest {
    let messages = serde_json::json!([{ "role": "user", "content": "at length" }]);
    let body = serde_json::json!({ "model": model, "max_tokens": MAX_TOKENS, "messages": messages });
    let bytes = body.to_string().into_bytes().into();
    let raw = v1::RawBody { dialect: v1::Dialect::OpenaiChat.into(), bytes };
    v1::LlmRequest {
        request_id: id.to_string(),
        body: Some(v1::llm_request::Body::Raw(raw)),
        ..ask(model, "", DEADLINE)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_streams_cancelled_at_random_moments_cost_no_less_than_the_provider_bills() {
    let cluster = Cluster::builder().start().await.unwrap();
    // Fifty tokens a second for sixteen seconds, of which the provider is always four ahead of what it has sent.
    let text = "a piece of text ".repeat(200);
    let script = Script::text(text).chunks(100).pace(Duration::from_millis(160)).ahead(200);
    cluster.emulator.script("*", script);
    let mut dice = Dice::new(50);
    let mut callers = JoinSet::new();
    for number in 0..50 {
        let (client, moment) = (cluster.client.clone(), dice.millis(200, 4000));
        let id = RequestId::parse(&format!("cancel-{number}")).unwrap();
        let model = if number % 2 == 0 { "tokens" } else { "claude" };
        callers.spawn(async move {
            let cancels = async {
                sleep(moment).await;
                client.cancel(&id).await.unwrap()
            };
            let (ended, cancelled) = tokio::join!(call(&client, long(model, &id), true, DEADLINE), cancels);
            assert!(cancelled, "{ended:?}");
            assert_eq!(ended.kind(), Some(ErrorKind::Cancelled), "{ended:?}");
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    cluster.emulator.clear();
    ledgers_match(&cluster).await;
    let rows = ledger(&cluster).await.unwrap();
    let cancelled: Vec<_> = rows.iter().filter(|row| row.outcome == "cancelled").collect();
    assert_eq!(cancelled.len(), 50);
    // Not for all that was reserved.
    let within = cancelled.iter().filter(|row| row.cost < row.bound && row.output < MAX_TOKENS).count();
    assert!(within > 40, "{within} of {cancelled:#?}");
}
