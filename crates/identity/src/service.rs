//! The role: answers the server's questions until it is told to stop.

use std::sync::Arc;

use farebox_bus::{Bus, Delivery, Headers, Login, Subscription};
use farebox_runtime::Drain;
use farebox_types::{Clock, Project};

use crate::{
    accounts::Accounts, callout, directory::KeyDirectory, error::IdentityError, keyring::Keyring, options::Options,
    push::push_account,
};

const QUESTIONS: &str = "$SYS.REQ.USER.AUTH";
const GROUP: &str = "identity";

/// What the role needs.
pub struct Deps {
    pub options: Options,
    /// How to reach NATS; its credentials are replaced by the role's own.
    pub bus: farebox_bus::Options,
    pub keyring: Keyring,
    pub directory: Arc<dyn KeyDirectory>,
    pub clock: Arc<dyn Clock>,
}

/// The role, connected and subscribed: clients without credentials are let in once [`Identity::run`] runs.
pub struct Identity {
    deps: Deps,
    callout: Bus,
    system: Bus,
    questions: Subscription,
}

impl Identity {
    /// Connects and subscribes.
    pub async fn create(deps: Deps) -> Result<Identity, IdentityError> {
        let accounts = Accounts::new(deps.keyring.clone(), deps.clock.now());
        let connect = async |what: &str, creds: String| {
            let options = farebox_bus::Options { name: format!("{} {what}", deps.bus.name), ..deps.bus.clone() };
            Bus::connect_as(&options, Login::Creds(creds)).await
        };
        let callout = connect("callout", accounts.callout_credentials()?).await?;
        let system = connect("system", accounts.system_credentials()?).await?;
        let questions = callout.subscribe(QUESTIONS, Some(GROUP)).await?;
        callout
            .flush()
            .await
            .map_err(|_| farebox_bus::SubscribeError::Disconnected { subject: QUESTIONS.to_owned() })?;
        Ok(Identity { deps, callout, system, questions })
    }

    /// What makes the account of a new project known to the server.
    pub fn registrar(&self) -> Registrar {
        Registrar {
            system: self.system.clone(),
            keyring: self.deps.keyring.clone(),
            clock: self.deps.clock.clone(),
            options: self.deps.options.clone(),
        }
    }

    /// Answers until the drain begins, then what has arrived.
    pub async fn run(mut self, drain: Drain) -> Result<(), IdentityError> {
        loop {
            tokio::select! {
                question = self.questions.next() => match question {
                    Some(question) => self.answer(question).await,
                    None => return Ok(()),
                },
                () = drain.signaled() => break,
            }
        }
        self.questions.stop().await;
        while let Some(question) = self.questions.next().await {
            self.answer(question).await;
        }
        // Whoever waits for an answer that does not come asks again elsewhere.
        let _ = self.callout.flush().await;
        Ok(())
    }

    async fn answer(&self, question: Delivery) {
        let Some(reply) = &question.reply else { return };
        let text = String::from_utf8_lossy(&question.payload);
        let deps = &self.deps;
        let verdict = callout::answer(&text, &deps.keyring, deps.directory.as_ref(), &deps.options, deps.clock.now());
        match verdict {
            Ok(verdict) => {
                if let Err(error) = self.callout.publish(reply, Headers::new(), verdict.into()).await {
                    tracing::warn!(%error, "a client that wants in got no answer");
                }
            }
            // No answer is a refusal as well: the server waits a moment and closes the connection.
            Err(error) => tracing::warn!(%error, "a question of the NATS server was not answered"),
        }
    }
}

/// Makes accounts of projects known to the server at run time.
#[derive(Clone)]
pub struct Registrar {
    system: Bus,
    keyring: Keyring,
    clock: Arc<dyn Clock>,
    options: Options,
}

impl Registrar {
    pub async fn register(&self, project: &Project) -> Result<(), IdentityError> {
        let accounts = Accounts::new(self.keyring.clone(), self.clock.now());
        push_account(&self.system, &accounts, project, self.options.push_timeout.get()).await
    }
}
