//! The load generator: what a call through farebox costs, over NATS and over HTTP, next to the same call without it, in the
//! same run.
//!
//! It starts everything itself, each in a process of its own: two provider emulators (one for the direct calls, so that
//! the other's bill holds nothing but farebox's calls) and a `farebox up`. Direct and farebox legs alternate in short
//! rounds. At the end the books must agree: rows in ClickHouse, calls answered, and the emulator's own bill.
//!
//! `budget-storm` measures nothing: it shows that budgets hold ([`storm`]).
//!
//! Does not: judge a figure. Only books that disagree, or calls that fail, make it fail; everything else is printed and
//! saved. Loopback only; it ends its own children, by pid, however it ends.

mod bodies;
mod books;
mod cli;
mod client;
mod config;
mod dialects;
mod emulator;
mod guard;
mod http;
mod load;
mod pace;
mod phases;
mod proc;
mod report;
mod run;
mod stack;
mod stats;
mod storm;
mod table;
mod target;
mod through;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;

use crate::cli::{Cli, Command, Phase};

/// What may still wait on a thread when everything has been said.
const LEAVE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match &cli.command {
        Some(Command::Emulator(_) | Command::Dialects) => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        }
        Some(Command::Guard(_)) => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        Some(Command::BudgetStorm(_) | Command::Http(_)) | None => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
        }
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let outcome = runtime.block_on(async {
        match &cli.command {
            Some(Command::Emulator(args)) => emulator::serve(args).await.map(|()| true),
            Some(Command::Dialects) => dialects::tables().and_then(|text| Ok(table::print(&text)?)).map(|()| true),
            Some(Command::BudgetStorm(args)) => storm::run(args).await,
            Some(Command::Guard(args)) => guard::run(args).await.map(|()| true),
            Some(Command::Http(args)) => run::run(args, &[Phase::Http, Phase::Frames]).await,
            None => run::run(&cli.run, &cli.phases()).await,
        }
    });
    // A leg that was interrupted may still wait for its calls.
    runtime.shutdown_timeout(LEAVE);
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    table::note(&format!("farebox-bench: {error:#}"));
    ExitCode::FAILURE
}
