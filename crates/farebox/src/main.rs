//! `farebox`: the command line, `farebox up`, and the wiring of the roles. No logic that a role lacks lives here.

mod addresses;
mod agent;
mod catalog;
mod config;
mod config_cmd;
mod doctor;
mod explain;
mod live;
mod manage;
mod nats_cmd;
mod output;
mod prices_cmd;
mod process;
mod roles;
mod rules;
mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{output::say, process::Place, roles::Role};

/// A third more calls a second than with the system's (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The LLM gateway that lives on the message bus.
#[derive(Parser)]
#[command(name = "farebox", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything in one process: NATS, ClickHouse and all roles
    Up(up::UpArgs),
    /// Asks a model, as an agent would
    Call(Box<agent::CallArgs>),
    /// Shows calls as they happen, one line each
    Watch(agent::WatchArgs),
    /// Shows what was spent
    Usage(agent::UsageArgs),
    /// Shows the newest calls
    Recent(agent::RecentArgs),
    /// Checks a farebox over HTTP: connection, key, and each model with a tiny real call
    Doctor(doctor::DoctorArgs),
    /// Makes, changes and revokes keys
    Key(Box<manage::KeyArgs>),
    /// Makes and changes projects, the tenants of farebox
    Project(Box<manage::ProjectArgs>),
    /// Makes and changes organisations, to which projects belong
    Organisation(manage::OrganisationArgs),
    /// Makes and changes groups of keys
    Group(manage::GroupArgs),
    /// Sets budgets and shows what was spent of them
    Budget(Box<manage::BudgetArgs>),
    /// Sets limits and shows where they stand
    Limit(Box<manage::LimitArgs>),
    /// Shows models, the health of their deployments, and prices in force
    Model(manage::ModelArgs),
    /// Shows calls and spend of all projects
    Calls(Box<manage::CallsArgs>),
    /// Shows who changed what
    Audit(manage::AuditArgs),
    /// Checks, shows or describes the config, and changes that of a farebox that runs
    Config(config_cmd::ConfigArgs),
    /// Shows and compares prices, and checks a price file
    Prices(prices_cmd::PricesArgs),
    /// Prepares a NATS cluster of your own
    Nats(nats_cmd::NatsArgs),
    /// Runs the role that turns keys into accounts when somebody connects
    Identity(Place),
    /// Runs the role that reserves money and records how calls end
    Guard(Place),
    /// Runs the role that writes rows to ClickHouse and answers usage queries
    Accounting(Place),
    /// Runs the role that calls providers
    Worker(Place),
    /// Runs the admin API
    Admin(Place),
    /// Runs the role that takes requests
    Intake(Place),
    /// Runs the role that serves OpenAI's and Anthropic's APIs over HTTP
    Edge(Place),
    #[command(hide = true)]
    InternalClickhouse(InternalClickhouse),
}

/// ClickHouse from its library, in a process of its own.
#[derive(clap::Args)]
struct InternalClickhouse {
    #[arg(long)]
    lib: PathBuf,
    #[arg(long)]
    path: PathBuf,
    #[arg(long)]
    http_port: u16,
    #[arg(long)]
    tcp_port: Option<u16>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {}", sentence(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let role = |place: Place, role| {
        let threads = place.load()?.value.process.threads;
        process::block_on(threads, process::run_role(&place, role)).map(|()| ExitCode::SUCCESS)
    };
    match command {
        Command::Up(args) => {
            let threads = args.place.load()?.value.process.threads;
            process::block_on(threads, Box::pin(up::run(args))).map(|()| ExitCode::SUCCESS)
        }
        Command::Identity(place) => role(place, Role::Identity),
        Command::Guard(place) => role(place, Role::Guard),
        Command::Accounting(place) => role(place, Role::Accounting),
        Command::Worker(place) => role(place, Role::Worker),
        Command::Intake(place) => role(place, Role::Intake),
        Command::Edge(place) => role(place, Role::Edge),
        Command::Admin(place) => role(place, Role::Admin),
        Command::Call(args) => process::block_on(1, args.run()),
        Command::Watch(args) => process::block_on(1, args.run()),
        Command::Usage(args) => process::block_on(1, args.run()),
        Command::Recent(args) => process::block_on(1, args.run()),
        Command::Doctor(args) => process::block_on(1, args.run()),
        Command::Key(args) => process::block_on(1, args.run()),
        Command::Project(args) => process::block_on(1, args.run()),
        Command::Organisation(args) => process::block_on(1, args.run()),
        Command::Group(args) => process::block_on(1, args.run()),
        Command::Budget(args) => process::block_on(1, args.run()),
        Command::Limit(args) => process::block_on(1, args.run()),
        Command::Model(args) => process::block_on(1, args.run()),
        Command::Calls(args) => process::block_on(1, args.run()),
        Command::Audit(args) => process::block_on(1, args.run()),
        Command::Config(args) => args.run(),
        Command::Prices(args) => args.run(),
        Command::Nats(args) => args.run().map(|()| ExitCode::SUCCESS),
        Command::InternalClickhouse(args) => {
            farebox_parts::serve_chdb(&farebox_parts::ServeOptions {
                lib: args.lib,
                data_dir: args.path,
                http_port: args.http_port,
                tcp_port: args.tcp_port,
                args: Vec::new(),
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// An error and its causes as one sentence. A cause that its effect has said already is left out.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
