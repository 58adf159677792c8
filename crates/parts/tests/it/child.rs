use std::time::Duration;

use farebox_parts::{Child, ChildSpec, Signal};

use crate::{eventually, helper, is_gone};

#[tokio::test]
async fn a_child_ends_as_it_says_and_its_log_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::fs::write(&log, "from an earlier run\n").unwrap();
    let child = Child::spawn(ChildSpec::new("/bin/sh", &log).arg("-c").arg("echo out; echo err >&2; exit 3"));
    let child = child.await.unwrap();
    assert_eq!(child.wait().await.code, Some(3));
    assert_eq!(child.log_tail(1000), "out\nerr");
    assert_eq!(child.log_tail(4), "err");
    assert!(!child.signal(Signal::KILL), "a reaped child is never signalled again");
}

#[tokio::test]
async fn stop_kills_what_does_not_end_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = "trap '' TERM; echo ready; while :; do sleep 0.02; done";
    let child = Child::spawn(ChildSpec::new("/bin/sh", &log).arg("-c").arg(script)).await.unwrap();
    eventually("the trap", || child.log_tail(100).contains("ready")).await;
    assert_eq!(child.stop(Duration::from_millis(100)).await.signal, Some(9));
}

#[tokio::test]
async fn a_dropped_child_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let child = Child::spawn(ChildSpec::new("/bin/sleep", dir.path().join("log")).arg("600")).await.unwrap();
    let pid = child.pid();
    assert!(!is_gone(pid));
    drop(child);
    eventually("the end of the child", || is_gone(pid)).await;
}

#[tokio::test]
async fn the_spawning_thread_of_the_caller_may_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let child = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Child::spawn(ChildSpec::new("/bin/cat", log))).unwrap()
    });
    let child = child.join().unwrap();
    // /dev/null as standard input: it ends by itself, and is not killed with the thread that asked for it.
    assert_eq!(child.wait().await.code, Some(0));
}

#[tokio::test]
async fn a_missing_program_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ChildSpec::new("/no/such/program", dir.path().join("log"));
    assert_eq!(Child::spawn(spec).await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_dies_with_a_parent_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (pid_file, log) = (dir.path().join("pid"), dir.path().join("log"));
    let spec = ChildSpec::new(helper(), dir.path().join("parent.log"))
        .arg("hold")
        .args([pid_file.as_os_str(), log.as_os_str()])
        .args(["/bin/sleep", "600"]);
    let parent = Child::spawn(spec).await.unwrap();
    let pid = || std::fs::read_to_string(&pid_file).ok()?.parse::<u32>().ok();
    eventually("the grandchild's pid", || pid().is_some()).await;
    let grandchild = pid().unwrap();
    assert!(!is_gone(grandchild));
    parent.kill().await;
    eventually("the end of the grandchild", || is_gone(grandchild)).await;
}
