//! The accounts of projects, made known to the NATS servers as the projects become known.

use std::{collections::BTreeSet, sync::Arc};

use farebox_bus::{Bus, Headers};
use farebox_directory::Directory;
use farebox_policy::Policies;
use farebox_types::{Clock, Project};
use serde_json::Value;
use tokio::time::sleep;

use crate::{accounts::Accounts, error::IdentityError, jwt, keyring::Keyring, options::Options};

const UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Gives accounts to the servers.
pub(crate) struct Registrar {
    /// A connection of the system account.
    pub(crate) system: Bus,
    pub(crate) keyring: Keyring,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    /// Projects whose account the servers have.
    known: BTreeSet<Project>,
}

impl Registrar {
    pub(crate) fn new(system: Bus, keyring: Keyring, clock: Arc<dyn Clock>, options: Options) -> Registrar {
        Registrar { system, keyring, clock, options, known: BTreeSet::new() }
    }

    /// Follows the projects for ever.
    pub(crate) async fn follow(mut self, directory: Directory) {
        let mut changes = directory.changes();
        loop {
            let policies = changes.borrow_and_update().clone();
            let all = self.register(&policies).await;
            let changed = async {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = changed => {}
                () = sleep(self.options.push_timeout.get()), if !all => {}
            }
        }
    }

    /// Whether the servers have all of them.
    async fn register(&mut self, policies: &Policies) -> bool {
        let projects = policies.projects.values().map(|policy| policy.name.clone());
        let of_keys = policies.keys.values().filter_map(|key| key.project.clone());
        let wanted: BTreeSet<Project> = projects.chain(of_keys).filter(|name| !self.known.contains(name)).collect();
        let mut all = true;
        for project in wanted {
            match self.push(&project).await {
                Ok(()) => drop(self.known.insert(project)),
                Err(error) => {
                    tracing::warn!(%error, "the keys of a project are refused until this succeeds");
                    all = false;
                }
            }
        }
        all
    }

    /// From the answer on, keys of the project connect. An account that the servers have is left alone: to give it again
    /// would disturb whoever is connected.
    async fn push(&self, project: &Project) -> Result<(), IdentityError> {
        let failed = |source| IdentityError::PushCall { project: project.to_string(), source };
        let within = self.options.push_timeout.get();
        let token = Accounts::new(self.keyring.clone(), self.clock.now()).project(project)?;
        let lookup = format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", self.keyring.project(project).public_key());
        let present = self.system.request(&lookup, Headers::new(), "".into(), within).await.map_err(failed)?;
        let says = |token: &str| jwt::read(token).ok().map(|claims| claims["nats"].clone());
        let present = says(&String::from_utf8_lossy(&present.payload));
        if present.is_some() && present == says(&token) {
            return Ok(());
        }
        let answer = self.system.request(UPDATE, Headers::new(), token.into(), within).await.map_err(failed)?;
        let said: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        if said["data"]["code"] == 200 {
            tracing::debug!(%project, "the servers have its account");
            return Ok(());
        }
        let reason = said["error"]["description"].as_str().or_else(|| said["data"]["message"].as_str());
        let reason = reason.unwrap_or("the answer cannot be understood").to_owned();
        Err(IdentityError::Push { project: project.to_string(), reason })
    }
}
