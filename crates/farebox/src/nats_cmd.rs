//! `farebox nats`: what a NATS cluster of one's own needs to be farebox's.

use std::{fs, os::unix::fs::DirBuilderExt, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use farebox_identity::{Accounts, Keyring};
use farebox_types::{Clock, SystemClock};

use crate::output::say;

#[derive(Args, Debug)]
pub(crate) struct NatsArgs {
    #[command(subcommand)]
    command: NatsCommand,
}

#[derive(Subcommand, Debug)]
enum NatsCommand {
    /// Writes the root of all accounts, the lines for each server's config, and the credentials of each role
    Config(ConfigArgs),
}

#[derive(Args, Debug)]
struct ConfigArgs {
    /// Where to write. A root.key that is there already is used again
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the servers keep accounts that they are given while they run, as they see it
    #[arg(long, value_name = "DIR", default_value = "/data/accounts")]
    accounts_dir: PathBuf,
}

impl NatsArgs {
    pub(crate) fn run(self) -> Result<()> {
        let NatsCommand::Config(ConfigArgs { dir, accounts_dir }) = self.command;
        let dir = std::path::absolute(dir)?;
        let accounts = Accounts::new(Keyring::load_or_create(&dir)?, SystemClock.now());
        let conf = dir.join("accounts.conf");
        let lines = format!("# Written by `farebox nats config`.\n{}", accounts.server_lines(&accounts_dir)?);
        fs::write(&conf, lines).with_context(|| format!("cannot write {}", conf.display()))?;
        let creds = dir.join("creds");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&creds);
        made.with_context(|| format!("cannot make {}", creds.display()))?;
        accounts.write_role_credentials(&creds)?;
        say(&format!("{}   include it in each server's config", conf.display()));
        say(&format!("{}   for the roles `identity` and `admin`, and nobody else", dir.join("root.key").display()));
        say(&format!("{}   one for each of the other roles", creds.display()));
        Ok(())
    }
}
