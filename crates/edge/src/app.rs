//! What every request shares.

use std::{net::IpAddr, sync::Arc};

use farebox_bus::Bus;
use farebox_config::Env;
use farebox_directory::Directory;
use farebox_policy::Pepper;
use farebox_runtime::{Drain, Tasks};
use farebox_types::Clock;
use tokio::sync::watch;

use crate::{options::Options, room::Rooms};

/// What the edge needs from outside.
pub struct Deps {
    pub bus: Bus,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    /// Where references to secrets lead.
    pub env: Env,
    /// Who may come in.
    pub directory: Directory,
    /// What hashes of keys are keyed with.
    pub pepper: Pepper,
    /// What can be asked for, of the config that holds now.
    pub offered: watch::Receiver<Arc<Vec<Offered>>>,
}

/// A model, as lists of models show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    pub alias: String,
    /// The provider of its first deployment.
    pub provider: String,
}

/// What every request shares.
pub(crate) struct App {
    pub(crate) deps: Deps,
    pub(crate) options: Options,
    pub(crate) bodies: Rooms,
    /// Given when requests under way have had their time: what is still running ends with an error.
    pub(crate) cut: Drain,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);
