//! From what a request asks for to the deployments that may serve it, each with its pinned price and its bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use farebox_pricing::{PriceBook, Priced, bound};
use farebox_proto::v1;
use farebox_providers::{Ask, Catalog, Deployment};
use farebox_types::{ErrorKind, Fault, Span, Timestamp};

use crate::{
    options::Options,
    request::{Request, Target},
};

pub(crate) struct Router {
    catalog: Arc<Catalog>,
    prices: Arc<PriceBook>,
    options: Options,
    /// Spreads calls over deployments by weight: a low-discrepancy sequence is fairer than dice and needs none.
    turn: AtomicU64,
}

impl Router {
    pub(crate) fn new(catalog: Arc<Catalog>, prices: Arc<PriceBook>, options: Options) -> Router {
        Router { catalog, prices, options, turn: AtomicU64::new(0) }
    }

    /// The plan of a request: deployments in the order in which they are tried. A deployment without a price is no
    /// place to spend money.
    pub(crate) fn plan(&self, request: &Request, now: Timestamp) -> Result<Vec<v1::Deployment>, Fault> {
        let ask = match &request.target {
            Target::Model(model) => Ask::Model(model),
            Target::TaskType(task) => Ask::Task(task),
            Target::AgentRole(role) => Ask::Agent(role),
            Target::Default => Ask::Default,
        };
        let routed = self
            .catalog
            .route(ask, &request.fallback_models, &mut |total| self.draw(total))
            .map_err(|error| Fault::new(error.kind(), error.to_string()))?;
        routed.into_iter().map(|deployment| self.priced(deployment, request, now)).collect()
    }

    /// A number below `total`. Multiples of the golden ratio fall evenly, whatever the weights are.
    fn draw(&self, total: u64) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let point = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
        u64::try_from((u128::from(point) * u128::from(total)) >> 64).unwrap_or_default()
    }

    fn priced(&self, deployment: Deployment, request: &Request, now: Timestamp) -> Result<v1::Deployment, Fault> {
        let Some(priced) = self.prices.rates(&deployment.prices, &deployment.model, now) else {
            let message = format!(
                "no price is known for `{}/{}`, so its cost cannot be bounded: add it under `prices:` in the config",
                deployment.prices, deployment.model
            );
            return Err(Fault::new(ErrorKind::Unsupported, message));
        };
        let given = request.outline.max_output_tokens;
        let default_max_tokens = deployment.default_max_tokens.filter(|_| given.is_none()).unwrap_or_default();
        let bound = self.bound(&priced, request, given.or(deployment.default_max_tokens));
        let millis = |span: Option<Span>| span.map(Span::millis).unwrap_or_default();
        let timeout = deployment.timeout;
        Ok(v1::Deployment {
            provider: deployment.provider,
            model: deployment.model,
            rates: Some(priced.rates.into()),
            bound: Some(bound.into()),
            default_max_tokens,
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
        })
    }

    /// The most that one attempt can cost. A token is at least one byte of the body; what a provider adds to messages
    /// and tools is smaller than what JSON adds, apart from the tools' own preamble.
    fn bound(&self, priced: &Priced, request: &Request, max_output: Option<u64>) -> farebox_types::Money {
        let outline = &request.outline;
        let bytes = u64::try_from(request.body.len()).unwrap_or(u64::MAX);
        let per_message = 16 * u64::try_from(outline.messages).unwrap_or(u64::MAX);
        let tools = if outline.has_tools { self.options.tool_overhead_tokens } else { 0 };
        let media =
            u64::try_from(outline.inline_media).unwrap_or(u64::MAX).saturating_mul(self.options.media_tokens_max);
        let input = bytes.saturating_add(per_message).saturating_add(tools).saturating_add(media);
        let input = priced.context_window.map_or(input, |window| input.min(window));
        let output = max_output.or(priced.max_output).unwrap_or(self.options.assumed_max_output_tokens);
        bound(&priced.rates, input, output.saturating_mul(outline.n.unwrap_or(1).max(1)))
    }
}
