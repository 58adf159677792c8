//! Intake's loops.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use farebox_bus::{Bus, ConsumerSpec, Delivery, Puller, Subscription, topology};
use farebox_directory::{Directory, Keys};
use farebox_proto::subjects::{self, Tenancy};
use farebox_runtime::{Drain, Tasks};
use farebox_types::{Clock, ErrorKind, Fault};
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use crate::{
    admit::Admitter,
    answer::{Outgoing, Results},
    authorise::Authoriser,
    cancel, edge,
    error::Error,
    grace::Grace,
    jobs,
    live::{self, Shared},
    options::Options,
    queries,
    request::is_json,
    route::{Router, Routes},
};

/// What intake needs from outside.
pub struct Deps {
    pub bus: Bus,
    pub tenancy: Tenancy,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    /// Who may do what, and what holds while no guard leads.
    pub directory: Directory,
    /// Whose keys callers have.
    pub keys: Keys,
    /// What requests are planned by: each by what is newest when it comes.
    pub routes: watch::Receiver<Arc<Routes>>,
}

/// Intake.
pub struct Service {
    shared: Arc<Shared>,
    tasks: Tasks,
    in_flight: Arc<InFlight>,
}

const JOBS_CONSUMER: &str = "intake";
/// How long one pull for jobs waits before it is renewed.
const PULL: Duration = Duration::from_secs(5);

type Handling = Pin<Box<dyn Future<Output = ()> + Send>>;
type Handler = fn(Arc<Shared>, Delivery) -> Handling;

impl Service {
    pub fn create(options: Options, deps: Deps) -> Service {
        let router = Router::new(deps.routes, options.clone());
        let results =
            Results { bus: deps.bus.clone(), tenancy: deps.tenancy, store_timeout: options.store_timeout.get() };
        let grace = Grace::new(deps.bus.clone(), deps.clock.clone(), deps.directory.clone(), options.clone());
        let admitter = Admitter {
            grace,
            bus: deps.bus.clone(),
            clock: deps.clock.clone(),
            tasks: deps.tasks.clone(),
            results: results.clone(),
            options: options.clone(),
            router,
        };
        let in_flight = Arc::new(InFlight { count: AtomicUsize::new(0), max: options.max_in_flight });
        let authoriser = Authoriser { directory: deps.directory, keys: deps.keys, clock: deps.clock.clone() };
        let Deps { bus, tenancy, clock, tasks, .. } = deps;
        let shared = Shared { bus, tenancy, clock, options, admitter, results, authoriser };
        Service { shared: Arc::new(shared), tasks, in_flight }
    }

