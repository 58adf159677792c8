//! Organisations, their projects, and groups of keys.

use farebox_proto::v1 as wire;
use tonic::{Request, Response};

use crate::{
    api::{Answer, Api, reply, required},
    paging::Page,
    refusal::Refusal,
    v1::{
        self, group_service_server::GroupService, organisation_service_server::OrganisationService,
        project_service_server::ProjectService,
    },
};

#[tonic::async_trait]
impl ProjectService for Api {
    async fn create_project(&self, request: Request<v1::CreateProjectRequest>) -> Answer<v1::ProjectRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let project = self.usable(required("project", request.into_inner().project)?)?;
        reply(self.entities().create(&deed, project).await)
    }

    async fn get_project(&self, request: Request<v1::GetProjectRequest>) -> Answer<v1::ProjectRecord> {
        reply(self.entities().get::<wire::Project>(&request.get_ref().name).await)
    }

    async fn list_projects(&self, request: Request<v1::ListProjectsRequest>) -> Answer<v1::ListProjectsResponse> {
        let ask = request.into_inner();
        let page = Page::read(ask.page_size, &ask.page_token)?;
        let (projects, next_page_token) = self
            .entities()
            .list::<wire::Project>(&page, |project| {
                ask.organisation.is_empty() || project.organisation == ask.organisation
            })
            .await?;
        let projects = projects.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListProjectsResponse { projects, next_page_token }))
    }

    async fn update_project(&self, request: Request<v1::UpdateProjectRequest>) -> Answer<v1::ProjectRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let project = self.usable(required("project", request.into_inner().project)?)?;
        reply(self.entities().update(&deed, &project.name, |_| Ok(project.clone())).await)
    }

    async fn delete_project(&self, request: Request<v1::DeleteProjectRequest>) -> Answer<v1::DeleteProjectResponse> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        self.entities().delete::<wire::Project>(&deed, &request.get_ref().name, |_| Ok(())).await?;
        Ok(Response::new(v1::DeleteProjectResponse {}))
    }
}

impl Api {
    /// A project, if the keys that it brings along are for providers that take some, and its own to name.
    fn usable(&self, project: wire::Project) -> Result<wire::Project, Refusal> {
        let offers = self.0.offers.borrow().clone();
        let wrong = project.provider_keys.iter().filter_map(|(name, reference)| {
            let message = match offers.catalog.provider(name) {
                None => format!("there is no provider `{name}`"),
                Some(provider) if !provider.takes_key() => format!("the provider `{name}` takes no plain key"),
                Some(_) => match reference.parse() {
                    Ok(secret) if !(self.0.nameable)(&secret) => {
                        "projects may not name this secret: allow it in `worker.project_secrets`".to_owned()
                    }
                    // What is no reference is refused as all that cannot be read.
                    _ => return None,
                },
            };
            Some((format!("project.provider_keys.{name}"), message))
        });
        let wrong: Vec<_> = wrong.collect();
        if wrong.is_empty() { Ok(project) } else { Err(Refusal::fields(wrong)) }
    }
}

#[tonic::async_trait]
impl OrganisationService for Api {
    async fn create_organisation(
        &self,
        request: Request<v1::CreateOrganisationRequest>,
    ) -> Answer<v1::OrganisationRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let organisation = required("organisation", request.into_inner().organisation)?;
        reply(self.entities().create(&deed, organisation).await)
    }

    async fn get_organisation(&self, request: Request<v1::GetOrganisationRequest>) -> Answer<v1::OrganisationRecord> {
        reply(self.entities().get::<wire::Organisation>(&request.get_ref().name).await)
    }

    async fn list_organisations(
        &self,
        request: Request<v1::ListOrganisationsRequest>,
    ) -> Answer<v1::ListOrganisationsResponse> {
        let ask = request.into_inner();
        let page = Page::read(ask.page_size, &ask.page_token)?;
        let (organisations, next_page_token) = self.entities().list::<wire::Organisation>(&page, |_| true).await?;
        let organisations = organisations.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListOrganisationsResponse { organisations, next_page_token }))
    }

    async fn update_organisation(
        &self,
        request: Request<v1::UpdateOrganisationRequest>,
    ) -> Answer<v1::OrganisationRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let organisation = required("organisation", request.into_inner().organisation)?;
        reply(self.entities().update(&deed, &organisation.name, |_| Ok(organisation.clone())).await)
    }

    async fn delete_organisation(
        &self,
        request: Request<v1::DeleteOrganisationRequest>,
    ) -> Answer<v1::DeleteOrganisationResponse> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        self.entities().delete::<wire::Organisation>(&deed, &request.get_ref().name, |_| Ok(())).await?;
        Ok(Response::new(v1::DeleteOrganisationResponse {}))
    }
}

#[tonic::async_trait]
impl GroupService for Api {
    async fn create_group(&self, request: Request<v1::CreateGroupRequest>) -> Answer<v1::GroupRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let group = required("group", request.into_inner().group)?;
        reply(self.entities().create(&deed, group).await)
    }

    async fn get_group(&self, request: Request<v1::GetGroupRequest>) -> Answer<v1::GroupRecord> {
        reply(self.entities().get::<wire::KeyGroup>(&request.get_ref().name).await)
    }

    async fn list_groups(&self, request: Request<v1::ListGroupsRequest>) -> Answer<v1::ListGroupsResponse> {
        let ask = request.into_inner();
        let page = Page::read(ask.page_size, &ask.page_token)?;
        let (groups, next_page_token) = self.entities().list::<wire::KeyGroup>(&page, |_| true).await?;
        let groups = groups.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListGroupsResponse { groups, next_page_token }))
    }

    async fn update_group(&self, request: Request<v1::UpdateGroupRequest>) -> Answer<v1::GroupRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let group = required("group", request.into_inner().group)?;
        reply(self.entities().update(&deed, &group.name, |_| Ok(group.clone())).await)
    }

    async fn delete_group(&self, request: Request<v1::DeleteGroupRequest>) -> Answer<v1::DeleteGroupResponse> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        self.entities().delete::<wire::KeyGroup>(&deed, &request.get_ref().name, |_| Ok(())).await?;
        Ok(Response::new(v1::DeleteGroupResponse {}))
    }
}
