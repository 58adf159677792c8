//! Providers, models and routes of a config, checked and resolved.

use std::collections::BTreeMap;

use farebox_dialect::DialectName;
use farebox_types::{ErrorKind, Span};

use crate::{
    Egress, Model, ModelOptions, Provider, ProviderError, ProviderOptions, RoutingOptions, TimeoutOptions, row::row,
};

/// Tries of one deployment beyond this only make a failure slower.
const MAX_RETRIES: u32 = 10;
const MAX_WEIGHT: u32 = 10_000;
/// Fallback models that one request may name.
const MAX_FALLBACKS: usize = 8;

/// Something wrong in `providers:`, `models:` or `routing:`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct CatalogFault {
    /// Such as `models."gpt-4.1".fallback[0]`: keys with a dot stand in quotes.
    pub path: String,
    pub message: String,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    Model(&'a str),
    /// A task type.
    Task(&'a str),
    /// The role of an agent.
    Agent(&'a str),
    Default,
}

/// A request that leads to no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("there is no model `{given}`; there are: {known}")]
    Model { given: String, known: String },
    #[error("no model is set for the {what} `{given}`: set `routing.{section}.{given}`, or name a model")]
    Route { what: &'static str, section: &'static str, given: String },
    #[error("the request names no model, and there is no default: set `routing.default`, or name a model")]
    NoDefault,
    #[error("the request names {given} fallback models, at most {MAX_FALLBACKS} are tried")]
    TooManyFallbacks { given: usize },
}

impl RouteError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            RouteError::Model { .. } | RouteError::Route { .. } | RouteError::NoDefault => ErrorKind::NotFound,
            RouteError::TooManyFallbacks { .. } => ErrorKind::BadRequest,
        }
    }
}

/// One place where a request may be served, with everything a plan needs apart from its price.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// The model of the config that it belongs to.
    pub alias: String,
    /// The provider's name in the config.
    pub provider: String,
    /// The model's name at the provider.
    pub model: String,
    /// What the config says it is spoken to in; `None`: what suits the call.
    pub dialect: Option<DialectName>,
    /// Under which provider and model the price table has it.
    pub prices: String,
    pub priced_as: String,
    /// The region that prices may depend on.
    pub region: Option<String>,
    /// Without a price it costs nothing.
    pub free: bool,
    /// The model searches the web of its own accord, and bills it.
    pub searches: bool,
    pub default_max_tokens: Option<u64>,
    pub default_temperature: Option<f64>,
    /// A parameter that the provider does not know makes it refuse the call, in place of leaving it out.
    pub refuse_unknown_params: bool,
    /// What the provider says that a call cost is its cost.
    pub reports_cost: bool,
    pub timeout: TimeoutOptions,
    pub retries: u32,
    /// What the provider allows here in a minute, and at a time.
    pub rpm: Option<u64>,
    pub tpm: Option<u64>,
    pub concurrent: Option<u64>,
}

/// A checked catalog: every reference in it leads somewhere.
#[derive(Clone, Debug)]
pub struct Catalog {
    providers: BTreeMap<String, Provider>,
    models: BTreeMap<String, Model>,
    routing: RoutingOptions,
}

