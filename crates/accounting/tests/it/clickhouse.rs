use farebox_clickhouse::{CallRow, Client, Error, Options};
use farebox_config::Env;
use farebox_types::Timestamp;

use crate::world::{START, clickhouse, client_of};

fn row(sequence: u64) -> CallRow {
    CallRow {
        project: "p".into(),
        ended_at: START,
        ledger_incarnation: 1,
        ledger_sequence: sequence,
        ..Default::default()
    }
}

#[tokio::test]
async fn only_the_newest_term_writes() {
    let server = clickhouse().await;
    let client = client_of(server.url());
    client.migrate().await.unwrap();
    let first = client.open_term("a", Timestamp(START)).await.unwrap();
    client.insert_calls(&first, &[row(1)], "t1").await.unwrap();
    // A statement that arrives twice is stored once.
    client.insert_calls(&first, &[row(1)], "t1").await.unwrap();
    // A clock that stands behind does not make a term older.
    let second = client.open_term("b", Timestamp(0)).await.unwrap();
    let late = client.insert_calls(&first, &[row(2)], "t2").await;
    assert!(matches!(late, Err(Error::Fenced)), "{late:?}");
    client.insert_calls(&second, &[row(3)], "t3").await.unwrap();
    let rows = server.query("SELECT ledger_sequence FROM farebox.calls ORDER BY 1").await.unwrap();
    assert_eq!(rows, "1\n3\n");
    assert_eq!(client.highest_sequence(1).await.unwrap(), 3);
    assert_eq!(client.highest_sequence(2).await.unwrap(), 0);
    let found = client.positions(1, &[3, 2]).await.unwrap();
    assert_eq!(found.into_iter().map(|p| (p.sequence, p.index)).collect::<Vec<_>>(), [(3, 0)]);
}

#[tokio::test]
async fn the_schema_grows_once_and_a_newer_one_is_refused() {
    let server = clickhouse().await;
    let client = client_of(server.url());
    let (one, two) = tokio::join!(client.migrate(), client.migrate());
    one.unwrap();
    two.unwrap();
    client.migrate().await.unwrap();
    let shorter = Options { url: server.url(), keep_days: 30, ..Options::default() };
    Client::new(&shorter, &Env::default()).unwrap().migrate().await.unwrap();
    let engine = "SELECT engine_full FROM system.tables WHERE database = 'farebox' AND name = 'calls'";
    let engine = server.query(engine).await.unwrap();
    assert!(engine.contains("toIntervalDay(30)") && !engine.contains("toIntervalDay(400)"), "{engine}");

    server.query("INSERT INTO farebox.schema_migrations (version, name) VALUES (1000, 'later')").await.unwrap();
    let error = client.migrate().await.unwrap_err();
    assert!(matches!(error, Error::NewerSchema { found: 1000, .. }), "{error}");
}

#[tokio::test]
async fn a_refused_statement_says_what_the_server_said() {
    let server = clickhouse().await;
    let client = client_of(server.url());
    let error = client.highest_sequence(1).await.unwrap_err();
    assert!(matches!(error, Error::Refused { code: 81, .. }), "{error}");
    let options = Options { url: server.url(), user: "nobody".into(), ..Options::default() };
    let error = Client::connect(&options, &Env::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error}");
}
