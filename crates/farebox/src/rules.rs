//! The rules of the config: tenants, keys, budgets and limits.

use farebox_config::{ConfigFault, Env};
use farebox_policy::{KeyHash, KeyId, KeyText, Known, NoKey, Pepper, Policies, PolicyFault, Written};
use farebox_providers::Catalog;
use farebox_types::Secret;
use secrecy::ExposeSecret;

use crate::config::{Config, environment};

/// The rules that a config says, as far as they can be read, and what is wrong with the rest. `hash` finds the hash of a
/// key by its reference.
pub(crate) fn policies(
    config: &Config,
    hash: &mut dyn FnMut(&KeyId, &Secret) -> Result<KeyHash, String>,
) -> (Policies, Vec<ConfigFault>) {
    let written = written(config);
    let (mut policies, faults) = written.policies(hash);
    let mut faults: Vec<ConfigFault> = faults.into_iter().map(placed).collect();
    for budget in config.guard.budgets() {
        if policies.budgets.contains_key(&budget.name) {
            let message = format!("there is a budget called `{}` under `budgets:`: leave one of them out", budget.name);
            faults.push(ConfigFault::new(&format!("guard.{}", budget.name), message));
        }
        policies.budgets.insert(budget.name.clone(), budget);
    }
    (policies, faults)
}

/// The rules that a config says. Where keys are looked up, with their hashes; elsewhere its keys open nothing.
pub(crate) fn in_force(config: &Config, pepper: Option<&Pepper>) -> anyhow::Result<Policies> {
    let env = environment();
    let (policies, faults) = policies(config, &mut |id, secret| match pepper {
        Some(pepper) => hash(id, secret, pepper, &env),
        None => Ok(KeyHash([0; 32])),
    });
    let said: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    anyhow::ensure!(said.is_empty(), "the config cannot be used: {}", said.join("; "));
    Ok(policies)
}

fn hash(id: &KeyId, secret: &Secret, pepper: &Pepper, env: &Env) -> Result<KeyHash, String> {
    let text = farebox_config::resolve(secret, &format!("keys.{id}.key"), env).map_err(|fault| fault.to_string())?;
    let text: KeyText = text.expose_secret().parse().map_err(|error: NoKey| error.to_string())?;
    if text.id != *id {
        return Err(format!("the key there has the id `{}`, not `{id}`: write it under that name", text.id));
    }
    Ok(text.hash(pepper))
}

/// What is wrong with the rules of a config. No secret is looked at.
pub(crate) fn faults(config: &Config) -> Vec<ConfigFault> {
    let (policies, mut faults) = policies(config, &mut |_, _| Ok(KeyHash([0; 32])));
    let known = Known {
        models: Some(config.models.keys().cloned().collect()),
        providers: Some(config.providers.keys().cloned().collect()),
    };
    for (currency, rate) in &config.currencies {
        if rate.picos() <= 0 || currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let message =
                format!("write three capitals and what one is worth in US dollars, such as `EUR: {}`", "1.08");
            faults.push(ConfigFault::new(&format!("currencies.{currency}"), message));
        }
    }
    faults.extend(provider_keys(config));
    let written = written(config);
    faults.extend(policies.check(&known).into_iter().map(|fault| placed(written.placed(fault))));
    faults
}

/// Keys that projects bring along must be of use, and must be theirs to name.
fn provider_keys(config: &Config) -> Vec<ConfigFault> {
    // What is wrong with the catalog is said elsewhere.
    let catalog = Catalog::new(&config.providers, &config.models, &config.routing, &config.egress).ok();
    let mut faults = Vec::new();
    for (project, options) in &config.projects {
        for (provider, secret) in &options.provider_keys {
            let known = catalog.as_ref().and_then(|catalog| catalog.provider(provider));
            let message = if known.is_some_and(|known| !known.takes_key()) {
                format!("the provider `{provider}` takes no plain key: leave this out")
            } else if !config.worker.project_secrets.allows(secret) {
                "projects may not name this secret: allow it in `worker.project_secrets`".to_owned()
            } else {
                continue;
            };
            faults.push(ConfigFault::new(&format!("projects.{project}.provider_keys.{provider}"), message));
        }
    }
    faults
}

fn written(config: &Config) -> Written<'_> {
    Written {
        organisations: &config.organisations,
        projects: &config.projects,
        groups: &config.groups,
        keys: &config.keys,
        budgets: &config.budgets,
        limits: &config.limits,
        currencies: &config.currencies,
    }
}

/// The short budgets stand with the guard's options.
fn placed(fault: PolicyFault) -> ConfigFault {
    let short = fault.path.strip_prefix("budgets.max_cost_per_").map(|rest| rest.split('.').next().unwrap_or(rest));
    match short {
        Some(what) => ConfigFault::new(&format!("guard.max_cost_per_{what}"), fault.message),
        None => ConfigFault::new(&fault.path, fault.message),
    }
}

#[cfg(test)]
mod tests {
    use farebox_config::{FileSource, Sources};

    use super::*;
    use crate::config;

