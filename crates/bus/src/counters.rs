//! What happened on one connection, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since the connection was first made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Count,)* }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Relaxed),)* }
            }
        }
    };
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

counts! {
    /// The connection was made again after a loss.
    reconnects,
    /// A subscription of ours was too slow and lost messages.
    slow_consumers,
    /// The server refused a publish or a subscribe: see the log for the subject.
    permission_violations,
    /// Other errors that the server sent.
    server_errors,
    /// Calls that nobody listened to.
    no_responders,
    /// Calls that got no answer in time.
    timeouts,
    /// Answers that came when nobody waited any more.
    late_replies,
    /// Messages dropped because a private inbox was full.
    inbox_overflows,
    /// Pull requests that had to be repeated or consumers that had to be made again.
    consumer_repairs,
}
