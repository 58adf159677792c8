//! Ends and amendments of attempts, said to the guard until it has heard them.

use std::time::Duration;

use farebox_bus::{Bus, CallError};
use farebox_proto::{subjects, v1};
use farebox_types::{ErrorKind, Fault, ReservationId};
use tokio::time::{Instant, sleep};

use crate::options::Options;

/// The guard, seen from a worker.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) bus: Bus,
    pub(crate) options: Options,
}

/// What came of asking to cover a further attempt.
#[derive(Debug)]
pub(crate) enum Amended {
    Granted(v1::Granted),
    /// The attempt stays open, for its worker to end; also where the guard could not be reached in time.
    Refused(v1::Error),
    /// The reservation had ended before: nothing may be sent any more.
    Closed,
}

impl Guard {
    /// Records the last end of a call. `false`: another end came first, or the guard could not be reached in time and
    /// will record the call as lost.
    pub(crate) async fn settle(&self, reservation: ReservationId, end: v1::AttemptEnd) -> bool {
        let request =
            v1::SettleRequest { shard: subjects::SHARD, reservation_id: reservation.to_string(), end: Some(end) };
        let subject = subjects::settle(subjects::SHARD);
        let within = self.options.settle_deadline.get();
        let reply = self.insist(&subject, &request, within, |reply: &v1::SettleReply| {
            matches!(reply.result, Some(v1::settle_reply::Result::Error(_)) | None)
        });
        match reply.await.and_then(|reply| reply.result) {
            Some(v1::settle_reply::Result::Settled(_)) => true,
            Some(v1::settle_reply::Result::Closed(closed)) => {
                tracing::warn!(%reservation, first = ?closed.outcome(), "this call was ended by the guard before");
                false
            }
            Some(v1::settle_reply::Result::Error(error)) => {
                tracing::error!(%reservation, error = error.message, "the end of a call was not accepted");
                false
            }
            None => {
                tracing::error!(%reservation, "the guard did not hear the end of a call: it will be recorded as lost");
                false
            }
        }
    }

    /// Ends an attempt and asks to cover the next one, or one of those that may stand in for it.
    pub(crate) async fn amend(
        &self,
        reservation: ReservationId,
        ended: v1::AttemptEnd,
        next: v1::Attempt,
        alternatives: Vec<v1::Attempt>,
    ) -> Amended {
        let request = v1::AmendRequest {
            shard: subjects::SHARD,
            reservation_id: reservation.to_string(),
            ended: Some(ended),
            next: Some(next),
            alternatives,
        };
        let subject = subjects::amend(subjects::SHARD);
        let reply: Option<v1::AmendReply> =
            self.insist(&subject, &request, self.options.guard_deadline.get(), |_| false).await;
        match reply.and_then(|reply| reply.result) {
            Some(v1::amend_reply::Result::Granted(granted)) => Amended::Granted(granted),
            Some(v1::amend_reply::Result::Refused(error)) => Amended::Refused(error),
            Some(v1::amend_reply::Result::Closed(_)) => Amended::Closed,
            None => Amended::Refused(
                Fault::new(
                    ErrorKind::Unavailable,
                    "the guard cannot be reached, so no further attempt was made: try again later",
                )
                .into(),
            ),
        }
    }

    /// Asks again until there is an answer that is not `unclear`, for so long.
    async fn insist<Req, Rep>(
        &self,
        subject: &str,
        request: &Req,
        within: Duration,
        unclear: impl Fn(&Rep) -> bool,
    ) -> Option<Rep>
    where
        Req: prost::Message,
        Rep: prost::Message + Default,
    {
        let until = Instant::now() + within;
        let mut pause = Duration::from_millis(20);
        loop {
            let answer: Result<Rep, CallError> =
                self.bus.call(subject, request, self.options.guard_timeout.get()).await;
            match answer {
                Ok(reply) if !unclear(&reply) => return Some(reply),
                Ok(reply) if Instant::now() >= until => return Some(reply),
                Err(error) if Instant::now() >= until => {
                    tracing::warn!(subject, %error, "the guard cannot be reached");
                    return None;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(subject, %error, "asking the guard again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.options.heartbeat_interval.get());
        }
    }
}
