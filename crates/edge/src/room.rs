//! Room for requests and for bodies: bounded for all together, and for each source, so that one leaves room for others.

use std::{net::IpAddr, sync::Arc, time::Duration};

use farebox_runtime::shares::{Share, Shares, network};
use farebox_types::{ErrorKind, Fault, Project};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{access::Caller, app::Peer, options::Options};

/// When to come back if there was no room.
const COME_BACK: Duration = Duration::from_secs(1);

/// Who holds room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Project(Project),
    /// Of whom no project is known.
    Address(IpAddr),
}

impl Source {
    pub(crate) fn of(caller: Option<&Caller>, peer: Peer) -> Source {
        caller.map_or_else(|| Source::Address(network(peer.0)), |caller| Source::Project(caller.project.clone()))
    }
}

/// Room of one kind.
pub(crate) struct Rooms {
    places: Arc<Semaphore>,
    shares: Shares<Source>,
    per_project: usize,
    per_address: usize,
    words: &'static Words,
}

/// What there is no room for, and the options that say so.
struct Words {
    what: &'static str,
    all: &'static str,
    per_project: &'static str,
    per_address: &'static str,
}

const REQUESTS: Words = Words {
    what: "requests are under way",
    all: "edge.requests_max",
    per_project: "edge.requests_per_project",
    per_address: "edge.requests_per_address",
};

const BODIES: Words = Words {
    what: "bodies wait for their answers",
    all: "edge.bodies_max",
    per_project: "edge.bodies_per_project",
    // Only who has a project may send one.
    per_address: "edge.bodies_max",
};

impl Rooms {
    /// For requests, one each.
    pub(crate) fn of_requests(options: &Options) -> Rooms {
        Rooms {
            places: Arc::new(Semaphore::new(options.requests_max)),
            shares: Shares::default(),
            per_project: options.requests_of_a_project(),
            per_address: options.requests_of_an_address(),
            words: &REQUESTS,
        }
    }

    /// For bodies, in KiB.
    pub(crate) fn of_bodies(options: &Options) -> Rooms {
        Rooms {
            places: Arc::new(Semaphore::new(kib(options.bodies_max.len()) as usize)),
            shares: Shares::default(),
            per_project: kib(options.bodies_of_a_project().len()) as usize,
            per_address: 0,
            words: &BODIES,
        }
    }

    /// Room that a source may take. It has none yet.
    pub(crate) fn room(&self, source: Source) -> Room {
        let max = match &source {
            Source::Project(_) => self.per_project,
            Source::Address(_) => self.per_address,
        };
        let (places, share) = (self.places.clone(), self.shares.of(source, max));
        Room { places, taken: None, share, words: self.words }
    }
}

/// What one request or one body takes, until it is dropped.
pub(crate) struct Room {
    places: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
    share: Share<Source>,
    words: &'static Words,
}

impl Room {
    /// A place for one request.
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        self.grow(1)
    }

    /// Room for so many bytes of a body.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        self.grow(kib(bytes))
    }

    fn grow(&mut self, to: u32) -> Result<(), Fault> {
        let taken = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = to.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
        let more = self.places.clone().try_acquire_many_owned(missing).map_err(|_| self.is_full())?;
        if !self.share.take(missing as usize) {
            return Err(self.has_its_share());
        }
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }

    pub(crate) fn give_back(&mut self) {
        self.taken = None;
        self.share.give_back();
    }

    fn is_full(&self) -> Fault {
        let Words { what, all, .. } = self.words;
        Fault::new(ErrorKind::Unavailable, format!("too many {what} ({all}): try again")).retry_after(COME_BACK)
    }

    fn has_its_share(&self) -> Fault {
        let Words { what, per_project, per_address, .. } = self.words;
        too_many(&match self.share.source() {
            Source::Project(project) => format!("too many {what} of project `{project}` ({per_project})"),
            Source::Address(_) => format!("too many {what} without a key that opens, of your address ({per_address})"),
        })
    }
}

/// Why a connection is not served.
pub(crate) fn too_many_connections() -> Fault {
    too_many("your address has too many connections (edge.connections_per_address)")
}

fn too_many(what: &str) -> Fault {
    Fault::new(ErrorKind::RateLimited, format!("{what}: try again when some have ended")).retry_after(COME_BACK)
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
