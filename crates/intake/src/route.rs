//! From what a request asks for to the deployments that may serve it, each with its pinned price and its bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use farebox_dialect::{DialectName, Operation};
use farebox_pricing::{Bound, Capability, PriceBook, Priced};
use farebox_proto::v1;
use farebox_providers::{Ask, Catalog, Deployment};
use farebox_types::{ErrorKind, Fault, Span, Timestamp};
use tokio::sync::watch;

use crate::{
    options::Options,
    request::{Request, Target},
    size::Size,
};

/// What plans are made from. They may be others for the next request.
#[derive(Debug)]
pub struct Routes {
    pub catalog: Catalog,
    pub prices: PriceBook,
}

pub(crate) struct Router {
    routes: watch::Receiver<Arc<Routes>>,
    options: Options,
    /// Spreads calls over deployments by weight: a low-discrepancy sequence is fairer than dice and needs none.
    turn: AtomicU64,
}

/// Where a request may be served.
pub(crate) struct Plan {
    /// Never empty.
    pub(crate) deployments: Vec<v1::Deployment>,
    pub(crate) warnings: Vec<String>,
}

impl Routes {
    /// What the deployment costs now.
    fn price(&self, deployment: &Deployment, request: &Request, now: Timestamp) -> Result<Priced, Fault> {
        if request.operation() == Operation::CountTokens {
            return Ok(self.prices.free(now));
        }
        let Deployment { prices, priced_as, region, .. } = deployment;
        if let Some(priced) = self.prices.card(prices, priced_as, now, region.as_deref()) {
            return Ok(priced);
        }
        if deployment.free {
            return Ok(self.prices.free(now));
        }
        let message = format!(
            "no price is known for `{prices}/{priced_as}`, so its cost cannot be bounded: add it under `prices:` in the \
             config, or name a model that has one as the deployment's `priced_as`"
        );
        Err(Fault::new(ErrorKind::Unsupported, message))
    }

    /// What the provider is spoken to in.
    fn dialect(&self, deployment: &Deployment, request: &Request) -> Result<DialectName, Fault> {
        let operation = request.operation();
        let said = deployment.dialect.filter(|said| said.operation() == operation);
        let provider = self.catalog.provider(&deployment.provider);
        said.or_else(|| provider?.dialect_for(operation, DialectName::known(request.dialect), &deployment.model))
            .ok_or_else(|| {
                let what = match operation {
                    Operation::Generate => "answers no conversations",
                    Operation::Embed => "has no embeddings",
                    Operation::Rerank => "does not rerank",
                    Operation::CountTokens => "counts no tokens",
                };
                let message = format!("the provider `{}` {what}: choose another model", deployment.provider);
                Fault::new(ErrorKind::Unsupported, message)
            })
    }
}

impl Router {
    pub(crate) fn new(routes: watch::Receiver<Arc<Routes>>, options: Options) -> Router {
        Router { routes, options, turn: AtomicU64::new(0) }
    }

    /// The plan of a request: deployments in the order in which they are tried. A deployment without a price is no
    /// place to spend money: it is left out.
    pub(crate) fn plan(&self, request: &Request, now: Timestamp) -> Result<Plan, Fault> {
        // One state for the whole plan.
        let routes = self.routes.borrow().clone();
        let ask = match &request.target {
            Target::Model(model) => Ask::Model(model),
            Target::TaskType(task) => Ask::Task(task),
            Target::AgentRole(role) => Ask::Agent(role),
            Target::Default => Ask::Default,
        };
        let routed = routes
            .catalog
            .route(ask, &request.fallback_models, &mut |total| self.draw(total))
            .map_err(|error| Fault::new(error.kind(), error.to_string()))?;
        let mut plan = Plan { deployments: Vec::with_capacity(routed.len()), warnings: Vec::new() };
        // What its caller's words lead to is what it asks for; a fallback that it may not have is left out.
        routed.first().map_or(Ok(()), |first| request.models.check(&first.alias))?;
        let mut unpriced = None;
        for deployment in routed {
            let allowed = request.models.check(&deployment.alias);
            match allowed.and_then(|()| self.priced(&routes, deployment, request, now)) {
                Ok(deployment) => plan.deployments.push(deployment),
                Err(fault) => {
                    plan.warnings.push(format!("a deployment was left out: {}", fault.message));
                    unpriced = unpriced.or(Some(fault));
                }
            }
        }
        match unpriced {
            Some(fault) if plan.deployments.is_empty() => Err(fault),
            _ => Ok(plan),
        }
    }

    /// A number below `total`. Multiples of the golden ratio fall evenly, whatever the weights are.
    fn draw(&self, total: u64) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let point = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
        u64::try_from((u128::from(point) * u128::from(total)) >> 64).unwrap_or_default()
    }

    fn priced(
        &self,
        routes: &Routes,
        deployment: Deployment,
        request: &Request,
        now: Timestamp,
    ) -> Result<v1::Deployment, Fault> {
        let priced = routes.price(&deployment, request, now)?;
        let dialect = routes.dialect(&deployment, request)?;
        let size = Size { options: &self.options, request, deployment: &deployment, dialect, priced: &priced };
        let bound = size.bound();
        if let (Bound::Unbounded { reason, .. }, Some(_)) = (&bound, request.max_cost) {
            let message = format!("{reason}; it cannot be kept within `max_cost`");
            return Err(Fault::new(ErrorKind::OverBudget, message));
        }
        let (limit, unmetered, expected_tokens) = (size.output_limit(), size.unmetered(), size.expected_tokens());
        let millis = |span: Option<Span>| span.map(Span::millis).unwrap_or_default();
        let timeout = deployment.timeout;
        let capabilities = &priced.entry.capabilities;
        let may_reason = capabilities.contains(&Capability::Reasoning);
        Ok(v1::Deployment {
            provider: deployment.provider,
            model: deployment.model,
            rates: Some((*priced.card.standard()).into()),
            bound: Some(bound.known().into()),
            unbounded: bound.reason().to_owned(),
            output: bound.output(),
            unmetered,
            expected_tokens,
            requests_per_minute: deployment.rpm.unwrap_or_default(),
            tokens_per_minute: deployment.tpm.unwrap_or_default(),
            concurrent: deployment.concurrent.unwrap_or_default(),
            default_max_tokens: limit.sent,
            default_temperature: deployment.default_temperature,
            timeouts: Some(v1::Timeouts {
                connect_ms: millis(timeout.connect),
                first_token_ms: millis(timeout.first_token),
                idle_ms: millis(timeout.idle),
                total_ms: millis(timeout.total),
            }),
            retries: deployment.retries,
            alias: deployment.alias,
            price_version: priced.version,
            dialect: v1::Dialect::from(dialect).into(),
            rate_tiers: (&priced.card).into(),
            refuse_unknown_params: deployment.refuse_unknown_params,
            trust_reported_cost: deployment.reports_cost,
            may_reason,
            never_reasons: !may_reason && !capabilities.is_empty(),
            max_output_tokens: priced.entry.max_output.unwrap_or_default(),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests;
