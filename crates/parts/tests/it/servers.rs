use std::{fs, path::Path, time::Duration};

use farebox_parts::{
    ClickHouse, ClickHouseEngine, ClickHouseOptions, Launcher, NatsOptions, NatsServer, PartsError, Signal,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{eventually, fetch, helper, is_gone, quiet};

async fn nats(dir: &Path, config: &str) -> Result<NatsServer, PartsError> {
    let file = dir.join("nats.conf");
    fs::write(&file, config).unwrap();
    let binary = fetch().nats_server(&quiet).await.unwrap();
    NatsServer::start(NatsOptions::new(binary, file, dir.join("nats.log"))).await
}

async fn clickhouse_options(dir: &Path) -> ClickHouseOptions {
    let engine = fetch().clickhouse(&quiet).await.unwrap();
    let launcher = Launcher { program: helper(), args: vec!["serve".into()] };
    ClickHouseOptions::new(engine, launcher, dir.join("data"), dir.join("clickhouse.log"))
}

async fn query(server: &ClickHouse, sql: &str) -> String {
    let mut stream = TcpStream::connect(server.http_addr()).await.unwrap();
    let length = sql.len();
    let request = format!("POST / HTTP/1.0\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{sql}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{answer}");
    body.trim().to_owned()
}

#[tokio::test]
async fn nats_starts_on_any_free_port_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("js");
    let config = format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\" }}\n", store.display());
    let server = nats(dir.path(), &config).await.unwrap();
    assert_ne!(server.addr().port(), 0);
    assert!(server.info().jetstream);
    assert!(server.info().version.starts_with("2."), "{:?}", server.info());
    assert!(TcpStream::connect(server.addr()).await.is_ok());
    let exit = server.stop().await;
    assert!(exit.signal != Some(9), "it ended by itself: {exit}");
    assert!(is_gone(server.pid()));
}

#[tokio::test]
async fn nats_on_a_taken_port_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = holder.local_addr().unwrap();
    let error = nats(dir.path(), &format!("listen: \"{addr}\"\n")).await.unwrap_err();
    assert!(matches!(error, PartsError::PortTaken { server: "nats-server", .. }), "{error}");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[tokio::test]
async fn nats_with_a_broken_config_quotes_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let error = nats(dir.path(), "listen: \"127.0.0.1:-1\"\nno_such_option: 1\n").await.unwrap_err();
    assert!(matches!(&error, PartsError::Died { log, .. } if log.contains("no_such_option")), "{error}");
}

#[tokio::test]
async fn the_death_of_a_server_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let server = nats(dir.path(), "listen: \"127.0.0.1:-1\"\n").await.unwrap();
    server.child().signal(Signal::KILL);
    assert_eq!(server.wait().await.signal, Some(9));
}

#[tokio::test]
async fn clickhouse_serves_restarts_on_its_data_and_ends_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = clickhouse_options(dir.path()).await;
    options.tcp_port = Some(0);
    let server = ClickHouse::start(options.clone()).await.unwrap();
    assert!(TcpStream::connect(server.tcp_addr().unwrap()).await.is_ok());
    query(&server, "CREATE DATABASE kept").await;
    query(&server, "CREATE TABLE kept.t (n UInt64) ENGINE = MergeTree ORDER BY n").await;
    query(&server, "INSERT INTO kept.t SELECT number FROM numbers(1000)").await;
    let exit = server.stop().await;
    assert!(exit.success(), "{exit}: {}", server.child().log_tail(2000));

    let server = ClickHouse::start(options.clone()).await.unwrap();
    assert_eq!(query(&server, "SELECT sum(n) FROM kept.t").await, "499500");
    let second = ClickHouse::start(options).await.unwrap_err();
    assert!(matches!(second, PartsError::Died { .. }), "one server per data folder: {second}");
    let pid = server.pid();
    drop(server);
    eventually("the end of the dropped server", || is_gone(pid)).await;
}

#[tokio::test]
async fn clickhouse_on_a_taken_port_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = clickhouse_options(dir.path()).await;
    options.http_port = holder.local_addr().unwrap().port();
    let error = ClickHouse::start(options).await.unwrap_err();
    assert!(matches!(error, PartsError::PortTaken { server: "ClickHouse", .. }), "{error}");
}

#[tokio::test]
async fn the_launcher_ends_when_its_standard_input_closes() {
    let dir = tempfile::tempdir().unwrap();
    let ClickHouseEngine::Library(lib) = clickhouse_options(dir.path()).await.engine else {
        return; // A program from the PATH needs no launcher.
    };
    let mut command = tokio::process::Command::new(helper());
    let port = farebox_parts::free_port().unwrap();
    command.arg("serve").arg("--lib").arg(lib).arg("--path").arg(dir.path().join("data"));
    command.arg("--http-port").arg(port.to_string());
    let mut child = command.stdin(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    eventually("the HTTP port", listens).await;
    drop(child.stdin.take());
    let status = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}
