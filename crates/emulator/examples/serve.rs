//! The emulator on its own: `cargo run -p farebox-emulator --example serve -- 127.0.0.1:8099`; with a further argument
//! `obedient`, every model does what its prompt orders.

use farebox_emulator::{Emulator, EmulatorError, Options, Script};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "says where it listens")]
async fn main() -> Result<(), EmulatorError> {
    let mut options = Options { keep_requests: true, ..Options::default() };
    let mut args = std::env::args().skip(1);
    if let Some(listen) = args.next().and_then(|a| a.parse().ok()) {
        options.listen = listen;
    }
    let emulator = Emulator::start(options).await?;
    if args.next().is_some_and(|a| a == "obedient") {
        emulator.script("*", Script::obedient());
    }
    println!("{}", emulator.base_url());
    std::future::pending().await
}
