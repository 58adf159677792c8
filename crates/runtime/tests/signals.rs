//! Signals are a property of the whole process, so these steps run in a process of their own, one after the other.

use std::{process::Command, time::Duration};

use farebox_runtime::{RunError, Signals, Tasks, drain};

fn raise(signal: &str) {
    let pid = std::process::id().to_string();
    let status = Command::new("kill").args([signal, &pid]).status().expect("`kill` runs");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_drains_and_the_second_leaves_at_once() {
    const LONG: Duration = Duration::from_secs(3600);

    let (trigger, draining) = drain();
    let tasks = Tasks::new(trigger);
    let seen = draining.clone();
    tasks.spawn("loop", async move { seen.signaled().await });
    let signals = Signals::listen().unwrap();
    raise("-TERM");
    tasks.run(signals, LONG).await.unwrap();
    assert!(draining.is_draining());

    let (trigger, draining) = drain();
    let tasks = Tasks::new(trigger);
    let (told, second) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        second.recv().unwrap();
        raise("-INT");
    });
    tasks.spawn("stubborn", async move {
        draining.signaled().await;
        told.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    let signals = Signals::listen().unwrap();
    raise("-INT");
    let error = tasks.run(signals, LONG).await.unwrap_err();
    assert!(matches!(error, RunError::Interrupted { signal: "SIGINT" }), "{error}");
    assert_eq!(error.exit_code(), 130);
}
