//! The worker's loops: work, cancels, heartbeats.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, Delivery, Headers, Subscription};
use farebox_config::Env;
use farebox_directory::Directory;
use farebox_proto::{
    headers, json,
    subjects::{self, Tenancy},
    v1,
};
use farebox_runtime::{Drain, Tasks};
use farebox_types::{Clock, Project, RequestId};
use prost::Message;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    counts::Counts,
    error::Error,
    guard::Guard,
    heartbeat::Heartbeat,
    held::{Cancelled, Held},
    keys::Keys,
    options::Options,
    run::{self, Shared, Taken},
    upstream::Upstream,
};

/// What a worker needs from outside.
pub struct Deps {
    pub bus: Bus,
    pub tenancy: Tenancy,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    /// Names this process to the guard; a new one for each start.
    pub worker_id: String,
    /// The providers: a call goes to those that are newest when it comes.
    pub upstream: watch::Receiver<Arc<Upstream>>,
    /// Which projects have keys of their own.
    pub directory: Directory,
    /// Where keys may be.
    pub env: Env,
}

/// A worker.
pub struct Service {
    shared: Arc<Shared>,
    tasks: Tasks,
    worker_id: String,
}

impl Service {
    pub fn create(options: Options, deps: Deps) -> Service {
        let keys = Keys::new(&options, deps.env, deps.directory, deps.clock.clone());
        let guard = Guard { bus: deps.bus.clone(), options: options.clone() };
        let shared = Shared {
            bus: deps.bus,
            tenancy: deps.tenancy,
            clock: deps.clock,
            counts: Counts::new(&options),
            options,
            held: Arc::new(Held::new()),
            listeners: Arc::default(),
            guard,
            upstream: deps.upstream,
            keys,
        };
        Service { shared: Arc::new(shared), tasks: deps.tasks, worker_id: deps.worker_id }
    }

    /// Takes work until the drain, then ends what is running.
    pub async fn run(self, drain: Drain) -> Result<(), Error> {
        let stop_beating = CancellationToken::new();
        let heartbeat = self.first_heartbeat(&drain).await;
        let Some(heartbeat) = heartbeat else { return Ok(()) };
        let (beating_ended, mut beating) = tokio::sync::oneshot::channel::<()>();
        let stop = stop_beating.clone();
        self.tasks.spawn("worker heartbeat", async move {
            heartbeat.run(stop).await;
            drop(beating_ended);
        });
        self.follow_listeners(stop_beating.clone());
        let mut cancels = self.shared.bus.subscribe(&self.shared.tenancy.cancels(), None).await?;
        let mut repeated = self.shared.bus.subscribe(subjects::CANCEL, None).await?;
        let mut work = self.shared.bus.subscribe(subjects::WORK, Some(subjects::WORK_QUEUE)).await?;
        self.shared.bus.flush().await?;
        tracing::info!(worker = self.worker_id, "taking work");
        loop {
            tokio::select! {
                delivery = work.next() => match delivery {
                    Some(delivery) => self.offered(delivery).await,
                    None => return Err(Error::Disconnected),
                },
                delivery = cancels.next() => match delivery {
                    Some(delivery) => self.cancel(&delivery).await,
                    None => return Err(Error::Disconnected),
                },
                Some(delivery) = repeated.next() => self.cancel_again(&delivery).await,
                () = drain.signaled() => break,
            }
        }
        self.finish(work, cancels, repeated).await;
        stop_beating.cancel();
        let _ = (&mut beating).await;
        Ok(())
    }

    /// Nothing is taken before the guard knows this worker.
    async fn first_heartbeat(&self, drain: &Drain) -> Option<Heartbeat> {
        let mut heartbeat = Heartbeat {
            bus: self.shared.bus.clone(),
            held: self.shared.held.clone(),
            worker_id: self.worker_id.clone(),
            options: self.shared.options.clone(),
            guard_id: String::new(),
            sequence: 0,
            send_complete: true,
            lease: Duration::ZERO,
        };
        let pause = self.shared.options.heartbeat_interval.get() / 10;
        let mut asked = 0_u32;
        while !heartbeat.beat().await {
            asked += 1;
            if asked == 20 {
                tracing::warn!("no guard answers: this worker takes no work until one does");
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = drain.signaled() => return None,
            }
        }
        Some(heartbeat)
    }

    /// Looks after callers for as long as there are calls.
    fn follow_listeners(&self, stop: CancellationToken) {
        let shared = self.shared.clone();
        self.tasks.spawn("listeners", async move {
            let patience = shared.options.listener_patience.get();
            let _ = stop.run_until_cancelled(shared.listeners.follow(&shared.bus, patience)).await;
        });
    }

