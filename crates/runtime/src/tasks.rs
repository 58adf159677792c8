//! Named tasks, and the end of all of them.

use std::{
    any::Any,
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    error::Error,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::{Drain, DrainTrigger, Signals};

type Name = Cow<'static, str>;
type Cause = Box<dyn Error + Send + Sync + 'static>;

/// A task that failed or panicked: which one, and why.
#[derive(Debug, thiserror::Error)]
#[error("the task `{task}` failed")]
pub struct TaskFailure {
    pub task: String,
    #[source]
    pub cause: Cause,
}

/// Why a process did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Failed(#[from] TaskFailure),
    #[error("{names} did not end within the drain timeout of {timeout:?} and had to be aborted")]
    Stuck { names: String, timeout: Duration },
    #[error("a second {signal} arrived before the drain was over")]
    Interrupted { signal: &'static str },
}

impl RunError {
    /// The exit code that tells a supervisor which of them it was.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Failed(_) | RunError::Stuck { .. } => 1,
            RunError::Interrupted { .. } => 130,
        }
    }
}

/// What a task may return: nothing, or a result whose error brings the process down.
pub trait TaskOutput: Send + 'static {
    fn into_result(self) -> Result<(), Cause>;
}

impl TaskOutput for () {
    fn into_result(self) -> Result<(), Cause> {
        Ok(())
    }
}

impl<E: Into<Cause> + Send + 'static> TaskOutput for Result<(), E> {
    fn into_result(self) -> Result<(), Cause> {
        self.map_err(Into::into)
    }
}

/// All tasks of a process. Cheap to clone; clones spawn into the same set, from any runtime of the process.
#[derive(Clone, Debug)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    trigger: DrainTrigger,
    tracker: TaskTracker,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    /// The handle follows a moment after the task has started, hence the option.
    tasks: HashMap<u64, (Name, Option<AbortHandle>)>,
    /// Only the first failure counts: the later ones are mostly its consequence.
    failure: Option<TaskFailure>,
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, Running> {
        // Nothing that can panic runs under this lock, and the map stays whole in any case.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, task: Name, cause: Cause) {
        tracing::debug!(task = %task, error = %cause, "a task failed, draining");
        self.running().failure.get_or_insert(TaskFailure { task: task.into_owned(), cause });
        self.trigger.drain();
    }
}

/// Takes a task off the list however it ends, also when its runtime is dropped.
struct Listed {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.running().tasks.remove(&self.id);
    }
}

impl Tasks {
    /// A failing task pulls `trigger`.
    pub fn new(trigger: DrainTrigger) -> Tasks {
        Tasks { shared: Arc::new(Shared { trigger, tracker: TaskTracker::new(), running: Mutex::default() }) }
    }

    /// The drain signal that these tasks belong to.
    pub fn drain(&self) -> Drain {
        self.shared.trigger.signal()
    }

    /// Starts a task on the runtime that the caller runs on, a current-thread one included. The name is what a person
    /// reads when the task fails or is stuck; many tasks may share one.
    pub fn spawn<F>(&self, name: impl Into<Name>, task: F)
    where
        F: Future + Send + 'static,
        F::Output: TaskOutput,
    {
        let name = name.into();
        let id = {
            let mut running = self.shared.running();
            let id = running.next;
            running.next += 1;
            running.tasks.insert(id, (name.clone(), None));
            id
        };
        let listed = Listed { shared: self.shared.clone(), id };
        let work = self.shared.tracker.track_future(async move {
            let result = AssertUnwindSafe(task).catch_unwind().await;
            let cause = match result {
                Ok(output) => output.into_result().err(),
                Err(panic) => Some(panic_message(&*panic).into()),
            };
            if let Some(cause) = cause {
                listed.shared.fail(name, cause);
            }
            drop(listed);
        });
        #[expect(clippy::disallowed_methods, reason = "the one place where tasks are named and listed")]
        let handle = tokio::spawn(work).abort_handle();
        if let Some((_, slot)) = self.shared.running().tasks.get_mut(&id) {
            *slot = Some(handle);
        }
    }

