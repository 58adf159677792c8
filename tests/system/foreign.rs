//! A client that knows nothing of farebox: Python's `nats-py`, in a virtual environment that is made once.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use farebox_emulator::{Fault, Script};
use farebox_testkit::{Process, TestNats};

use crate::stage::{SOON, play, shared};

const NATS_PY: &str = "nats-py==2.9.0";

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{said}");
}

/// Python with `nats-py`. Made at the first run on a machine, by one process at a time.
fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).expect("a cache");
    let cache = cache.join("farebox");
    fs::create_dir_all(&cache).expect("the cache can be written");
    let venv = cache.join(format!("venv-{}", NATS_PY.replace("==", "-")));
    let lock = File::create(venv.with_extension("lock")).expect("the cache can be written");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
    let python = venv.join("bin/python");
    let done = venv.join("done");
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", NATS_PY]));
        fs::write(&done, NATS_PY).expect("the cache can be written");
    }
    python
}

/// Runs the client to its end; what it has seen.
async fn client(args: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/foreign.py");
    let process = Process::builder(python()).arg(script).args(args).spawn().await.expect("Python starts");
    let exit = process.wait(SOON * 2).await.unwrap_or_else(|error| panic!("{error}:\n{}", process.log()));
    assert!(exit.success(), "{exit}:\n{}", process.log());
    process.log()
}

#[test]
fn a_client_that_knows_only_nats_and_json_is_served() {
    play(async {
        let stage = shared().await;
        stage.emulator.script("foreign-slow", Script::default().fault(Fault::HangBeforeHead));
        let seen = client(&[stage.ready["nats"].as_str().expect("an address"), "foreign"]).await;
        for what in ["whole", "streamed in", "2 facts and events", "job", "cancelled"] {
            assert!(seen.contains(what), "not seen: {what}:\n{seen}");
        }
    });
}

#[test]
fn without_a_farebox_it_is_told_at_once() {
    play(async {
        let nats = TestNats::start().await.expect("a server");
        assert!(client(&[&nats.url(), "--nobody"]).await.contains("nobody"));
    });
}
