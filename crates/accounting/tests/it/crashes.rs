use std::time::Duration;

use farebox_accounting::{CONSUMER, Error};
use farebox_bus::topology;
use farebox_testkit::{Direction, PATIENCE, eventually};
use farebox_types::ErrorKind;

use crate::world::World;

#[tokio::test]
async fn every_end_has_one_row() {
    let world = World::start().await;
    let early = world.some(40).await;
    let accountant = world.accountant();
    let late = world.some(40).await;
    world.exactly(&[early, late].concat()).await;
    accountant.drain().await;
}

/// Death after ClickHouse has stored the rows and before anything is acknowledged.
#[tokio::test]
async fn rows_that_were_stored_and_not_acknowledged_are_not_written_again() {
    let world = World::start().await;
    let mut calls = world.some(5).await;
    let accountant = world.accountant();
    world.exactly(&calls).await;
    world.proxy.start_capture();
    // The insert arrives, its answer does not: between the messages before and the hold there is nothing under way.
    world.proxy.set_blackhole(Direction::Down, true);
    calls.extend(world.some(1).await);
    // Both months in turn is not possible without an answer: one of the two inserts is stored.
    eventually(PATIENCE, "a part of the message in ClickHouse", || async { world.count().await != "15" }).await;
    accountant.kill().await;
    world.proxy.cut();
    world.proxy.set_blackhole(Direction::Down, false);
    let accountant = world.accountant();
    world.exactly(&calls).await;
    accountant.drain().await;
}

/// The insert of a dead accountant waits in ClickHouse's sockets and would be carried out after the next one has looked.
#[tokio::test]
async fn an_insert_that_comes_late_writes_nothing() {
    let world = World::start().await;
    let mut calls = world.some(5).await;
    let accountant = world.accountant();
    world.exactly(&calls).await;
    world.clickhouse.pause().await.unwrap();
    world.proxy.start_capture();
    calls.extend(world.some(3).await);
    eventually(PATIENCE, "a statement on its way to a server that stands still", || async {
        let sent = world.proxy.captured().up;
        sent.windows(12).any(|bytes| bytes == b"INSERT+INTO+")
    })
    .await;
    accountant.kill().await;
    world.clickhouse.cont().await.unwrap();
    let accountant = world.accountant();
    world.exactly(&calls).await;
    accountant.drain().await;
}

/// An insert without an answer within its time, in a process that lives on.
#[tokio::test]
async fn an_unclear_insert_is_looked_up() {
    let world = World::start().await;
    let mut calls = world.some(5).await;
    let accountant = world.accountant();
    world.exactly(&calls).await;
    // First stored and not answered; then held by a server that stands still, to arrive when the next term has begun.
    for stands_still in [false, true] {
        let terms = world.terms().await;
        world.proxy.start_capture();
        if stands_still {
            world.clickhouse.pause().await.unwrap();
        } else {
            world.proxy.set_blackhole(Direction::Down, true);
        }
        calls.extend(world.some(10).await);
        eventually(PATIENCE, "the try after the insert that found no answer", || async {
            let sent = world.proxy.captured().up;
            sent.windows(15).any(|bytes| bytes == b"CREATE DATABASE")
        })
        .await;
        world.clickhouse.cont().await.unwrap();
        world.proxy.set_blackhole(Direction::Down, false);
        world.exactly(&calls).await;
        assert!(world.terms().await > terms, "an unclear insert ends its term");
    }
    // Cut in the middle of whatever is under way.
    for _ in 0..20 {
        calls.extend(world.some(3).await);
        world.proxy.cut();
    }
    world.exactly(&calls).await;
    accountant.drain().await;
}

#[tokio::test]
async fn clickhouse_may_die_and_be_away() {
    let world = World::start().await;
    let mut calls = world.some(5).await;
    let accountant = world.accountant();
    for _ in 0..3 {
        calls.extend(world.some(20).await);
        world.clickhouse.kill9().await;
        // More than a batch, so that most of it has to wait in the stream.
        calls.extend(world.some(80).await);
        world.clickhouse.start_again().await.unwrap();
    }
    world.exactly(&calls).await;
    accountant.drain().await;
}

/// Deaths at any point, one after the other, under load.
#[tokio::test]
async fn an_accountant_may_die_at_any_time() {
    let world = World::start().await;
    let mut calls = Vec::new();
    let mut accountant = world.accountant();
    for round in 0..40_u64 {
        calls.extend(world.some(8).await);
        // Not a wait for something: the point of death moves through everything that an accountant does.
        tokio::time::sleep(Duration::from_millis(round * 7 % 130)).await;
        accountant.kill().await;
        accountant = world.accountant();
    }
    world.exactly(&calls).await;
    accountant.drain().await;
}

#[tokio::test]
async fn a_lost_consumer_begins_again_and_writes_nothing_twice() {
    let world = World::start().await;
    let mut calls = world.some(120).await;
    let accountant = world.accountant();
    world.exactly(&calls).await;
    accountant.drain().await;
    world.bus.delete_consumer(topology::LEDGER, CONSUMER).await.unwrap();
    // One row was lost on the other side too: it comes back.
    let sql = format!("ALTER TABLE farebox.calls DELETE WHERE call_id = '{}' SETTINGS mutations_sync = 1", calls[100]);
    world.clickhouse.query(&sql).await.unwrap();
    calls.extend(world.some(3).await);
    let accountant = world.accountant();
    world.exactly(&calls).await;
    accountant.drain().await;
}

#[tokio::test]
async fn two_accountants_take_turns() {
    let world = World::start().await;
    let first = world.accountant();
    let mut calls = world.some(10).await;
    world.exactly(&calls).await;
    let second = world.accountant();
    calls.extend(world.some(10).await);
    first.kill().await;
    calls.extend(world.some(10).await);
    world.exactly(&calls).await;
    second.drain().await;
}

/// It would lose rows in silence to go on behind it.
#[tokio::test]
async fn a_damaged_message_is_an_error_that_names_it() {
    let world = World::start().await;
    world.raw_ledger(vec![0xff; 10]).await;
    let error = world.accountant().ended().await.unwrap_err();
    assert!(matches!(error, Error::Damaged { sequence: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_not_written_to() {
    let world = World::start().await;
    let mut calls = world.some(1).await;
    let accountant = world.accountant();
    world.exactly(&calls).await;
    accountant.drain().await;
    let sql = "INSERT INTO farebox.schema_migrations (version, name) VALUES (1000, 'later')";
    world.clickhouse.query(sql).await.unwrap();
    calls.extend(world.some(1).await);
    let error = world.accountant().ended().await.unwrap_err();
    let Error::ClickHouse(source) = error else { panic!("{error}") };
    assert_eq!(source.kind(), ErrorKind::Conflict, "{source}");
    assert_eq!(world.count().await, "3");
    // The newer program writes what waited.
    let sql = "ALTER TABLE farebox.schema_migrations DELETE WHERE version = 1000 SETTINGS mutations_sync = 1";
    world.clickhouse.query(sql).await.unwrap();
    let accountant = world.accountant();
    world.exactly(&calls).await;
    accountant.drain().await;
}
