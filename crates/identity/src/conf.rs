//! The configuration of the NATS server that farebox starts itself.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

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
             {accounts}",
            host = quoted(&self.listen.ip().to_string()),
            name = quoted(&self.server_name),
            max_payload = self.max_payload.0,
            store = quoted(&self.data.join("jetstream").display().to_string()),
            accounts = accounts.server_lines(&self.data.join("accounts"))?,
        ))
    }
}

impl Accounts {
    /// What makes a server one of farebox's: its operator, its accounts, and the callout. `resolver`: where the server
    /// keeps accounts that it is given while it runs.
    pub fn server_lines(&self, resolver: &Path) -> Result<String, IdentityError> {
        let preload: Vec<String> = self.base()?.iter().map(|(key, token)| format!("  {key}: {token}\n")).collect();
        Ok(format!(
            "operator: {operator}\n\
             system_account: {system}\n\
             # Whoever brings no credentials is this user, and the callout decides.\n\
             default_sentinel: {sentinel}\n\
             resolver: {{ type: full, dir: {resolver}, allow_delete: true, interval: \"2m\" }}\n\
             resolver_preload: {{\n{preload}}}\n",
            operator = self.operator()?,
            system = self.system_key(),
            sentinel = self.sentinel()?,
            resolver = quoted(&resolver.display().to_string()),
            preload = preload.concat(),
        ))
    }
}

/// The server's configuration takes strings in JSON's form.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
