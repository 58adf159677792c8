//! The books of a guard that the test plays, against the rows.

use farebox_bus::{Headers, topology};
use farebox_proto::{
    subjects::{self, SHARD, Tenancy},
    v1,
};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{Money, Project};
use prost::Message;

use crate::world::{START, World, fact};

/// Answers as a guard with these books would, at the newest message of the ledger.
fn play_guard(world: &World, days: Vec<v1::BooksDay>) -> tokio::task::JoinSet<()> {
    let bus = world.bus.clone();
    let mut playing = tokio::task::JoinSet::new();
    playing.spawn(async move {
        let mut asked = bus.subscribe(&subjects::books(SHARD), None).await.unwrap();
        while let Some(delivery) = asked.next().await {
            let newest = bus.last_by_subject(topology::LEDGER, &subjects::ledger(SHARD)).await.unwrap();
            let books = v1::BooksReply { days: days.clone(), sequence: newest.map_or(0, |m| m.sequence) };
            let reply = books.encode_to_vec().into();
            bus.publish(&delivery.reply.unwrap(), Headers::new(), reply).await.unwrap();
        }
    });
    playing
}

async fn check(world: &World) -> v1::BooksCheckReply {
    world.bus.call(subjects::BOOKS_CHECK, &v1::BooksCheckRequest {}, PATIENCE).await.unwrap()
}

#[tokio::test]
async fn a_row_that_is_gone_or_twice_is_found_and_announced_once() {
    let world = World::start().await;
    // Where each project has an account, those hear of it who look after farebox itself.
    let mut alerts = world.bus.subscribe("llm.ops.alert.books", None).await.unwrap();
    let calls = world.some(3).await;
    let accountant = world.accountant_in(Tenancy::Projects, Project::parse("ops").unwrap());
    let day = |day: &str, calls| v1::BooksDay {
        project: "default".into(),
        day: day.into(),
        calls,
        cost: Some(Money::from_picos(i128::from(calls)).into()),
    };
    let _guard = play_guard(&world, vec![day("2026-11-21", 6), day("2026-12-06", 3)]);
    eventually(PATIENCE, "accounting answers", || async {
        let asked = world.bus.call(subjects::BOOKS_CHECK, &v1::BooksCheckRequest {}, PATIENCE).await;
        asked.is_ok_and(|reply: v1::BooksCheckReply| reply.error.is_none())
    })
    .await;
    world.exactly(&calls).await;
    let agreed = check(&world).await;
    assert_eq!((agreed.days, agreed.differences.len()), (2, 0), "{agreed:?}");

    let delete = format!("DELETE FROM farebox.calls WHERE call_id = '{}' SETTINGS mutations_sync = 2", calls[0]);
    world.clickhouse.query(&delete).await.unwrap();
    let found = check(&world).await.differences;
    let [difference] = &found[..] else { panic!("{found:?}") };
    assert_eq!((difference.day.as_str(), difference.ledger_calls, difference.row_calls), ("2026-11-21", 6, 5));
    assert_eq!(v1::Money::of(&difference.row_cost), Money::from_picos(5));

    let told = tokio::time::timeout(PATIENCE, alerts.next()).await.unwrap().unwrap();
    let event: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(
        (&event["type"], &event["kind"], &event["subject"]),
        (&"llm.alert".into(), &"books".into(), &"default".into())
    );
    assert!(event["message"].as_str().unwrap().contains("the ledger has 6 calls"), "{event}");

    let twice =
        "INSERT INTO farebox.calls SELECT * FROM farebox.calls WHERE toDate(started_at, 'UTC') = '2026-12-06' LIMIT 1";
    world.clickhouse.query(twice).await.unwrap();
    assert_eq!(check(&world).await.differences.len(), 2);
    let told = tokio::time::timeout(PATIENCE, alerts.next()).await.unwrap().unwrap();
    let event: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(event["window"], "2026-12-06", "the other difference was told before");
    accountant.drain().await;
}

#[tokio::test]
async fn rows_that_are_under_way_are_no_difference() {
    let world = World::start().await;
    let accountant = world.accountant();
    let day = v1::BooksDay {
        project: "default".into(),
        day: "2026-11-21".into(),
        calls: 40,
        cost: Some(Money::from_picos(40).into()),
    };
    for _ in 0..40 {
        world.ledger(vec![fact(START)]).await;
    }
    let _guard = play_guard(&world, vec![day]);
    eventually(PATIENCE, "a comparison", || async {
        let reply = check(&world).await;
        assert_eq!(reply.differences, []);
        reply.error.is_none()
    })
    .await;
    accountant.drain().await;
}
