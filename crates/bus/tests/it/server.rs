//! A real nats-server for one test.

use std::time::Duration;

use farebox_bus::{Bus, Options};
use farebox_testkit::TestNats;
use farebox_types::Span;

pub(crate) struct Server(TestNats);

impl Server {
    pub(crate) async fn start() -> Server {
        Server::with("").await
    }

    /// With these lines in its configuration.
    pub(crate) async fn with(lines: &str) -> Server {
        Server(TestNats::builder().config("no_fast_producer_stall: true").config(lines).start().await.unwrap())
    }

    pub(crate) async fn without_jetstream() -> Server {
        Server(TestNats::builder().without_jetstream().start().await.unwrap())
    }

    pub(crate) fn options(&self) -> Options {
        Options { url: self.0.url(), start_timeout: Span::from_secs(20), ..Options::default() }
    }

    pub(crate) async fn bus(&self) -> Bus {
        Bus::connect(&self.options()).await.unwrap()
    }

    pub(crate) async fn kill(&self) {
        self.0.kill9().await;
    }

    /// Stands still from now on: connections stay open, and nothing answers.
    pub(crate) async fn pause(&self) {
        self.0.pause().await.unwrap();
    }

    pub(crate) async fn go_on_after(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.0.cont().await.unwrap();
    }

    /// Starts again on the same data and port.
    pub(crate) async fn restart(&self) {
        self.0.start_again().await.unwrap();
    }
}
