//! The config: read, check, apply, history, roll back.

use farebox_types::ErrorKind;
use tonic::{Request, Response};

use crate::{
    api::{Answer, Api},
    config_book::{ConfigRefusal, brief, shown},
    refusal::Refusal,
    v1::{self, config_service_server::ConfigService},
};

#[tonic::async_trait]
impl ConfigService for Api {
    async fn read_config(&self, _: Request<v1::ReadConfigRequest>) -> Answer<v1::ReadConfigResponse> {
        let book = &self.0.config;
        let newest = book.revisions().await.map_err(Refusal::from)?.into_iter().next().map(shown);
        let (in_force, effective) = book.reader().show();
        Ok(Response::new(v1::ReadConfigResponse { newest, in_force, effective }))
    }

    async fn check_config(&self, request: Request<v1::CheckConfigRequest>) -> Answer<v1::CheckConfigResponse> {
        let checked = self.0.config.reader().check(&request.get_ref().document);
        Ok(Response::new(match checked {
            Ok(changes) => v1::CheckConfigResponse { changes, ..Default::default() },
            Err(faults) => v1::CheckConfigResponse { faults, ..Default::default() },
        }))
    }

    async fn apply_config(&self, request: Request<v1::ApplyConfigRequest>) -> Answer<v1::ConfigRevision> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let document = request.into_inner().document;
        let applied = self.0.config.apply(document, deed.change(), deed.revision).await;
        Ok(Response::new(shown(applied.map_err(Refusal::from)?)))
    }

    async fn get_config_revision(&self, request: Request<v1::GetConfigRevisionRequest>) -> Answer<v1::ConfigRevision> {
        let kept = self.0.config.revision(request.get_ref().revision).await;
        Ok(Response::new(shown(kept.map_err(Refusal::from)?)))
    }

    async fn list_config_revisions(
        &self,
        _: Request<v1::ListConfigRevisionsRequest>,
    ) -> Answer<v1::ListConfigRevisionsResponse> {
        let kept = self.0.config.revisions().await.map_err(Refusal::from)?;
        let revisions = kept.into_iter().map(brief).collect();
        Ok(Response::new(v1::ListConfigRevisionsResponse { revisions }))
    }

    async fn roll_back_config(&self, request: Request<v1::RollBackConfigRequest>) -> Answer<v1::ConfigRevision> {
        let deed = self.deed(&request, &request.get_ref().write)?;
        let back = self.0.config.roll_back(request.get_ref().to, deed.change(), deed.revision).await;
        Ok(Response::new(shown(back.map_err(Refusal::from)?)))
    }
}

impl From<ConfigRefusal> for Refusal {
    fn from(refusal: ConfigRefusal) -> Refusal {
        let message = refusal.to_string();
        match refusal {
            ConfigRefusal::Faults(faults) => {
                let said = |fault: v1::ConfigFault| {
                    let path = if fault.path.is_empty() { "document".to_owned() } else { fault.path };
                    match fault.line {
                        0 => (path, format!("{}: {}", fault.source, fault.message)),
                        line => (path, format!("line {line}, column {}: {}", fault.column, fault.message)),
                    }
                };
                Refusal::fields(faults.into_iter().map(said).collect())
            }
            ConfigRefusal::TooLarge { .. } => Refusal::field("document", message),
            ConfigRefusal::Changed { wanted, present } => Refusal::revision("config", "applied", wanted, present),
            ConfigRefusal::OtherRequest { id } => Refusal::other_request(&id),
            ConfigRefusal::Unknown { revision } => Refusal::not_found("config revision", &revision.to_string()),
            ConfigRefusal::Read(error) => error.into(),
            ConfigRefusal::Write(error) => {
                tracing::warn!(%error, "a config was not stored");
                Refusal::new(ErrorKind::Unavailable, format!("{message}: try again under the same request id"))
            }
        }
    }
}
