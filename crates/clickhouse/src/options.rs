//! Options of ClickHouse.

use farebox_types::{Secret, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where ClickHouse is, and how long things may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The HTTP interface, e.g. `http://clickhouse:8123`. Set by the process.
    #[serde(skip)]
    pub url: String,
    pub user: String,
    /// Absent: the user has none.
    pub password: Option<Secret>,
    /// Made when it is not there.
    pub database: String,
    /// How long making a connection may take.
    pub connect_timeout: Span,
    /// How long an insert may take before its outcome counts as unclear.
    pub insert_timeout: Span,
    /// How long a question may take; the server stops working on it then too.
    pub query_timeout: Span,
    /// How long to wait at start for a ClickHouse that does not answer yet.
    pub start_timeout: Span,
    /// Whether inserts and answers are compressed: worth it on a slow network.
    pub compress: bool,
    /// How many days calls are kept. Whole months go at once, so the oldest stay up to a month longer.
    pub keep_days: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            url: "http://127.0.0.1:8123".to_owned(),
            user: "default".to_owned(),
            password: None,
            database: "farebox".to_owned(),
            connect_timeout: Span::from_secs(3),
            insert_timeout: Span::from_secs(30),
            query_timeout: Span::from_secs(10),
            start_timeout: Span::from_secs(10),
            compress: false,
            keep_days: 400,
        }
    }
}
