//! What all services share, and how they answer.

use std::sync::Arc;

use farebox_bus::Bus;
use farebox_directory::Kept;
use farebox_policy::Pepper;
use farebox_pricing::PriceBook;
use farebox_proto::{subjects, v1 as wire};
use farebox_providers::Catalog;
use farebox_runtime::Drain;
use farebox_types::Clock;
use prost::Message;
use tokio::sync::{Semaphore, broadcast, watch};
use tonic::{Request, Response, Status};

use crate::{
    config_book::ConfigBook,
    deed::Deed,
    entities::{Entities, Managed},
    gate::Gate,
    health::Health,
    options::Options,
    refusal::Refusal,
    service::Nameable,
    v1,
};

pub(crate) type Answer<T> = Result<Response<T>, Status>;

/// All services of the API.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) entities: Entities,
    pub(crate) config: ConfigBook,
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pepper: Pepper,
    pub(crate) gate: Arc<Gate>,
    pub(crate) offers: watch::Receiver<Arc<Offers>>,
    pub(crate) nameable: Nameable,
    pub(crate) health: Arc<Health>,
    /// Calls as they end.
    pub(crate) calls: broadcast::Sender<Arc<wire::CallFact>>,
    /// Tails that may still be begun.
    pub(crate) tails: Arc<Semaphore>,
    pub(crate) drain: Drain,
}

/// What callers may ask for, and its prices.
#[derive(Clone, Debug)]
pub struct Offers {
    pub catalog: Catalog,
    pub prices: PriceBook,
}

impl Api {
    pub(crate) fn entities(&self) -> &Entities {
        &self.0.entities
    }

    /// What a request for a change says about itself.
    pub(crate) fn deed<T: Message>(&self, request: &Request<T>, write: &Option<v1::Write>) -> Result<Deed, Refusal> {
        Deed::of(request, write, self.0.clock.now())
    }

    /// What the guard has counted.
    pub(crate) async fn guard_status(&self, name: &str, max: u32) -> Result<wire::BudgetStatusReply, Refusal> {
        let ask = wire::BudgetStatusRequest { shard: subjects::SHARD, name: name.to_owned(), max };
        let within = self.0.options.call_timeout.get();
        Ok(self.0.bus.call(&subjects::budgets(subjects::SHARD), &ask, within).await?)
    }
}

/// How many counts of the guard are told: as many as asked for, else 1000.
pub(crate) fn counts(max: u32) -> u32 {
    if max == 0 { 1000 } else { max }
}

/// What was done, as the answer says it.
pub(crate) fn reply<T, R: From<T>>(done: Result<T, Refusal>) -> Answer<R> {
    Ok(Response::new(done?.into()))
}

/// The part of a request without which it says nothing.
pub(crate) fn required<T>(field: &str, given: Option<T>) -> Result<T, Refusal> {
    given.ok_or_else(|| Refusal::field(field, "is missing"))
}

macro_rules! record {
    ($record:ident, $field:ident, $wire:ty) => {
        impl From<Kept<$wire>> for v1::$record {
            fn from(kept: Kept<$wire>) -> v1::$record {
                v1::$record { $field: Some(kept.entity.shown()), revision: kept.revision }
            }
        }
    };
}

record!(KeyRecord, key, wire::Key);
record!(ProjectRecord, project, wire::Project);
record!(OrganisationRecord, organisation, wire::Organisation);
record!(GroupRecord, group, wire::KeyGroup);
record!(BudgetRecord, budget, wire::Budget);
record!(LimitRecord, limit, wire::Limit);
