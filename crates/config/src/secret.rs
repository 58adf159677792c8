//! From the reference to the secret.

use std::{io, path::Path};

use farebox_types::{ErrorKind, Secret};
use secrecy::SecretString;

use crate::{fault::ConfigFault, load::Env};

/// A secret that is not where the config says.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    #[error("the environment variable `{variable}` is {what}, but `{key}` needs it: set it, or change `{key}`")]
    Variable { key: String, variable: String, what: &'static str },
    #[error("the file `{path}` that `{key}` refers to cannot be read")]
    File {
        key: String,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the file `{path}` that `{key}` refers to is empty")]
    Empty { key: String, path: String },
}

impl SecretFault {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    /// As a fault of the config, to be placed in its file.
    pub fn into_config_fault(self) -> ConfigFault {
        let (SecretFault::Variable { key, .. } | SecretFault::File { key, .. } | SecretFault::Empty { key, .. }) =
            &self;
        ConfigFault::new(key, self.to_string())
    }
}

/// Fetches the secret that `secret`, found at `key` in the config, refers to.
pub fn resolve(secret: &Secret, key: &str, env: &Env) -> Result<SecretString, SecretFault> {
    match secret {
        Secret::Env(variable) => {
            let what = match env.get(variable) {
                Some("") => "empty",
                Some(value) => return Ok(SecretString::from(value.to_owned())),
                None => "not set",
            };
            Err(SecretFault::Variable { key: key.to_owned(), variable: variable.clone(), what })
        }
        Secret::File(path) => in_file(std::fs::read_to_string(path), path, key),
    }
}

/// The secret in the text of a file, found at `key` in the config.
pub fn in_file(read: io::Result<String>, path: &Path, key: &str) -> Result<SecretString, SecretFault> {
    let (key, path) = (key.to_owned(), path.display().to_string());
    let text = match read {
        Ok(text) => text,
        Err(source) => return Err(SecretFault::File { key, path, source }),
    };
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(SecretFault::Empty { key, path }),
        secret => Ok(SecretString::from(secret.to_owned())),
    }
}
