//! A client's deadline, on a bus that stands still.

use std::time::Duration;

use farebox_admin::v1::{self, audit_service_client::AuditServiceClient, key_service_client::KeyServiceClient};
use farebox_policy::{KeyText, Pepper, Policies};
use farebox_proto::v1 as wire;
use farebox_testkit::{PATIENCE, eventually};
use farebox_types::{Clock, SystemClock};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Request, Status};

use crate::world::{Connection, World, reason, write};

/// As long as a client waits here.
const DEADLINE: Duration = Duration::from_secs(1);

fn hurried<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// A key whose id is also that of its request.
fn create(id: &str) -> v1::CreateKeyRequest {
    let key = wire::Key { id: id.to_owned(), project: "acme".to_owned(), ..Default::default() };
    v1::CreateKeyRequest { key: Some(key), write: write(id, 0, "") }
}

/// Makes one key after the other until one is too late: its id, and what was said of it.
async fn make(mut keys: KeyServiceClient<Connection>, maker: u32) -> (String, Status) {
    let mut n = 0;
    loop {
        let id = format!("m{maker}n{n}");
        if let Err(refused) = keys.create_key(hurried(create(&id))).await {
            return (id, refused);
        }
        n += 1;
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_said_in_time_and_leaves_nothing_half_done() {
    let world = World::start().await;
    let mut keys = KeyServiceClient::new(world.master().await);
    // Many at once: the bus stops before the reading of some, and between the reading and the writing of others.
    let mut making = JoinSet::new();
    for maker in 0..4 {
        making.spawn(make(keys.clone(), maker));
    }
    world.known("some keys", |policies| policies.keys.len() > 12).await;
    world.nats.pause().await.unwrap();
    let paused = Instant::now();
    let late = making.join_all().await;
    // Long before the server's own time is over.
    assert!(paused.elapsed() < 4 * DEADLINE, "{:?}", paused.elapsed());
    for (id, refused) in &late {
        assert_eq!((refused.code(), reason(refused).as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{id}");
    }
    let refused = keys.list_keys(hurried(v1::ListKeysRequest::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");

    world.nats.cont().await.unwrap();
    let back = || async { keys.clone().list_keys(v1::ListKeysRequest::default()).await.is_ok() };
    eventually(PATIENCE, "the bus is back", back).await;
    let audit = AuditServiceClient::new(world.master().await);
    for (id, _) in late {
        // Whether it was made or not: the same request says so, and it is made once.
        let made = keys.create_key(create(&id)).await.unwrap().into_inner();
        let text: KeyText = made.text.parse().unwrap();
        let opens = |policies: &Policies| policies.open(&text, &Pepper::new([7; 32]), SystemClock.now()).is_ok();
        world.known("the key opens", opens).await;
        let ask = v1::ListChangesRequest { kind: "key".to_owned(), name: id.clone(), ..Default::default() };
        let changes = || async { audit.clone().list_changes(ask.clone()).await.unwrap().into_inner().changes.len() };
        eventually(PATIENCE, "its record is there", || async { changes().await > 0 }).await;
        assert_eq!(changes().await, 1, "{id}");
    }
    world.stop().await;
}
