//! Where a running `farebox up` says that it listens: a file in its data directory, for the processes beside it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where everything listens, as scripts and other farebox processes read it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) nats: String,
    pub(crate) clickhouse: String,
    /// The HTTP edge.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) http: Option<String>,
    /// The admin API.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) grpc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) emulator: Option<String>,
    /// Process ids.
    pub(crate) pids: BTreeMap<String, u32>,
}

/// Why none were found. A caller that takes an address adds how to give one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfound {
    #[error("no farebox is running here ({} is not there): start `farebox up`", file.display())]
    Missing { file: PathBuf },
    #[error("{} cannot be read ({error}): run this as the user who started `farebox up`", file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("{} does not say where farebox listens ({error}): start `farebox up` again", file.display())]
    Unclear { file: PathBuf, error: serde_json::Error },
}

impl Addresses {
    /// There for as long as it runs.
    pub(crate) fn file(data: &Path) -> PathBuf {
        data.join("farebox.json")
    }

    /// Those of the farebox that runs on a data directory.
    pub(crate) fn read(data: &Path) -> Result<Addresses, Unfound> {
        let file = Addresses::file(data);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unfound::Missing { file }),
            Err(error) => return Err(Unfound::Unreadable { file, error }),
        };
        serde_json::from_str(&text).map_err(|error| Unfound::Unclear { file, error })
    }
}
