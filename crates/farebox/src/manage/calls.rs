//! `farebox calls`: what all projects called and spent, and whether the books agree.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use farebox_admin::v1::{self as admin, call_service_client::CallServiceClient};
use farebox_proto::v1;
use farebox_runtime::Signals;
use farebox_types::{Clock, ErrorKind, Fault, SystemClock};
use jiff::tz::TimeZone;
use tonic::Request;

use super::{
    connect::{AdminArgs, patient},
    desk::Desk,
    refusal::failure_of,
};
use crate::agent::{Align, By, Failure, Moment, call_line, calls_table, usage_table};

/// Shows calls and spend of all projects, and compares the ledger with its rows
#[derive(Args, Clone, Debug)]
pub(crate) struct CallsArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Shows the newest calls, newest first
    Recent {
        /// Only of this project
        #[arg(long, default_value = "")]
        project: String,
        /// How many
        #[arg(short = 'n', long = "number", value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        number: u32,
    },
    /// Shows what was spent
    Usage {
        /// Only by this project
        #[arg(long, default_value = "")]
        project: String,
        /// What to sum up by
        #[arg(long, value_enum, default_value_t = By::Project)]
        by: By,
        /// From when on: a span like 24h, a date or a time
        #[arg(long, value_name = "WHEN", default_value = "24h")]
        since: Moment,
        /// Until when [default: now]
        #[arg(long, value_name = "WHEN")]
        until: Option<Moment>,
    },
    /// Shows calls as they end, one line each, until Ctrl-C
    Tail(Filter),
    /// Compares what the ledger says was spent with the rows that were made from it; fails where they differ
    Reconcile {
        /// Only of this project
        #[arg(long, default_value = "")]
        project: String,
    },
}

/// A call must have all that is given.
#[derive(Args, Clone, Debug)]
struct Filter {
    #[arg(long, default_value = "")]
    project: String,
    /// Id of the key
    #[arg(long, default_value = "")]
    key: String,
    #[arg(long, default_value = "")]
    model: String,
    #[arg(long, default_value = "")]
    provider: String,
    #[arg(long, default_value = "")]
    actor: String,
    #[arg(long, default_value = "")]
    task: String,
}

impl CallsArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        Desk::with(self.admin, async |desk: &mut Desk| Box::pin(self.what.attempt(desk)).await).await
    }
}

impl What {
    async fn attempt(self, desk: &mut Desk) -> Result<(), Failure> {
        let mut calls = CallServiceClient::new(desk.road.clone());
        match self {
            What::Recent { project, number } => {
                let request = admin::ListRecentCallsRequest { project, page_size: number, ..Default::default() };
                let page = calls.list_recent_calls(patient(request)).await.map_err(failure_of)?.into_inner();
                desk.show("ListRecentCallsResponse", &page, |page| calls_table(&page.calls, &TimeZone::system()))
            }
            What::Usage { project, by, since, until } => {
                let (now, zone) = (SystemClock.now(), TimeZone::system());
                let at = |moment: Moment| moment.resolve(now, &zone).map_err(Failure::Usage);
                let request = admin::QueryUsageRequest {
                    project,
                    group_by: by.group_by().into(),
                    from_unix_ms: at(since)?.millis(),
                    until_unix_ms: until.map(at).transpose()?.unwrap_or(now).millis(),
                };
                let report = calls.query_usage(patient(request)).await.map_err(failure_of)?.into_inner();
                desk.show("QueryUsageResponse", &report, |report| usage_table(by, &report.rows))
            }
            What::Tail(filter) => tail(desk, calls, filter).await,
            What::Reconcile { project } => {
                let request = admin::ReconcileRequest { project };
                let report = calls.reconcile(patient(request)).await.map_err(failure_of)?.into_inner();
                reconciled(desk, &report)
            }
        }
    }
}

async fn tail(
    desk: &mut Desk,
    mut calls: CallServiceClient<super::connect::Road>,
    filter: Filter,
) -> Result<(), Failure> {
    let request = admin::TailCallsRequest {
        project: filter.project,
        key_id: filter.key,
        model: filter.model,
        provider: filter.provider,
        actor: filter.actor,
        task_id: filter.task,
        ..Default::default()
    };
    let mut signals = Signals::listen()?;
    // It lasts for as long as it is watched.
    let mut tailed = calls.tail_calls(Request::new(request)).await.map_err(failure_of)?.into_inner();
    let zone = TimeZone::system();
    desk.note("watching the calls of all projects; Ctrl-C ends it");
    loop {
        let next = tokio::select! {
            biased;
            _ = signals.next() => return Ok(()),
            next = tailed.message() => next.map_err(failure_of)?,
        };
        let Some(next) = next else {
            let fault = Fault::new(ErrorKind::Unavailable, "the admin API ended the stream: start again");
            return Err(Failure::Refused(fault));
        };
        if next.skipped > 0 {
            desk.note(&format!("{} calls were left out: this is too slow to show them all", next.skipped));
        }
        let call = next.call.clone().unwrap_or_default();
        desk.show("TailedCall", &next, |_| format!("{}\n", call_line(&call, &zone)))?;
    }
}

fn reconciled(desk: &mut Desk, report: &admin::ReconcileResponse) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 6] = [
        ("PROJECT", Align::Left),
        ("DAY", Align::Left),
        ("LEDGER CALLS", Align::Right),
        ("ROWS", Align::Right),
        ("LEDGER $", Align::Right),
        ("ROWS $", Align::Right),
    ];
    desk.show("ReconcileResponse", report, |report| {
        if report.differences.is_empty() {
            return format!("the ledger and its rows agree on {} days\n", report.days_compared);
        }
        let money = |amount: &Option<v1::Money>| v1::Money::of(amount).to_string();
        let row = |day: &v1::BooksDifference| {
            let counts = [day.ledger_calls.to_string(), day.row_calls.to_string()];
            let costs = [money(&day.ledger_cost), money(&day.row_cost)];
            [day.project.clone(), day.day.clone()].into_iter().chain(counts).chain(costs).collect()
        };
        crate::agent::render(&COLUMNS, &report.differences.iter().map(row).collect::<Vec<Vec<String>>>())
    })?;
    match report.differences.len() {
        0 => Ok(()),
        days => {
            let message = format!("the ledger and its rows differ on {days} days: see docs/operations.md");
            Err(Failure::Refused(Fault::new(ErrorKind::Internal, message)))
        }
    }
}
