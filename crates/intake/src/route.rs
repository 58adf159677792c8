//! From what a request asks for to the deployments that may serve it, each with its pinned price and its bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use farebox_dialect::{DialectName, Operation};
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

/// Where a request may be served.
pub(crate) struct Plan {
    /// Never empty.
    pub(crate) deployments: Vec<v1::Deployment>,
    pub(crate) warnings: Vec<String>,
}

/// The most output tokens of one answer.
#[derive(Debug, PartialEq, Eq)]
struct OutputLimit {
    tokens: u64,
    /// What the request is to say where its caller said nothing; 0: nothing.
    sent: u64,
}

impl Router {
    pub(crate) fn new(catalog: Arc<Catalog>, prices: Arc<PriceBook>, options: Options) -> Router {
        Router { catalog, prices, options, turn: AtomicU64::new(0) }
    }

    /// The plan of a request: deployments in the order in which they are tried. A deployment without a price is no
    /// place to spend money: it is left out.
    pub(crate) fn plan(&self, request: &Request, now: Timestamp) -> Result<Plan, Fault> {
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
        let mut plan = Plan { deployments: Vec::with_capacity(routed.len()), warnings: Vec::new() };
        let mut unpriced = None;
        for deployment in routed {
            match self.priced(deployment, request, now) {
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

    fn priced(&self, deployment: Deployment, request: &Request, now: Timestamp) -> Result<v1::Deployment, Fault> {
        let Some(priced) = self.prices.card(&deployment.prices, &deployment.model, now, None) else {
            let message = format!(
                "no price is known for `{}/{}`, so its cost cannot be bounded: add it under `prices:` in the config",
                deployment.prices, deployment.model
            );
            return Err(Fault::new(ErrorKind::Unsupported, message));
        };
        let dialect = self.dialect(&deployment, request)?;
        let limit = self.output_limit(&deployment, dialect, &priced, request);
        let bound = self.bound(&priced, request, limit.tokens);
        let millis = |span: Option<Span>| span.map(Span::millis).unwrap_or_default();
        let timeout = deployment.timeout;
        Ok(v1::Deployment {
            provider: deployment.provider,
            model: deployment.model,
            rates: Some((*priced.card.standard()).into()),
            bound: Some(bound.into()),
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
        })
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

    /// How long an answer can be. What neither the caller nor the model itself limits is limited by the request that
    /// is sent; so is every call in a dialect that must name a limit, as its encoder would choose another one.
    fn output_limit(
        &self,
        deployment: &Deployment,
        dialect: DialectName,
        priced: &Priced,
        request: &Request,
    ) -> OutputLimit {
        if request.operation() != Operation::Generate {
            return OutputLimit { tokens: 0, sent: 0 };
        }
        if let Some(tokens) = request.outline.max_output_tokens {
            return OutputLimit { tokens, sent: 0 };
        }
        if let Some(tokens) = deployment.default_max_tokens {
            return OutputLimit { tokens, sent: tokens };
        }
        let assumed = self.options.assumed_max_output_tokens;
        match priced.entry.max_output.or(priced.entry.context_window.filter(|window| *window <= assumed)) {
            Some(tokens) if dialect != DialectName::AnthropicMessages => OutputLimit { tokens, sent: 0 },
            known => {
                let tokens = known.unwrap_or(assumed);
                OutputLimit { tokens, sent: tokens }
            }
        }
    }

    /// The most that one attempt can cost. A token is at least one byte of the body; what a provider adds to messages
    /// and tools is smaller than what JSON adds, apart from the tools' own preamble.
    fn bound(&self, priced: &Priced, request: &Request, output: u64) -> farebox_types::Money {
        let outline = &request.outline;
        let bytes = u64::try_from(request.body.len()).unwrap_or(u64::MAX);
        let per_message = 16 * u64::try_from(outline.messages).unwrap_or(u64::MAX);
        let tools = if outline.has_tools { self.options.tool_overhead_tokens } else { 0 };
        let count = |things: usize| u64::try_from(things).unwrap_or(u64::MAX);
        let documents = count(outline.inline_documents).saturating_mul(self.options.document_tokens_max);
        let pictures = count(outline.inline_media.saturating_sub(outline.inline_documents));
        let media = pictures.saturating_mul(self.options.media_tokens_max).saturating_add(documents);
        let input = bytes.saturating_add(per_message).saturating_add(tools).saturating_add(media);
        // The window is for one text: of texts to embed and documents to rank, each has its own.
        let window = priced.entry.context_window.filter(|_| request.operation() == Operation::Generate);
        let input = window.map_or(input, |window| input.min(window));
        let output = output.saturating_mul(outline.n.unwrap_or(1).max(1));
        bound(&priced.card, input, output, searches(request, bytes), &[])
    }
}

/// The most searches that a request can cost. A ranking is billed by units of a hundred documents, and a document counts
/// once more for each 500 tokens; other searches are not admitted.
fn searches(request: &Request, bytes: u64) -> u64 {
    let documents = u64::try_from(request.outline.messages).unwrap_or(u64::MAX);
    match request.operation() {
        Operation::Rerank => documents.saturating_add(bytes / 500).div_ceil(100),
        _ => 0,
    }
}
