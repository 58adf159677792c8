//! Which providers there are, how a request reaches them, and which of them serve a model.
//!
//! **Does.** A provider is a row of data (`data/providers.toml`); [`Provider`] is one of them with the user's options, and
//! [`Provider::apply`] puts base URL, credentials and headers onto a request that a dialect has encoded. [`Catalog`] is
//! the `providers:`, `models:` and `routing:` of a config: it finds what is wrong with them and resolves a model, a task
//! or an agent role into deployments in the order in which they are tried.
//!
//! **Guarantees.** Only the config names hosts, never a caller. A key is marked sensitive on the request and is held
//! nowhere here: the config has a reference, the worker resolves it. Every reference of a catalog leads somewhere.
//! [`sign`] signs requests to Amazon.
//!
//! **Does not.** No I/O, no clock, no randomness of its own: credentials that have to be fetched come from
//! `farebox-credentials`.

mod catalog;
mod egress;
mod model;
mod options;
mod provider;
mod row;
mod sign;
mod target;

pub use catalog::{Ask, Catalog, CatalogFault, Deployment, RouteError};
pub use egress::Egress;
pub use model::{DeploymentOptions, Model, ModelOptions, Params, RoutingOptions, TimeoutOptions};
pub use options::{AwsOptions, EntraOptions, ProviderOptions};
pub use provider::{ApplyError, Identity, Provider, ProviderError};
pub use row::{Auth, KeyNeed, known_kinds};
pub use sign::{AwsCredentials, SignError, sign};
pub use target::{InvalidTarget, Target};
