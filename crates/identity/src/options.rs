//! Options of the role `identity`.

use farebox_types::{Secret, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Let callers without a key into the project `default`, from this machine's own loopback address only.
    pub anonymous: bool,
    /// How long a connection made with a key may last before the key is looked up again. The server ends it to the
    /// second, and answers under way are lost then, so not too short.
    pub session_max: Span,
    /// How long the server may take to accept an account.
    pub push_timeout: Span,
    /// To how many projects at a time accounts are given.
    pub pushes_max: usize,
    /// How long a client waits for the NATS server to have the account of its project, which may be new. With `key_wait`
    /// below the server's `authorization.timeout`, 2 s by default.
    pub account_wait: Span,
    /// How long a client waits for its key to become known, which may be new.
    pub key_wait: Span,
    /// How many clients at most wait for an account, and how many for a key; the others are refused without a wait.
    pub waiting_max: usize,
    /// How long after the last answer of a NATS server those of others are waited for.
    pub servers_wait: Span,
    /// How often all connections are held against the keys, should a change have gone unnoticed.
    pub sweep_interval: Span,
    /// The root of farebox's accounts, on NATS servers that were set up with it (`farebox nats config`): the
    /// text of its `root.key`, as `file:/path` or `os.environ/NAME`. The embedded server has its own.
    pub root_key: Option<Secret>,
    /// What hashes of keys are keyed with, on other NATS servers: any long secret, the same for every process of farebox.
    /// Absent: made from the root of the accounts.
    pub pepper: Option<Secret>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            anonymous: true,
            session_max: Span::from_secs(12 * 3600),
            push_timeout: Span::from_secs(3),
            pushes_max: 32,
            account_wait: Span::from_secs(1),
            key_wait: Span::from_millis(300),
            waiting_max: 256,
            servers_wait: Span::from_millis(300),
            sweep_interval: Span::from_secs(60),
            root_key: None,
            pepper: None,
        }
    }
}
