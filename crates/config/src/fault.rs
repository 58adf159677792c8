//! What is wrong with a config, all of it, each with its place.

use std::fmt;

use crate::path::Path;

/// One thing that is wrong, as the caller's own check finds it. The place in the file is found by the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// Such as `models.gpt-4.fallback[0]`; keys with a dot in quotes: `models."gpt-4.1"`.
    pub path: Path,
    pub message: String,
}

impl ConfigFault {
    /// `path` as [`Path::parse`] reads it.
    pub fn new(path: &str, message: impl Into<String>) -> ConfigFault {
        ConfigFault { path: Path::parse(path), message: message.into() }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Default,
    /// Line and column start at 1.
    File { name: String, line: usize, column: usize },
    /// The variable's name.
    Environment(String),
    /// The flag as the user gave it.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One fault with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFault {
    pub origin: Origin,
    pub path: Path,
    pub message: String,
}

impl fmt::Display for PlacedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if self.path != Path::default() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Every fault of a config, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub faults: Vec<PlacedFault>,
}

impl ConfigError {
    pub(crate) fn one(origin: Origin, message: impl Into<String>) -> ConfigError {
        ConfigError { faults: vec![PlacedFault { origin, path: Path::default(), message: message.into() }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [only] => write!(f, "the config cannot be used: {only}"),
            faults => {
                write!(f, "the config cannot be used, it has {} faults:", faults.len())?;
                for fault in faults {
                    write!(f, "\n  {fault}")?;
                }
                Ok(())
            }
        }
    }
}
