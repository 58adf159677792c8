//! `farebox audit`: who changed what.

use std::process::ExitCode;

use clap::Args;
use farebox_admin::v1::{self as admin, audit_service_client::AuditServiceClient};

use super::{
    connect::{AdminArgs, patient},
    desk::Desk,
    refusal::failure_of,
    write::shown,
};
use crate::agent::{Align, Failure, clean};

/// Shows who changed what, newest first
#[derive(Args, Clone, Debug)]
pub(crate) struct AuditArgs {
    /// Only of this kind: key, project, organisation, group, budget, limit, config
    #[arg(long, default_value = "")]
    kind: String,
    /// Only of the one of this name or id
    #[arg(long, default_value = "")]
    name: String,
    /// Only by this admin
    #[arg(long, default_value = "")]
    by: String,
    /// How many
    #[arg(short = 'n', long = "number", value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    number: u32,
    #[command(flatten)]
    admin: AdminArgs,
}

impl AuditArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (kind, name, by, page_size) = (self.kind, self.name, self.by, self.number);
        let request = admin::ListChangesRequest { kind, name, by, page_size, page_token: String::new() };
        Desk::with(self.admin, async |desk: &mut Desk| Box::pin(list(desk, request)).await).await
    }
}

async fn list(desk: &mut Desk, request: admin::ListChangesRequest) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 6] = [
        ("WHEN", Align::Left),
        ("BY", Align::Left),
        ("KIND", Align::Left),
        ("NAME", Align::Left),
        ("WHAT", Align::Left),
        ("REASON", Align::Left),
    ];
    let mut audit = AuditServiceClient::new(desk.road.clone());
    let page = audit.list_changes(patient(request)).await.map_err(failure_of)?.into_inner();
    desk.list("ChangeRecord", &page.changes, &COLUMNS, |record| {
        let change = record.change.clone().unwrap_or_default();
        let what = if record.entity.is_some() { "set" } else { "deleted" };
        vec![
            shown(record.at_unix_ms),
            clean(&change.by),
            record.kind.clone(),
            record.name.clone(),
            what.to_owned(),
            clean(&change.reason),
        ]
    })
}