    fn errors(text: &str) -> String {
        let file = FileSource { name: "FILE".to_owned(), text: text.to_owned() };
        let sources = Sources { file: Some(file), ..Sources::default() };
        match farebox_config::load::<Config>(&sources, config::validate) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_sections_of_a_whole_config_are_read() {
        let text = r#"
            providers: { openai: { api_key: os.environ/OPENAI_API_KEY } }
            models: { gpt: openai/gpt-5 }
            currencies: { EUR: 1.08 }
            organisations: { umbrella: {} }
            projects:
              acme: { organisation: umbrella, models: [gpt], provider_keys: { openai: os.environ/ACME_KEY } }
            groups: { night: { description: Batch jobs } }
            keys:
              ci: { key: os.environ/CI_KEY, project: acme, groups: [night], pins: { actor: ci } }
            budgets:
              - { name: everything, limit: 100 EUR, period: day, time_zone: Europe/Berlin, alert: [0.8, 1], hard: true }
              - { name: per-task, scope: task, limit: 0.50 USD, hard: true, when_short: clamp, clamp_floor: 100 }
              - { name: acme, scope: { project: acme, actor: "*" }, daily_limit_usd: 20, warn_at_usd: 15 }
              - { name: night, scope: { group: night }, limit: 5, period: rolling 24h, unreachable: grace 1 USD, hard: true }
            limits:
              - { name: per-key, scope: key, requests: 100, per: minute, default: true }
              - { name: ci, scope: { key: ci }, tokens: 100000, per: minute, strategy: token-bucket, burst: 200000 }
              - { name: together, concurrent: 50 }
            guard: { max_cost_per_day: 1000 }
            worker: { project_secrets: { env_prefix: ACME_ } }
        "#;
        assert_eq!(errors(text), "");
    }

    #[test]
    fn faults_are_said_with_their_lines() {
        let text = "models: {}\n\
                    guard: { max_cost_per_task: 0.5 }\n\
                    currencies: { euro: 1.08 }\n\
                    keys:\n  ci: { key: fb-ci-0123456789abcdef, project: acme }\n  b: { key: os.environ/B, project: acme }\n\
                    budgets:\n  - { name: a, limit: 5 CHF, period: day }\n  - { name: b, limit: 5, period: day, alert: [8] }\n\
                    limits:\n  - { name: l, scope: { group: night }, requests: 1, per: day }\n";
        let said = errors(text);
        for (line, word) in [
            ("FILE:2:", "guard.max_cost_per_task: callers say task themselves"),
            ("FILE:3:", "currencies.euro: write three capitals"),
            ("FILE:5:", "keys.ci.key: a secret is never written as plain text"),
            ("FILE:6:", "keys.b.project: there is no project `acme`"),
            ("FILE:8:", "budgets[0].limit: `5 CHF`: no rate is known for CHF"),
            ("FILE:9:", "budgets[1].alert[0]: an alert is at a share"),
            ("FILE:11:", "limits[0].scope.group: there is no group `night`"),
        ] {
            let found = said.lines().any(|said| said.trim_start().starts_with(line) && said.contains(word));
            assert!(found, "{line} {word} is missing in:\n{said}");
        }
        assert!(!said.contains("0123456789abcdef"), "{said}");
    }

    #[test]
    fn a_project_brings_keys_that_are_of_use_and_its_own() {
        let text = "providers:\n  openai: { api_key: os.environ/OPENAI_API_KEY }\n  bedrock: { region: eu-west-1 }\n\
                    projects:\n  acme:\n    provider_keys:\n      openai: os.environ/OPENAI_API_KEY\n      bedrock: os.environ/ACME_KEY\n\
                    worker: { project_secrets: { env_prefix: ACME_ } }\n";
        let said = errors(text);
        for (line, word) in [
            ("FILE:7:", "projects.acme.provider_keys.openai: projects may not name this secret"),
            ("FILE:8:", "projects.acme.provider_keys.bedrock: the provider `bedrock` takes no plain key"),
        ] {
            let found = said.lines().any(|said| said.trim_start().starts_with(line) && said.contains(word));
            assert!(found, "{line} {word} is missing in:\n{said}");
        }
    }

    #[test]
    fn a_static_key_has_the_hash_of_the_text_it_refers_to() {
        let text = "fb-ci-0123456789abcdef0123456789abcdef";
        let env: Env =
            [("CI", text), ("OTHER", "fb-other-0123456789abcdef"), ("BAD", "sk-canary")].into_iter().collect();
        let (pepper, id) = (Pepper::new([1; 32]), KeyId::parse("ci").unwrap());
        let of = |name: &str| hash(&id, &Secret::Env(name.to_owned()), &pepper, &env);
        assert_eq!(of("CI"), Ok(text.parse::<KeyText>().unwrap().hash(&pepper)));
        for (name, word) in [("OTHER", "the id `other`"), ("BAD", "fb-<id>-<secret>"), ("GONE", "is not set")] {
            let error = of(name).unwrap_err();
            assert!(error.contains(word) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_short_budget_is_a_budget() {
        let config = Config::default();
        let mut short = config.clone();
        short.guard.max_cost_per_day = Some("2".parse().unwrap());
        let of = |config: &Config| policies(config, &mut |_, _| Ok(KeyHash([0; 32]))).0.budgets;
        assert_eq!(of(&config).len(), 0);
        assert_eq!(of(&short)["max_cost_per_day"].limit_text, "2 USD");
        let twice =
            errors("guard: { max_cost_per_day: 2 }\nbudgets: [{ name: max_cost_per_day, limit: 3, period: day }]\n");
        assert!(twice.contains("guard.max_cost_per_day") && twice.contains("leave one of them out"), "{twice}");
    }
}
