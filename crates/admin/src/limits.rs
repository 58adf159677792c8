//! Limits, and where they stand.

use farebox_proto::v1 as wire;
use tonic::{Request, Response};

use crate::{
    api::{Answer, Api, counts, reply, required},
    paging::Page,
    v1::{self, limit_service_server::LimitService},
};

#[tonic::async_trait]
impl LimitService for Api {
    async fn create_limit(&self, request: Request<v1::CreateLimitRequest>) -> Answer<v1::LimitRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let limit = required("limit", request.into_inner().limit)?;
        reply(self.entities().create(&deed, limit).await)
    }

    async fn get_limit(&self, request: Request<v1::GetLimitRequest>) -> Answer<v1::LimitRecord> {
        reply(self.entities().get::<wire::Limit>(&request.get_ref().name).await)
    }

    async fn list_limits(&self, request: Request<v1::ListLimitsRequest>) -> Answer<v1::ListLimitsResponse> {
        let ask = request.into_inner();
        let page = Page::read(ask.page_size, &ask.page_token)?;
        let (limits, next_page_token) = self.entities().list::<wire::Limit>(&page, |_| true).await?;
        let limits = limits.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListLimitsResponse { limits, next_page_token }))
    }

    async fn update_limit(&self, request: Request<v1::UpdateLimitRequest>) -> Answer<v1::LimitRecord> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let limit = required("limit", request.into_inner().limit)?;
        reply(self.entities().update(&deed, &limit.name, |_| Ok(limit.clone())).await)
    }

    async fn delete_limit(&self, request: Request<v1::DeleteLimitRequest>) -> Answer<v1::DeleteLimitResponse> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        self.entities().delete::<wire::Limit>(&deed, &request.get_ref().name, |_| Ok(())).await?;
        Ok(Response::new(v1::DeleteLimitResponse {}))
    }

    async fn get_limit_status(&self, request: Request<v1::GetLimitStatusRequest>) -> Answer<v1::LimitStatusReport> {
        let ask = request.into_inner();
        if !ask.name.is_empty() {
            self.entities().get::<wire::Limit>(&ask.name).await?;
        }
        let status = self.guard_status(&ask.name, if ask.subject.is_empty() { counts(ask.max) } else { 0 }).await?;
        let mut found = status.limits;
        found.retain(|count| ask.subject.is_empty() || count.subject == ask.subject);
        found.truncate(counts(ask.max) as usize);
        Ok(Response::new(v1::LimitStatusReport { counts: found, sequence: status.sequence }))
    }
}
