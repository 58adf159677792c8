//! Everything that is started for a run, and ended after it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use farebox_parts::{Child, ChildSpec};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    books::{Books, address},
    cli::RunArgs,
    config,
    proc::Processes,
    table,
    target::Places,
};

/// A first start may fetch its parts.
const FAREBOX_START: Duration = Duration::from_secs(300);
const EMULATOR_START: Duration = Duration::from_secs(20);
const STOP_GRACE: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(20);
const LOG_SHOWN: u64 = 4_000;

/// What `farebox up` says when everything answers.
#[derive(Debug, serde::Deserialize)]
struct Ready {
    nats: String,
    clickhouse: String,
    http: String,
    #[serde(default)]
    pids: BTreeMap<String, u32>,
}

#[derive(Debug, serde::Deserialize)]
struct EmulatorReady {
    http: SocketAddr,
}

/// The children. They end with this at the latest.
pub(crate) struct Stack {
    children: Vec<(&'static str, Child)>,
    dir: TempDir,
}

/// What is measured, and where.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) places: Places,
    pub(crate) books: Books,
    pub(crate) processes: Processes,
}

impl Stack {
    pub(crate) fn new(work_dir: Option<&Path>) -> anyhow::Result<Stack> {
        let parent = work_dir.map_or_else(std::env::temp_dir, Path::to_owned);
        let dir = tempfile::Builder::new().prefix("farebox-bench-").tempdir_in(&parent);
        let dir = dir.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        Ok(Stack { children: Vec::new(), dir })
    }

    pub(crate) async fn start(&mut self, args: &RunArgs) -> anyhow::Result<Scene> {
        let farebox = binary(args.farebox.as_deref())?;
        let direct = self.emulator("emulator-direct").await?;
        let emulator = self.emulator("emulator").await?;
        let ready = self.farebox(&farebox, &config::yaml(emulator, args.durability, args.threads)).await?;
        let mut processes = Processes::default();
        processes.add("generator", std::process::id());
        for (name, child) in &self.children {
            processes.add(name, child.pid());
        }
        for (name, pid) in ready.pids.iter().filter(|(name, _)| *name != "farebox") {
            processes.add(name, *pid);
        }
        Ok(Scene {
            places: Places { direct, nats: ready.nats, edge: address(&ready.http)? },
            books: Books { clickhouse: address(&ready.clickhouse)?, emulator },
            processes,
        })
    }

    /// Asks every child to end, farebox first, and makes those end that do not.
    pub(crate) async fn stop(mut self) {
        while let Some((name, child)) = self.children.pop() {
            let exit = child.stop(STOP_GRACE).await;
            if !exit.success() {
                table::note(&format!("{name} did not end cleanly: {exit}"));
            }
        }
    }

    /// The end of what farebox and the others wrote, for whoever has to find out why.
    pub(crate) fn logs(&self) -> String {
        let logs = self.children.iter().map(|(name, child)| (name, child.log_tail(LOG_SHOWN)));
        logs.filter(|(_, log)| !log.is_empty()).map(|(name, log)| format!("--- {name}\n{log}\n")).collect()
    }

    async fn emulator(&mut self, name: &'static str) -> anyhow::Result<SocketAddr> {
        let ready_file = self.dir.path().join(format!("{name}.ready"));
        let this = std::env::current_exe().context("cannot find this program")?;
        let spec = ChildSpec::new(this, self.log(name)).args(["emulator", "--ready-file"]).arg(&ready_file);
        let ready: EmulatorReady = self.child(name, spec, &ready_file, EMULATOR_START).await?;
        Ok(ready.http)
    }

    async fn farebox(&mut self, program: &Path, config: &str) -> anyhow::Result<Ready> {
        let path = |name: &str| self.dir.path().join(name);
        let (config_file, ready_file, data) = (path("farebox.yaml"), path("farebox.ready"), path("data"));
        std::fs::write(&config_file, config).context("cannot write the config")?;
        let mut spec = ChildSpec::new(program, self.log("farebox"))
            .args(["up", "--config"])
            .arg(config_file)
            .arg("--data")
            .arg(data)
            .arg("--ready-file")
            .arg(&ready_file);
        let (name, key) = config::KEY;
        spec.env.push((name.into(), key.into()));
        self.child("farebox", spec, &ready_file, FAREBOX_START).await
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    async fn child<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
        spec: ChildSpec,
        ready_file: &Path,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let program = spec.program.display().to_string();
        let child = Child::spawn(spec).await.with_context(|| format!("cannot start {program}"))?;
        self.children.push((name, child));
        let until = Instant::now() + patience;
        loop {
            if let Ok(text) = std::fs::read_to_string(ready_file) {
                return serde_json::from_str(&text).with_context(|| format!("{name}'s ready file: {text}"));
            }
            if let Some(exit) = self.children.last().and_then(|(_, child)| child.exit()) {
                bail!("{name} ended before it was ready ({exit})");
            }
            ensure!(Instant::now() < until, "{name} was not ready after {patience:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The farebox to start: this one, or the one beside this program.
pub(crate) fn binary(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().context("cannot find this program")?.with_file_name("farebox"),
    };
    ensure!(
        path.is_file(),
        "there is no {}: build it (`cargo build --release`), or give --farebox PATH",
        path.display()
    );
    path.canonicalize().with_context(|| format!("cannot use {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_named() {
        let error = binary(Some(Path::new("no/such/farebox"))).unwrap_err().to_string();
        assert!(error.contains("no/such/farebox") && error.contains("--farebox"), "{error}");
    }

    #[test]
    fn the_ready_line_is_understood() {
        let line = r#"{"nats":"nats://127.0.0.1:1","clickhouse":"http://127.0.0.1:2","http":"http://127.0.0.1:4",
            "pids":{"nats":3},"more":1}"#;
        let ready: Ready = serde_json::from_str(line).unwrap();
        assert_eq!((ready.nats.as_str(), address(&ready.http).unwrap().port()), ("nats://127.0.0.1:1", 4));
        assert_eq!(ready.pids["nats"], 3);
    }
}
