//! A client of the bus that knows nothing of farebox: Python's `nats-py`.

use farebox_emulator::{Fault, Script};
use farebox_testkit::{Process, TestNats};

use crate::{
    clients::install,
    stage::{SOON, play, shared},
};

/// Runs the client to its end; what it has seen.
async fn client(args: &[&str]) -> String {
    let script = install::home().join("python/foreign.py");
    let process = Process::builder(install::python("bus")).arg(script).args(args).spawn().await.expect("Python starts");
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
