//! Where the tests' servers come from: the same cache that `farebox up` fills.

use std::{env, path::PathBuf};

use anyhow::Context as _;
use farebox_parts::Fetch;

pub(crate) fn fetch() -> anyhow::Result<Fetch> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
    let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(Fetch::new(cache.join("farebox/parts"), env::var_os("PATH").context("PATH is not set")?))
}

/// Fetches the servers, which may take minutes, once on a machine: no test's own time.
pub async fn fetch_servers() -> anyhow::Result<()> {
    let fetch = fetch()?;
    fetch.nats_server(&|_| {}).await?;
    fetch.clickhouse(&|_| {}).await?;
    Ok(())
}

/// The `nats-server` program, for those who start it in a way of their own.
pub async fn nats_program() -> anyhow::Result<PathBuf> {
    Ok(fetch()?.nats_server(&|_| {}).await?)
}
