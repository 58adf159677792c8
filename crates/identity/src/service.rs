//! The role: answers the server's questions until it is told to stop.

use std::sync::Arc;

use farebox_bus::{Bus, Delivery, Headers, Login, Subscription};
use farebox_directory::Directory;
use farebox_policy::Pepper;
use farebox_runtime::Drain;
use farebox_types::Clock;

use crate::{
    accounts::Accounts,
    callout::{self, Keys},
    error::IdentityError,
    evict::Evictor,
    keyring::Keyring,
    options::Options,
    registrar::Registrar,
};

const QUESTIONS: &str = "$SYS.REQ.USER.AUTH";
const GROUP: &str = "identity";

/// What the role needs.
pub struct Deps {
    pub options: Options,
    /// How to reach NATS; its credentials are replaced by the role's own.
    pub bus: farebox_bus::Options,
    pub keyring: Keyring,
    pub directory: Directory,
    /// What hashes of keys are keyed with.
    pub pepper: Pepper,
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

    /// Answers until the drain begins, then what has arrived. Meanwhile it follows the changes of projects and keys.
    pub async fn run(mut self, drain: Drain) -> Result<(), IdentityError> {
        let Deps { options, keyring, directory, clock, .. } = &self.deps;
        let system = || self.system.clone();
        let evictor =
            Evictor::new(system(), keyring.clone(), directory.clone(), clock.clone(), options.clone()).follow();
        let registrar = Registrar::new(system(), keyring.clone(), clock.clone(), options.clone());
        let registrar = registrar.follow(directory.clone());
        tokio::select! {
            () = evictor => {}
            () = registrar => {}
            () = self.answer_until(drain) => {}
        }
        self.questions.stop().await;
        while let Some(question) = self.questions.next().await {
            self.answer(question).await;
        }
        // Whoever waits for an answer that does not come asks again elsewhere.
        let _ = self.callout.flush().await;
        Ok(())
    }

    async fn answer_until(&mut self, drain: Drain) {
        loop {
            tokio::select! {
                question = self.questions.next() => match question {
                    Some(question) => self.answer(question).await,
                    None => return,
                },
                () = drain.signaled() => return,
            }
        }
    }

    async fn answer(&self, question: Delivery) {
        let Some(reply) = &question.reply else { return };
        let text = String::from_utf8_lossy(&question.payload);
        let deps = &self.deps;
        let keys = Keys { directory: &deps.directory, pepper: &deps.pepper };
        let verdict = callout::answer(&text, &deps.keyring, &keys, &deps.options, deps.clock.now());
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
