//! `farebox budget`: budgets, and what was spent of them.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use farebox_admin::v1::{self as admin, budget_service_client::BudgetServiceClient};
use farebox_proto::v1;
use farebox_types::Money;

use super::{
    connect::{AdminArgs, Road, patient},
    desk::Desk,
    entity,
    refusal::failure_of,
    scope,
    write::{Until, WriteArgs},
};
use crate::agent::{Align, Failure};

/// Sets budgets, raises them for a while, and shows what was spent of them
#[derive(Args, Clone, Debug)]
pub(crate) struct BudgetArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Makes a budget, or changes what is given of one that is there
    Set {
        name: String,
        #[command(flatten)]
        properties: Box<Properties>,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Lists budgets
    List,
    /// Shows all about a budget
    Show { name: String },
    /// Shows what was spent and what is reserved, window by window
    Status {
        /// Only this budget
        #[arg(default_value = "")]
        name: String,
        /// Only what counts under this, e.g. one task
        #[arg(long, default_value = "")]
        subject: String,
    },
    /// Gives more room for a while
    Raise {
        name: String,
        /// By how much, in US dollars
        #[arg(long, value_name = "USD")]
        by: Money,
        /// Until when: a span from now like 2h, a date or a time
        #[arg(long, value_name = "WHEN")]
        until: Until,
        /// Only for what counts under this, e.g. one task
        #[arg(long, default_value = "")]
        subject: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Removes a budget
    Delete {
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Calls that do not fit are refused
    Hard,
    /// They go through, and their answers say so
    Soft,
}

/// What can be said of a budget.
#[derive(Args, Clone, Debug)]
struct Properties {
    /// The most that may be spent in one window, in US dollars, like 100
    #[arg(long, value_name = "AMOUNT")]
    limit: Option<String>,
    /// What it counts by: `task` (each by itself), `project=acme`, `key=a,b` (together); may be repeated
    /// [default: everything]
    #[arg(long, value_name = "TERM", value_parser = scope::term)]
    scope: Vec<v1::ScopeTerm>,
    /// minute, hour, day, week, month, lifetime, total, or like `rolling 24h`
    #[arg(long)]
    period: Option<String>,
    /// In which calendar periods begin, like Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Share of the limit that is announced on llm.alert, like 0.8; may be repeated
    #[arg(long, value_name = "SHARE", value_parser = permille)]
    alert: Vec<u32>,
    /// What happens when it is spent
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Answers are shortened to what is left, not below so many tokens; 0: such calls are refused
    #[arg(long, value_name = "TOKENS")]
    clamp_floor: Option<u64>,
    /// What is reserved for calls whose cost nothing bounds, in US dollars
    #[arg(long, value_name = "USD")]
    unbounded_ceiling: Option<Money>,
    /// When no guard can be reached: closed, open, or like grace:5 (US dollars)
    #[arg(long, value_name = "POLICY", value_parser = unreachable)]
    unreachable: Option<(v1::Unreachable, Option<Money>)>,
}

impl Properties {
    fn apply(self, budget: &mut v1::Budget) {
        if let Some(limit) = self.limit {
            (budget.limit, budget.limit_text) = (None, limit);
        }
        if !self.scope.is_empty() {
            budget.scope = self.scope;
        }
        if let Some(period) = self.period {
            budget.period = period;
        }
        if let Some(zone) = self.time_zone {
            budget.time_zone = zone;
        }
        if !self.alert.is_empty() {
            budget.alert_permille = self.alert;
        }
        if let Some(kind) = self.kind {
            budget.hard = kind == Kind::Hard;
        }
        if let Some(floor) = self.clamp_floor {
            budget.clamp_floor = floor;
        }
        if let Some(ceiling) = self.unbounded_ceiling {
            budget.unbounded_ceiling = Some(ceiling.into());
        }
        if let Some((unreachable, grace)) = self.unreachable {
            budget.set_unreachable(unreachable);
            budget.grace = grace.map(Into::into);
        }
    }
}

/// A share with at most three decimals, exactly.
fn permille(given: &str) -> Result<u32, String> {
    let wrong = || format!("`{given}` is no share: write it like 0.8 or 1");
    let share: Money = given.parse().map_err(|_| wrong())?;
    let step = Money::PICOS_PER_USD / 1000;
    if share.picos() % step != 0 {
        return Err(wrong());
    }
    u32::try_from(share.picos() / step).map_err(|_| wrong())
}

fn unreachable(given: &str) -> Result<(v1::Unreachable, Option<Money>), String> {
    match given.split_once(':') {
        None if given == "closed" => Ok((v1::Unreachable::Closed, None)),
        None if given == "open" => Ok((v1::Unreachable::Open, None)),
        Some(("grace", amount)) => {
            let amount = amount.parse().map_err(|error| format!("`{given}`: {error}"))?;
            Ok((v1::Unreachable::Grace, Some(amount)))
        }
        _ => Err(format!("`{given}` is no policy: write closed, open, or like grace:5")),
    }
}

impl BudgetArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        Desk::with(self.admin, async |desk: &mut Desk| Box::pin(self.what.attempt(desk)).await).await
    }
}

