//! `farebox config running|apply|history|roll-back`: the config of a farebox that runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use farebox_admin::v1::{self as admin, config_service_client::ConfigServiceClient};
use farebox_types::{ErrorKind, Fault};

use super::{
    connect::{AdminArgs, Road, patient},
    desk::Desk,
    refusal::failure_of,
    write::{WriteArgs, shown},
};
use crate::agent::{Align, Failure, clean};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Shows the config of the farebox that runs, and where each value came from
    Running {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Changes the config of the farebox that runs: everywhere, all at once, without a restart
    Apply {
        /// A whole config; what cannot change while farebox runs must be as it is, or left out
        file: PathBuf,
        /// Only says what is wrong with it, or what it would change
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        write: WriteArgs,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Lists the configs that were applied, newest first
    History {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Brings an earlier config back
    RollBack {
        /// Its revision; 0: nothing is applied any more, the config file alone says what holds
        to: u64,
        #[command(flatten)]
        write: WriteArgs,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

type Client = ConfigServiceClient<Road>;

impl ConfigCommand {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let (ConfigCommand::Running { admin }
        | ConfigCommand::Apply { admin, .. }
        | ConfigCommand::History { admin }
        | ConfigCommand::RollBack { admin, .. }) = &self;
        Desk::with(admin.clone(), async |desk: &mut Desk| Box::pin(self.attempt(desk)).await).await
    }

    async fn attempt(self, desk: &mut Desk) -> Result<(), Failure> {
        let mut client = Client::new(desk.road.clone());
        match self {
            ConfigCommand::Running { .. } => running(desk, client).await,
            ConfigCommand::Apply { file, dry_run, write, .. } => apply(desk, client, &file, dry_run, &write).await,
            ConfigCommand::History { .. } => history(desk, client).await,
            ConfigCommand::RollBack { to, write, .. } => {
                let request = admin::RollBackConfigRequest { to, write: write.message() };
                let back = client.roll_back_config(patient(request)).await.map_err(failure_of)?.into_inner();
                show(desk, &back)
            }
        }
    }
}

async fn running(desk: &mut Desk, mut client: Client) -> Result<(), Failure> {
    let request = patient(admin::ReadConfigRequest {});
    let read = client.read_config(request).await.map_err(failure_of)?.into_inner();
    desk.show("ReadConfigResponse", &read, |read| read.effective.clone())?;
    let newest = read.newest.map(|newest| newest.revision).unwrap_or_default();
    if read.in_force != 0 && newest != read.in_force {
        desk.note(&format!("revision {newest} is not in force there: its log says why"));
    }
    Ok(())
}

async fn apply(
    desk: &mut Desk,
    mut client: Client,
    file: &Path,
    dry_run: bool,
    write: &WriteArgs,
) -> Result<(), Failure> {
    let document = fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("`{}` cannot be read: {error}", file.display())))?;
    let request = admin::CheckConfigRequest { document: document.clone() };
    let checked = client.check_config(patient(request)).await.map_err(failure_of)?.into_inner();
    if !checked.faults.is_empty() {
        return Err(Failure::Refused(Fault::new(ErrorKind::BadRequest, listed(file, &checked.faults))));
    }
    if dry_run {
        return desk.show("CheckConfigResponse", &checked, |checked| match checked.changes.as_slice() {
            [] => "it changes nothing\n".to_owned(),
            changes => changes.iter().map(|path| format!("{path}\n")).collect(),
        });
    }
    let request = admin::ApplyConfigRequest { document, write: write.message() };
    let applied = client.apply_config(patient(request)).await.map_err(failure_of)?.into_inner();
    show(desk, &applied)
}

/// Faults as `farebox config check` says them.
fn listed(file: &Path, faults: &[admin::ConfigFault]) -> String {
    let mut text = format!("the config cannot be used, it has {} fault(s):", faults.len());
    for admin::ConfigFault { path, message, line, column, source } in faults {
        let place = if *line == 0 { source.clone() } else { format!("{}:{line}:{column}", file.display()) };
        let path = if path.is_empty() { String::new() } else { format!(" {path}:") };
        text.push_str(&format!("\n  {place}:{path} {message}"));
    }
    text
}

fn show(desk: &mut Desk, applied: &admin::ConfigRevision) -> Result<(), Failure> {
    let short = admin::ConfigRevision { document: String::new(), ..applied.clone() };
    desk.show("ConfigRevision", &short, |applied| format!("revision {}\n", applied.revision))
}

async fn history(desk: &mut Desk, mut client: Client) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 5] = [
        ("REVISION", Align::Right),
        ("WHEN", Align::Left),
        ("BY", Align::Left),
        ("WHAT", Align::Left),
        ("REASON", Align::Left),
    ];
    let request = patient(admin::ListConfigRevisionsRequest {});
    let kept = client.list_config_revisions(request).await.map_err(failure_of)?.into_inner();
    desk.list("ConfigRevision", &kept.revisions, &COLUMNS, |kept| {
        let change = kept.change.clone().unwrap_or_default();
        let what = match (kept.file_alone, kept.restores) {
            (true, _) => "the file alone".to_owned(),
            (false, 0) => "applied".to_owned(),
            (false, restored) => format!("{restored} again"),
        };
        vec![kept.revision.to_string(), shown(change.at_unix_ms), clean(&change.by), what, clean(&change.reason)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_said_where_they_stand() {
        let inside = admin::ConfigFault {
            path: "models.a".to_owned(),
            message: "wrong".to_owned(),
            line: 3,
            column: 5,
            source: "document:3:5".to_owned(),
        };
        let flag = admin::ConfigFault { source: "flag guard.lease".to_owned(), line: 0, ..inside.clone() };
        let whole = admin::ConfigFault { path: String::new(), ..inside.clone() };
        assert_eq!(
            listed(Path::new("new.yaml"), &[inside, flag, whole]),
            "the config cannot be used, it has 3 fault(s):\n  new.yaml:3:5: models.a: wrong\n  flag guard.lease: models.a: \
             wrong\n  new.yaml:3:5: wrong"
        );
    }
}
