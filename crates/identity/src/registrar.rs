//! The accounts of projects, made known to the NATS servers as the projects become known.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::Arc,
};

use farebox_bus::{Bus, Delivery, Headers};
use farebox_directory::Directory;
use farebox_policy::Policies;
use farebox_types::{Clock, Project};
use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use crate::{accounts::Accounts, error::IdentityError, jwt, keyring::Keyring, options::Options};

const UPDATE: &str = "$SYS.REQ.CLAIMS.UPDATE";

/// Gives accounts to the servers.
pub(crate) struct Registrar {
    /// A connection of the system account.
    system: Bus,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
    options: Options,
    held: watch::Sender<Held>,
    pushes: Semaphore,
}

/// Which servers have the accounts of which projects.
#[derive(Debug, Default)]
pub(crate) struct Held(BTreeMap<Project, Servers>);

#[derive(Debug)]
enum Servers {
    /// Those that have said so, by their ids.
    Some(BTreeSet<String>),
    All,
}

impl Held {
    pub(crate) fn is_at(&self, project: &Project, server: &str) -> bool {
        match self.0.get(project) {
            None => false,
            Some(Servers::Some(ids)) => ids.contains(server),
            Some(Servers::All) => true,
        }
    }

    fn at(&mut self, project: &Project, server: String) {
        let servers = self.0.entry(project.clone()).or_insert_with(|| Servers::Some(BTreeSet::new()));
        if let Servers::Some(ids) = servers {
            ids.insert(server);
        }
    }

    pub(crate) fn everywhere(&mut self, project: Project) {
        self.0.insert(project, Servers::All);
    }
}

impl Registrar {
    pub(crate) fn new(system: Bus, keyring: Keyring, clock: Arc<dyn Clock>, options: Options) -> Registrar {
        let mut held = Held::default();
        // Every server starts with this one.
        held.everywhere(Project::default_project());
        let pushes = Semaphore::new(options.pushes_max.max(1));
        Registrar { system, keyring, clock, options, held: watch::Sender::new(held), pushes }
    }

    pub(crate) fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// Follows the projects for ever.
    pub(crate) async fn follow(self, directory: Directory) {
        let mut changes = directory.changes();
        let mut begun = BTreeSet::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            let policies = changes.borrow_and_update().clone();
            for project in projects(&policies) {
                if begun.insert(project.clone()) {
                    under_way.push(self.give(project.clone()));
                }
            }
            let changed = async {
                if changes.changed().await.is_err() {
                    pending::<()>().await;
                }
            };
            let given = async {
                while under_way.next().await.is_some() {}
                pending::<()>().await;
            };
            tokio::select! {
                () = changed => {}
                () = given => {}
            }
        }
    }

    /// Returns when all servers have it.
    async fn give(&self, project: Project) {
        while let Err(error) = self.push(&project).await {
            tracing::warn!(%error, "the keys of a project are refused until this succeeds");
            sleep(self.options.push_timeout.get()).await;
        }
        self.held.send_modify(|held| held.everywhere(project));
    }

    /// An account that the servers have is left alone: to give it again would disturb whoever is connected. A server that
    /// does not answer in time asks the others for it.
    async fn push(&self, project: &Project) -> Result<(), IdentityError> {
        let mut permit = self.pushes.acquire().await.ok();
        let within = self.options.push_timeout.get();
        let token = Accounts::new(self.keyring.clone(), self.clock.now()).project(project)?;
        if self.present(project).await?.is_some_and(|present| says(&token) == Some(present)) {
            return Ok(());
        }
        let refused = |reason: String| IdentityError::Push { project: project.to_string(), reason };
        let mut inbox = self.system.inbox();
        let sent = self.system.publish_with_reply(UPDATE, &inbox.subject(), Headers::new(), token.into()).await;
        sent.map_err(|error| refused(error.to_string()))?;
        let mut answer = timeout(within, inbox.next()).await.ok().flatten();
        if answer.is_none() {
            return Err(refused("none has answered".to_owned()));
        }
        while let Some(taken) = answer {
            let server = taken_by(&taken).map_err(refused)?;
            tracing::debug!(%project, server, "a server has its account");
            self.held.send_modify(|held| held.at(project, server));
            drop(permit.take());
            answer = timeout(self.options.servers_wait.get(), inbox.next()).await.ok().flatten();
        }
        Ok(())
    }

    /// What the account is on the servers, by the first that answers.
    async fn present(&self, project: &Project) -> Result<Option<Value>, IdentityError> {
        let lookup = format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", self.keyring.project(project).public_key());
        let asked = self.system.request(&lookup, Headers::new(), "".into(), self.options.push_timeout.get()).await;
        let answer = asked.map_err(|source| IdentityError::PushCall { project: project.to_string(), source })?;
        Ok(says(&String::from_utf8_lossy(&answer.payload)))
    }
}

fn projects(policies: &Policies) -> impl Iterator<Item = &Project> {
    let of_keys = policies.keys.values().filter_map(|key| key.project.as_ref());
    policies.projects.values().map(|policy| &policy.name).chain(of_keys)
}

/// What a token says of its account.
fn says(token: &str) -> Option<Value> {
    jwt::read(token).ok().map(|claims| claims["nats"].clone())
}

/// Which server has taken an account, or why it has not. From its answer on, keys of the project connect there.
fn taken_by(answer: &Delivery) -> Result<String, String> {
    let said: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    match said["server"]["id"].as_str() {
        Some(server) if said["data"]["code"] == 200 => Ok(server.to_owned()),
        _ => {
            let reason = said["error"]["description"].as_str().or_else(|| said["data"]["message"].as_str());
            Err(reason.unwrap_or("the answer cannot be understood").to_owned())
        }
    }
}
