//! Models, providers and prices of a config, as the roles want them.

use std::sync::Arc;

use anyhow::Result;
use farebox_config::{ConfigFault, Env, Loaded, SecretFault};
use farebox_credentials::{Aws, Credentials, Entra, EntraApplication, EntraProof, Google};
use farebox_edge::Offered;
use farebox_intake::Routes;
use farebox_pricing::PriceBook;
use farebox_providers::{AwsCredentials, Catalog, Identity, Provider};
use farebox_types::{Secret, SystemClock};
use farebox_worker::{Connection, Upstream};
use secrecy::ExposeSecret;

use crate::{
    config::{Config, environment},
    live::InForce,
};

/// What can be asked for by name: models, and what routing turns into one.
pub(crate) fn offered(config: &Config) -> Vec<Offered> {
    let provider = |alias: &str| {
        let model = config.models.get(alias);
        model.and_then(|model| model.deployments.first()).map(|first| first.target.provider.clone()).unwrap_or_default()
    };
    let models = config.models.keys().map(|alias| (alias.clone(), alias));
    let tasks = config.routing.tasks.iter().map(|(task, alias)| (format!("task:{task}"), alias));
    let agents = config.routing.agents.iter().map(|(agent, alias)| (format!("agent:{agent}"), alias));
    models.chain(tasks).chain(agents).map(|(name, alias)| Offered { alias: name, provider: provider(alias) }).collect()
}

/// What can be called, and what it costs.
pub(crate) fn routes(config: &Loaded<Config>) -> Result<Routes> {
    Ok(Routes { catalog: catalog(config)?, prices: PriceBook::with_overrides(&config.value.prices)? })
}

/// How a worker with these options makes its providers of a config.
pub(crate) fn upstream(
    options: farebox_worker::Options,
) -> impl FnMut(&InForce, Option<&Upstream>) -> Result<Upstream> + Send {
    move |now, before| {
        let egress = now.config.value.egress.clone();
        Ok(Upstream::new(&options, egress, Arc::new(SystemClock), connections(&now.config)?, before)?)
    }
}

fn catalog(config: &Loaded<Config>) -> Result<Catalog> {
    let Config { providers, models, routing, egress, .. } = &config.value;
    Catalog::new(providers, models, routing, egress).map_err(|faults| {
        placed(config, faults.into_iter().map(|fault| ConfigFault::new(&fault.path, fault.message)).collect())
    })
}

/// All providers with what they want to see. A secret that is not there is a fault of the config.
fn connections(config: &Loaded<Config>) -> Result<Vec<Connection>> {
    let env = environment();
    let mut faults = Vec::new();
    let mut connections = Vec::new();
    for provider in catalog(config)?.providers() {
        match credentials(provider, &env) {
            Ok(credentials) => connections.push(Connection { provider: provider.clone(), credentials }),
            Err(fault) => faults.push(fault.into_config_fault()),
        }
    }
    if faults.is_empty() { Ok(connections) } else { Err(placed(config, faults)) }
}

fn credentials(provider: &Provider, env: &Env) -> Result<Credentials, SecretFault> {
    let resolve = |secret: &Secret, option: &str| {
        farebox_config::resolve(secret, &format!("providers.{}.{option}", provider.name), env)
    };
    let maybe = |secret: &Option<Secret>, option: &str| secret.as_ref().map(|s| resolve(s, option)).transpose();
    let options = &provider.options;
    Ok(match &provider.identity {
        Identity::Anonymous => Credentials::None,
        Identity::Key { secret } => {
            // Read for every call: whether it is there is found now.
            resolve(secret, "api_key")?;
            Credentials::Key(secret.clone())
        }
        Identity::Aws { region } => {
            let aws = options.aws.clone().unwrap_or_default();
            let id = maybe(&aws.access_key_id, "aws.access_key_id")?;
            let secret = maybe(&aws.secret_access_key, "aws.secret_access_key")?;
            let session_token = maybe(&aws.session_token, "aws.session_token")?;
            let keys = id.zip(secret).map(|(id, secret_key)| AwsCredentials {
                access_key: id.expose_secret().to_owned(),
                secret_key,
                session_token,
            });
            Credentials::Aws(Aws::new(region.clone(), keys, aws.profile))
        }
        Identity::Google => Credentials::Google(Google::new(maybe(&options.google_credentials, "google_credentials")?)),
        Identity::Entra(entra) => {
            let proof = match (&entra.client_secret, &entra.token_file) {
                (Some(secret), _) => EntraProof::Secret(resolve(secret, "entra.client_secret")?),
                (None, file) => EntraProof::TokenFile(file.clone().unwrap_or_default()),
            };
            Credentials::Entra(Entra::new(EntraApplication {
                authority: entra.authority.clone(),
                tenant_id: entra.tenant_id.clone(),
                client_id: entra.client_id.clone(),
                scope: entra.scope.clone(),
                proof,
            }))
        }
    })
}

/// Faults with their place in the config file.
fn placed(config: &Loaded<Config>, faults: Vec<ConfigFault>) -> anyhow::Error {
    match config.place(faults) {
        Some(error) => error.into(),
        None => anyhow::anyhow!("the config is not usable"),
    }
}
