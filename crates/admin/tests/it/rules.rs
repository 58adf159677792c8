//! Tenants, budgets and limits: made, changed and removed, each as a whole that fits.

use farebox_admin::v1::{
    self, budget_service_client::BudgetServiceClient, group_service_client::GroupServiceClient,
    limit_service_client::LimitServiceClient, organisation_service_client::OrganisationServiceClient,
    project_service_client::ProjectServiceClient,
};
use farebox_proto::{subjects, v1 as wire};
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{Clock, SystemClock};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::world::{World, fields, write};

fn daily(name: &str, usd: i64) -> wire::Budget {
    wire::Budget {
        name: name.to_owned(),
        period: "day".to_owned(),
        limit: Some(wire::Money { usd, pico: 0 }),
        hard: true,
        ..Default::default()
    }
}

fn stands_in_the_way(refusal: &Status) -> Vec<String> {
    let details = refusal.get_error_details();
    details.precondition_failure().map(|f| f.violations.iter().map(|v| v.r#type.clone()).collect()).unwrap_or_default()
}

#[tokio::test]
async fn a_budget_is_made_changed_and_removed() {
    let world = World::start().await;
    let mut budgets = BudgetServiceClient::new(world.master().await);
    let create = |budget: wire::Budget, request_id: &str| v1::CreateBudgetRequest {
        budget: Some(budget),
        write: write(request_id, 0, ""),
    };
    let made = budgets.create_budget(create(daily("daily", 10), "b-1")).await.unwrap().into_inner();
    world.known("the budget", |policies| policies.budgets.contains_key("daily")).await;
    let again = budgets.create_budget(create(daily("daily", 10), "b-1")).await.unwrap().into_inner();
    assert_eq!(again, made);
    for (budget, request_id) in [(daily("daily", 11), "b-1"), (daily("daily", 10), "")] {
        let refused = budgets.create_budget(create(budget, request_id)).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
    }

    let update = |usd, revision, request_id: &str| v1::UpdateBudgetRequest {
        budget: Some(daily("daily", usd)),
        write: write(request_id, revision, "more traffic"),
    };
    let changed = budgets.update_budget(update(20, made.revision, "u-1")).await.unwrap().into_inner();
    assert!(changed.revision > made.revision);
    assert_eq!(budgets.update_budget(update(20, made.revision, "u-1")).await.unwrap().into_inner(), changed);
    let late = budgets.update_budget(update(30, made.revision, "")).await.unwrap_err();
    assert_eq!((late.code(), stands_in_the_way(&late)), (Code::Aborted, vec!["REVISION".to_owned()]));
    budgets.update_budget(update(30, 0, "")).await.unwrap();
    let replayed = budgets.update_budget(update(20, made.revision, "u-1")).await.unwrap().into_inner();
    assert_eq!(replayed, changed, "an old request again changes nothing");
    let got = budgets.get_budget(v1::GetBudgetRequest { name: "daily".to_owned() }).await.unwrap().into_inner();
    assert_eq!(got.budget.unwrap().limit.unwrap().usd, 30);

    let delete = v1::DeleteBudgetRequest { name: "daily".to_owned(), write: write("d-1", 0, "") };
    budgets.delete_budget(delete.clone()).await.unwrap();
    budgets.delete_budget(delete).await.unwrap();
    let unknown = v1::DeleteBudgetRequest { name: "daily".to_owned(), write: None };
    let refused = budgets.delete_budget(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.get_error_details().resource_info().unwrap().resource_name, "daily");
    world.known("it is gone", |policies| !policies.budgets.contains_key("daily")).await;
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_budget_is_said_by_field() {
    let world = World::start().await;
    let mut budgets = BudgetServiceClient::new(world.master().await);
    let cases = [
        (wire::Budget { period: "fortnight".to_owned(), ..daily("b", 1) }, "budget.period"),
        (wire::Budget { time_zone: "Nowhere/None".to_owned(), ..daily("b", 1) }, "budget.time_zone"),
        (daily("no dots.here", 1), "budget.name"),
        (wire::Budget { scope: vec![wire::ScopeTerm::default()], ..daily("b", 1) }, "budget.scope[0].dimension"),
    ];
    for (budget, field) in cases {
        let ask = v1::CreateBudgetRequest { budget: Some(budget), write: None };
        let refused = budgets.create_budget(ask).await.unwrap_err();
        assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]), "{refused:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_budget_is_raised_for_a_while_with_a_reason() {
    let world = World::start().await;
    let mut budgets = BudgetServiceClient::new(world.master().await);
    budgets.create_budget(v1::CreateBudgetRequest { budget: Some(daily("daily", 10)), write: None }).await.unwrap();
    let until_unix_ms = SystemClock.now().millis() + 60_000;
    let raise = v1::RaiseBudgetRequest {
        name: "daily".to_owned(),
        by: Some(wire::Money { usd: 5, pico: 0 }),
        until_unix_ms,
        write: write("raise-1", 0, "launch day"),
        ..Default::default()
    };
    let raised = budgets.raise_budget(raise.clone()).await.unwrap().into_inner();
    budgets.raise_budget(raise.clone()).await.unwrap();
    let found = &raised.budget.unwrap().raises[..];
    assert_eq!((found.len(), found[0].reason.as_str(), found[0].admin.as_str()), (1, "launch day", "master-key"));
    world.known("one raise", |policies| policies.budgets.get("daily").is_some_and(|b| b.raises.len() == 1)).await;
    let wrong = v1::RaiseBudgetRequest { by: None, until_unix_ms: 1, write: None, ..raise };
    let refused = budgets.raise_budget(wrong).await.unwrap_err();
    assert_eq!(fields(&refused), ["by", "until_unix_ms", "write.reason"]);
    world.stop().await;
}

#[tokio::test]
async fn a_project_goes_when_nothing_refers_to_it_and_the_file_has_the_last_word() {
    let world = World::start().await;
    let mut projects = ProjectServiceClient::new(world.master().await);
    let mut organisations = OrganisationServiceClient::new(world.master().await);
    let organisation = wire::Organisation { name: "big".to_owned(), ..Default::default() };
    organisations
        .create_organisation(v1::CreateOrganisationRequest { organisation: Some(organisation), write: None })
        .await
        .unwrap();
    let of_big = wire::Project { name: "p1".to_owned(), organisation: "big".to_owned(), ..Default::default() };
    projects.create_project(v1::CreateProjectRequest { project: Some(of_big.clone()), write: None }).await.unwrap();
    let lost = wire::Project { name: "p2".to_owned(), organisation: "nobody".to_owned(), ..Default::default() };
    let refused =
        projects.create_project(v1::CreateProjectRequest { project: Some(lost), write: None }).await.unwrap_err();
    assert_eq!(fields(&refused), ["project.organisation"], "{refused:?}");
    let delete = v1::DeleteOrganisationRequest { name: "big".to_owned(), write: None };
    let refused = organisations.delete_organisation(delete.clone()).await.unwrap_err();
    assert_eq!((refused.code(), stands_in_the_way(&refused)), (Code::FailedPrecondition, vec!["REFERENCE".to_owned()]));

    let ask = v1::ListProjectsRequest { page_size: 1, ..Default::default() };
    let first = projects.list_projects(ask.clone()).await.unwrap().into_inner();
    let ask = v1::ListProjectsRequest { page_token: first.next_page_token.clone(), ..ask };
    let second = projects.list_projects(ask).await.unwrap().into_inner();
    let names = |page: &v1::ListProjectsResponse| page.projects[0].project.clone().unwrap().name;
    assert_eq!((names(&first).as_str(), first.projects[0].revision), ("acme", 0), "the file's own stand there too");
    assert_eq!((names(&second).as_str(), second.next_page_token.as_str()), ("p1", ""));
    let ask = v1::ListProjectsRequest { organisation: "big".to_owned(), ..Default::default() };
    assert_eq!(projects.list_projects(ask).await.unwrap().into_inner().projects.len(), 1);

    let fixed = wire::Project { name: "acme".to_owned(), disabled: true, ..Default::default() };
    let refused =
        projects.update_project(v1::UpdateProjectRequest { project: Some(fixed), write: None }).await.unwrap_err();
    assert_eq!(
        (refused.code(), stands_in_the_way(&refused)),
        (Code::FailedPrecondition, vec!["CONFIG_FILE".to_owned()])
    );
    projects.delete_project(v1::DeleteProjectRequest { name: "p1".to_owned(), write: None }).await.unwrap();
    organisations.delete_organisation(delete).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn groups_and_limits_are_managed_alike() {
    let world = World::start().await;
    let mut groups = GroupServiceClient::new(world.master().await);
    let group = wire::KeyGroup { name: "team".to_owned(), description: "ours".to_owned(), ..Default::default() };
    groups.create_group(v1::CreateGroupRequest { group: Some(group.clone()), write: None }).await.unwrap();
    let other = wire::KeyGroup { description: "theirs".to_owned(), ..group };
    groups.update_group(v1::UpdateGroupRequest { group: Some(other), write: None }).await.unwrap();
    let listed = groups.list_groups(v1::ListGroupsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.groups[0].group.as_ref().unwrap().description, "theirs");
    groups.delete_group(v1::DeleteGroupRequest { name: "team".to_owned(), write: None }).await.unwrap();

    let mut limits = LimitServiceClient::new(world.master().await);
    let limit = wire::Limit {
        name: "rpm".to_owned(),
        measure: wire::LimitMeasure::Requests.into(),
        allowed: 100,
        period: "minute".to_owned(),
        ..Default::default()
    };
    let made = limits.create_limit(v1::CreateLimitRequest { limit: Some(limit.clone()), write: None }).await.unwrap();
    let bad = wire::Limit { name: "bad".to_owned(), strategy: "lottery".to_owned(), ..limit };
    let refused = limits.create_limit(v1::CreateLimitRequest { limit: Some(bad), write: None }).await.unwrap_err();
    assert_eq!(fields(&refused), ["limit.strategy"], "{refused:?}");
    let got = limits.get_limit(v1::GetLimitRequest { name: "rpm".to_owned() }).await.unwrap().into_inner();
    assert_eq!(got, made.into_inner());
    world.stop().await;
}

#[tokio::test]
async fn the_guard_is_asked_what_was_spent() {
    let world = World::start().await;
    let mut budgets = BudgetServiceClient::new(world.master().await);
    let mut limits = LimitServiceClient::new(world.master().await);
    let away = budgets.get_budget_status(v1::GetBudgetStatusRequest::default()).await.unwrap_err();
    assert_eq!(away.code(), Code::Unavailable, "no guard is there: {away:?}");

    let mut guard = world.bus.subscribe(&subjects::budgets(subjects::SHARD), None).await.unwrap();
    world.bus.flush().await.unwrap();
    let bus = world.bus.clone();
    let mut answering = tokio::task::JoinSet::new();
    answering.spawn(async move {
        while let Some(asked) = guard.next().await {
            let window = |subject: &str| wire::BudgetStatus {
                budget: "per-task".to_owned(),
                subject: subject.to_owned(),
                reserved: Some(wire::Money { usd: 2, pico: 0 }),
                open: 3,
                ..Default::default()
            };
            let count =
                wire::LimitStatus { limit: "rpm".to_owned(), subject: "k1".to_owned(), used: 7, ..Default::default() };
            let reply = wire::BudgetStatusReply {
                budgets: vec![window("acme/t1"), window("acme/t2")],
                limits: vec![count],
                open: 3,
                sequence: 9,
                waiting: 1,
            };
            bus.publish(&asked.reply.unwrap(), Default::default(), reply.encode_to_vec().into()).await.unwrap();
        }
    });
    let ask = v1::GetBudgetStatusRequest { subject: "acme/t2".to_owned(), ..Default::default() };
    let told = budgets.get_budget_status(ask).await.unwrap().into_inner();
    assert_eq!((told.windows.len(), told.open, told.waiting, told.sequence), (1, 3, 1, 9));
    assert_eq!((told.windows[0].subject.as_str(), told.windows[0].open), ("acme/t2", 3));
    let told = limits.get_limit_status(v1::GetLimitStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!(told.counts[0].used, 7);
    let unknown = v1::GetBudgetStatusRequest { name: "nothing".to_owned(), ..Default::default() };
    assert_eq!(budgets.get_budget_status(unknown).await.unwrap_err().code(), Code::NotFound);
    world.stop().await;
}

#[tokio::test]
async fn of_two_changes_at_once_none_is_lost() {
    let world = World::start().await;
    let mut budgets = BudgetServiceClient::new(world.master().await);
    budgets.create_budget(v1::CreateBudgetRequest { budget: Some(daily("daily", 1)), write: None }).await.unwrap();
    let until_unix_ms = SystemClock.now().millis() + 60_000;
    let mut raising = tokio::task::JoinSet::new();
    for n in 0..8 {
        let mut budgets = budgets.clone();
        raising.spawn(async move {
            let raise = v1::RaiseBudgetRequest {
                name: "daily".to_owned(),
                by: Some(wire::Money { usd: 1, pico: 0 }),
                until_unix_ms,
                write: write(&format!("raise-{n}"), 0, "all at once"),
                ..Default::default()
            };
            budgets.raise_budget(raise).await.unwrap();
        });
    }
    while let Some(done) = raising.join_next().await {
        done.unwrap();
    }
    let all = || async { world.directory.newest().budgets["daily"].raises.len() == 8 };
    eventually(PATIENCE, "all eight raises", all).await;
    world.stop().await;
}
