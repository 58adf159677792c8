//! From what a request asks for to the deployments that may serve it, each with its pinned price and its bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use farebox_dialect::{DialectName, Operation, Outline};
use farebox_pricing::{Capability, PriceBook, Priced, bound};
use farebox_proto::v1;
use farebox_providers::{Ask, Catalog, Deployment};
use farebox_types::{ErrorKind, Fault, Span, Timestamp};
use tokio::sync::watch;

use crate::{
    options::Options,
    request::{Request, Target},
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

/// The most output tokens of one answer.
#[derive(Debug, PartialEq, Eq)]
struct OutputLimit {
    tokens: u64,
    /// What the request is to say where its caller said nothing; 0: nothing.
    sent: u64,
}

/// The most that one answer can be.
#[derive(Clone, Copy)]
struct Most {
    /// In tokens.
    output: u64,
    /// Searches of the model's own accord.
    searches: u64,
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
        let mut unpriced = None;
        for deployment in routed {
            match self.priced(&routes, deployment, request, now) {
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
        let limit = self.output_limit(&deployment, dialect, &priced, request);
        let tier = tier(&priced, request)?;
        let searches = if deployment.searches { self.options.searches_max } else { 0 };
        let bound = self.bound(&priced, dialect, request, Most { output: limit.tokens, searches }, tier);
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
            may_reason: priced.entry.capabilities.contains(&Capability::Reasoning),
            ..Default::default()
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
    fn bound(
        &self,
        priced: &Priced,
        dialect: DialectName,
        request: &Request,
        most: Most,
        tier: Option<&str>,
    ) -> farebox_types::Money {
        let outline = &request.outline;
        let bytes = u64::try_from(request.body.len()).unwrap_or(u64::MAX);
        let per_message = 16 * u64::try_from(outline.messages).unwrap_or(u64::MAX);
        let count = |things: usize| u64::try_from(things).unwrap_or(u64::MAX);
        let preambles = count(outline.designed_tools).saturating_add(u64::from(outline.has_tools));
        let tools = preambles.saturating_mul(self.options.tool_overhead_tokens);
        // What is kept under a name is as long as it is; a provider of another dialect does not get to see the name.
        let kept = if dialect == DialectName::OpenAiResponses { outline.named_reasoning } else { 0 };
        let documents = count(outline.inline_documents + kept).saturating_mul(self.options.document_tokens_max);
        let pictures = count(outline.inline_media.saturating_sub(outline.inline_documents));
        let media = pictures.saturating_mul(self.options.media_tokens_max).saturating_add(documents);
        let repeated = repeated(request);
        let input = [per_message, tools, media, repeated].into_iter().fold(bytes, u64::saturating_add);
        // The window is for one text: of texts to embed and documents to rank, each has its own. Where there is a price for
        // what lies beyond it, it is not the end.
        let window = priced.entry.context_window.filter(|window| {
            request.operation() == Operation::Generate && priced.card.tiers().iter().all(|tier| tier.above < *window)
        });
        let input = window.map_or(input, |window| input.min(window));
        // Of several prompts in one body, each has answers of its own.
        let prompts =
            if request.dialect == v1::Dialect::OpenaiCompletions { count(outline.messages).max(1) } else { 1 };
        let answers = outline.n.unwrap_or(1).max(1).saturating_mul(prompts);
        let searches = match request.operation() {
            Operation::Rerank => ranked(request, bytes.saturating_add(repeated)),
            _ => most.searches.saturating_mul(answers),
        };
        bound(&priced.card, input, most.output.saturating_mul(answers), searches, tier.as_slice())
    }
}

/// The service tier that the request asks for, where it is not the standard one: its price has to be known.
fn tier<'a>(priced: &Priced, request: &'a Request) -> Result<Option<&'a str>, Fault> {
    let Some(asked) = request.outline.service_tier.as_deref() else { return Ok(None) };
    match priced.card.priced_as(asked) {
        Some(_) => Ok(Some(asked)),
        None => {
            let message = format!("no price is known for the service_tier `{asked}` of this model: leave it out");
            Err(Fault::new(ErrorKind::Unsupported, message))
        }
    }
}

/// The most tokens of what is read again with each document.
fn repeated(request: &Request) -> u64 {
    let Outline { repeated, messages, .. } = &request.outline;
    u64::try_from(repeated.saturating_mul(*messages)).unwrap_or(u64::MAX)
}

/// The most search units that a ranking can cost: units of a hundred documents, and a document counts once more for each 500
/// tokens.
fn ranked(request: &Request, bytes: u64) -> u64 {
    let documents = u64::try_from(request.outline.messages).unwrap_or(u64::MAX);
    documents.saturating_add(bytes / 500).div_ceil(100)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use farebox_bus::Caller;
    use farebox_pricing::PriceRow;
    use farebox_providers::Egress;
    use farebox_types::{Money, Project};
    use serde_json::{Value, json};

    use super::*;
    use crate::request::Arrival;

    const NOW: Timestamp = Timestamp(1_760_000_000_000);

    /// A plan for `body`, asked for in `dialect`, by a config of these providers, models and prices.
    fn plan(config: &Value, prices: Value, dialect: Option<&str>, body: &Value) -> Result<Plan, Fault> {
        let of = |name: &str| config[name].clone();
        let (providers, models) = (of("providers"), of("models"));
        let catalog = Catalog::new(
            &serde_json::from_value(providers).unwrap(),
            &serde_json::from_value(models).unwrap(),
            &Default::default(),
            &Egress::default(),
        )
        .unwrap();
        let rows: Vec<PriceRow> = serde_json::from_value(prices).unwrap();
        let options = Options::default();
        let prices = PriceBook::of(&rows).unwrap();
        let (_keep, routes) = watch::channel(Arc::new(Routes { catalog, prices }));
        let router = Router::new(routes, options.clone());
        let caller = Caller { project: Project::parse("default").unwrap(), key_id: None };
        let arrival = Arrival {
            caller: &caller,
            json: true,
            payload: &Bytes::from(body.to_string()),
            dialect,
            now: NOW,
            default_deadline: Duration::from_secs(60),
            assigned: None,
        };
        router.plan(&Request::read(&arrival, &options)?, NOW)
    }

    fn chat(extra: Value) -> Value {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000});
        body.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
        body
    }

    fn bound(plan: &Plan) -> Money {
        v1::Money::of(&plan.deployments[0].bound)
    }

    #[test]
    fn a_tier_is_reserved_at_its_own_price_and_refused_without_one() {
        let config = json!({
            "providers": {"openai": {"api_key": "os.environ/KEY"}},
            "models": {"m": "openai/gpt-x"},
        });
        let prices = json!([{
            "provider": "openai", "models": ["gpt-x"], "input": "0", "output": "1000",
            "tiers": [{"service_tier": "priority", "input": "0", "output": "2000"}],
        }]);
        let of = |tier: Value| plan(&config, prices.clone(), None, &chat(json!({"service_tier": tier})));
        assert_eq!(bound(&of(Value::Null).unwrap()), Money::usd(1));
        assert_eq!(bound(&of(json!("priority")).unwrap()), Money::usd(2));
        let refused = of(json!("flex")).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Unsupported);
        assert!(refused.message.contains("`flex`"), "{}", refused.message);
    }

    #[test]
    fn what_is_done_more_than_once_is_reserved_as_often() {
        let config = json!({
            "providers": {"openai": {"api_key": "os.environ/KEY"}, "cohere": {"api_key": "os.environ/KEY"}},
            "models": {"m": "openai/gpt-3.5-turbo-instruct", "r": "cohere/rerank-x"},
        });
        let prices = json!([
            {"provider": "openai", "models": ["gpt-3.5-turbo-instruct"], "input": "0", "output": "1000"},
            {"provider": "cohere", "models": ["rerank-x"], "input": "0", "output": "0", "per_search": "1"},
        ]);
        let of = |dialect, body: Value| bound(&plan(&config, prices.clone(), Some(dialect), &body).unwrap());
        let completions = |prompt: Value| json!({"model": "m", "prompt": prompt, "max_tokens": 1000, "n": 2});
        assert_eq!(of("openai-completions", completions(json!("a"))), Money::usd(2));
        assert_eq!(of("openai-completions", completions(json!([1, 2, 3]))), Money::usd(2));
        assert_eq!(of("openai-completions", completions(json!(["a", "b", "c"]))), Money::usd(6));
        assert_eq!(of("openai-completions", completions(json!([[1], [2]]))), Money::usd(4));
        // The query counts in the length of each document.
        let query = "q".repeat(1000);
        let ranked = of("cohere-rerank", json!({"model": "r", "query": query, "documents": vec!["d"; 100]}));
        assert!(ranked >= Money::usd(3), "{ranked}");
    }

    #[test]
    fn a_window_with_a_price_beyond_it_is_not_the_end() {
        let config = json!({
            "providers": {"anthropic": {"api_key": "os.environ/KEY"}},
            "models": {"m": "anthropic/claude-x"},
        });
        let of = |tiers: Value| {
            let prices = json!([{
                "provider": "anthropic", "models": ["claude-x"], "input": "1000", "output": "0", "context_window": 100,
                "tiers": tiers,
            }]);
            let body = chat(json!({"messages": [{"role": "user", "content": "a".repeat(2000)}]}));
            bound(&plan(&config, prices, Some("anthropic-messages"), &body).unwrap())
        };
        assert_eq!(of(json!([])), "0.1".parse().unwrap());
        assert!(of(json!([{"above": 100, "input": "2000", "output": "0"}])) >= Money::usd(4));
    }

    #[test]
    fn each_designed_tool_brings_its_preamble() {
        let config = json!({
            "providers": {"anthropic": {"api_key": "os.environ/KEY"}},
            "models": {"m": "anthropic/claude-x"},
        });
        let prices = json!([{"provider": "anthropic", "models": ["claude-x"], "input": "1000", "output": "0"}]);
        let tools = json!([
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            {"type": "computer_20250124", "name": "computer", "display_width_px": 1, "display_height_px": 1},
        ]);
        let plan = plan(&config, prices, Some("anthropic-messages"), &chat(json!({"tools": tools}))).unwrap();
        assert!(bound(&plan) >= Money::usd(4), "{}", bound(&plan));
    }

    #[test]
    fn one_model_can_be_priced_as_another_and_ones_own_cost_nothing() {
        let config = |deployment: Value| {
            json!({
                "providers": {
                    "azure": {"api_base": "https://team.openai.azure.com", "api_key": "os.environ/KEY"},
                    "ollama": {},
                },
                "models": {"m": {"deployments": [deployment]}},
            })
        };
        let prices = json!([{"provider": "openai", "models": ["gpt-x"], "input": "0", "output": "1000"}]);
        let of = |deployment: Value| plan(&config(deployment), prices.clone(), None, &chat(json!({})));
        let refused = of(json!({"target": "azure/prod-1"})).err().unwrap();
        assert!(refused.message.contains("`azure/prod-1`"), "{}", refused.message);
        let priced = of(json!({"target": "azure/prod-1", "priced_as": "openai/gpt-x"})).unwrap();
        assert_eq!((bound(&priced), priced.deployments[0].model.as_str()), (Money::usd(1), "prod-1"));
        assert_eq!(bound(&of(json!({"target": "ollama/llama3"})).unwrap()), Money::ZERO);
    }

    #[test]
    fn a_model_that_searches_of_its_own_accord_has_its_searches_reserved() {
        let config = json!({
            "providers": {"perplexity": {"api_key": "os.environ/KEY"}, "openai": {"api_key": "os.environ/KEY"}},
            "models": {"m": "perplexity/sonar", "o": "openai/sonar"},
        });
        let prices = json!([
            {"provider": "perplexity", "models": ["sonar"], "input": "0", "output": "0", "per_search": "1"},
            {"provider": "openai", "models": ["sonar"], "input": "0", "output": "0", "per_search": "1"},
        ]);
        let of = |model: &str| plan(&config, prices.clone(), None, &chat(json!({"model": model}))).unwrap();
        assert_eq!(bound(&of("m")), Money::usd(32));
        assert_eq!(bound(&of("o")), Money::ZERO);
    }

    #[test]
    fn a_model_that_can_reason_is_marked_as_one() {
        let config = json!({"providers": {"openai": {"api_key": "os.environ/KEY"}}, "models": {"m": "openai/a", "o": "openai/b"}});
        let prices = json!([
            {"provider": "openai", "models": ["a"], "input": "1", "output": "1", "capabilities": ["reasoning"]},
            {"provider": "openai", "models": ["b"], "input": "1", "output": "1"},
        ]);
        let marked = |model: &str| {
            plan(&config, prices.clone(), None, &chat(json!({"model": model}))).unwrap().deployments[0].may_reason
        };
        assert!(marked("m") && !marked("o"));
    }

    #[test]
    fn a_count_is_free_and_a_dialect_is_its_callers_own_where_it_can_be() {
        let config = json!({
            "providers": {"anthropic": {"api_key": "os.environ/KEY"}, "openai": {"api_key": "os.environ/KEY"}},
            "models": {"m": "anthropic/claude-x", "o": "openai/gpt-x"},
        });
        let prices = json!([{"provider": "openai", "models": ["gpt-x"], "input": "1", "output": "1"}]);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let counted = plan(&config, prices.clone(), Some("anthropic-count-tokens"), &body).unwrap();
        assert_eq!(bound(&counted), Money::ZERO);
        for (caller, sent) in
            [("openai-chat", v1::Dialect::OpenaiChat), ("anthropic-messages", v1::Dialect::OpenaiChat)]
        {
            let body = json!({"model": "o", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
            assert_eq!(plan(&config, prices.clone(), Some(caller), &body).unwrap().deployments[0].dialect(), sent);
        }
        let body = json!({"model": "o", "input": "hi"});
        let responses = plan(&config, prices.clone(), Some("openai-responses"), &body).unwrap();
        assert_eq!(responses.deployments[0].dialect(), v1::Dialect::OpenaiResponses);
        let body = json!({"model": "o", "query": "q", "documents": ["d"]});
        let refused = plan(&config, prices, Some("cohere-rerank"), &body).err().unwrap();
        assert!(refused.message.contains("does not rerank"), "{}", refused.message);
    }
}
