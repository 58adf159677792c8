//! `farebox project`, `farebox organisation`, `farebox group`: tenants, what they belong to, and groups of their keys.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use farebox_admin::v1::{
    self as admin, group_service_client::GroupServiceClient, organisation_service_client::OrganisationServiceClient,
    project_service_client::ProjectServiceClient,
};
use farebox_proto::v1;

use super::{
    connect::{AdminArgs, patient},
    desk::{Desk, all},
    refusal::failure_of,
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

/// The same five functions of three services, which the API gives messages of their own.
macro_rules! tenants {
    ($args:ident, $client:ident, $entity:ty, $record:literal, $word:literal, $field:ident, $many:ident,
     $create:ident($create_request:ident), $get:ident($get_request:ident), $list:ident($list_request:ident),
     $update:ident($update_request:ident), $delete:ident($delete_request:ident), $columns:expr, $row:expr) => {
        impl $args {
            pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
                Desk::with(self.admin.clone(), async |desk: &mut Desk| Box::pin(self.attempt(desk)).await).await
            }

            async fn attempt(self, desk: &mut Desk) -> Result<(), Failure> {
                let mut client = $client::new(desk.road.clone());
                match self.what {
                    What::Create { name, properties, write } => {
                        let mut entity = <$entity>::default();
                        entity.name = name;
                        properties.apply(&mut entity);
                        let request = admin::$create_request { $field: Some(entity), write: write.message() };
                        let made = client.$create(patient(request)).await.map_err(failure_of)?;
                        desk.detail($record, made.get_ref())
                    }
                    What::List => {
                        let found = all(|page_token| {
                            let mut client = client.clone();
                            let request = admin::$list_request { page_token, ..Default::default() };
                            async move {
                                let page = client.$list(patient(request)).await?.into_inner();
                                Ok((page.$many, page.next_page_token))
                            }
                        })
                        .await?;
                        desk.list($record, &found, &$columns, |record| {
                            let revision = super::write::revision(record.revision);
                            let mut row: Vec<String> = $row(record.$field.clone().unwrap_or_default());
                            row.push(revision);
                            row
                        })
                    }
                    What::Show { name } => {
                        let request = admin::$get_request { name };
                        let found = client.$get(patient(request)).await.map_err(failure_of)?;
                        desk.detail($record, found.get_ref())
                    }
                    What::Update { name, properties, write } => {
                        let request = admin::$get_request { name };
                        let found = client.$get(patient(request)).await.map_err(failure_of)?.into_inner();
                        let mut entity = found.$field.unwrap_or_default();
                        properties.apply(&mut entity);
                        let write = write.at(found.revision);
                        let request = admin::$update_request { $field: Some(entity), write };
                        let updated = client.$update(patient(request)).await.map_err(failure_of)?;
                        desk.detail($record, updated.get_ref())
                    }
                    What::Delete { name, write } => {
                        let request = admin::$delete_request { name: name.clone(), write: write.message() };
                        client.$delete(patient(request)).await.map_err(failure_of)?;
                        desk.note(&format!("{} {name} is gone", $word));
                        Ok(())
                    }
                }
            }
        }
    };
}

const LEFT: Align = Align::Left;

tenants!(
    ProjectArgs,
    ProjectServiceClient,
    v1::Project,
    "ProjectRecord",
    "project",
    project,
    projects,
    create_project(CreateProjectRequest),
    get_project(GetProjectRequest),
    list_projects(ListProjectsRequest),
    update_project(UpdateProjectRequest),
    delete_project(DeleteProjectRequest),
    [("NAME", LEFT), ("ORGANISATION", LEFT), ("MODELS", LEFT), ("STATE", LEFT), ("REVISION", Align::Right)],
    |project: v1::Project| {
        let models = if project.models.is_empty() { "all".to_owned() } else { project.models.join(",") };
        let state = if project.disabled { "disabled" } else { "active" };
        vec![project.name, project.organisation, models, state.to_owned()]
    }
);

tenants!(
    OrganisationArgs,
    OrganisationServiceClient,
    v1::Organisation,
    "OrganisationRecord",
    "organisation",
    organisation,
    organisations,
    create_organisation(CreateOrganisationRequest),
    get_organisation(GetOrganisationRequest),
    list_organisations(ListOrganisationsRequest),
    update_organisation(UpdateOrganisationRequest),
    delete_organisation(DeleteOrganisationRequest),
    [("NAME", LEFT), ("REVISION", Align::Right)],
    |organisation: v1::Organisation| vec![organisation.name]
);

tenants!(
    GroupArgs,
    GroupServiceClient,
    v1::KeyGroup,
    "GroupRecord",
    "group",
    group,
    groups,
    create_group(CreateGroupRequest),
    get_group(GetGroupRequest),
    list_groups(ListGroupsRequest),
    update_group(UpdateGroupRequest),
    delete_group(DeleteGroupRequest),
    [("NAME", LEFT), ("DESCRIPTION", LEFT), ("REVISION", Align::Right)],
    |group: v1::KeyGroup| vec![group.name, group.description]
);