impl Catalog {
    /// Checks and resolves. All faults at once.
    pub fn new(
        providers: &BTreeMap<String, ProviderOptions>,
        models: &BTreeMap<String, Model>,
        routing: &RoutingOptions,
        egress: &Egress,
    ) -> Result<Catalog, Vec<CatalogFault>> {
        let (built, faults) = check(providers, models, routing, egress);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Catalog { providers: built, models: models.clone(), routing: routing.clone() })
    }

    /// The same check before the process has started what gives some providers their address (the demo one).
    pub fn check(
        providers: &BTreeMap<String, ProviderOptions>,
        models: &BTreeMap<String, Model>,
        routing: &RoutingOptions,
        egress: &Egress,
    ) -> Vec<CatalogFault> {
        let mut placed = providers.clone();
        for (name, options) in &mut placed {
            let kind = options.kind.as_deref().unwrap_or(name);
            if options.api_base.is_none() && row(kind).is_some_and(|row| row.base_at_run_time) {
                options.api_base = Some("http://127.0.0.1".into());
            }
        }
        check(&placed, models, routing, egress).1
    }

    /// The names that callers can ask for.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.models.keys().map(String::as_str)
    }

    /// What the config says of a model.
    pub fn model_options(&self, name: &str) -> Option<&ModelOptions> {
        self.models.get(name).map(|model| &model.0)
    }

    pub fn routing(&self) -> &RoutingOptions {
        &self.routing
    }

    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.get(name)
    }

    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.values()
    }

    /// The model of the config that serves `ask`.
    pub fn resolve<'a>(&'a self, ask: Ask<'a>) -> Result<&'a str, RouteError> {
        let by = |map: &'a BTreeMap<String, String>, what, section, given: &str| {
            map.get(given).map(String::as_str).ok_or_else(|| RouteError::Route {
                what,
                section,
                given: given.chars().take(80).collect(),
            })
        };
        match ask {
            Ask::Model(name) => self.model(name).map(|(name, _)| name),
            Ask::Task(name) => by(&self.routing.tasks, "task type", "tasks", name),
            Ask::Agent(name) => by(&self.routing.agents, "agent role", "agents", name),
            Ask::Default => self.routing.default.as_deref().ok_or(RouteError::NoDefault),
        }
    }

    /// The deployments that may serve `ask`, in the order in which they are tried: those of the model, drawn by weight,
    /// then those of its fallbacks. `fallbacks` of the request, if any, stand in for those of the config.
    ///
    /// `draw(n)` gives a random number below `n`.
    pub fn route(
        &self,
        ask: Ask<'_>,
        fallbacks: &[String],
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Vec<Deployment>, RouteError> {
        if fallbacks.len() > MAX_FALLBACKS {
            return Err(RouteError::TooManyFallbacks { given: fallbacks.len() });
        }
        let first = self.model(self.resolve(ask)?)?;
        let mut chosen = vec![first];
        let follow = if fallbacks.is_empty() { &first.1.fallback } else { fallbacks };
        for name in follow {
            let next = self.model(name)?;
            if !chosen.iter().any(|(name, _)| *name == next.0) {
                chosen.push(next);
            }
        }
        let mut plan = Vec::new();
        for (alias, model) in chosen {
            plan.extend(self.deployments(alias, model, draw));
        }
        Ok(plan)
    }

    fn model(&self, name: &str) -> Result<(&str, &ModelOptions), RouteError> {
        match self.models.get_key_value(name) {
            Some((name, model)) => Ok((name, &model.0)),
            None => {
                Err(RouteError::Model { given: name.chars().take(80).collect(), known: listing(self.models.keys()) })
            }
        }
    }

    fn deployments(&self, alias: &str, model: &ModelOptions, draw: &mut dyn FnMut(u64) -> u64) -> Vec<Deployment> {
        let mut left: Vec<_> = model.deployments.iter().collect();
        let mut ordered = Vec::new();
        while !left.is_empty() {
            let total: u64 = left.iter().map(|d| u64::from(d.weight)).sum();
            let mut at = if left.len() == 1 { 0 } else { draw(total.max(1)) };
            let index = left.iter().position(|d| {
                let weight = u64::from(d.weight);
                let hit = at < weight;
                at = at.saturating_sub(weight);
                hit
            });
            let taken = left.remove(index.unwrap_or(0));
            let Some(provider) = self.providers.get(&taken.target.provider) else {
                continue;
            };
            ordered.push(Deployment {
                alias: alias.to_owned(),
                provider: provider.name.clone(),
                model: taken.target.model.clone(),
                dialect: taken.dialect,
                prices: taken.priced_as.as_ref().map_or_else(|| provider.prices.clone(), |as_| as_.provider.clone()),
                priced_as: taken.priced_as.as_ref().unwrap_or(&taken.target).model.clone(),
                region: provider.region().map(str::to_owned),
                free: provider.is_free(),
                searches: provider.searches(&taken.target.model),
                default_max_tokens: model.params.max_tokens,
                default_temperature: model.params.temperature,
                refuse_unknown_params: model.params.drop_params == Some(false),
                reports_cost: provider.reports_cost(),
                timeout: model.timeout,
                retries: model.retries,
                rpm: taken.rpm,
                tpm: taken.tpm,
                concurrent: taken.concurrent,
            });
        }
        ordered
    }
}

/// A few names, for people.
fn listing<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 12;
    let count = names.len();
    let shown: Vec<String> = names.take(SHOWN).map(|name| format!("`{name}`")).collect();
    match count {
        0 => "none, `models` is empty".to_owned(),
        _ if count > SHOWN => format!("{} and {} more", shown.join(", "), count - SHOWN),
        _ => shown.join(", "),
    }
}

/// A key as it stands in a path.
fn quoted(key: &str) -> String {
    if key.contains(['.', '[', '"']) { format!("\"{key}\"") } else { key.to_owned() }
}

