//! The role: answers the server's questions until it is told to stop.

use std::sync::Arc;

use farebox_bus::{Bus, Delivery, Headers, Login, Subscription};
use farebox_directory::Directory;
use farebox_policy::Pepper;
use farebox_runtime::Drain;
use farebox_types::Clock;
use futures::{StreamExt, stream::FuturesUnordered};

use crate::{
    accounts::Accounts,
    arrivals::Arrivals,
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
    pub async fn run(self, drain: Drain) -> Result<(), IdentityError> {
        let Identity { deps, callout, system, questions } = self;
        let Deps { options, keyring, directory, clock, .. } = &deps;
        let evictor =
            Evictor::new(system.clone(), keyring.clone(), directory.clone(), clock.clone(), options.clone()).follow();
        let registrar = Registrar::new(system, keyring.clone(), clock.clone(), options.clone());
        let arrivals = Arrivals::new(registrar.held(), options);
        let registrar = registrar.follow(directory.clone());
        let desk = Desk { deps: &deps, callout: &callout, arrivals };
        tokio::select! {
            () = evictor => {}
            () = registrar => {}
            () = desk.answer_until(drain, questions) => {}
        }
        // Whoever waits for an answer that does not come asks again elsewhere.
        let _ = callout.flush().await;
        Ok(())
    }
}

/// Where questions are answered, each in its own time.
struct Desk<'a> {
    deps: &'a Deps,
    callout: &'a Bus,
    arrivals: Arrivals,
}

impl Desk<'_> {
    async fn answer_until(&self, drain: Drain, mut questions: Subscription) {
        // Only those that wait stay in here, and they are bounded.
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                question = questions.next() => match question {
                    Some(question) => answers.push(self.answer(question)),
                    None => break,
                },
                Some(()) = answers.next() => {}
                () = drain.signaled() => break,
            }
        }
        questions.stop().await;
        while let Some(question) = questions.next().await {
            answers.push(self.answer(question));
        }
        while answers.next().await.is_some() {}
    }

    async fn answer(&self, question: Delivery) {
        let Some(reply) = &question.reply else { return };
        match self.verdict(&String::from_utf8_lossy(&question.payload)).await {
            Ok(verdict) => {
                if let Err(error) = self.callout.publish(reply, Headers::new(), verdict.into()).await {
                    tracing::warn!(%error, "a client that wants in got no answer");
                }
            }
            // No answer is a refusal as well: the server waits a moment and closes the connection.
            Err(error) => tracing::warn!(%error, "a question of the NATS server was not answered"),
        }
    }

    async fn verdict(&self, question: &str) -> Result<String, IdentityError> {
        let Deps { options, keyring, directory, pepper, clock, .. } = self.deps;
        let question = callout::read_question(question)?;
        let keys = Keys { directory, pepper };
        let decided = self.arrivals.decide(&question, &keys, options, clock.as_ref()).await;
        callout::answer(&question, decided, &Accounts::new(keyring.clone(), clock.now()))
    }
}
