//! `models:` and `routing:` as they are written.

use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Deref};

use farebox_dialect::DialectName;
use farebox_types::Span;
use serde::de::{self, Deserialize, value::MapAccessDeserializer};

use crate::Target;

/// One entry of `models:`: a target as a text, or everything as a map.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Model(pub ModelOptions);

impl Deref for Model {
    type Target = ModelOptions;

    fn deref(&self) -> &ModelOptions {
        &self.0
    }
}

impl From<Target> for Model {
    fn from(target: Target) -> Model {
        Model(ModelOptions { deployments: vec![DeploymentOptions::of(target)], ..ModelOptions::default() })
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Model, D::Error> {
        // By hand, not `untagged`: so a fault inside of the long form keeps its place.
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = Model;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a target (`provider/model`) or a map with `deployments`")
            }
            fn visit_str<E: de::Error>(self, target: &str) -> Result<Model, E> {
                Target::parse(target).map(Model::from).map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Model, A::Error> {
                ModelOptions::deserialize(MapAccessDeserializer::new(map)).map(Model)
            }
        }
        from.deserialize_any(Reader)
    }
}

impl schemars::JsonSchema for Model {
    fn schema_name() -> Cow<'static, str> {
        "Model".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let short = generator.subschema_for::<Target>();
        let long = generator.subschema_for::<ModelOptions>();
        schemars::json_schema!({ "anyOf": [short, long] })
    }
}

/// A model that callers can ask for.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelOptions {
    /// Where it runs. The order of a call is drawn by weight.
    pub deployments: Vec<DeploymentOptions>,
    pub params: Params,
    /// Models that are tried, in this order, when no deployment answers.
    pub fallback: Vec<String>,
    pub timeout: TimeoutOptions,
    /// How often a deployment is tried again after a failure that is worth it.
    pub retries: u32,
}

impl Default for ModelOptions {
    fn default() -> ModelOptions {
        ModelOptions {
            deployments: Vec::new(),
            params: Params::default(),
            fallback: Vec::new(),
            timeout: TimeoutOptions::default(),
            retries: 2,
        }
    }
}

/// One place where a model runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentOptions {
    pub target: Target,
    /// Its share of the calls, against the other deployments of the model.
    #[serde(default = "one")]
    pub weight: u32,
    /// The endpoint of the provider that it is called at, such as `openai-responses`; without it, what suits the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub dialect: Option<DialectName>,
    /// Under which `provider/model` the price table has it, where its own name says nothing (a deployment's name at Azure).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priced_as: Option<Target>,
    /// Requests a minute that the provider allows here. A call above it goes to the next deployment, or waits a while. All
    /// models with the same target share it, as they do the two below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// Tokens a minute, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Calls at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
}

impl DeploymentOptions {
    /// One that has no options of its own.
    pub fn of(target: Target) -> DeploymentOptions {
        DeploymentOptions { target, weight: 1, dialect: None, priced_as: None, rpm: None, tpm: None, concurrent: None }
    }
}

fn one() -> u32 {
    1
}

/// What is sent when the caller says nothing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    pub max_tokens: Option<u64>,
    pub temperature: Option<f64>,
    /// A parameter that the provider does not know is left out, with a warning in the answer (`true`), or the call is
    /// refused (`false`).
    pub drop_params: Option<bool>,
}

/// Each one without a value is the worker's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutOptions {
    /// Until the connection stands.
    pub connect: Option<Span>,
    /// Until the first part of the answer.
    pub first_token: Option<Span>,
    /// Between two parts of a streamed answer.
    pub idle: Option<Span>,
    /// Until the whole answer.
    pub total: Option<Span>,
}

/// `routing:`: which model serves a request that names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoutingOptions {
    pub default: Option<String>,
    /// By task type: `simple`, `code`, ….
    pub tasks: BTreeMap<String, String>,
    /// By the role of the agent: `writer`, `critic`, ….
    pub agents: BTreeMap<String, String>,
}
