//! `farebox limit`: limits, and where they stand.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use farebox_admin::v1::{self as admin, limit_service_client::LimitServiceClient};
use farebox_proto::v1;

use super::{
    connect::{AdminArgs, Road, patient},
    desk::Desk,
    entity,
    refusal::failure_of,
    scope,
    write::WriteArgs,
};
use crate::agent::{Align, Failure, clean, render};

/// Sets limits on how often, how many tokens and how many at a time, and shows where they stand
#[derive(Args, Clone, Debug)]
pub(crate) struct LimitArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Makes a limit, or changes what is given of one that is there
    Set {
        name: String,
        #[command(flatten)]
        properties: Properties,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Lists limits
    List,
    /// Shows all about a limit
    Show { name: String },
    /// Shows what is used
    Status {
        /// Only this limit
        #[arg(default_value = "")]
        name: String,
        /// Only what counts under this, e.g. a key's id
        #[arg(long, default_value = "")]
        subject: String,
    },
    /// Removes a limit
    Delete {
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Per {
    Minute,
    Hour,
    Day,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Strategy {
    FixedWindow,
    SlidingWindow,
    TokenBucket,
}

/// What can be said of a limit.
#[derive(Args, Clone, Debug)]
struct Properties {
    /// The most requests in one window
    #[arg(long, value_name = "N", group = "measure")]
    requests: Option<u64>,
    /// The most tokens in one window
    #[arg(long, value_name = "N", group = "measure")]
    tokens: Option<u64>,
    /// The most calls at the same time
    #[arg(long, value_name = "N", group = "measure")]
    concurrent: Option<u64>,
    /// Length of a window
    #[arg(long, value_enum)]
    per: Option<Per>,
    /// How windows are laid [default: fixed-window]
    #[arg(long, value_enum)]
    strategy: Option<Strategy>,
    /// The most that a token bucket holds
    #[arg(long, value_name = "N")]
    burst: Option<u64>,
    /// What it counts by: `key` (each by itself), `project=acme`, `key=a,b` (together); may be repeated
    /// [default: everything]
    #[arg(long, value_name = "TERM", value_parser = scope::term)]
    scope: Vec<v1::ScopeTerm>,
    /// It holds only where no other limit names the key (or project, …) itself
    #[arg(long, value_name = "BOOL")]
    default: Option<bool>,
}

impl Properties {
    fn apply(self, limit: &mut v1::Limit) {
        let given = [
            (v1::LimitMeasure::Requests, self.requests),
            (v1::LimitMeasure::Tokens, self.tokens),
            (v1::LimitMeasure::Concurrent, self.concurrent),
        ];
        for (measure, allowed) in given {
            if let Some(allowed) = allowed {
                limit.set_measure(measure);
                limit.allowed = allowed;
            }
        }
        if let Some(per) = self.per {
            limit.period = word(per);
        }
        if let Some(strategy) = self.strategy {
            limit.strategy = word(strategy);
        }
        if let Some(burst) = self.burst {
            limit.burst = burst;
        }
        if !self.scope.is_empty() {
            limit.scope = self.scope;
        }
        if let Some(default) = self.default {
            limit.default = default;
        }
    }
}

/// As the contract says it, which is as the command line does.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl LimitArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        Desk::with(self.admin, async |desk: &mut Desk| Box::pin(self.what.attempt(desk)).await).await
    }
}

impl What {
    async fn attempt(self, desk: &mut Desk) -> Result<(), Failure> {
        let mut limits = LimitServiceClient::new(desk.road.clone());
        match self {
            What::Set { name, properties, write } => {
                entity::set(desk, limits, name, &write, |limit| properties.apply(limit)).await
            }
            What::List => list(desk, &limits).await,
            What::Show { name } => entity::show(desk, limits, name).await,
            What::Status { name, subject } => {
                let request = admin::GetLimitStatusRequest { name, subject, max: 0 };
                let report = limits.get_limit_status(patient(request)).await.map_err(failure_of)?.into_inner();
                status(desk, &report)
            }
            What::Delete { name, write } => entity::delete(desk, limits, name, &write).await,
        }
    }
}

async fn list(desk: &mut Desk, limits: &LimitServiceClient<Road>) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 7] = [
        ("NAME", Align::Left),
        ("ALLOWED", Align::Right),
        ("MEASURE", Align::Left),
        ("PER", Align::Left),
        ("STRATEGY", Align::Left),
        ("SCOPE", Align::Left),
        ("REVISION", Align::Right),
    ];
    entity::list(desk, limits, &COLUMNS, |limit| {
        let (allowed, measured) = (limit.allowed.to_string(), measure(limit.measure()));
        let scope = scope::shown(&limit.scope);
        vec![limit.name, allowed, measured, limit.period, limit.strategy, scope]
    })
    .await
}

fn status(desk: &mut Desk, report: &admin::LimitStatusReport) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 5] = [
        ("LIMIT", Align::Left),
        ("SUBJECT", Align::Left),
        ("MEASURE", Align::Left),
        ("USED", Align::Right),
        ("ALLOWED", Align::Right),
    ];
    desk.show("LimitStatusReport", report, |report| {
        let row = |count: &v1::LimitStatus| {
            let (used, allowed) = (count.used.to_string(), count.allowed.to_string());
            vec![count.limit.clone(), clean(&count.subject), measure(count.measure()), used, allowed]
        };
        render(&COLUMNS, &report.counts.iter().map(row).collect::<Vec<_>>())
    })
}

fn measure(measure: v1::LimitMeasure) -> String {
    measure.as_str_name().trim_start_matches("LIMIT_MEASURE_").to_lowercase()
}
