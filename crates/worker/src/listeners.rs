//! Calls whose callers have gone without a word are stopped: nobody would hear the rest, and all of it would be billed.
//!
//! NATS itself is asked, a few times within `listener_patience`, who listens where an answer goes: in a message beside, which
//! nobody hears, or, where the caller is in another account, with a piece of its stream. A call at whose address nobody
//! listened for all of the patience is treated as one whose client has gone. Where NATS cannot say it for sure, the call goes on.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use farebox_bus::{Asking, Bus};
use farebox_types::ReservationId;
use tokio::time::{Instant, sleep};

use crate::held::Handle;

/// How often NATS is asked within the patience.
const LOOKS: u32 = 4;

/// Where answers of running calls go.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<HashMap<ReservationId, Address>>);

struct Address {
    to: String,
    asking: Asking,
    /// The next piece is to be traced.
    with_next: Arc<AtomicBool>,
    handle: Handle,
    /// Since when nobody is known to listen.
    missing: Option<Instant>,
}

/// A call's place among them; gone when this is dropped.
pub(crate) struct Place {
    listeners: Arc<Listeners>,
    id: ReservationId,
    with_next: Arc<AtomicBool>,
}

impl Place {
    /// Whether NATS is to be asked with this piece. Looked at for every piece: no more than a look.
    pub(crate) fn asks_with_this(&self) -> bool {
        self.with_next.load(Ordering::Relaxed) && self.with_next.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listeners.addresses().remove(&self.id);
    }
}

impl Listeners {
    fn addresses(&self) -> MutexGuard<'_, HashMap<ReservationId, Address>> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a call whose answer goes nowhere else.
    pub(crate) fn watch(
        self: &Arc<Self>,
        id: ReservationId,
        to: String,
        asking: Asking,
        handle: Handle,
    ) -> Option<Place> {
        if to.is_empty() || asking == Asking::Never {
            return None;
        }
        let with_next = Arc::<AtomicBool>::default();
        let address = Address { to, asking, with_next: with_next.clone(), handle, missing: None };
        self.addresses().insert(id, address);
        Some(Place { listeners: self.clone(), id, with_next })
    }

    /// Asks until it is dropped.
    pub(crate) async fn follow(&self, bus: &Bus, patience: Duration) {
        if patience.is_zero() {
            return;
        }
        let mut traces = match bus.traces().await {
            Ok(traces) => traces,
            Err(error) => return tracing::warn!(%error, "callers that go without a word are not noticed"),
        };
        loop {
            tokio::select! {
                () = sleep(patience / LOOKS) => {}
                () = traces.gather() => {}
            }
            let said = traces.take();
            if !bus.is_steady() || !bus.can_trace() {
                self.forget();
                continue;
            }
            for to in self.look(&said, Instant::now(), patience) {
                if let Err(error) = bus.who_listens(&to).await {
                    tracing::debug!(%error, "it was not asked who listens");
                }
            }
        }
    }

    /// Nothing is known of anybody.
    fn forget(&self) {
        self.addresses().values_mut().for_each(|address| address.missing = None);
    }

    /// Takes note of what NATS said, stops calls that nobody has listened to for too long, and returns where it is to be asked
    /// beside.
    fn look(&self, said: &HashMap<String, bool>, now: Instant, patience: Duration) -> BTreeSet<String> {
        let mut addresses = self.addresses();
        addresses.retain(|id, address| {
            let gone = address.is_gone(said.get(&address.to).copied(), now, patience);
            if gone {
                tracing::debug!(reservation = %id, "nobody listens to a call any more");
                address.handle.cancel(true);
            }
            !gone
        });
        let mut aside = BTreeSet::new();
        for address in addresses.values() {
            if address.asking == Asking::Aside {
                aside.insert(address.to.clone());
            } else {
                address.with_next.store(true, Ordering::Relaxed);
            }
        }
        aside
    }
}

impl Address {
    fn is_gone(&mut self, somebody: Option<bool>, now: Instant, patience: Duration) -> bool {
        match somebody {
            Some(false) => now - *self.missing.get_or_insert(now) >= patience,
            // There was no piece to ask with.
            None if self.with_next.load(Ordering::Relaxed) => false,
            // Who is not known to be missing is there.
            Some(true) | None => {
                self.missing = None;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use farebox_types::{Project, RequestId};

    use super::*;
    use crate::held::Held;

    const PATIENCE: Duration = Duration::from_secs(8);
    const STEP: Duration = Duration::from_secs(2);

    /// Looks at one call every two seconds; when it is stopped.
    fn stopped(asking: Asking, said: &[Option<bool>], pieces: bool) -> Option<usize> {
        let (held, listeners) = (Held::new(), Arc::new(Listeners::default()));
        let id = ReservationId::generate();
        let project = Project::parse("acme").unwrap();
        let handle = held.take(id, project, RequestId::parse("r").unwrap(), Duration::ZERO, false);
        let place = listeners.watch(id, "to".to_owned(), asking, handle.clone()).unwrap();
        let mut now = Instant::now();
        said.iter().position(|said| {
            if pieces {
                place.asks_with_this();
            }
            let said = said.map(|somebody| ("to".to_owned(), somebody)).into_iter().collect();
            let asked = listeners.look(&said, now, PATIENCE);
            assert!(asked.is_empty() || asking == Asking::Aside);
            now += STEP;
            handle.why().is_some()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_stopped_once_nobody_has_listened_for_all_of_the_patience() {
        const GONE: Option<bool> = Some(false);
        const THERE: Option<bool> = Some(true);
        for asking in [Asking::Aside, Asking::WithMessage] {
            let stopped = |said: &[Option<bool>]| stopped(asking, said, true);
            assert_eq!(stopped(&[GONE; 9]), Some(4));
            assert_eq!(stopped(&[THERE; 9]), None);
            assert_eq!(stopped(&[None; 9]), None);
            // It came back, or may have.
            assert_eq!(stopped(&[GONE, GONE, GONE, GONE, THERE, GONE, GONE, GONE, GONE]), None);
            assert_eq!(stopped(&[GONE, GONE, GONE, GONE, None, GONE, GONE, GONE, GONE]), None);
        }
        // Without a piece nothing was asked.
        assert_eq!(super::tests::stopped(Asking::WithMessage, &[GONE, None, None, None, GONE], false), Some(4));
        assert_eq!(super::tests::stopped(Asking::WithMessage, &[GONE, None, None, None, None, None], false), None);
    }
}
