//! A child process that dies with its parent, writes to a log file, and is reaped by a thread of its own.

use std::{
    ffi::OsString,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::{oneshot, watch};

/// What to start.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    /// Set in addition to the inherited environment.
    pub env: Vec<(OsString, OsString)>,
    pub current_dir: Option<PathBuf>,
    /// Standard output and standard error are appended here.
    pub log: PathBuf,
    /// Keep a pipe to the child's standard input open for as long as the handle lives; otherwise it is `/dev/null`.
    pub stdin: bool,
}

impl ChildSpec {
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> ChildSpec {
        ChildSpec {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            current_dir: None,
            log: log.into(),
            stdin: false,
        }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> ChildSpec {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> ChildSpec {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl Exit {
    pub fn success(self) -> bool {
        self.code == Some(0)
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Exit {
        Exit { code: status.code(), signal: status.signal() }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => f.write_str("unknown status"),
        }
    }
}

/// A running child. Dropping it sends SIGKILL.
///
/// On Linux the kernel kills the child when the thread that spawned it ends. That thread is the child's own: it does
/// nothing but wait for this one child, so it ends after the child or with the whole process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    log: PathBuf,
    log_start: u64,
    /// `false` once the child is reaped; from then on its pid may belong to someone else.
    alive: Arc<Mutex<bool>>,
    exit: watch::Receiver<Option<Exit>>,
    _stdin: Option<ChildStdin>,
}

impl Child {
    pub async fn spawn(spec: ChildSpec) -> io::Result<Child> {
        let log = spec.log.clone();
        let file = OpenOptions::new().create(true).append(true).open(&log)?;
        let log_start = file.metadata()?.len();
        let (started_tx, started) = oneshot::channel();
        let (exit_tx, exit) = watch::channel(None);
        let alive = Arc::new(Mutex::new(true));
        let alive_in_thread = Arc::clone(&alive);
        std::thread::Builder::new().name("child".into()).stack_size(256 << 10).spawn(move || {
            let mut child = match command(&spec, file).and_then(|mut c| c.spawn()) {
                Ok(child) => child,
                Err(e) => {
                    let _ = started_tx.send(Err(e));
                    return;
                }
            };
            let started = (child.id(), child.stdin.take());
            if started_tx.send(Ok(started)).is_err() {
                // Whoever wanted it is gone: nobody else will end it.
                let _ = child.kill();
            }
            let exit = reap(&mut child, &alive_in_thread);
            exit_tx.send_replace(Some(exit));
        })?;
        let (id, stdin) = started.await.map_err(|_| io::Error::other("the child's thread ended early"))??;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Child { pid, log, log_start, alive, exit, _stdin: stdin })
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal; `false` if the child has already ended.
    pub fn signal(&self, signal: Signal) -> bool {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        *alive && rustix::process::kill_process(self.pid, signal).is_ok()
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until the child has ended. May be awaited any number of times.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(seen) => (*seen).unwrap_or(Exit { code: None, signal: None }),
            Err(_) => Exit { code: None, signal: None },
        }
    }

    /// SIGTERM, and SIGKILL if it has not ended within `grace`.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.signal(Signal::TERM);
        if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            return exit;
        }
        tracing::warn!(pid = self.pid(), "killed: did not end {grace:?} after SIGTERM");
        self.kill().await
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(&self) -> Exit {
        self.signal(Signal::KILL);
        self.wait().await
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The end of what this child wrote, at most `bytes` of it.
    pub fn log_tail(&self, bytes: u64) -> String {
        log_tail(&self.log, self.log_start, bytes)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn command(spec: &ChildSpec, log: File) -> io::Result<Command> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).envs(spec.env.iter().map(|(k, v)| (k, v)));
    if let Some(dir) = &spec.current_dir {
        command.current_dir(dir);
    }
    command.stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() });
    command.stdout(log.try_clone()?).stderr(log);
    // Ctrl-C in a terminal goes to the whole foreground group; the parent ends its children in its own order.
    command.process_group(0);
    die_with_parent(&mut command);
    Ok(command)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a parent-death signal can only be set between fork and exec")]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only two system calls are made; no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(parent) {
                // The parent died before the call above: no signal will come.
                return Err(rustix::io::Errno::SRCH.into());
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

/// Waits without reaping first, so that the pid stays ours until `alive` says that it is not.
fn reap(child: &mut std::process::Child, alive: &Mutex<bool>) -> Exit {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = rustix::process::waitid(WaitId::Pid(pid), options) {}
    }
    let mut alive = alive.lock().unwrap_or_else(PoisonError::into_inner);
    *alive = false;
    child.wait().map_or(Exit { code: None, signal: None }, Exit::from)
}

pub(crate) fn log_tail(path: &Path, start: u64, bytes: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(bytes))))?;
        let mut tail = Vec::new();
        file.take(bytes).read_to_end(&mut tail)?;
        Ok(tail)
    };
    match read() {
        Ok(tail) if tail.is_empty() => format!("(nothing in {})", path.display()),
        Ok(tail) => String::from_utf8_lossy(&tail).trim_end().to_owned(),
        Err(e) => format!("(cannot read {}: {e})", path.display()),
    }
}
