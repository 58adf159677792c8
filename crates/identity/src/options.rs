//! Options of the role `identity`.

use farebox_types::Span;
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
}

impl Default for Options {
    fn default() -> Options {
        Options { anonymous: true, session_max: Span::from_secs(12 * 3600), push_timeout: Span::from_secs(3) }
    }
}
