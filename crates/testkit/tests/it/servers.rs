use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use farebox_testkit::{Launcher, TestClickHouse, TestNats, eventually};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

const LONG: Duration = Duration::from_secs(60);

/// One request over NATS, by hand: the JSON that comes back.
async fn request(nats: &TestNats, subject: &str, payload: &str) -> String {
    let mut stream = BufReader::new(TcpStream::connect(nats.addr()).await.unwrap());
    let length = payload.len();
    let text = format!("CONNECT {{\"verbose\":false}}\r\nSUB back 1\r\nPUB {subject} back {length}\r\n{payload}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(timeout(LONG, stream.read_line(&mut line)).await.unwrap().unwrap(), 0, "closed");
        if line.starts_with("MSG ") {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            return line;
        }
    }
}

#[tokio::test]
async fn nats_comes_back_on_its_port_with_its_data() {
    let nats = TestNats::start().await.unwrap();
    let addr = nats.addr();
    let stream = r#"{"name":"KEPT","subjects":["kept"],"storage":"file"}"#;
    let created = request(&nats, "$JS.API.STREAM.CREATE.KEPT", stream).await;
    assert!(created.contains("\"did_create\":true"), "{created}");
    let stored = request(&nats, "kept", "hello").await;
    assert!(stored.contains("\"seq\":1"), "{stored}");
    nats.kill9().await;
    assert!(TcpStream::connect(addr).await.is_err());
    nats.start_again().await.unwrap();
    assert_eq!(nats.addr(), addr);
    let info = request(&nats, "$JS.API.STREAM.INFO.KEPT", "").await;
    assert!(info.contains("\"messages\":1"), "{info}");
    nats.stop().await;
    nats.restart().await.unwrap();
    assert!(nats.log().contains("JetStream"));
}

#[tokio::test]
async fn a_paused_nats_keeps_silent_and_goes_on() {
    let nats = TestNats::builder().without_jetstream().config("max_payload: 4096").start().await.unwrap();
    nats.pause().await.unwrap();
    let mut stream = BufReader::new(TcpStream::connect(nats.addr()).await.unwrap());
    let mut line = String::new();
    assert!(timeout(Duration::from_millis(100), stream.read_line(&mut line)).await.is_err(), "{line}");
    nats.cont().await.unwrap();
    timeout(LONG, stream.read_line(&mut line)).await.unwrap().unwrap();
    assert!(line.starts_with("INFO ") && line.contains("\"max_payload\":4096"), "{line}");
    nats.stop_for(Duration::from_millis(10)).await.unwrap();
    nats.kill9().await;
    assert!(nats.pause().await.is_err());
}

#[tokio::test]
async fn the_shared_nats_is_one_and_ends_with_its_last_user() {
    let (a, b) = tokio::join!(TestNats::shared(), TestNats::shared());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(Arc::ptr_eq(&a, &b));
    assert_ne!(a.prefix(), b.prefix());
    let addr = a.addr();
    drop((a, b));
    eventually(LONG, "the end of the shared server", || async { TcpStream::connect(addr).await.is_err() }).await;
}

#[tokio::test]
async fn clickhouse_answers_and_survives_a_kill() {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let launcher = Launcher { program: PathBuf::from(target).join("examples/clickhouse"), args: Vec::new() };
    let clickhouse = TestClickHouse::start(launcher).await.unwrap();
    clickhouse.query("CREATE DATABASE d").await.unwrap();
    clickhouse.query("CREATE TABLE d.t (n UInt8) ENGINE = MergeTree ORDER BY n").await.unwrap();
    clickhouse.query("INSERT INTO d.t VALUES (1), (2)").await.unwrap();
    assert!(clickhouse.query("SELECT nonsense").await.unwrap_err().to_string().contains("nonsense"));
    clickhouse.kill9().await;
    assert!(clickhouse.query("SELECT 1").await.is_err());
    clickhouse.start_again().await.unwrap();
    assert_eq!(clickhouse.query("SELECT sum(n) FROM d.t").await.unwrap(), "3\n");
}