    /// The names of the tasks that are running, each with how many bear it.
    pub fn names(&self) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for (name, _) in self.shared.running().tasks.values() {
            *names.entry(name.clone().into_owned()).or_default() += 1;
        }
        names
    }

    /// Lives until the drain begins (by whoever holds a trigger, by a failing task, or by the first of `signals`), then
    /// waits for every task.
    ///
    /// On [`RunError::Interrupted`] tasks have been aborted without an end of their own: leave with
    /// [`RunError::exit_code`] at once.
    pub async fn run(&self, mut signals: Signals, drain_timeout: Duration) -> Result<(), RunError> {
        let drain = self.drain();
        tokio::select! {
            () = drain.signaled() => {}
            name = signals.next() => {
                tracing::info!(signal = name, "draining");
                self.shared.trigger.drain();
            }
        }
        tokio::select! {
            result = self.finish(drain_timeout) => result,
            signal = signals.next() => {
                self.abort();
                Err(RunError::Interrupted { signal })
            }
        }
    }

    /// Begins the drain, unless it has begun, and waits for every task; tasks that are not done in time are aborted and
    /// named. The first failure of a task wins over everything else.
    pub async fn finish(&self, drain_timeout: Duration) -> Result<(), RunError> {
        self.shared.trigger.drain();
        self.shared.tracker.close();
        let in_time = tokio::time::timeout(drain_timeout, self.shared.tracker.wait()).await;
        let stuck = self.names();
        if in_time.is_err() {
            self.abort();
        }
        if let Some(failure) = self.shared.running().failure.take() {
            return Err(failure.into());
        }
        if in_time.is_err() && !stuck.is_empty() {
            return Err(RunError::Stuck { names: listing(&stuck), timeout: drain_timeout });
        }
        Ok(())
    }

    fn abort(&self) {
        for (_, handle) in self.shared.running().tasks.values() {
            if let Some(handle) = handle {
                handle.abort();
            }
        }
    }
}

fn listing(names: &BTreeMap<String, usize>) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|(name, count)| match count {
            1 => format!("`{name}`"),
            _ => format!("`{name}` ({count} of them)"),
        })
        .collect();
    names.join(", ")
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    match text {
        Some(text) => format!("it panicked: {text}"),
        None => "it panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain;

    const LONG: Duration = Duration::from_secs(3600);

    fn tasks() -> (Tasks, Drain) {
        let (trigger, drain) = drain();
        (Tasks::new(trigger), drain)
    }

    #[tokio::test]
    async fn finish_drains_and_waits_for_everyone() {
        let (tasks, drain) = tasks();
        let (done, finished) = tokio::sync::oneshot::channel();
        let seen = drain.clone();
        tasks.spawn("loop", async move {
            seen.signaled().await;
            tokio::task::yield_now().await;
            done.send(()).unwrap();
        });
        tasks.spawn("short", async { Ok::<(), std::io::Error>(()) });
        tasks.finish(LONG).await.unwrap();
        finished.await.unwrap();
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn a_failing_task_drains_the_process_and_is_named() {
        let (tasks, drain) = tasks();
        let seen = drain.clone();
        tasks.spawn("waits", async move { seen.signaled().await });
        tasks.spawn("ledger", async { Err::<(), _>("the stream is gone") });
        drain.signaled().await;
        let error = tasks.finish(LONG).await.unwrap_err();
        assert_eq!(error.to_string(), "the task `ledger` failed");
        let RunError::Failed(failure) = error else { panic!("{error:?}") };
        assert_eq!(failure.cause.to_string(), "the stream is gone");
    }

    #[tokio::test]
    async fn a_panic_counts_as_a_failure() {
        let (tasks, drain) = tasks();
        let lease = 7;
        tasks.spawn("heartbeat", async move {
            assert_eq!(lease, 8, "lease {lease}");
        });
        drain.signaled().await;
        let RunError::Failed(failure) = tasks.finish(LONG).await.unwrap_err() else { panic!("the panic was not seen") };
        assert_eq!(failure.task, "heartbeat");
        let cause = failure.cause.to_string();
        assert!(cause.starts_with("it panicked: ") && cause.contains("lease 7"), "{cause}");
    }

    #[tokio::test(start_paused = true)]
    async fn stuck_tasks_are_aborted_and_named() {
        let (tasks, _drain) = tasks();
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("call", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        tasks.spawn("call", std::future::pending::<()>());
        tasks.spawn("flush", std::future::pending::<()>());
        let error = tasks.finish(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`call` (2 of them), `flush` did not end within the drain timeout of 5s and had to be aborted"
        );
        dropped.await.unwrap_err();
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn tasks_run_on_the_runtime_of_their_spawner() {
        let (tasks, drain) = tasks();
        let other = tasks.clone();
        let thread = std::thread::Builder::new()
            .name("side".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let (tell, told) = tokio::sync::oneshot::channel();
                    other.spawn("where", async move {
                        tell.send(std::thread::current().name().map(str::to_owned)).unwrap();
                    });
                    assert_eq!(told.await.unwrap().as_deref(), Some("side"));
                    // Dropped with its runtime: it must not be waited for afterwards.
                    other.spawn("orphan", std::future::pending::<()>());
                });
            })
            .unwrap();
        thread.join().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(tasks.finish(LONG)).unwrap();
        assert!(drain.is_draining());
    }
}