    /// Serves until the drain, then ends what is being admitted.
    pub async fn run(self, drain: Drain) -> Result<(), Error> {
        let tenancy = self.shared.tenancy;
        let jobs = self.jobs().await?;
        let result: Handler = |shared, delivery| Box::pin(async move { queries::result(&shared, delivery).await });
        let cancel: Handler = |shared, delivery| Box::pin(async move { cancel::of_a_caller(&shared, delivery).await });
        let submit: Handler = |shared, delivery| Box::pin(async move { jobs::submit(&shared, delivery).await });
        let live: Handler = |shared, delivery| Box::pin(async move { live::handle(&shared, delivery).await });
        let results = self.serve(&tenancy.results(), result, &drain).await?;
        let cancels = self.serve(&tenancy.cancels(), cancel, &drain).await?;
        let submissions = self.serve(&tenancy.jobs(), submit, &drain).await?;
        let edge: Handler = |shared, delivery| Box::pin(async move { edge::request(&shared, delivery).await });
        let gone: Handler = |shared, delivery| Box::pin(async move { cancel::of_the_edge(&shared, delivery).await });
        let edge_cancels = self.serve(subjects::EDGE_CANCEL, gone, &drain).await?;
        let look: Handler = |shared, delivery| Box::pin(async move { edge::lookup(&shared, delivery).await });
        let edge_lookups = self.serve(subjects::EDGE_LOOKUP, look, &drain).await?;
        let edge_requests = self.serve(subjects::EDGE_REQUEST, edge, &drain).await?;
        let requests = self.serve(&tenancy.requests(), live, &drain).await?;
        let running = self.run_jobs(jobs, &drain);
        self.shared.bus.flush().await?;
        tracing::info!("taking requests");
        tokio::try_join!(requests, edge_requests, submissions, results, cancels, edge_cancels, edge_lookups, running)?;
        while self.in_flight.count.load(Ordering::Acquire) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Listens, and returns what serves until the drain. Handlers run beside each other, a bounded number of them.
    async fn serve<'a>(
        &'a self,
        subject: &str,
        handler: Handler,
        drain: &'a Drain,
    ) -> Result<impl Future<Output = Result<(), Error>> + 'a, Error> {
        let mut mail = self.shared.bus.subscribe(subject, Some(subjects::INTAKE_QUEUE)).await?;
        Ok(async move {
            loop {
                tokio::select! {
                    delivery = mail.next() => match delivery {
                        Some(delivery) => self.spawn(handler, delivery).await,
                        None => return Err(Error::Disconnected),
                    },
                    () = drain.signaled() => break,
                }
            }
            self.finish(mail, handler).await;
            Ok(())
        })
    }

    /// What has arrived is still served.
    async fn finish(&self, mut mail: Subscription, handler: Handler) {
        mail.stop().await;
        while let Some(delivery) = mail.next().await {
            self.spawn(handler, delivery).await;
        }
    }

    async fn spawn(&self, handler: Handler, delivery: Delivery) {
        if let Some(reply) = delivery.reply.as_deref().filter(|reply| !subjects::may_answer_to(reply)) {
            tracing::warn!(subject = delivery.subject, reply, "dropped: answers go to no subject of a service");
            return;
        }
        let Some(place) = InFlight::enter(&self.in_flight) else {
            if delivery.subject == subjects::EDGE_CANCEL {
                // A refusal would be the end of the call to the edge, which says this again.
                return tracing::debug!("a cancel of the edge found no place");
            }
            let message = "intake admits as many requests as max_in_flight allows: try again in a moment";
            let fault = Fault::new(ErrorKind::Unavailable, message).retry_after(Duration::from_secs(1));
            let (json, id) = match delivery.subject.as_str() {
                subjects::EDGE_REQUEST => (false, edge::named(&delivery)),
                _ => (is_json(&delivery.headers, &delivery.payload), String::new()),
            };
            let refusal = Outgoing::refusal(json, &id, fault);
            return self.shared.say(delivery.reply.as_deref().unwrap_or_default(), refusal).await;
        };
        let handling = handler(self.shared.clone(), delivery);
        self.tasks.spawn("request", async move {
            handling.await;
            drop(place);
        });
    }

    async fn jobs(&self) -> Result<Puller, Error> {
        let options = &self.shared.options;
        let spec = ConsumerSpec {
            ack_wait: options.job_ack_wait.get(),
            max_ack_pending: options.jobs_in_flight.saturating_mul(64),
            ..ConsumerSpec::default()
        };
        Ok(self.shared.bus.consumer(topology::JOBS, JOBS_CONSUMER, &spec).await?)
    }

    /// Runs jobs as long as there is a place for one. At the drain, those that run are left to another intake: their
    /// workers keep the answers.
    async fn run_jobs(&self, mut jobs: Puller, drain: &Drain) -> Result<(), Error> {
        let places = Arc::new(Semaphore::new(self.shared.options.jobs_in_flight as usize));
        loop {
            let place = tokio::select! {
                place = places.clone().acquire_owned() => place,
                () = drain.signaled() => return Ok(()),
            };
            let Ok(place) = place else { return Ok(()) };
            let delivery = loop {
                tokio::select! {
                    delivery = jobs.next(PULL) => if let Some(delivery) = delivery { break delivery },
                    () = drain.signaled() => return Ok(()),
                }
            };
            let (shared, stop) = (self.shared.clone(), drain.clone());
            self.tasks.spawn("job", async move {
                tokio::select! {
                    () = jobs::run(shared, delivery) => {}
                    () = stop.signaled() => {}
                }
                drop(place);
            });
        }
    }
}

/// Requests that are being handled.
struct InFlight {
    count: AtomicUsize,
    max: usize,
}

/// One of them.
struct Place(Arc<InFlight>);

impl InFlight {
    fn enter(all: &Arc<InFlight>) -> Option<Place> {
        let before = all.count.fetch_add(1, Ordering::AcqRel);
        let place = Place(all.clone());
        (before < all.max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}
