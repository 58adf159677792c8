//! Keys for providers: farebox's own, and those that projects bring.
//!
//! A file is read again when it has changed, so that a key can be replaced while calls run. A project with a key of its
//! own is never served with farebox's.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use farebox_config::{Env, SecretFault};
use farebox_directory::Directory;
use farebox_types::{Clock, ErrorKind, Fault, Project, Secret};
use moka::sync::Cache;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{options::Options, upstream::Connection};

/// Which references the records of projects may name. By itself none: whoever manages projects could name any secret of
/// this process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectSecrets {
    /// Environment variables whose names begin so.
    pub env_prefix: Option<String>,
    /// Files below these directories.
    pub dirs: Vec<PathBuf>,
}

impl ProjectSecrets {
    /// Whether the words of a reference are allowed; where a link leads to is looked at when the file is read.
    pub fn allows(&self, secret: &Secret) -> bool {
        match secret {
            Secret::Env(variable) => {
                self.env_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty() && variable.starts_with(prefix))
            }
            Secret::File(path) => {
                let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
                plain && self.dirs.iter().any(|dir| path.starts_with(dir))
            }
        }
    }
}

/// What tells that a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Duration,
    size: u64,
    /// A file that is put in another's place may have its time and its size.
    inode: u64,
}

/// Two changes closer to each other than this may have the same time on some file systems.
const SETTLED: Duration = Duration::from_secs(2);

pub(crate) struct Keys {
    env: Env,
    directory: Directory,
    clock: Arc<dyn Clock>,
    allowed: ProjectSecrets,
    files: Cache<PathBuf, (Stamp, SecretString)>,
}

impl Keys {
    pub(crate) fn new(options: &Options, env: Env, directory: Directory, clock: Arc<dyn Clock>) -> Keys {
        let files = Cache::new(options.key_files_max);
        Keys { env, directory, clock, allowed: options.project_secrets.clone(), files }
    }

    /// The plain key for a project's calls to a provider, where it takes one.
    pub(crate) async fn find(&self, project: &Project, to: &Connection) -> Result<Option<SecretString>, Fault> {
        let provider = &to.provider.name;
        let policies = self.directory.newest();
        let own = policies.projects.get(project.as_str()).and_then(|policy| policy.provider_keys.get(provider));
        let Some(own) = own else {
            let Some(secret) = to.credentials.key() else { return Ok(None) };
            let place = format!("providers.{provider}.api_key");
            return match secret {
                Secret::Env(_) => farebox_config::resolve(secret, &place, &self.env),
                Secret::File(path) => self.in_file(path, path, &place).await,
            }
            .map(Some)
            .map_err(unreadable);
        };
        let place = format!("projects.{project}.provider_keys.{provider}");
        if !to.provider.takes_key() {
            let message = format!("`{place}` is of no use, as `{provider}` is not opened with a plain key: remove it");
            return Err(Fault::new(ErrorKind::Unsupported, message));
        }
        self.of_project(own, &place).await.map(Some)
    }

    async fn of_project(&self, secret: &Secret, place: &str) -> Result<SecretString, Fault> {
        let forbidden = || {
            let message = format!(
                "`{place}` is `{secret}`, which this worker reads for no project: choose another reference, or allow \
                 this one in `worker.project_secrets`"
            );
            Fault::new(ErrorKind::Forbidden, message)
        };
        if !self.allowed.allows(secret) {
            return Err(forbidden());
        }
        let Secret::File(path) = secret else {
            return farebox_config::resolve(secret, place, &self.env).map_err(unreadable);
        };
        match self.real(path).await {
            Ok(Some(real)) => self.in_file(path, &real, place).await.map_err(unreadable),
            Ok(None) => Err(forbidden()),
            Err(source) => Err(unreadable(lost(path, place, source))),
        }
    }

    /// Where a file really is, links followed; `None`: outside of what projects may name.
    async fn real(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let real = tokio::fs::canonicalize(path).await?;
        for dir in &self.allowed.dirs {
            if tokio::fs::canonicalize(dir).await.is_ok_and(|dir| real.starts_with(dir)) {
                return Ok(Some(real));
            }
        }
        Ok(None)
    }

    /// What stands in the file `real` now, which the config or a project calls `path`.
    async fn in_file(&self, path: &Path, real: &Path, place: &str) -> Result<SecretString, SecretFault> {
        let stamp = stamp(real).await.map_err(|source| lost(path, place, source))?;
        if let Some((_, key)) = self.files.get(real).filter(|(known, _)| *known == stamp) {
            return Ok(key);
        }
        let key = farebox_config::in_file(tokio::fs::read_to_string(real).await, path, place)?;
        let now = Duration::from_millis(u64::try_from(self.clock.now().millis()).unwrap_or_default());
        if now.saturating_sub(stamp.modified) > SETTLED {
            self.files.insert(real.to_owned(), (stamp, key.clone()));
        }
        Ok(key)
    }
}

async fn stamp(path: &Path) -> io::Result<Stamp> {
    let known = tokio::fs::metadata(path).await?;
    let modified = known.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Stamp { modified, size: known.len(), inode: known.ino() })
}

fn lost(path: &Path, place: &str, source: io::Error) -> SecretFault {
    SecretFault::File { key: place.to_owned(), path: path.display().to_string(), source }
}

fn unreadable(fault: SecretFault) -> Fault {
    let cause = std::error::Error::source(&fault).map(|cause| format!(": {cause}")).unwrap_or_default();
    Fault::new(fault.kind(), format!("{fault}{cause}")).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
