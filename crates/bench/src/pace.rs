//! A fixed schedule, kept to some ten microseconds: tokio's own timer knows only whole milliseconds, which is more than
//! what is measured here.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Waits for points in time.
pub(crate) struct Pacer(AsyncFd<OwnedFd>);

impl Pacer {
    pub(crate) fn new() -> anyhow::Result<Pacer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot make a timer")?;
        #[expect(
            deprecated,
            reason = "its successor is `unsafe`, which is forbidden here; what that demands holds: the descriptor is \
                      owned, and closed after it was taken off the reactor"
        )]
        let watched = AsyncFd::new(timer);
        Ok(Pacer(watched.context("cannot watch a timer")?))
    }

    /// Returns at `at`, or, when that is past, after everybody else had a turn.
    pub(crate) async fn until(&mut self, at: Instant) -> anyhow::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let once = Itimerspec { it_interval: timespec(Duration::ZERO)?, it_value: timespec(left)? };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once).context("cannot set a timer")?;
        let mut expirations = [0_u8; 8];
        loop {
            let mut ready = self.0.readable().await.context("cannot wait for a timer")?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?));
            if let Ok(read) = read {
                read.context("cannot read a timer")?;
                return Ok(());
            }
        }
    }
}

fn timespec(duration: Duration) -> anyhow::Result<Timespec> {
    Ok(Timespec { tv_sec: i64::try_from(duration.as_secs())?, tv_nsec: i64::from(duration.subsec_nanos()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn never_early_and_the_past_is_now() {
        let mut pacer = Pacer::new().unwrap();
        let start = Instant::now();
        for i in 1..=20 {
            let at = start + Duration::from_micros(300 * i);
            pacer.until(at).await.unwrap();
            assert!(Instant::now() >= at);
        }
        let late = Instant::now();
        for _ in 0..1_000 {
            pacer.until(start).await.unwrap();
        }
        assert!(late.elapsed() < Duration::from_secs(2));
    }
}
