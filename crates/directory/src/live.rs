//! Following the bucket.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use farebox_bus::{Bucket, Bus, Entry, StreamError, topology};
use farebox_policy::Policies;
use farebox_runtime::Drain;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at},
};

use crate::{
    Directory, Feed,
    entity::{self, Kind},
    fixed::Fixed,
    options::Options,
};

/// Changes that wait to be taken; what waits is taken together.
const WAITING: usize = 4096;
/// Before a bucket that cannot be watched is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Follows the bucket and feeds a directory.
pub struct Live {
    bucket: Bucket,
    changes: Changes,
    options: Options,
    feed: Feed,
    directory: Directory,
    /// What the config says: no entry of the bucket takes its place.
    fixed: Fixed,
    /// What the bucket says, those that have no effect included.
    stored: Policies,
    /// The revision of what was taken last, by key.
    taken: BTreeMap<String, u64>,
    newest: u64,
    /// Until then nothing was missed.
    complete: Instant,
    /// A revision that is there but has not come, and when that was found.
    awaited: Option<(u64, Instant)>,
}

/// What is written to the bucket, as it comes. Waiting for it can be given up at any time without harm.
struct Changes {
    entries: mpsc::Receiver<Entry>,
    watching: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Changes {
    /// The present value of every key first.
    fn of(bucket: &Bucket) -> Changes {
        let bucket = bucket.clone();
        let (sender, entries) = mpsc::channel(WAITING);
        let watching = Box::pin(async move {
            let mut watch = loop {
                match bucket.watch().await {
                    Ok(watch) => break watch,
                    Err(error) => tracing::debug!(%error, "policies cannot be watched yet"),
                }
                sleep(PAUSE).await;
            };
            while sender.send(watch.next().await).await.is_ok() {}
        });
        Changes { entries, watching }
    }

    async fn next(&mut self) -> Entry {
        loop {
            tokio::select! {
                Some(entry) = self.entries.recv() => return entry,
                () = &mut self.watching => {}
            }
        }
    }

    fn try_next(&mut self) -> Option<Entry> {
        self.entries.try_recv().ok()
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<u64, StreamError>> + Send>>;

/// A question for the newest revision.
struct Check {
    asking: Asking,
    asked: Instant,
    /// What had been taken by then.
    newest: u64,
}

impl Live {
    /// Reads everything there is. Returns once it is known, or `stale_after` has passed since the bucket said how much
    /// there is: then the directory is stale.
    pub async fn open(bus: &Bus, fixed: impl Into<Fixed>, options: Options) -> Result<Live, StreamError> {
        let fixed = fixed.into();
        let bucket = bus.bucket(topology::POLICY);
        let changes = Changes::of(&bucket);
        let (feed, directory) = Directory::fed((*fixed.now()).clone());
        let mut live = Live {
            bucket,
            changes,
            options,
            feed,
            directory,
            fixed,
            stored: Policies::default(),
            taken: BTreeMap::new(),
            newest: 0,
            complete: Instant::now(),
            awaited: None,
        };
        let newest = live.bucket.newest().await?;
        let asked = Instant::now();
        let until = asked + live.options.stale_after.get();
        while live.newest < newest {
            match timeout_at(until, live.changes.next()).await {
                Ok(entry) => live.take(entry),
                Err(_) => {
                    tracing::warn!("keys and rules cannot be read yet: callers are told to try again");
                    return Ok(live);
                }
            }
        }
        live.completed(asked);
        Ok(live)
    }

    pub fn directory(&self) -> Directory {
        self.directory.clone()
    }

    /// Follows until the drain.
    pub async fn run(mut self, drain: Drain) {
        let mut ticks = interval(self.options.check_interval.get());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check: Option<Check> = None;
        loop {
            let stale = self.complete + self.options.stale_after.get();
            tokio::select! {
                entry = self.changes.next() => self.take(entry),
                true = self.fixed.changed() => self.publish(),
                _ = ticks.tick(), if check.is_none() => check = Some(self.check()),
                answer = async { check.as_mut().expect("the branch is off without one").asking.as_mut().await },
                    if check.is_some() =>
                {
                    if let Some(check) = check.take() {
                        self.checked(check.asked, check.newest, answer);
                    }
                }
                () = sleep_until(stale), if self.is_fresh() => self.stale(),
                () = drain.signaled() => return,
            }
        }
    }

    fn check(&self) -> Check {
        let bucket = self.bucket.clone();
        let asking = Box::pin(async move { bucket.newest().await });
        Check { asking, asked: Instant::now(), newest: self.newest }
    }

    /// What the bucket says is its newest revision, against what had come when it was asked.
    fn checked(&mut self, asked: Instant, had: u64, answer: Result<u64, StreamError>) {
        match answer {
            Err(error) => tracing::debug!(%error, "it cannot be checked whether policies have changed"),
            Ok(newest) if newest < had => {
                tracing::warn!("the bucket of policies was made anew: reading all of it again");
                self.taken.clear();
                self.stored = Policies::default();
                self.newest = 0;
                self.publish();
                self.changes = Changes::of(&self.bucket);
            }
            Ok(newest) if newest <= self.newest => self.completed(asked),
            Ok(newest) => match self.awaited {
                Some((_, since)) if since.elapsed() > self.options.late_after.get() => {
                    tracing::warn!("a change of policies does not arrive: reading all of them again");
                    self.changes = Changes::of(&self.bucket);
                    self.awaited = Some((newest, Instant::now()));
                }
                Some(_) => {}
                None => self.awaited = Some((newest, asked)),
            },
        }
    }

    fn take(&mut self, first: Entry) {
        self.apply(first);
        for _ in 0..WAITING {
            match self.changes.try_next() {
                Some(entry) => self.apply(entry),
                None => break,
            }
        }
        self.publish();
        if let Some((revision, asked)) = self.awaited
            && revision <= self.newest
        {
            self.completed(asked);
        }
    }

    fn apply(&mut self, Entry { key, value, revision }: Entry) {
        // A server that lags behind may say again what is over.
        if self.taken.get(&key).is_some_and(|taken| *taken > revision) {
            return;
        }
        self.newest = self.newest.max(revision);
        self.taken.insert(key.clone(), revision);
        let Some((kind, name)) = Kind::of(&key) else {
            return tracing::error!(key, "an entry of the bucket of policies is none: remove it");
        };
        if entity::has(&self.fixed.now(), kind, name) {
            tracing::warn!(key, "the config says the same name: the stored policy has no effect");
        }
        match value {
            None => entity::remove(&mut self.stored, kind, name),
            Some(value) => {
                if let Err(faults) = entity::put(&mut self.stored, kind, name, &value) {
                    tracing::error!(key, %faults, "a stored policy cannot be read: what was known before it holds");
                }
            }
        }
    }

    fn publish(&self) {
        self.feed.policies(entity::under(self.stored.clone(), &self.fixed.now()));
    }

    fn is_fresh(&self) -> bool {
        self.directory.read().is_ok()
    }

    fn completed(&mut self, at: Instant) {
        self.awaited = None;
        self.complete = at;
        if at.elapsed() < self.options.stale_after.get() && !self.is_fresh() {
            tracing::info!("keys and rules are up to date");
            self.feed.fresh(true);
        }
    }

    fn stale(&mut self) {
        tracing::error!("changes of keys and rules cannot be heard: callers are told to try again");
        self.feed.fresh(false);
    }
}
