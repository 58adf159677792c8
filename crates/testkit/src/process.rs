use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use farebox_parts::{Child, ChildSpec, Exit, Signal};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

const POLL: Duration = Duration::from_millis(5);
const SHOWN_ON_FAILURE: u64 = 20_000;

/// What to start.
#[derive(Clone, Debug)]
pub struct ProcessBuilder {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
}

/// A process under test, usually a `farebox`. It is killed when dropped; what it wrote is shown when the test fails.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    _dir: TempDir,
}

impl ProcessBuilder {
    pub fn arg(mut self, arg: impl Into<OsString>) -> ProcessBuilder {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> ProcessBuilder {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> ProcessBuilder {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> ProcessBuilder {
        self.current_dir = Some(dir.into());
        self
    }

    pub async fn spawn(self) -> anyhow::Result<Process> {
        let dir = tempfile::Builder::new().prefix("farebox-process-").tempdir()?;
        let mut spec = ChildSpec::new(&self.program, dir.path().join("log")).args(&self.args);
        spec.env = self.env;
        spec.current_dir = self.current_dir;
        let first = self.args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        let name = format!("{} {first}", self.program.display());
        let child = Child::spawn(spec).await.with_context(|| format!("cannot start {name}"))?;
        Ok(Process { child, name, _dir: dir })
    }
}

/// Whether a process has ended, also where whoever it was left to has not asked how yet: its files and ports are free.
pub fn has_ended(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // Behind the name in brackets, which may hold anything: the state.
        Ok(stat) => stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

/// Waits until every thread of a process has stopped: the signal that asks for it returns earlier.
pub(crate) fn stands_still(pid: u32) -> bool {
    let stopped = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state stands behind the name, which may hold anything but ends with the last parenthesis.
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['T', 'Z', 'X']))
    };
    (0..20_000).any(|_| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        let still = tasks.flatten().all(stopped);
        if !still {
            std::thread::sleep(Duration::from_millis(1));
        }
        still
    })
}

impl Process {
    pub fn builder(program: impl Into<PathBuf>) -> ProcessBuilder {
        ProcessBuilder { program: program.into(), args: Vec::new(), env: Vec::new(), current_dir: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Everything that it has written so far, to either stream.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.child.log_path()).unwrap_or_default()
    }

    pub fn is_running(&self) -> bool {
        self.child.exit().is_none()
    }

    pub async fn kill9(&self) -> Exit {
        self.child.kill().await
    }

    /// Returns once the process stands still.
    pub fn sigstop(&self) -> bool {
        self.child.signal(Signal::STOP) && stands_still(self.pid())
    }

    pub fn sigcont(&self) -> bool {
        self.child.signal(Signal::CONT)
    }

    pub fn sigterm(&self) -> bool {
        self.child.signal(Signal::TERM)
    }

    /// Ctrl-C.
    pub fn sigint(&self) -> bool {
        self.child.signal(Signal::INT)
    }

    pub async fn wait(&self, patience: Duration) -> anyhow::Result<Exit> {
        let exit = timeout(patience, self.child.wait()).await;
        exit.with_context(|| format!("{} still runs after {patience:?}", self.name))
    }

    /// Waits for a ready file: one line of JSON that is written when everything answers.
    pub async fn wait_ready(&self, file: &Path, patience: Duration) -> anyhow::Result<serde_json::Value> {
        let give_up = Instant::now() + patience;
        loop {
            if let Ok(text) = std::fs::read_to_string(file)
                && let Ok(ready) = serde_json::from_str(&text)
            {
                return Ok(ready);
            }
            if let Some(exit) = self.child.exit() {
                bail!("{} ended before it was ready ({exit})", self.name);
            }
            ensure!(Instant::now() < give_up, "{} was not ready after {patience:?}", self.name);
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "a failed test shows what its processes said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}\n---", self.name, self.child.log_tail(SHOWN_ON_FAILURE));
        }
    }
}
