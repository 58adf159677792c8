//! The role: one accountant writes, every accountant answers questions.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, Lease, LeaseOptions, topology};
use farebox_clickhouse::Client;
use farebox_proto::subjects::{self, Tenancy};
use farebox_runtime::Drain;
use farebox_types::{Clock, Project};
use tokio::{sync::watch, time::sleep};

use crate::{
    check::Check,
    error::Error,
    options::Options,
    questions::Questions,
    writer::{End, Writer},
};

/// Between two tries to lead.
const PAUSE: Duration = Duration::from_millis(200);

/// What accounting needs from outside.
#[derive(Clone)]
pub struct Deps {
    pub bus: Bus,
    pub tenancy: Tenancy,
    pub clock: Arc<dyn Clock>,
    /// It need not answer yet: accounting waits for it.
    pub clickhouse: Client,
    /// Names this process in leases and terms; a new one for each start.
    pub accountant_id: String,
    /// The project that hears of differences between the guard's books and the rows.
    pub operators: Project,
}

/// The accountant.
pub struct Service {
    options: Options,
    deps: Deps,
}

impl Service {
    pub fn create(options: Options, deps: Deps) -> Service {
        Service { options, deps }
    }

    /// Answers questions, and writes rows whenever no other accountant does, until the drain.
    pub async fn run(self, drain: Drain) -> Result<(), Error> {
        let queries = self.deps.tenancy.usage_queries();
        let mail = self.deps.bus.subscribe(&queries, Some(subjects::ACCOUNTING_QUEUE)).await?;
        let inside = self.deps.bus.subscribe(subjects::USAGE, Some(subjects::ACCOUNTING_QUEUE)).await?;
        let checks = self.deps.bus.subscribe(subjects::BOOKS_CHECK, Some(subjects::ACCOUNTING_QUEUE)).await?;
        let questions = Questions::new(&self.options, &self.deps);
        let check = Check::new(&self.options, &self.deps);
        let (writes, is_writing) = watch::channel(false);
        tokio::select! {
            // Ends on the drain, or with an error; questions end with it.
            done = self.write(&drain, &writes) => done,
            () = questions.serve(mail, inside) => Ok(()),
            () = check.serve(checks, is_writing) => Ok(()),
        }
    }

    async fn write(&self, drain: &Drain, writes: &watch::Sender<bool>) -> Result<(), Error> {
        loop {
            let lease = tokio::select! {
                lease = self.lead() => lease,
                () = drain.signaled() => return Ok(()),
            };
            writes.send_replace(true);
            let ended = match Writer::create(&self.options, &self.deps).await {
                Ok(mut writer) => Box::pin(writer.run(drain, &lease)).await,
                Err(error) => Err(error),
            };
            writes.send_replace(false);
            lease.release().await;
            match ended {
                Ok(End::Drained) => return Ok(()),
                Ok(End::SteppedDown) => {}
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => tracing::warn!(%error, "cannot read the ledger now, trying again"),
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = drain.signaled() => return Ok(()),
            }
        }
    }

    /// Waits until no other accountant leads.
    async fn lead(&self) -> Lease {
        let options = LeaseOptions { ttl: self.options.lead_ttl.get(), ..LeaseOptions::default() };
        let bucket = self.deps.bus.bucket(topology::LEASES);
        bucket.acquire("accounting", &self.deps.accountant_id, &options).await
    }
}
