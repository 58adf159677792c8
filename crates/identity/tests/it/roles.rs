use bytes::Bytes;
use farebox_bus::{ConsumerSpec, Fence, Headers, LeaseOptions, StoreError, topology};
use farebox_identity::Role;
use farebox_proto::subjects::Tenancy;
use farebox_testkit::eventually;

use crate::world::{LONG, World};

#[tokio::test]
async fn every_role_can_do_its_work() {
    let world = World::start().await;
    let options = topology::StorageOptions::default();
    for role in Role::ALL {
        let bus = world.role(role).await;
        topology::ensure_topology(&bus, Tenancy::Projects, &options).await.unwrap();
        assert_eq!(bus.counts().permission_violations, 0, "{role:?}");
    }
    let body = Bytes::from(vec![7; 3_000_000]);
    let guard = world.role(Role::Guard).await;
    let worker = world.role(Role::Worker).await;
    let intake = world.role(Role::Intake).await;
    let accounting = world.role(Role::Accounting).await;
    let object = intake.put_object(topology::BODIES, body.clone(), LONG).await.unwrap();
    assert_eq!(worker.get_object(&object, LONG).await.unwrap(), body);
    let lease = guard.bucket(topology::LEASES).acquire("guard", "one", &LeaseOptions::default()).await;
    assert!(lease.is_held());

    let store = async |bus: &farebox_bus::Bus, subject: &str| {
        bus.store(subject, Headers::new(), Fence::after_subject_seq(0), Bytes::new(), LONG).await.unwrap()
    };
    store(&guard, "farebox.v1.ledger.0").await;
    store(&intake, "farebox.v1.job.acme.r1").await;
    store(&worker, "llm.acme.response.r1").await;
    let agent = world.anyone().await;
    let mut facts = agent.subscribe("llm.call.*", None).await.unwrap();
    agent.flush().await.unwrap();
    store(&guard, "llm.default.call.c1").await;
    assert_eq!(facts.next().await.unwrap().subject, "llm.call.c1");

    let spec = ConsumerSpec::default();
    let mut jobs = worker.consumer(topology::JOBS, "workers", &spec).await.unwrap();
    jobs.next(LONG).await.unwrap().double_ack(LONG).await.unwrap();
    let mut calls = accounting.consumer(topology::CALLS, "accounting", &spec).await.unwrap();
    assert_eq!(calls.next(LONG).await.unwrap().subject, "llm.default.call.c1");
    for bus in [guard, worker, intake, accounting] {
        assert_eq!(bus.counts().permission_violations, 0);
    }
    world.stop().await;
}

#[tokio::test]
async fn no_role_speaks_for_a_caller_or_hears_its_answers() {
    let world = World::start().await;
    for role in [Role::Guard, Role::Worker, Role::Accounting, Role::Edge, Role::Admin] {
        let bus = world.role(role).await;
        for (tries, subject) in (1..).zip(["llm.acme.request", "llm.acme.job", "llm.acme.usage"]) {
            bus.publish(subject, Headers::new(), Bytes::new()).await.unwrap();
            let refused = || async { bus.counts().permission_violations == tries };
            eventually(LONG, &format!("{role:?} may not publish {subject}"), refused).await;
        }
        let _answers = bus.subscribe("llm.acme.response.*", None).await.unwrap();
        let refused = || async { bus.counts().permission_violations == 4 };
        eventually(LONG, &format!("{role:?} may not hear answers"), refused).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn only_the_guard_writes_the_ledger() {
    let world = World::start().await;
    let guard = world.role(Role::Guard).await;
    topology::ensure_topology(&guard, Tenancy::Projects, &topology::StorageOptions::default()).await.unwrap();
    for role in [Role::Intake, Role::Worker, Role::Accounting, Role::Edge, Role::Admin] {
        let bus = world.role(role).await;
        let written = bus.store("farebox.v1.ledger.0", Headers::new(), Fence::none(), Bytes::new(), LONG).await;
        assert!(matches!(written, Err(StoreError::Forbidden { .. })), "{role:?}: {written:?}");
        assert!(bus.purge_up_to(topology::LEDGER, ">", 9).await.is_err(), "{role:?}");
        assert!(bus.delete_stream(topology::LEDGER).await.is_err(), "{role:?}");
    }
    assert_eq!(guard.stream_info(topology::LEDGER).await.unwrap().messages, 0);
    world.stop().await;
}
