//! How far an attempt came, while it is under way.

use std::{pin::Pin, time::Duration};

use farebox_proto::v1;
use farebox_types::{ErrorKind, Fault};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    billing::{Said, Used},
    reply::Reply,
};

/// How far an attempt came.
pub(super) struct Course {
    /// How long the provider was waited for.
    pub(super) upstream: Duration,
    /// Its own id of the request, where it gave one.
    pub(super) provider_request_id: String,
    pub(super) used: Used,
    /// What the provider said of the price.
    pub(super) said: Said,
    pub(super) result: Result<Done, Broken>,
    pub(super) first_token: Option<Duration>,
    pub(super) warnings: Vec<String>,
}

/// A whole answer.
pub(super) struct Done {
    pub(super) result: v1::llm_response::Result,
    pub(super) served_model: String,
    pub(super) finish: String,
}

/// Why there is none.
pub(super) enum Broken {
    /// The caller cancelled it, or the guard ended it.
    Stopped,
    Fault(Fault),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Fault(fault)
    }
}

impl Course {
    /// It ended without a word from the provider.
    pub(super) fn ended(used: Used, result: Result<Done, Broken>) -> Course {
        Course {
            upstream: Duration::ZERO,
            provider_request_id: String::new(),
            used,
            said: Said::default(),
            result,
            first_token: None,
            warnings: Vec::new(),
        }
    }

    /// Waits for something of the provider, but not longer than allowed and not once the call is to stop.
    pub(super) async fn within<T>(
        &mut self,
        until: (Instant, &str),
        patience: &mut Patience,
        what: impl Future<Output = T>,
    ) -> Result<T, Broken> {
        let began = Instant::now();
        let done = patience.wait(until, what).await;
        self.upstream += began.elapsed();
        done
    }
}

/// What ends a wait. Set up once, and not for every piece of a stream: timers are shared by all calls.
pub(super) struct Patience {
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    alarm: Pin<Box<Sleep>>,
}

impl Patience {
    pub(super) fn of(reply: &Reply) -> Patience {
        let stopped = Box::pin(reply.handle.woken.clone().cancelled_owned());
        Patience { stopped, alarm: Box::pin(sleep_until(Instant::now())) }
    }

    async fn wait<T>(&mut self, until: (Instant, &str), what: impl Future<Output = T>) -> Result<T, Broken> {
        self.alarm.as_mut().reset(until.0);
        tokio::select! {
            biased;
            () = self.stopped.as_mut() => Err(Broken::Stopped),
            done = what => Ok(done),
            () = self.alarm.as_mut() => {
                let message = match until.1 {
                    "deadline" => "the request's deadline passed before the answer was complete".to_owned(),
                    name => format!("the provider was silent for longer than the `{name}` timeout allows"),
                };
                Err(Fault::new(ErrorKind::DeadlineExceeded, message).into())
            }
        }
    }
}