fn check(
    providers: &BTreeMap<String, ProviderOptions>,
    models: &BTreeMap<String, Model>,
    routing: &RoutingOptions,
    egress: &Egress,
) -> (BTreeMap<String, Provider>, Vec<CatalogFault>) {
    let mut faults = Faults(Vec::new());
    let mut built = BTreeMap::new();
    for (name, options) in providers {
        let path = format!("providers.{}", quoted(name));
        if name.is_empty() || name.contains('/') || name.contains(char::is_whitespace) {
            faults.add(path, "a provider's name has no slash and no space: it stands before the slash of a target");
            continue;
        }
        match Provider::new(name, options, egress) {
            Ok(provider) => {
                built.insert(name.clone(), provider);
            }
            // Without `kind`, it is the entry itself that is not known.
            Err(error @ ProviderError::UnknownKind { .. }) if options.kind.is_none() => {
                faults.add(path, format!("{error}; or set `kind`"));
            }
            Err(error) => faults.add(format!("{path}.{}", error.option()), error.to_string()),
        }
    }
    for (name, model) in models {
        faults.model(name, model, &built, providers, models);
    }
    faults.allowances(models);
    let routes = routing.tasks.iter().map(|(key, model)| (format!("routing.tasks.{}", quoted(key)), model));
    let routes =
        routes.chain(routing.agents.iter().map(|(key, model)| (format!("routing.agents.{}", quoted(key)), model)));
    let routes = routes.chain(routing.default.iter().map(|model| ("routing.default".to_owned(), model)));
    for (path, model) in routes {
        faults.reference(path, model, models);
    }
    (built, faults.0)
}

struct Faults(Vec<CatalogFault>);

impl Faults {
    fn add(&mut self, path: String, message: impl Into<String>) {
        self.0.push(CatalogFault { path, message: message.into() });
    }

    fn reference(&mut self, path: String, model: &str, models: &BTreeMap<String, Model>) {
        if !models.contains_key(model) {
            self.add(path, format!("there is no model `{model}`; there are: {}", listing(models.keys())));
        }
    }

    fn model(
        &mut self,
        name: &str,
        model: &ModelOptions,
        built: &BTreeMap<String, Provider>,
        providers: &BTreeMap<String, ProviderOptions>,
        models: &BTreeMap<String, Model>,
    ) {
        let path = format!("models.{}", quoted(name));
        if model.deployments.is_empty() {
            self.add(format!("{path}.deployments"), "a model needs at least one deployment");
        }
        for (i, deployment) in model.deployments.iter().enumerate() {
            let path = format!("{path}.deployments[{i}]");
            let provider = &deployment.target.provider;
            if !providers.contains_key(provider) {
                let known = listing(providers.keys());
                let message = format!("there is no provider `{provider}` in `providers`; there are: {known}");
                self.add(format!("{path}.target"), message);
            }
            if let (Some(dialect), Some(built)) = (deployment.dialect, built.get(provider))
                && !built.dialects().contains(&dialect)
            {
                let known: Vec<&str> = built.dialects().iter().map(|known| known.as_str()).collect();
                let message = format!("the provider `{provider}` has no {dialect}; it has {}", known.join(", "));
                self.add(format!("{path}.dialect"), message);
            }
            if !(1..=MAX_WEIGHT).contains(&deployment.weight) {
                self.add(format!("{path}.weight"), format!("a weight lies between 1 and {MAX_WEIGHT}"));
            }
            let allowed = [("rpm", deployment.rpm), ("tpm", deployment.tpm), ("concurrent", deployment.concurrent)];
            for (name, _) in allowed.into_iter().filter(|(_, allowed)| *allowed == Some(0)) {
                self.add(format!("{path}.{name}"), "a limit of zero lets no call through: leave the deployment out");
            }
        }
        for (i, fallback) in model.fallback.iter().enumerate() {
            let path = format!("{path}.fallback[{i}]");
            if fallback == name {
                self.add(path, "a model cannot fall back to itself");
            } else {
                self.reference(path, fallback, models);
            }
        }
        self.limits(&path, model);
    }

    /// What a provider allows is counted by target: it cannot be one thing here and another there.
    fn allowances(&mut self, models: &BTreeMap<String, Model>) {
        let mut said = BTreeMap::new();
        for (name, model) in models {
            for (i, deployment) in model.deployments.iter().enumerate() {
                let path = format!("models.{}.deployments[{i}]", quoted(name));
                let allowed = (deployment.rpm, deployment.tpm, deployment.concurrent);
                let target = deployment.target.to_string();
                let (first, other) = said.entry(target).or_insert_with(|| (path.clone(), allowed));
                if *other != allowed {
                    let message = format!(
                        "`rpm`, `tpm` and `concurrent` are others in `{first}`, which is the same target: say the same"
                    );
                    self.add(path, message);
                }
            }
        }
    }

    fn limits(&mut self, path: &str, model: &ModelOptions) {
        if model.retries > MAX_RETRIES {
            self.add(format!("{path}.retries"), format!("at most {MAX_RETRIES} retries make sense"));
        }
        if model.params.max_tokens == Some(0) {
            self.add(format!("{path}.params.max_tokens"), "an answer needs at least one token");
        }
        if model.params.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            self.add(format!("{path}.params.temperature"), "a temperature lies between 0 and 2");
        }
        let TimeoutOptions { connect, first_token, idle, total } = model.timeout;
        for (name, span) in [("connect", connect), ("first_token", first_token), ("idle", idle), ("total", total)] {
            if span.is_some_and(Span::is_zero) {
                self.add(format!("{path}.timeout.{name}"), "a timeout of zero lets no call succeed");
            }
        }
    }
}
