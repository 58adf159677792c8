//! A real nats-server for one test, on a free port, killed at the end.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use farebox_bus::{Bus, Options};
use farebox_types::Span;
use tempfile::TempDir;

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    dir: TempDir,
    extra: String,
}

fn binary() -> String {
    std::env::var("FAREBOX_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned())
}

fn start(dir: &Path, port: u16, extra: &str) -> Child {
    let conf = dir.join("nats.conf");
    let text = format!(
        "listen: 127.0.0.1:{port}\njetstream {{ store_dir: \"{}\" }}\nno_fast_producer_stall: true\n{extra}\n",
        dir.join("js").display()
    );
    std::fs::write(&conf, text).unwrap();
    let log = std::fs::File::create(dir.join("nats.log")).unwrap();
    Command::new(binary()).arg("-c").arg(conf).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::with("")
    }

    pub(crate) fn with(extra: &str) -> Server {
        let dir = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Server { child: start(dir.path(), port, extra), port, dir, extra: extra.to_owned() }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn options(&self) -> Options {
        Options { url: self.url(), start_timeout: Span::from_secs(20), ..Options::default() }
    }

    pub(crate) async fn bus(&self) -> Bus {
        Bus::connect(&self.options()).await.unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again on the same data and port.
    pub(crate) fn restart(&mut self) {
        self.child = start(self.dir.path(), self.port, &self.extra);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
