//! The configuration of the NATS server that farebox starts itself.

use std::{net::SocketAddr, path::PathBuf};

use farebox_types::ByteSize;

use crate::{accounts::Accounts, error::IdentityError};

/// What an acknowledged write outlives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The end of every process, kill -9 included.
    #[default]
    Process,
    /// A power cut as well: every write is synced to the disk first.
    Power,
}

/// What the server is to be. Port 0: any free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConf {
    pub listen: SocketAddr,
    pub server_name: String,
    /// Directory for everything that the server stores.
    pub data: PathBuf,
    pub max_payload: ByteSize,
    pub durability: Durability,
}

impl ServerConf {
    pub fn new(listen: SocketAddr, data: impl Into<PathBuf>) -> ServerConf {
        ServerConf {
            listen,
            server_name: "farebox".to_owned(),
            data: data.into(),
            max_payload: ByteSize(8 * 1024 * 1024),
            durability: Durability::Process,
        }
    }

    /// The text of `nats-server.conf`.
    pub fn render(&self, accounts: &Accounts) -> Result<String, IdentityError> {
        let preload: Vec<String> = accounts.base()?.iter().map(|(key, token)| format!("  {key}: {token}\n")).collect();
        // -1 is what the server calls any free port.
        let port = if self.listen.port() == 0 { "-1".to_owned() } else { self.listen.port().to_string() };
        let sync = match self.durability {
            Durability::Process => "",
            Durability::Power => "  sync_interval: always\n",
        };
        Ok(format!(
            "# Written by farebox at every start.\n\
             host: {host}\n\
             port: {port}\n\
             server_name: {name}\n\
             max_payload: {max_payload}\n\
             # A slow subscriber must not slow down those who publish.\n\
             no_fast_producer_stall: true\n\
             jetstream {{\n  store_dir: {store}\n{sync}}}\n\
             operator: {operator}\n\
             system_account: {system}\n\
             # Whoever brings no credentials is this user, and the callout decides.\n\
             default_sentinel: {sentinel}\n\
             resolver: {{ type: full, dir: {resolver}, allow_delete: true, interval: \"2m\" }}\n\
             resolver_preload: {{\n{preload}}}\n",
            host = quoted(&self.listen.ip().to_string()),
            name = quoted(&self.server_name),
            max_payload = self.max_payload.0,
            store = quoted(&self.data.join("jetstream").display().to_string()),
            operator = accounts.operator()?,
            system = accounts.system_key(),
            sentinel = accounts.sentinel()?,
            resolver = quoted(&self.data.join("accounts").display().to_string()),
            preload = preload.concat(),
        ))
    }
}

/// The server's configuration takes strings in JSON's form.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
