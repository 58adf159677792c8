//! Who may do what.

use std::time::Duration;

use farebox_admin::{
    DESCRIPTOR, Options,
    v1::{self, key_service_client::KeyServiceClient},
};
use farebox_proto::v1 as wire;
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::Span;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use crate::world::{Connection, World};

/// Every method of the API, by path, and whether it only reads.
fn methods() -> Vec<(String, bool)> {
    let set = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let mut methods = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "farebox.admin.v1") {
        for service in &file.service {
            for method in &service.method {
                let reads = ["Get", "List", "Query", "Tail", "Reconcile", "Read", "Check", "Explain"];
                let is_read = reads.iter().any(|verb| method.name().starts_with(verb));
                methods.push((format!("/farebox.admin.v1.{}/{}", service.name(), method.name()), is_read));
            }
        }
    }
    methods
}

/// Calls a method with an empty message.
async fn call(connection: Connection, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(connection);
    grpc.ready().await.unwrap();
    let mut request = Request::new(());
    request.set_timeout(Duration::from_secs(10));
    grpc.unary(request, path.parse().unwrap(), ProstCodec::<(), ()>::default()).await.map(|_| ())
}

async fn code(connection: Connection, path: &str) -> Code {
    call(connection, path).await.err().map_or(Code::Ok, |status| status.code())
}

fn admin(role: wire::AdminRole) -> wire::Key {
    wire::Key { name: role.as_str_name().to_owned(), role: role.into(), ..Default::default() }
}

#[tokio::test]
async fn every_method_asks_for_credentials_and_a_role() {
    let world = World::start().await;
    let caller = world.key(wire::Key { project: "acme".to_owned(), ..Default::default() }).await;
    let viewer = world.key(admin(wire::AdminRole::Viewer)).await;
    let operator = world.key(admin(wire::AdminRole::Operator)).await;
    let unknown = format!("fb-nobody-{}", "x".repeat(64));
    let all = methods();
    assert!(all.len() > 30, "{all:?}");
    for (path, is_read) in all {
        for nobody in ["", "no-key-at-all", &unknown] {
            assert_eq!(code(world.connect(nobody).await, &path).await, Code::Unauthenticated, "{path} as `{nobody}`");
        }
        let refused = call(world.connect(&caller).await, &path).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{path} with a caller's key");
        if path.ends_with("/TailCalls") {
            // It would not end.
            continue;
        }
        let let_in = |code: Code| !matches!(code, Code::Unauthenticated | Code::PermissionDenied);
        let seen = code(world.connect(&viewer).await, &path).await;
        assert_eq!(let_in(seen), is_read, "{path} as viewer: {seen:?}");
        let seen = code(world.connect(&operator).await, &path).await;
        let owned = path.contains("ConfigService") && !is_read;
        assert_eq!(let_in(seen), !owned, "{path} as operator: {seen:?}");
        assert!(let_in(code(world.master().await, &path).await), "{path} with the master key");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_key_may_be_bound_to_addresses_and_ends_at_once() {
    let world = World::start().await;
    let elsewhere = wire::Key { addresses: vec!["10.0.0.0/8".to_owned()], ..admin(wire::AdminRole::Viewer) };
    let elsewhere = world.key(elsewhere).await;
    let path = "/farebox.admin.v1.KeyService/ListKeys";
    assert_eq!(code(world.connect(&elsewhere).await, path).await, Code::PermissionDenied);

    let here = wire::Key {
        id: "here".to_owned(),
        addresses: vec!["127.0.0.0/8".to_owned()],
        ..admin(wire::AdminRole::Viewer)
    };
    let here = world.connect(&world.key(here).await).await;
    assert_eq!(code(here.clone(), path).await, Code::Ok);
    let mut keys = KeyServiceClient::new(world.master().await);
    keys.revoke_key(v1::RevokeKeyRequest { id: "here".to_owned(), write: None }).await.unwrap();
    let shut = || async { code(here.clone(), path).await == Code::Unauthenticated };
    eventually(Duration::from_secs(1), "the open connection has no more rights", shut).await;
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_checked_is_unavailable_and_health_says_so() {
    let following = farebox_directory::Options {
        stale_after: Span::from_secs(4),
        check_interval: Span::from_millis(100),
        late_after: Span::from_secs(1),
    };
    let world = World::with(Options::default(), following).await;
    let viewer = world.connect(&world.key(admin(wire::AdminRole::Viewer)).await).await;
    let path = "/farebox.admin.v1.ModelService/ListModels";
    assert_eq!(code(viewer.clone(), path).await, Code::Ok);
    let health = HealthClient::new(Channel::from_shared(format!("http://{}", world.addr)).unwrap().connect_lazy());
    let standing = |service: &'static str, wanted: ServingStatus| {
        let mut health = health.clone();
        async move {
            let ask = HealthCheckRequest { service: service.to_owned() };
            health.check(ask).await.is_ok_and(|answer| answer.into_inner().status() == wanted)
        }
    };
    for service in ["", "farebox.admin.v1.KeyService", "farebox.admin.v1.AuditService"] {
        eventually(PATIENCE, "it serves", || standing(service, ServingStatus::Serving)).await;
    }

    world.nats.pause().await.unwrap();
    let stale = || async { code(viewer.clone(), path).await == Code::Unavailable };
    eventually(PATIENCE, "keys cannot be checked", stale).await;
    let refused = call(viewer.clone(), path).await.unwrap_err();
    assert!(refused.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{refused:?}");
    eventually(PATIENCE, "it says so", || standing("farebox.admin.v1.KeyService", ServingStatus::NotServing)).await;

    world.nats.cont().await.unwrap();
    let again = || async { code(viewer.clone(), path).await == Code::Ok };
    eventually(PATIENCE, "keys are known again", again).await;
    world.stop().await;
}

#[tokio::test]
async fn a_request_has_an_end() {
    let options = Options { request_timeout: Span::from_millis(300), ..Options::default() };
    let world = World::with(options, Default::default()).await;
    // Nobody answers here.
    let _silent = world.bus.subscribe(farebox_proto::subjects::USAGE, None).await.unwrap();
    world.bus.flush().await.unwrap();
    let mut calls = v1::call_service_client::CallServiceClient::new(world.master().await);
    let late = calls.query_usage(v1::QueryUsageRequest::default()).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    world.stop().await;
}
