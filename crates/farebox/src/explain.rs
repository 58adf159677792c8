//! `farebox config explain`: which route, budgets and limits a request would meet, and why. Nothing is sent or spent.

use std::{io::Read, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::Args;
use farebox_directory::Directory;
use farebox_intake::{Explained, Question, Routes};
use farebox_policy::{CallScope, KeyHash, Limit, Measure, Policies, Scope, Strategy};
use farebox_pricing::PriceBook;
use farebox_proto::v1;
use farebox_providers::Catalog;
use farebox_types::{Clock, Money, Project, SystemClock, Timestamp};
use serde_json::{Map, Value};

use crate::{
    config::{Base, Config},
    manage::{Access, in_force},
    rules,
};

/// A request to explain.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// The body of the request as JSON, `@FILE`, or `-` for standard input
    #[arg(value_name = "REQUEST")]
    request: String,
    /// By what is in force in the farebox that runs, in place of the config file
    #[arg(long)]
    pub(crate) running: bool,
    /// Project that asks
    #[arg(long, default_value = "default")]
    project: String,
    /// Id of the key that it comes with; its project counts
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    #[arg(long)]
    actor: Option<String>,
    #[arg(long)]
    task: Option<String>,
    #[arg(long)]
    session: Option<String>,
    #[arg(long)]
    end_user: Option<String>,
    /// May be given several times
    #[arg(long)]
    tag: Vec<String>,
    /// API family of the body, such as anthropic-messages
    #[arg(long, default_value = "openai-chat")]
    dialect: String,
    #[command(flatten)]
    access: Access,
}

impl ExplainArgs {
    /// By a config alone.
    pub(crate) fn by_config(&self, config: &Config) -> Result<String> {
        // Nobody has to prove a key here.
        let (policies, _) = rules::policies(config, &mut |_, _| Ok(KeyHash([0; 32])));
        self.explain(config, policies)
    }

    /// By what the farebox that runs says of itself.
    pub(crate) async fn by_running(&self) -> Result<String> {
        let (config, policies) = in_force(&self.access).await?;
        self.explain(&Base::shown(config).load()?.value, policies)
    }

    fn explain(&self, config: &Config, policies: Policies) -> Result<String> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let now = clock.now();
        let question = self.question(&policies)?;
        let Config { providers, models, routing, egress, prices, .. } = config;
        let catalog = Catalog::new(providers, models, routing, egress)
            .map_err(|faults| anyhow::anyhow!("the config's models cannot be used: {} faults", faults.len()))?;
        let routes = Routes { catalog, prices: PriceBook::with_overrides(prices)? };
        let directory = Directory::fixed(policies.clone());
        let explained = farebox_intake::explain(&question, directory, routes, &config.intake, clock)
            .map_err(|fault| anyhow::anyhow!("it would be refused ({:?}): {}", fault.kind, fault.message))?;
        Ok(said(&explained, &policies, now))
    }

    fn question(&self, policies: &Policies) -> Result<Question> {
        let text = match (self.request.as_str(), self.request.strip_prefix('@')) {
            ("-", _) => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read the request")?;
                text
            }
            (_, Some(file)) => std::fs::read_to_string(file).with_context(|| format!("cannot read `{file}`"))?,
            (text, None) => text.to_owned(),
        };
        let mut body: Map<String, Value> = serde_json::from_str(&text).context("the request is no JSON object")?;
        let mut labels = body.remove("farebox").and_then(|given| given.as_object().cloned()).unwrap_or_default();
        let given = [
            ("actor", &self.actor),
            ("task_id", &self.task),
            ("session_id", &self.session),
            ("end_user", &self.end_user),
        ];
        for (name, value) in given {
            labels.extend(value.as_ref().map(|value| (name.to_owned(), Value::from(value.as_str()))));
        }
        if !self.tag.is_empty() {
            labels.insert("tags".to_owned(), Value::from(self.tag.clone()));
        }
        body.insert("farebox".to_owned(), Value::from(labels));
        let project = match &self.key {
            None => Project::parse(&self.project)?,
            Some(id) => {
                let key = policies.keys.iter().find(|(known, _)| known.as_str() == id);
                let Some((_, key)) = key else { bail!("there is no key `{id}`") };
                key.project.clone().with_context(|| format!("the key `{id}` is an admin's: it makes no calls"))?
            }
        };
        let body = serde_json::to_vec(&body)?.into();
        Ok(Question { project, key_id: self.key.clone(), body, dialect: Some(self.dialect.clone()) })
    }
}