    /// Work offered: taken in silence, or refused aloud.
    async fn offered(&self, delivery: Delivery) {
        let work = match v1::Work::decode(delivery.payload.clone()) {
            Ok(work) => work,
            Err(error) => return self.refuse(&delivery, &format!("the work cannot be read: {error}")).await,
        };
        if self.shared.held.running() >= self.shared.options.max_in_flight {
            return self.refuse(&delivery, "this worker runs as many calls as max_in_flight allows").await;
        }
        let Some(first) = work.plan.first() else {
            return self.refuse(&delivery, "the work has no plan").await;
        };
        if self.shared.upstream.borrow().provider(&first.provider).is_none() {
            // It may be one that this worker has not heard of yet.
            let reason = format!("this worker has no provider `{}`: see its log", first.provider);
            return self.refuse(&delivery, &reason).await;
        }
        if work.grace && !self.shared.held.is_valid() {
            return self.refuse(&delivery, "no guard has answered this worker for too long").await;
        }
        match Taken::take(work, &self.shared, self.shared.clock.now()) {
            Ok(taken) => {
                let shared = self.shared.clone();
                self.tasks.spawn("call", async move { Box::pin(run::carry(&shared, taken)).await });
            }
            Err(error) => self.refuse(&delivery, &error.to_string()).await,
        }
    }

    async fn refuse(&self, delivery: &Delivery, reason: &str) {
        let Some(to) = &delivery.reply else { return };
        let refusal = v1::WorkRefused { worker_id: self.worker_id.clone(), reason: reason.to_owned() };
        if let Err(error) = self.shared.bus.publish(to, Headers::new(), refusal.encode_to_vec().into()).await {
            tracing::debug!(%error, "a refusal was not sent");
        }
    }

    /// A cancel is heard by every worker; only the one that holds the call answers.
    async fn cancel(&self, delivery: &Delivery) {
        let tenancy = self.shared.tenancy;
        let (Some(project), Some(request)) =
            (tenancy.project_in(&delivery.subject), tenancy.request_in(&delivery.subject))
        else {
            return;
        };
        if self.shared.held.cancel(&project, &request, false).is_none() {
            return;
        }
        let json = delivery.headers.get(headers::CONTENT_TYPE) != Some(headers::PROTOBUF);
        self.confirm(delivery.reply.as_deref().unwrap_or_default(), &request, json, true).await;
    }

    /// A cancel that intake says, of the edge, or again, until some worker has the call. It is confirmed once.
    async fn cancel_again(&self, delivery: &Delivery) {
        let Ok(order) = v1::CancelOrder::decode(delivery.payload.clone()) else { return };
        let (Ok(project), Ok(request)) = (Project::parse(&order.project), RequestId::parse(&order.request_id)) else {
            return;
        };
        match self.shared.held.cancel(&project, &request, order.caller_gone) {
            Some(Cancelled::Stops) => self.confirm(&order.reply_to, &request, order.json, true).await,
            Some(Cancelled::Drains) => self.confirm(&order.reply_to, &request, order.json, false).await,
            Some(Cancelled::Before) | None => {}
        }
    }

    async fn confirm(&self, to: &str, request: &RequestId, json: bool, cancelled: bool) {
        if to.is_empty() || !subjects::may_answer_to(to) {
            return;
        }
        let receipt = v1::CancelReceipt { request_id: request.as_str().to_owned(), cancelled };
        let (content_type, bytes) = if json {
            (headers::JSON, json::cancel_receipt(&receipt))
        } else {
            (headers::PROTOBUF, receipt.encode_to_vec())
        };
        let head = Headers::new().with(headers::CONTENT_TYPE, content_type);
        if let Err(error) = self.shared.bus.publish(to, head, bytes.into()).await {
            tracing::debug!(%error, "the receipt of a cancel was not sent");
        }
    }

    /// Takes no more work; running calls go on until they end or the drain's time is up, then they are
    /// given up, for others to make again.
    async fn finish(&self, mut work: Subscription, mut cancels: Subscription, mut repeated: Subscription) {
        work.stop().await;
        while let Some(delivery) = work.next().await {
            self.refuse(&delivery, "this worker is shutting down").await;
        }
        let until = Instant::now() + self.shared.options.drain_timeout.get();
        while self.shared.held.running() > 0 && Instant::now() < until {
            tokio::select! {
                () = sleep(Duration::from_millis(20)) => {}
                Some(delivery) = cancels.next() => self.cancel(&delivery).await,
                Some(delivery) = repeated.next() => self.cancel_again(&delivery).await,
            }
        }
        self.shared.held.leave();
        let grace = Instant::now() + self.shared.options.guard_timeout.get();
        while self.shared.held.running() > 0 && Instant::now() < grace {
            sleep(Duration::from_millis(20)).await;
        }
    }
}
