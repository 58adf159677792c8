#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod child;
mod fetch;
mod servers;

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use farebox_parts::{Fetch, Progress};
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Gone, or a zombie that its new parent has not reaped.
fn is_gone(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}

fn helper() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let target = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    target.join("examples/helper")
}

/// The cache that `farebox` itself uses, so that the big packages come once per machine.
fn fetch() -> Fetch {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    Fetch::new(cache.expect("HOME is set").join("farebox/parts"), env::var_os("PATH").expect("PATH is set"))
}

fn quiet(_: Progress) {}
