//! The signal to take nothing new and to finish what is in flight.

use tokio_util::sync::CancellationToken;

/// A new signal, not yet given: the end that gives it and the end that everyone else holds.
pub fn drain() -> (DrainTrigger, Drain) {
    let token = CancellationToken::new();
    (DrainTrigger { token: token.clone() }, Drain { token })
}

/// Sees the signal. Cheap to clone: every loop has one of its own.
#[derive(Clone, Debug)]
pub struct Drain {
    token: CancellationToken,
}

impl Drain {
    /// Returns once the drain has begun; at once if it already has.
    pub async fn signaled(&self) {
        self.token.cancelled().await;
    }

    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// A signal of a part of the process: it drains with the whole, and can be drained alone.
    pub fn part(&self) -> (DrainTrigger, Drain) {
        let token = self.token.child_token();
        (DrainTrigger { token: token.clone() }, Drain { token })
    }
}

/// Gives the signal. Dropping it gives nothing.
#[derive(Clone, Debug)]
pub struct DrainTrigger {
    token: CancellationToken,
}

impl DrainTrigger {
    /// Begins the drain. A second call changes nothing.
    pub fn drain(&self) {
        self.token.cancel();
    }

    /// The signal that this trigger gives.
    pub fn signal(&self) -> Drain {
        Drain { token: self.token.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_sees_the_signal_also_those_who_ask_late() {
        let (trigger, drain) = drain();
        assert!(!drain.is_draining());
        let waiter = drain.clone();
        let ((), ()) = tokio::join!(waiter.signaled(), async { trigger.drain() });
        assert!(drain.is_draining());
        trigger.signal().signaled().await;
    }

    #[tokio::test]
    async fn a_part_drains_alone_and_with_the_whole() {
        let (trigger, whole) = drain();
        let (stop_one, one) = whole.part();
        let (_keep, other) = whole.part();
        stop_one.drain();
        assert!(one.is_draining() && !whole.is_draining() && !other.is_draining());
        trigger.drain();
        assert!(other.is_draining());
    }
}
