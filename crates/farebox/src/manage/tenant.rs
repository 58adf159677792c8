//! `farebox project`, `farebox organisation`, `farebox group`: tenants, what they belong to, and groups of their keys.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use farebox_admin::v1::{
    group_service_client::GroupServiceClient, organisation_service_client::OrganisationServiceClient,
    project_service_client::ProjectServiceClient,
};
use farebox_proto::v1;

use super::{
    connect::AdminArgs,
    desk::Desk,
    entity::{self, Service},
    write::{WriteArgs, merge, pair, replace},
};
use crate::agent::{Align, Failure};

/// Makes and changes projects, the tenants of farebox
#[derive(Args, Clone, Debug)]
pub(crate) struct ProjectArgs {
    #[command(subcommand)]
    what: What<ProjectProperties>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Makes and changes organisations, to which projects belong
#[derive(Args, Clone, Debug)]
pub(crate) struct OrganisationArgs {
    #[command(subcommand)]
    what: What<OrganisationProperties>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Makes and changes groups of keys, for budgets and limits over all of them
#[derive(Args, Clone, Debug)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    what: What<GroupProperties>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum What<P: Args> {
    /// Makes one
    Create {
        name: String,
        #[command(flatten)]
        properties: P,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Lists all
    List,
    /// Shows all about one
    Show { name: String },
    /// Changes what is given and leaves the rest; `-` empties a list
    Update {
        name: String,
        #[command(flatten)]
        properties: P,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Removes one that nothing refers to
    Delete {
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Args, Clone, Debug)]
struct ProjectProperties {
    /// What it belongs to; empty: nothing
    #[arg(long)]
    organisation: Option<String>,
    /// Model that its keys may ask for, `*` at the end for any; may be repeated [default: all]
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Its own key for a provider, as a reference like openai=os.environ/ACME_OPENAI; may be repeated
    #[arg(long, value_name = "PROVIDER=REFERENCE", value_parser = pair)]
    provider_key: Vec<(String, String)>,
    /// Whether nobody of it is served
    #[arg(long, value_name = "BOOL")]
    disabled: Option<bool>,
    /// May be repeated; an empty value removes
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

impl ProjectProperties {
    fn apply(self, project: &mut v1::Project) {
        if let Some(organisation) = self.organisation {
            project.organisation = organisation;
        }
        replace(&mut project.models, self.model);
        merge(&mut project.provider_keys, &self.provider_key);
        if let Some(disabled) = self.disabled {
            project.disabled = disabled;
        }
        merge(&mut project.metadata, &self.metadata);
    }
}

#[derive(Args, Clone, Debug)]
struct OrganisationProperties {
    /// May be repeated; an empty value removes
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

impl OrganisationProperties {
    fn apply(self, organisation: &mut v1::Organisation) {
        merge(&mut organisation.metadata, &self.metadata);
    }
}

#[derive(Args, Clone, Debug)]
struct GroupProperties {
    /// For people
    #[arg(long)]
    description: Option<String>,
}

impl GroupProperties {
    fn apply(self, group: &mut v1::KeyGroup) {
        if let Some(description) = self.description {
            group.description = description;
        }
    }
}

impl<P: Args> What<P> {
    async fn attempt<S: Service>(
        self,
        desk: &mut Desk,
        mut service: S,
        apply: impl FnOnce(P, &mut S::Entity),
        columns: &[(&str, Align)],
        row: impl Fn(S::Entity) -> Vec<String>,
    ) -> Result<(), Failure> {
        match self {
            What::Create { name, properties, write } => {
                entity::create(desk, service, name, &write, |entity| apply(properties, entity)).await
            }
            What::List => entity::list(desk, &service, columns, row).await,
            What::Show { name } => entity::show(desk, service, name).await,
            What::Update { name, properties, write } => {
                let found = service.get(name).await;
                entity::update(desk, service, found, &write, |entity| apply(properties, entity)).await
            }
            What::Delete { name, write } => entity::delete(desk, service, name, &write).await,
        }
    }
}

const LEFT: Align = Align::Left;
const REVISION: (&str, Align) = ("REVISION", Align::Right);

impl ProjectArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        const COLUMNS: [(&str, Align); 5] =
            [("NAME", LEFT), ("ORGANISATION", LEFT), ("MODELS", LEFT), ("STATE", LEFT), REVISION];
        let row = |project: v1::Project| {
            let models = if project.models.is_empty() { "all".to_owned() } else { project.models.join(",") };
            let state = if project.disabled { "disabled" } else { "active" };
            vec![project.name, project.organisation, models, state.to_owned()]
        };
        Desk::with(self.admin, async |desk: &mut Desk| {
            let service = ProjectServiceClient::new(desk.road.clone());
            Box::pin(self.what.attempt(desk, service, ProjectProperties::apply, &COLUMNS, row)).await
        })
        .await
    }
}

impl OrganisationArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let row = |organisation: v1::Organisation| vec![organisation.name];
        Desk::with(self.admin, async |desk: &mut Desk| {
            let service = OrganisationServiceClient::new(desk.road.clone());
            let columns = [("NAME", LEFT), REVISION];
            Box::pin(self.what.attempt(desk, service, OrganisationProperties::apply, &columns, row)).await
        })
        .await
    }
}

impl GroupArgs {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let row = |group: v1::KeyGroup| vec![group.name, group.description];
        Desk::with(self.admin, async |desk: &mut Desk| {
            let service = GroupServiceClient::new(desk.road.clone());
            let columns = [("NAME", LEFT), ("DESCRIPTION", LEFT), REVISION];
            Box::pin(self.what.attempt(desk, service, GroupProperties::apply, &columns, row)).await
        })
        .await
    }
}
