//! `farebox-recordings [--mutate] DIR`: whether the dialects read the exchanges in a directory as they are.

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use farebox_recordings::{mutate, report::Report};

#[derive(Parser)]
#[command(about = "Decodes recorded exchanges and compares with what their raw bytes say")]
struct Cli {
    /// A directory of exchanges, in folders of any depth.
    dir: PathBuf,
    /// Changes the answers a little instead, and counts how often it shows.
    #[arg(long)]
    mutate: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let cannot = || format!("cannot read {}", cli.dir.display());
    let out = &mut io::stdout().lock();
    let passes = if cli.mutate {
        let caught = mutate::Caught::of(&cli.dir).with_context(cannot)?;
        caught.write(out)?;
        caught.all()
    } else {
        let report = Report::of(&cli.dir).with_context(cannot)?;
        report.write(out)?;
        report.passes()
    };
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
