//! The emulator on its own: `cargo run -p farebox-emulator --example serve -- 127.0.0.1:8099`.

use farebox_emulator::{Emulator, EmulatorError, Options};

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "says where it listens")]
async fn main() -> Result<(), EmulatorError> {
    let mut options = Options::default();
    if let Some(listen) = std::env::args().nth(1).and_then(|a| a.parse().ok()) {
        options.listen = listen;
    }
    let emulator = Emulator::start(options).await?;
    println!("{}", emulator.base_url());
    std::future::pending().await
}
