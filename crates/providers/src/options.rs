//! One entry of `providers:` as it is written.

use std::{collections::BTreeMap, path::PathBuf};

use farebox_types::Secret;

/// A provider of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderOptions {
    /// `openai`, `anthropic`, `bedrock`, `openai-compatible`, …; without it the entry's name is the kind.
    pub kind: Option<String>,
    /// Base URL, in place of the kind's own.
    pub api_base: Option<String>,
    /// `os.environ/NAME` or `file:/path`.
    pub api_key: Option<Secret>,
    /// Sent with every request, as they stand here: no place for secrets.
    pub headers: BTreeMap<String, String>,
    /// Amazon's region, such as `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whose signature requests to Amazon carry; without it, the process's own: environment, profile, web identity, or the
    /// role of the container or instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsOptions>,
    /// Google's project id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Google's location, such as `europe-west4` or `global`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The JSON of a Google service account; without it, the process's own identity (application default credentials).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub google_credentials: Option<Secret>,
    /// Azure's `api-version`; without it, the v1 API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// A Microsoft Entra application whose token is sent, in place of a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entra: Option<EntraOptions>,
    /// An HTTP proxy that requests go through: its policy then decides where they go, not `egress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// A file of PEM certificates that are trusted besides the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Under which provider of the price table its models stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
}

/// Amazon credentials: a static key, or a profile of the shared config files.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// A Microsoft Entra application: with a secret, or with a token of the workload (federated credentials).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntraOptions {
    pub tenant_id: String,
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// The file of a workload identity's token, such as the one that `AZURE_FEDERATED_TOKEN_FILE` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Who gives tokens.
    #[serde(default = "authority")]
    pub authority: String,
    /// What the token is for.
    #[serde(default = "scope")]
    pub scope: String,
}

fn authority() -> String {
    "https://login.microsoftonline.com".to_owned()
}

fn scope() -> String {
    "https://cognitiveservices.azure.com/.default".to_owned()
}
