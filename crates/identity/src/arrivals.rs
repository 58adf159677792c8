//! What was made a moment ago may be on its way: a key that this process has not heard of, an account that the asking
//! server does not have. A client is neither refused for that nor let in too early: its answer waits a little.
//!
//! A server that is told to let somebody into an account that it does not have looks for it, and until it gives up, it
//! reads no other answer of this connection.

use farebox_policy::KeyFault;
use farebox_types::{Clock, Span};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    callout::{Admitted, Keys, Question, Refusal, decide},
    options::Options,
    registrar::Held,
};

/// Waits for keys and accounts. So many clients at most wait for either, that keys which are made up cost nothing more.
pub(crate) struct Arrivals {
    held: watch::Receiver<Held>,
    for_key: Semaphore,
    for_account: Semaphore,
}

impl Arrivals {
    pub(crate) fn new(held: watch::Receiver<Held>, options: &Options) -> Arrivals {
        let [for_key, for_account] = [options.waiting_max; 2].map(Semaphore::new);
        Arrivals { held, for_key, for_account }
    }

    /// Whether somebody is let in, when there is nothing left to wait for.
    pub(crate) async fn decide(
        &self,
        question: &Question,
        keys: &Keys<'_>,
        options: &Options,
        clock: &dyn Clock,
    ) -> Result<Admitted, Refusal> {
        let decide = || decide(question, keys, options, clock.now());
        let mut decided = decide();
        let is_unknown = |decided: &Result<_, Refusal>| matches!(decided, Err(Refusal::Fault(KeyFault::Unknown)));
        if is_unknown(&decided) {
            let known = async {
                let mut changes = keys.directory.changes();
                // Again, as it may have come before the changes were watched.
                decided = decide();
                while is_unknown(&decided) && changes.changed().await.is_ok() {
                    decided = decide();
                }
            };
            wait(&self.for_key, options.key_wait, known).await;
        }
        let admitted = decided?;
        let mut held = self.held.clone();
        let is_there = |held: &Held| held.is_at(&admitted.project, &question.server);
        if !is_there(&held.borrow()) {
            let there = async { held.wait_for(is_there).await.is_ok() };
            if wait(&self.for_account, options.account_wait, there).await != Some(true) {
                return Err(Refusal::NoAccount);
            }
        }
        Ok(admitted)
    }
}

/// Waits if there is room to, and no longer than that.
async fn wait<T>(room: &Semaphore, within: Span, what: impl Future<Output = T>) -> Option<T> {
    let _room = room.try_acquire().ok()?;
    timeout(within.get(), what).await.ok()
}