impl What {
    async fn attempt(self, desk: &mut Desk) -> Result<(), Failure> {
        let mut budgets = BudgetServiceClient::new(desk.road.clone());
        match self {
            What::Set { name, properties, write } => {
                entity::set(desk, budgets, name, &write, |budget| properties.apply(budget)).await
            }
            What::List => list(desk, &budgets).await,
            What::Show { name } => entity::show(desk, budgets, name).await,
            What::Status { name, subject } => {
                let request = admin::GetBudgetStatusRequest { name, subject, max: 0 };
                let report = budgets.get_budget_status(patient(request)).await.map_err(failure_of)?.into_inner();
                status(desk, &report)
            }
            What::Raise { name, by, until, subject, write } => {
                let until_unix_ms = until.unix_ms()?;
                let write = write.message();
                let by = Some(by.into());
                let request = admin::RaiseBudgetRequest { name, by, from_unix_ms: 0, until_unix_ms, subject, write };
                let raised = budgets.raise_budget(patient(request)).await.map_err(failure_of)?;
                desk.detail("BudgetRecord", raised.get_ref())
            }
            What::Delete { name, write } => entity::delete(desk, budgets, name, &write).await,
        }
    }
}

async fn list(desk: &mut Desk, budgets: &BudgetServiceClient<Road>) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 6] = [
        ("NAME", Align::Left),
        ("LIMIT", Align::Right),
        ("PERIOD", Align::Left),
        ("SCOPE", Align::Left),
        ("KIND", Align::Left),
        ("REVISION", Align::Right),
    ];
    entity::list(desk, budgets, &COLUMNS, |budget| {
        let kind = if budget.hard { "hard" } else { "soft" };
        let (limit, scope) = (limit(&budget), scope::shown(&budget.scope));
        vec![budget.name, limit, budget.period, scope, kind.to_owned()]
    })
    .await
}

/// As it was written, or the amount. A bare number is in US dollars.
fn limit(budget: &v1::Budget) -> String {
    match budget.limit_text.as_str() {
        "" => format!("{} USD", money(&budget.limit)),
        text if text.parse::<Money>().is_ok() => format!("{text} USD"),
        text => text.to_owned(),
    }
}

fn status(desk: &mut Desk, report: &admin::BudgetStatusReport) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 7] = [
        ("BUDGET", Align::Left),
        ("SUBJECT", Align::Left),
        ("WINDOW", Align::Left),
        ("LIMIT $", Align::Right),
        ("SPENT $", Align::Right),
        ("RESERVED $", Align::Right),
        ("OPEN", Align::Right),
    ];
    desk.show("BudgetStatusReport", report, |report| {
        let rows: Vec<Vec<String>> = report
            .windows
            .iter()
            .map(|window| {
                vec![
                    window.budget.clone(),
                    crate::agent::clean(&window.subject),
                    window.window.clone(),
                    money(&window.limit),
                    money(&window.settled),
                    money(&window.reserved),
                    window.open.to_string(),
                ]
            })
            .collect();
        let calls = format!("{} calls run, {} wait for others to end\n", report.open, report.waiting);
        crate::agent::render(&COLUMNS, &rows) + &calls
    })
}

fn money(amount: &Option<v1::Money>) -> String {
    v1::Money::of(amount).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact() {
        assert_eq!((permille("0.8"), permille("1"), permille("0.125")), (Ok(800), Ok(1000), Ok(125)));
        for wrong in ["0.0001", "-1", "most"] {
            assert!(permille(wrong).unwrap_err().contains("no share"), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_shown_as_it_was_written() {
        let text = |limit_text: &str| v1::Budget { limit_text: limit_text.to_owned(), ..Default::default() };
        assert_eq!([limit(&text("5")), limit(&text("7.50 EUR"))], ["5 USD", "7.50 EUR"]);
        let amount = v1::Money::from("0.5".parse::<Money>().unwrap());
        assert_eq!(limit(&v1::Budget { limit: Some(amount), ..Default::default() }), "0.5 USD");
    }

    #[test]
    fn policies_for_a_guard_that_is_away() {
        assert_eq!(unreachable("open"), Ok((v1::Unreachable::Open, None)));
        assert_eq!(unreachable("grace:0.5"), Ok((v1::Unreachable::Grace, Some("0.5".parse().unwrap()))));
        for wrong in ["grace", "ajar", "grace:much"] {
            assert!(unreachable(wrong).is_err(), "{wrong}");
        }
    }
}
