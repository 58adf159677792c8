//! The config: applied by who knew the one before, and in the record of changes.

use farebox_admin::v1::{
    self, audit_service_client::AuditServiceClient, change_record::Entity, config_service_client::ConfigServiceClient,
    project_service_client::ProjectServiceClient,
};
use farebox_proto::v1 as wire;
use farebox_testkit::{PATIENCE, eventually};
use tonic::Code;

use crate::world::{World, fields, reason, write};

fn apply(document: &str, write: Option<v1::Write>) -> v1::ApplyConfigRequest {
    v1::ApplyConfigRequest { document: document.to_owned(), write }
}

#[tokio::test]
async fn of_two_who_knew_the_same_config_one_is_told_that_the_other_was_first() {
    let world = World::start().await;
    let mut config = ConfigServiceClient::new(world.master().await);
    let first = config.apply_config(apply("one", write("a-1", 0, "first"))).await.unwrap().into_inner();
    let mut other = config.clone();
    let (left, right) = tokio::join!(
        config.apply_config(apply("left", write("", first.revision, ""))),
        other.apply_config(apply("right", write("", first.revision, ""))),
    );
    let (done, late) = match left {
        Ok(done) => (done, right),
        Err(_) => (right.unwrap(), left),
    };
    let late = late.unwrap_err();
    assert_eq!((late.code(), reason(&late).as_str()), (Code::Aborted, "CONFLICT"), "{late:?}");
    let again = config.apply_config(apply("one", write("a-1", 0, "first"))).await.unwrap().into_inner();
    assert_eq!(again, first, "the same request again changes nothing");

    let (to, revision) = (first.revision, done.into_inner().revision);
    let back = v1::RollBackConfigRequest { to, write: write("", revision, "it was better") };
    let back = config.roll_back_config(back).await.unwrap().into_inner();
    assert_eq!((back.document.as_str(), back.restores), ("one", to));
    let unknown = config.roll_back_config(v1::RollBackConfigRequest { to: 99, write: None }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let listed = config.list_config_revisions(v1::ListConfigRevisionsRequest {}).await.unwrap().into_inner().revisions;
    let reasons: Vec<&str> = listed.iter().map(|kept| kept.change.as_ref().unwrap().reason.as_str()).collect();
    assert_eq!(reasons, ["it was better", "", "first"]);
    assert!(listed.iter().all(|kept| kept.document.is_empty() && !kept.digest.is_empty()));
    let read = config.read_config(v1::ReadConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(read.newest.unwrap().revision, back.revision);

    let mut audit = AuditServiceClient::new(world.master().await);
    let ask = v1::ListChangesRequest { kind: "config".to_owned(), ..Default::default() };
    let copied = || async { audit.clone().list_changes(ask.clone()).await.unwrap().into_inner().changes.len() == 3 };
    eventually(PATIENCE, "the changes are in the record", copied).await;
    let newest = audit.list_changes(ask).await.unwrap().into_inner().changes.remove(0);
    assert_eq!(newest.name, "farebox");
    let change = newest.change.unwrap();
    assert_eq!((change.by.as_str(), change.reason.as_str()), ("master-key", "it was better"));
    let Some(Entity::Config(kept)) = newest.entity else { panic!("the revision is missing") };
    assert_eq!((kept.revision, kept.restores, kept.document.as_str()), (back.revision, to, ""));
    world.stop().await;
}

#[tokio::test]
async fn faults_are_said_where_they_stand_and_only_owners_change_the_config() {
    let world = World::start().await;
    let mut config = ConfigServiceClient::new(world.master().await);
    let check = |document: &str| v1::CheckConfigRequest { document: document.to_owned() };
    let checked = config.check_config(check("models:\n  bad: x")).await.unwrap().into_inner();
    assert_eq!((checked.faults[0].path.as_str(), checked.faults[0].line), ("models.bad", 2));
    assert_eq!(config.check_config(check("good")).await.unwrap().into_inner().changes, ["models"]);
    let refused = config.apply_config(apply("bad", None)).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["models.bad".to_owned()]));
    assert!(refused.message().contains("line 2, column 3"), "{refused:?}");

    for (role, may_write) in
        [(wire::AdminRole::Viewer, false), (wire::AdminRole::Operator, false), (wire::AdminRole::Owner, true)]
    {
        let key = world.key(wire::Key { role: role.into(), ..Default::default() }).await;
        let mut config = ConfigServiceClient::new(world.connect(&key).await);
        config.read_config(v1::ReadConfigRequest {}).await.unwrap();
        let refused = config.apply_config(apply("good", None)).await.err().map(|refused| refused.code());
        assert_eq!(refused, (!may_write).then_some(Code::PermissionDenied), "{role:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_project_brings_keys_for_providers_that_take_some() {
    let world = World::start().await;
    let mut projects = ProjectServiceClient::new(world.master().await);
    let project = |provider: &str, key: &str| {
        let provider_keys = [(provider.to_owned(), key.to_owned())].into();
        Some(wire::Project { name: "one".to_owned(), provider_keys, ..Default::default() })
    };
    let refused = [
        ("bedrock", "os.environ/ITS_KEY", "takes no plain key"),
        ("nowhere", "os.environ/ITS_KEY", "there is no provider"),
        ("local", "os.environ/FAREBOX_KEY", "worker.project_secrets"),
        ("local", "file:/run/secrets/root.key", "worker.project_secrets"),
        ("local", "sk-canary-4417", "plain text"),
    ];
    for (provider, key, why) in refused {
        let ask = v1::CreateProjectRequest { project: project(provider, key), write: None };
        let refused = projects.create_project(ask).await.unwrap_err();
        assert_eq!(fields(&refused), [format!("project.provider_keys.{provider}")], "{refused:?}");
        assert!(refused.message().contains(why) && !refused.message().contains("canary"), "{refused:?}");
    }
    let ask = v1::CreateProjectRequest { project: project("local", "os.environ/ITS_KEY"), write: None };
    projects.create_project(ask).await.unwrap();
    let ask = v1::UpdateProjectRequest { project: project("local", "os.environ/FAREBOX_KEY"), write: None };
    let refused = projects.update_project(ask).await.unwrap_err();
    assert_eq!(fields(&refused), ["project.provider_keys.local"], "{refused:?}");
    world.stop().await;
}