fn said(explained: &Explained, policies: &Policies, now: Timestamp) -> String {
    let Explained { principal, labels, deployments, warnings } = explained;
    let mut lines = vec!["route, in the order in which it is tried:".to_owned()];
    lines.extend(
        deployments.iter().enumerate().map(|(index, deployment)| format!("  {}. {}", index + 1, place(deployment))),
    );
    lines.extend(warnings.iter().map(|warning| format!("  warning: {warning}")));
    let calls: Vec<(String, CallScope<'_>)> = deployments
        .iter()
        .map(|deployment| {
            let v1::Deployment { provider, model, alias, .. } = deployment;
            (
                format!("{provider}/{model}"),
                CallScope { principal, labels, model: alias, provider, upstream_model: model },
            )
        })
        .collect();
    // Only those who run farebox are told more of it.
    let shared = |scope: &Scope| match policies.owner(scope, &principal.project) {
        Some(_) => "",
        None => ", shared",
    };
    lines.push(titled("budgets", policies.budgets.is_empty()));
    for budget in policies.budgets.values() {
        let limit = |subject: &str| budget.limit_at(subject, now);
        let windows = |call: &CallScope<'_>| {
            budget
                .windows(call, now)
                .into_iter()
                .map(|window| {
                    let kind = if budget.hard { "hard" } else { "soft" };
                    let window_of = [named(&window.subject), named(&window.window)].concat();
                    let (limit, shared) = (limit(&window.subject), shared(&budget.scope));
                    format!("applies{window_of}: {limit} USD in all ({}), {kind}{shared}", budget.period)
                })
                .collect()
        };
        lines.extend(rule(&budget.name, &calls, &windows, &|call| budget.scope.unmet(call)));
    }
    lines.push(titled("limits", policies.limits.is_empty()));
    for limit in policies.limits.values() {
        let holds = |call: &CallScope<'_>| {
            let held = policies.limits_for(call).into_iter().filter(|(other, _)| other.name == limit.name);
            let shared = shared(&limit.scope);
            held.map(|(_, subject)| format!("applies{}: {}{shared}", named(&subject), amount(limit))).collect()
        };
        let why = |call: &CallScope<'_>| {
            limit.scope.unmet(call).or_else(|| {
                policies
                    .stands_back(limit, call)
                    .map(|own| format!("it is a default, and `{}` holds instead", own.name))
            })
        };
        lines.extend(rule(&limit.name, &calls, &holds, &why));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn titled(what: &str, none: bool) -> String {
    if none { format!("{what}: there are none") } else { format!("{what}:") }
}

fn named(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" [{text}]") }
}

fn place(deployment: &v1::Deployment) -> String {
    let cost = match deployment.unbounded.as_str() {
        "" => format!("costs {} USD at most", Money::from(deployment.bound.unwrap_or_default())),
        reason => format!("nothing bounds its cost: {reason}"),
    };
    let v1::Deployment { provider, model, alias, price_version, .. } = deployment;
    format!("{provider}/{model} (model `{alias}`): {cost}, by prices {price_version}")
}

fn amount(limit: &Limit) -> String {
    let what = match limit.measure {
        Measure::Requests => "requests",
        Measure::Tokens => "tokens",
        Measure::Concurrent => return format!("{} at a time", limit.rate.allowed),
    };
    let strategy = match limit.rate.strategy {
        Strategy::FixedWindow => "fixed window".to_owned(),
        Strategy::SlidingWindow => "sliding window".to_owned(),
        Strategy::TokenBucket { burst } => format!("token bucket of {burst}"),
    };
    format!("{} {what} in {}, {strategy}", limit.rate.allowed, limit.rate.period)
}

type Of<'a, T> = &'a dyn Fn(&CallScope<'_>) -> T;

/// What a rule means for the places where a call may be served: the same for all, or said for each.
fn rule(
    name: &str,
    calls: &[(String, CallScope<'_>)],
    applies: Of<'_, Vec<String>>,
    why: Of<'_, Option<String>>,
) -> Vec<String> {
    let mut said: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for (place, call) in calls {
        let mut lines = applies(call);
        if lines.is_empty() {
            lines.push(format!("does not apply: {}", why(call).unwrap_or_else(|| "it counts other calls".to_owned())));
        }
        match said.iter_mut().find(|(known, _)| *known == lines) {
            Some((_, places)) => places.push(place),
            None => said.push((lines, vec![place])),
        }
    }
    let alone = said.len() == 1;
    let line = |(lines, places): (Vec<String>, Vec<&str>)| {
        let at = if alone { String::new() } else { format!(" at {}", places.join(", ")) };
        lines.into_iter().map(move |line| format!("  {name}{at}: {line}")).collect::<Vec<_>>()
    };
    said.into_iter().flat_map(line).collect()
}
