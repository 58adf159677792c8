//! The sign of life that keeps this worker's leases.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, topology};
use farebox_proto::{subjects, v1};
use farebox_types::ReservationId;
use tokio::time::{Instant, timeout};

use crate::{held::Held, options::Options};

pub(crate) struct Heartbeat {
    pub(crate) bus: Bus,
    pub(crate) held: Arc<Held>,
    pub(crate) worker_id: String,
    pub(crate) options: Options,
    /// The guard that answered last.
    pub(crate) guard_id: String,
    pub(crate) sequence: u64,
    pub(crate) send_complete: bool,
    /// What the last answer bought.
    pub(crate) lease: Duration,
}

impl Heartbeat {
    /// One beat. `false`: the guard did not answer.
    pub(crate) async fn beat(&mut self) -> bool {
        let complete = std::mem::take(&mut self.send_complete);
        let (taken, ended) = self.held.news(complete);
        self.sequence += 1;
        let names = |ids: &[ReservationId]| ids.iter().map(ToString::to_string).collect();
        let message = v1::HeartbeatRequest {
            shard: subjects::SHARD,
            worker_id: self.worker_id.clone(),
            taken: names(&taken),
            ended: names(&ended),
            complete,
            sequence: self.sequence,
        };
        let sent = Instant::now();
        // Short, so that several fit into a lease when one goes to a guard that stands still.
        let within = self.options.heartbeat_interval.into();
        let answer = self.bus.call(&subjects::heartbeat(subjects::SHARD), &message, within).await;
        let reply: v1::HeartbeatReply = match answer {
            Ok(reply) => reply,
            Err(error) => {
                tracing::debug!(%error, "the guard did not answer a heartbeat");
                // It may be another one that answers next.
                self.send_complete = true;
                self.outlast().await;
                return false;
            }
        };
        // Before they count as known: that they are is leave to speak, unless they are closed.
        for id in reply.closed.iter().filter_map(|id| id.parse().ok()) {
            self.held.close(&id);
        }
        self.held.told(&taken, &ended);
        let other_guard = reply.guard_id != self.guard_id;
        self.guard_id = reply.guard_id;
        if (reply.send_complete || other_guard) && !complete {
            // The lease counts only once this guard knows everything that is held here.
            self.send_complete = true;
        } else {
            self.lease = Duration::from_millis(reply.lease_ms);
            self.held.renew(sent, self.lease);
        }
        true
    }

    /// Nobody ends calls while no guard leads, and one that leads later gives everyone a whole lease first. What is still
    /// valid when that is seen stays so for a lease from then. What is not may have been ended before.
    async fn outlast(&self) {
        let asked = Instant::now();
        let lead = topology::guard_lease(subjects::SHARD);
        let leases = self.bus.bucket(topology::LEASES);
        let free = timeout(self.options.heartbeat_interval.get(), leases.is_free(&lead)).await;
        if matches!(free, Ok(Ok(true))) && self.held.is_valid() {
            self.held.outlast(asked, self.lease);
        }
    }

    /// Beats until it is told to stop. After a beat that needs a complete one, that one follows at once.
    pub(crate) async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        loop {
            let answered = self.beat().await;
            if answered && self.send_complete {
                continue;
            }
            let pause = if answered {
                self.options.heartbeat_interval.get()
            } else {
                self.options.heartbeat_interval.get() / 5
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        // The last one says what has ended.
        self.beat().await;
    }
}
