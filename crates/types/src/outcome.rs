//! How an attempt ended.

use std::{fmt, str::FromStr};

/// The end of one attempt. The guard's ledger decides it once; the first end wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A whole answer arrived.
    Ok,
    /// The provider refused or failed, the answer was cut, or the deadline passed. What was used is billed.
    Error,
    /// The caller asked to stop. What was used until then is billed.
    Cancelled,
    /// The process that held the call died while it was, or may have been, out. The cost is the reserved bound.
    Lost,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [Outcome::Ok, Outcome::Error, Outcome::Cancelled, Outcome::Lost];

    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Cancelled => "cancelled",
            Outcome::Lost => "lost",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(given: &str) -> Result<Outcome, String> {
        Outcome::ALL.into_iter().find(|o| o.as_str() == given).ok_or_else(|| format!("`{given}` is no outcome"))
    }
}
