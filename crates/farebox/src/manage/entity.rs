//! Things that the API manages by their names. Each kind has a service, with the same functions under names of its own.

use farebox_admin::v1::{
    self as admin, budget_service_client::BudgetServiceClient, group_service_client::GroupServiceClient,
    limit_service_client::LimitServiceClient, organisation_service_client::OrganisationServiceClient,
    project_service_client::ProjectServiceClient,
};
use farebox_directory::Entity;
use farebox_proto::v1;
use prost::Message;
use tonic::{Code, Status};

use super::{
    connect::{Road, patient},
    desk::{Desk, all},
    refusal::failure_of,
    write::{WriteArgs, revision},
};
use crate::agent::{Align, Failure};

type Answer<T> = Result<T, Status>;

/// The service of one kind.
pub(crate) trait Service: Clone {
    type Entity: Entity;
    /// An entity and its revision.
    type Record: Message;
    /// What the API calls that.
    const RECORD: &'static str;

    fn named(name: String) -> Self::Entity;
    fn open(record: &Self::Record) -> (Self::Entity, u64);
    async fn create(&mut self, entity: Self::Entity, write: Option<admin::Write>) -> Answer<Self::Record>;
    async fn get(&mut self, name: String) -> Answer<Self::Record>;
    /// Some of them, and the token of those that follow.
    async fn page(&mut self, page_token: String) -> Answer<(Vec<Self::Record>, String)>;
    async fn update(&mut self, entity: Self::Entity, write: Option<admin::Write>) -> Answer<Self::Record>;
    async fn delete(&mut self, name: String, write: Option<admin::Write>) -> Answer<()>;
}

macro_rules! service {
    ($client:ident of $entity:ident: $record:ident.$field:ident, $create:ident($creation:ident), $get:ident($question:ident),
     $list:ident($listing:ident).$many:ident, $update:ident($change:ident), $delete:ident($deletion:ident)) => {
        impl Service for $client<Road> {
            type Entity = v1::$entity;
            type Record = admin::$record;
            const RECORD: &'static str = stringify!($record);

            fn named(name: String) -> v1::$entity {
                v1::$entity { name, ..Default::default() }
            }

            fn open(record: &admin::$record) -> (v1::$entity, u64) {
                (record.$field.clone().unwrap_or_default(), record.revision)
            }

            async fn create(&mut self, entity: Self::Entity, write: Option<admin::Write>) -> Answer<Self::Record> {
                let request = admin::$creation { $field: Some(entity), write };
                Ok(self.$create(patient(request)).await?.into_inner())
            }

            async fn get(&mut self, name: String) -> Answer<Self::Record> {
                Ok(self.$get(patient(admin::$question { name })).await?.into_inner())
            }

            async fn page(&mut self, page_token: String) -> Answer<(Vec<Self::Record>, String)> {
                let request = admin::$listing { page_token, ..Default::default() };
                let page = self.$list(patient(request)).await?.into_inner();
                Ok((page.$many, page.next_page_token))
            }

            async fn update(&mut self, entity: Self::Entity, write: Option<admin::Write>) -> Answer<Self::Record> {
                let request = admin::$change { $field: Some(entity), write };
                Ok(self.$update(patient(request)).await?.into_inner())
            }

            async fn delete(&mut self, name: String, write: Option<admin::Write>) -> Answer<()> {
                self.$delete(patient(admin::$deletion { name, write })).await.map(|_| ())
            }
        }
    };
}

service!(OrganisationServiceClient of Organisation: OrganisationRecord.organisation,
    create_organisation(CreateOrganisationRequest), get_organisation(GetOrganisationRequest),
    list_organisations(ListOrganisationsRequest).organisations,
    update_organisation(UpdateOrganisationRequest), delete_organisation(DeleteOrganisationRequest));
service!(ProjectServiceClient of Project: ProjectRecord.project,
    create_project(CreateProjectRequest), get_project(GetProjectRequest), list_projects(ListProjectsRequest).projects,
    update_project(UpdateProjectRequest), delete_project(DeleteProjectRequest));
service!(GroupServiceClient of KeyGroup: GroupRecord.group,
    create_group(CreateGroupRequest), get_group(GetGroupRequest), list_groups(ListGroupsRequest).groups,
    update_group(UpdateGroupRequest), delete_group(DeleteGroupRequest));
service!(BudgetServiceClient of Budget: BudgetRecord.budget,
    create_budget(CreateBudgetRequest), get_budget(GetBudgetRequest), list_budgets(ListBudgetsRequest).budgets,
    update_budget(UpdateBudgetRequest), delete_budget(DeleteBudgetRequest));
service!(LimitServiceClient of Limit: LimitRecord.limit,
    create_limit(CreateLimitRequest), get_limit(GetLimitRequest), list_limits(ListLimitsRequest).limits,
    update_limit(UpdateLimitRequest), delete_limit(DeleteLimitRequest));

/// Makes one of this name, as `apply` makes it.
pub(crate) async fn create<S: Service>(
    desk: &mut Desk,
    mut service: S,
    name: String,
    write: &WriteArgs,
    apply: impl FnOnce(&mut S::Entity),
) -> Result<(), Failure> {
    let mut entity = S::named(name);
    apply(&mut entity);
    let made = service.create(entity, write.message()).await.map_err(failure_of)?;
    desk.detail(S::RECORD, &made)
}

/// Changes the one that was found.
pub(crate) async fn update<S: Service>(
    desk: &mut Desk,
    mut service: S,
    found: Answer<S::Record>,
    write: &WriteArgs,
    apply: impl FnOnce(&mut S::Entity),
) -> Result<(), Failure> {
    let (mut entity, revision) = S::open(&found.map_err(failure_of)?);
    apply(&mut entity);
    let updated = service.update(entity, write.at(revision)).await.map_err(failure_of)?;
    desk.detail(S::RECORD, &updated)
}

/// Changes the one of this name, or makes it.
pub(crate) async fn set<S: Service>(
    desk: &mut Desk,
    mut service: S,
    name: String,
    write: &WriteArgs,
    apply: impl FnOnce(&mut S::Entity),
) -> Result<(), Failure> {
    match service.get(name.clone()).await {
        Err(status) if status.code() == Code::NotFound => create(desk, service, name, write, apply).await,
        found => update(desk, service, found, write, apply).await,
    }
}

/// All about one.
pub(crate) async fn show<S: Service>(desk: &mut Desk, mut service: S, name: String) -> Result<(), Failure> {
    let found = service.get(name).await.map_err(failure_of)?;
    desk.detail(S::RECORD, &found)
}

pub(crate) async fn delete<S: Service>(
    desk: &mut Desk,
    mut service: S,
    name: String,
    write: &WriteArgs,
) -> Result<(), Failure> {
    service.delete(name.clone(), write.message()).await.map_err(failure_of)?;
    desk.note(&format!("{} {name} is gone", S::Entity::KIND));
    Ok(())
}

/// All of them, a row each; the last column is the revision.
pub(crate) async fn list<S: Service>(
    desk: &mut Desk,
    service: &S,
    columns: &[(&str, Align)],
    row: impl Fn(S::Entity) -> Vec<String>,
) -> Result<(), Failure> {
    let found = every(service).await?;
    desk.list(S::RECORD, &found, columns, |record| {
        let (entity, number) = S::open(record);
        let mut row = row(entity);
        row.push(revision(number));
        row
    })
}

/// All of them.
pub(crate) async fn every<S: Service>(service: &S) -> Result<Vec<S::Record>, Failure> {
    all(|page_token| {
        let mut service = service.clone();
        async move { service.page(page_token).await }
    })
    .await
}
