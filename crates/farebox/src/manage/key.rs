//! `farebox key`: keys of callers and admins.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use farebox_admin::v1::{self as admin, key_service_client::KeyServiceClient};
use farebox_proto::v1;
use farebox_types::Span;

use super::{
    connect::{AdminArgs, Road, patient},
    desk::{Desk, all},
    refusal::failure_of,
    write::{Until, WriteArgs, merge, pair, replace, revision, shown},
};
use crate::agent::{Align, Failure};

/// Makes, changes and revokes keys
#[derive(Args, Clone, Debug)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Makes a key and prints it, this once
    Create {
        /// Whose it is
        #[arg(long, value_name = "PROJECT", required_unless_present = "role", conflicts_with = "role")]
        project: Option<String>,
        /// An admin's key instead
        #[arg(long, value_enum)]
        role: Option<Role>,
        /// Names it; without one, farebox makes one
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        #[command(flatten)]
        properties: Properties,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Lists keys
    List {
        #[arg(long, default_value = "")]
        project: String,
        #[arg(long, default_value = "")]
        group: String,
        /// Revoked and expired ones too
        #[arg(long)]
        all: bool,
    },
    /// Shows all about a key but its secret
    Show { id: String },
    /// Changes what is given and leaves the rest; `-` empties a list
    Update {
        id: String,
        #[command(flatten)]
        properties: Properties,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Gives a key another secret and prints the new key, this once
    Rotate {
        id: String,
        /// How long the old one still opens
        #[arg(long, value_name = "SPAN", default_value = "0s")]
        overlap: Span,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Shuts a key, for ever and at once
    Revoke {
        id: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Forgets a key that was revoked or has expired
    Delete {
        id: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    Viewer,
    Operator,
    Owner,
}

/// What can be said of a key at any time.
#[derive(Args, Clone, Debug, Default)]
struct Properties {
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// Group that it is in; may be repeated
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Model that it may ask for; may be repeated [default: those of its project]
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Subject that it may use on the bus; may be repeated [default: all that callers may]
    #[arg(long, value_name = "SUBJECT")]
    subject: Vec<String>,
    /// Where it may come from, like 10.0.0.0/8; may be repeated [default: anywhere]
    #[arg(long, value_name = "CIDR")]
    address: Vec<String>,
    /// When it ends: a span from now like 30d, a date or a time; `never`
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Label that all its calls have, like actor=writer; may be repeated
    #[arg(long, value_name = "LABEL=VALUE", value_parser = pair)]
    pin: Vec<(String, String)>,
    /// May be repeated; an empty value removes
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

impl Properties {
    fn apply(self, key: &mut v1::Key) -> Result<(), Failure> {
        if let Some(name) = self.name {
            key.name = name;
        }
        replace(&mut key.groups, self.group);
        replace(&mut key.models, self.model);
        replace(&mut key.subjects, self.subject);
        replace(&mut key.addresses, self.address);
        match self.expires.as_deref() {
            None => {}
            Some("never") => key.expires_unix_ms = 0,
            Some(when) => key.expires_unix_ms = when.parse::<Until>().map_err(Failure::Usage)?.unix_ms()?,
        }
        for (label, value) in self.pin {
            let pins = key.pins.get_or_insert_default();
            match label.as_str() {
                "actor" => pins.actor = value,
                "task" => pins.task_id = value,
                "session" => pins.session_id = value,
                "end_user" => pins.end_user = value,
                _ => {
                    let message = format!("`{label}` cannot be pinned: actor, task, session or end_user can");
                    return Err(Failure::Usage(message));
                }
            }
        }
        merge(&mut key.metadata, &self.metadata);
        Ok(())
    }
}

impl KeyArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        Desk::with(self.admin, async |desk: &mut Desk| Box::pin(self.what.attempt(desk)).await).await
    }
}

impl What {
    async fn attempt(self, desk: &mut Desk) -> Result<(), Failure> {
        let mut keys = KeyServiceClient::new(desk.road.clone());
        match self {
            What::Create { project, role, id, properties, write } => {
                let role = match role {
                    None => v1::AdminRole::Unspecified,
                    Some(Role::Viewer) => v1::AdminRole::Viewer,
                    Some(Role::Operator) => v1::AdminRole::Operator,
                    Some(Role::Owner) => v1::AdminRole::Owner,
                };
                let mut key = v1::Key {
                    id: id.unwrap_or_default(),
                    project: project.unwrap_or_default(),
                    role: role.into(),
                    ..v1::Key::default()
                };
                properties.apply(&mut key)?;
                let request = admin::CreateKeyRequest { key: Some(key), write: write.message() };
                secret(desk, keys.create_key(patient(request)).await.map_err(failure_of)?.into_inner())
            }
            What::List { project, group, all: include_ended } => {
                let ask = admin::ListKeysRequest { project, group, include_ended, ..Default::default() };
                list(desk, &keys, &ask).await
            }
            What::Show { id } => {
                let key = keys.get_key(patient(admin::GetKeyRequest { id })).await.map_err(failure_of)?;
                desk.detail("KeyRecord", key.get_ref())
            }
            What::Update { id, properties, write } => {
                let found = keys.get_key(patient(admin::GetKeyRequest { id })).await.map_err(failure_of)?.into_inner();
                let mut key = found.key.unwrap_or_default();
                properties.apply(&mut key)?;
                let request = admin::UpdateKeyRequest { key: Some(key), write: write.at(found.revision) };
                let updated = keys.update_key(patient(request)).await.map_err(failure_of)?;
                desk.detail("KeyRecord", updated.get_ref())
            }
            What::Rotate { id, overlap, write } => {
                let request = admin::RotateKeyRequest { id, overlap_ms: overlap.millis(), write: write.message() };
                secret(desk, keys.rotate_key(patient(request)).await.map_err(failure_of)?.into_inner())
            }
            What::Revoke { id, write } => {
                let request = admin::RevokeKeyRequest { id, write: write.message() };
                let revoked = keys.revoke_key(patient(request)).await.map_err(failure_of)?;
                desk.detail("KeyRecord", revoked.get_ref())
            }
            What::Delete { id, write } => {
                let request = admin::DeleteKeyRequest { id: id.clone(), write: write.message() };
                keys.delete_key(patient(request)).await.map_err(failure_of)?;
                desk.note(&format!("key {id} is forgotten"));
                Ok(())
            }
        }
    }
}

/// The key itself goes to standard output, so that a script can take it.
fn secret(desk: &mut Desk, made: admin::KeySecret) -> Result<(), Failure> {
    let key = made.key.clone().unwrap_or_default();
    let whose = if key.project.is_empty() { "an admin".to_owned() } else { format!("project {}", key.project) };
    desk.note(&format!("key {} of {whose}; keep it now, it is shown this once:", key.id));
    desk.show("KeySecret", &made, |made| format!("{}\n", made.text))
}

/// All keys that are asked for.
pub(crate) async fn every(
    keys: &KeyServiceClient<Road>,
    ask: &admin::ListKeysRequest,
) -> Result<Vec<admin::KeyRecord>, Failure> {
    all(|page_token| {
        let mut keys = keys.clone();
        let request = admin::ListKeysRequest { page_token, ..ask.clone() };
        async move {
            let page = keys.list_keys(patient(request)).await?.into_inner();
            Ok((page.keys, page.next_page_token))
        }
    })
    .await
}

async fn list(desk: &mut Desk, keys: &KeyServiceClient<Road>, ask: &admin::ListKeysRequest) -> Result<(), Failure> {
    const COLUMNS: [(&str, Align); 8] = [
        ("ID", Align::Left),
        ("PROJECT", Align::Left),
        ("NAME", Align::Left),
        ("GROUPS", Align::Left),
        ("ROLE", Align::Left),
        ("STATE", Align::Left),
        ("EXPIRES", Align::Left),
        ("REVISION", Align::Right),
    ];
    desk.list("KeyRecord", &every(keys, ask).await?, &COLUMNS, |record| {
        let key = record.key.clone().unwrap_or_default();
        let state = if key.revoked_unix_ms > 0 { "revoked" } else { "active" };
        let role = match key.role() {
            v1::AdminRole::Unspecified => "",
            v1::AdminRole::Viewer => "viewer",
            v1::AdminRole::Operator => "operator",
            v1::AdminRole::Owner => "owner",
        };
        let revision = revision(record.revision);
        let expires = shown(key.expires_unix_ms);
        vec![key.id, key.project, key.name, key.groups.join(","), role.into(), state.into(), expires, revision]
    })
}
