use std::time::Duration;

use farebox_testkit::{Process, eventually};

const LONG: Duration = Duration::from_secs(20);

fn sh(script: &str) -> farebox_testkit::ProcessBuilder {
    Process::builder("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn a_process_is_watched_and_signalled() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let process = sh("echo said; echo '{\"http\":\"127.0.0.1:1\"}' > \"$READY\"; exec sleep 600")
        .env("READY", &ready)
        .spawn()
        .await
        .unwrap();
    assert_eq!(process.wait_ready(&ready, LONG).await.unwrap()["http"], "127.0.0.1:1");
    assert_eq!(process.log(), "said\n");
    let state = |wanted: &'static str| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
        async move { stat.rsplit(") ").next().unwrap().starts_with(wanted) }
    };
    assert!(process.sigstop());
    eventually(LONG, "it to be stopped", || state("T")).await;
    assert!(process.sigcont());
    eventually(LONG, "it to go on", || state("S")).await;
    assert!(process.is_running());
    assert!(process.wait(Duration::from_millis(20)).await.is_err());
    assert_eq!(process.kill9().await.signal, Some(9));
    assert!(!process.is_running() && !process.sigterm());
}

#[tokio::test]
async fn one_that_ends_before_it_is_ready_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let process = sh("exit 4").spawn().await.unwrap();
    let error = process.wait_ready(&dir.path().join("never"), LONG).await.unwrap_err();
    assert!(error.to_string().contains("exit code 4"), "{error}");
}

#[tokio::test]
#[should_panic(expected = "not within 20ms: the impossible")]
async fn what_never_comes_is_named() {
    eventually(Duration::from_millis(20), "the impossible", || async { false }).await;
}
