//! What a guard's grant makes of a call, with a guard that the test plays and a provider that is emulated.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use farebox_bus::{Bus, Headers, Inbox, Reach, Subscription, topology};
use farebox_config::Env;
use farebox_credentials::Credentials;
use farebox_directory::Directory;
use farebox_emulator::{Emulator, Script};
use farebox_policy::Policies;
use farebox_proto::{
    subjects::{self, Tenancy},
    v1::{self, amend_reply, settle_reply},
};
use farebox_providers::{Catalog, Egress, ProviderOptions, RoutingOptions};
use farebox_runtime::{DrainTrigger, Tasks};
use farebox_testkit::{PATIENCE, TestNats, eventually};
use farebox_types::{CallId, Clock, ErrorKind, Fault, Money, ReservationId, Span, SystemClock};
use farebox_worker::{Connection, Deps, Options, Service, Upstream};
use prost::Message;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

struct World {
    bus: Bus,
    emulator: Emulator,
    /// Amendments that the worker asks for.
    amends: Subscription,
    /// Ends that it tells.
    settles: Subscription,
    heartbeats: Subscription,
    /// What the guard says has ended.
    closed: watch::Sender<Vec<String>>,
    trigger: DrainTrigger,
    _nats: TestNats,
}

impl World {
    async fn start() -> World {
        let nats = TestNats::start().await.unwrap();
        let url = nats.url();
        let connect = || async { Bus::connect(&farebox_bus::Options { url: url.clone(), ..Default::default() }).await };
        let (bus, own, guard) = (connect().await.unwrap(), connect().await.unwrap(), connect().await.unwrap());
        topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await.unwrap();
        let amends = bus.subscribe(&subjects::amend(subjects::SHARD), None).await.unwrap();
        let settles = bus.subscribe(&subjects::settle(subjects::SHARD), None).await.unwrap();
        let heartbeats = bus.subscribe(&subjects::heartbeat(subjects::SHARD), None).await.unwrap();
        bus.flush().await.unwrap();
        let emulator =
            Emulator::start(farebox_emulator::Options { keep_requests: true, ..Default::default() }).await.unwrap();
        let (trigger, drain) = farebox_runtime::drain();
        let tasks = Tasks::new(trigger.clone());
        let (closed, said_closed) = watch::channel(Vec::new());
        tasks.spawn("guard", agree(guard, said_closed));
        let options = Options { heartbeat_interval: Span::from_millis(50), ..Options::default() };
        let upstream =
            Upstream::new(&options, Egress::default(), Arc::new(SystemClock), connections(&emulator), None).unwrap();
        let deps = Deps {
            bus: own,
            tenancy: Tenancy::Single,
            clock: Arc::new(SystemClock),
            tasks: tasks.clone(),
            worker_id: "w1".to_owned(),
            upstream: watch::channel(Arc::new(upstream)).1,
            directory: Directory::fixed(Policies::default()),
            env: Env::default(),
        };
        tasks.spawn("worker", Service::create(options, deps).run(drain));
        World { bus, emulator, amends, settles, heartbeats, closed, trigger, _nats: nats }
    }

    /// Hands work over, once there is a worker; where its answer comes.
    async fn offer(&self, plan: Vec<v1::Deployment>, budgets: Vec<v1::BudgetLeft>) -> Inbox {
        let inbox = self.bus.inbox();
        let work = v1::Work {
            envelope: Some(v1::Envelope {
                principal: Some(v1::Principal { project: "default".into(), ..Default::default() }),
                request_id: "r1".into(),
                reply_to: inbox.subject(),
                json: true,
                deadline_unix_ms: SystemClock.now().after(PATIENCE).millis(),
                dialect: v1::Dialect::OpenaiChat.into(),
                body: BODY.into(),
                budgets,
                ..Default::default()
            }),
            plan,
            reservation_id: ReservationId::generate().to_string(),
            call_id: CallId::generate().to_string(),
            ..Default::default()
        };
        let payload: bytes::Bytes = work.encode_to_vec().into();
        eventually(PATIENCE, "a worker takes it", || async {
            let offered = self.bus.offer(Reach::Far, subjects::WORK, Headers::new(), payload.clone()).await;
            offered.unwrap().refused(Duration::from_millis(300)).await.is_none()
        })
        .await;
        inbox
    }

    async fn amend(&mut self) -> (String, v1::AmendRequest) {
        let delivery = timeout(PATIENCE, self.amends.next()).await.unwrap().unwrap();
        (delivery.reply.clone().unwrap(), delivery.decode().unwrap())
    }

    async fn refuse(&self, to: &str) {
        let fault = Fault::new(ErrorKind::OverBudget, "budget `team` has nothing left");
        let result = Some(amend_reply::Result::Refused(fault.into()));
        self.bus.publish_message(to, Headers::new(), &v1::AmendReply { result }).await.unwrap();
    }

    /// The next heartbeat that is as asked for.
    async fn heartbeat(&mut self, is_it: impl Fn(&v1::HeartbeatRequest) -> bool) {
        let next = async {
            while let Some(delivery) = self.heartbeats.next().await {
                if is_it(&delivery.decode().unwrap()) {
                    return;
                }
            }
        };
        timeout(PATIENCE, next).await.unwrap();
    }

    fn sent(&self, model: &str) -> String {
        String::from_utf8(self.emulator.last_request(model).expect("it was sent").to_vec()).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.trigger.drain();
    }
}

/// Answers heartbeats and ends; amendments are for the test.
async fn agree(bus: Bus, closed: watch::Receiver<Vec<String>>) {
    let mut asked = bus.subscribe(&subjects::guard_all(subjects::SHARD), None).await.unwrap();
    while let Some(delivery) = asked.next().await {
        let Some(to) = &delivery.reply else { continue };
        if delivery.subject == subjects::heartbeat(subjects::SHARD) {
            let closed = closed.borrow().clone();
            // Who is told of one says all that it has next.
            let send_complete = !closed.is_empty();
            let reply = v1::HeartbeatReply { guard_id: "g1".into(), lease_ms: 60_000, closed, send_complete };
            bus.publish_message(to, Headers::new(), &reply).await.unwrap();
        } else if delivery.subject == subjects::settle(subjects::SHARD) {
            let result = Some(settle_reply::Result::Settled(v1::Settled {}));
            bus.publish_message(to, Headers::new(), &v1::SettleReply { result }).await.unwrap();
        }
    }
}

fn connections(emulator: &Emulator) -> Vec<Connection> {
    let base = format!("{}/v1", emulator.base_url());
    let providers: BTreeMap<String, ProviderOptions> =
        serde_json::from_value(json!({ "emu": { "kind": "openai-compatible", "api_base": base } })).unwrap();
    let catalog = Catalog::new(&providers, &BTreeMap::new(), &RoutingOptions::default(), &Egress::default()).unwrap();
    let provider = catalog.provider("emu").unwrap().clone();
    vec![Connection { provider, credentials: Credentials::None }]
}

/// A deployment whose output costs a thousandth of a dollar a token.
fn deployment(model: &str) -> v1::Deployment {
    let money = |text: &str| Some(text.parse::<Money>().unwrap().into());
    v1::Deployment {
        provider: "emu".into(),
        model: model.into(),
        alias: "m".into(),
        dialect: v1::Dialect::OpenaiChat.into(),
        bound: money("1"),
        output: Some(v1::OutputShare { fixed: money("0"), per_token: money("0.001"), max_tokens: 1000 }),
        expected_tokens: 7,
        requests_per_minute: 5,
        ..Default::default()
    }
}

async fn said(inbox: &mut Inbox) -> Value {
    serde_json::from_slice(&timeout(PATIENCE, inbox.next()).await.unwrap().unwrap().payload).unwrap()
}

const BODY: &str =
    "{ \"x\" : 1.10,\"messages\":[ {\"role\":\"user\",\"content\":\"hi\"}],\"model\" :\"m\",\"max_tokens\" :\t1000 }";

/// The body as one of these models gets it, clamped.
fn clamped(model: &str, limit: u64) -> String {
    BODY.replace(":\"m\"", &format!(":\"{model}\"")).replace("\t1000", &format!("\t{limit}"))
}

#[tokio::test]
async fn a_clamped_call_is_sent_with_its_lower_limit_and_says_so() {
    let world = World::start().await;
    let left = v1::BudgetLeft { budget: "team".into(), ..Default::default() };
    let plan = vec![v1::Deployment { clamped_max_tokens: 300, ..deployment("up") }];
    let answer = said(&mut world.offer(plan, vec![left]).await).await;
    assert_eq!(world.sent("up"), clamped("up", 300));
    assert_eq!(answer["farebox"]["clamped"], true, "{answer}");
    assert_eq!(answer["farebox"]["warnings"], json!(["clamped to 300 tokens by budget"]));
    assert_eq!(answer["farebox"]["budgets"][0]["budget"], "team");
}

#[tokio::test]
async fn a_further_attempt_is_made_where_the_guard_says_and_as_it_says() {
    let mut world = World::start().await;
    world.emulator.script("a", Script::refuse(500, "down"));
    let plan = vec![deployment("a"), deployment("b"), deployment("c")];
    let mut inbox = world.offer(plan, Vec::new()).await;
    let (to, asked) = world.amend().await;
    let next = asked.next.unwrap();
    assert_eq!((next.upstream_model.as_str(), next.expected_tokens, next.requests_per_minute), ("b", 7, 5));
    assert_eq!(next.output.map(|share| share.bound()), Some(v1::Money::of(&next.bound)));
    let others: Vec<&str> = asked.alternatives.iter().map(|other| other.upstream_model.as_str()).collect();
    assert_eq!(others, ["c"]);
    let granted = v1::Granted {
        lease_ms: 60_000,
        call_id: asked.alternatives[0].call_id.clone(),
        bound: Some("0.2".parse::<Money>().unwrap().into()),
        clamped_max_tokens: 200,
        warnings: vec!["budget `soft` is spent".into()],
        budgets: vec![v1::BudgetLeft { budget: "later".into(), ..Default::default() }],
        ..Default::default()
    };
    let result = Some(amend_reply::Result::Granted(granted));
    world.bus.publish_message(&to, Headers::new(), &v1::AmendReply { result }).await.unwrap();
    let answer = said(&mut inbox).await;
    assert_eq!(world.sent("c"), clamped("c", 200));
    assert!(world.emulator.last_request("b").is_none(), "it has no room");
    let facts = &answer["farebox"];
    assert_eq!((&facts["attempts"], &facts["clamped"]), (&json!(2), &json!(true)), "{answer}");
    assert_eq!(facts["warnings"], json!(["budget `soft` is spent", "clamped to 200 tokens by budget"]));
    assert_eq!(facts["budgets"][0]["budget"], "later");
}

#[tokio::test]
async fn a_call_that_gets_no_further_attempt_is_answered_and_then_ended() {
    let mut world = World::start().await;
    world.emulator.script("a", Script::refuse(500, "down"));
    let mut inbox = world.offer(vec![deployment("a"), deployment("b")], Vec::new()).await;
    let (to, asked) = world.amend().await;
    world.refuse(&to).await;
    let answer = said(&mut inbox).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("(no further attempt: budget `team` has nothing left)"), "{answer}");
    assert_eq!((&answer["error"]["type"], &answer["farebox"]["attempts"]), (&json!("upstream"), &json!(1)), "{answer}");
    let settled: v1::SettleRequest = timeout(PATIENCE, world.settles.next()).await.unwrap().unwrap().decode().unwrap();
    assert_eq!((settled.reservation_id, settled.end), (asked.reservation_id, asked.ended));
}

/// A worker that stood still may hear late that its further attempt was refused.
#[tokio::test]
async fn a_call_that_the_guard_has_ended_is_not_answered_when_its_further_attempt_is_refused() {
    let mut world = World::start().await;
    world.emulator.script("a", Script::refuse(500, "down"));
    let mut inbox = world.offer(vec![deployment("a"), deployment("b")], Vec::new()).await;
    let (to, asked) = world.amend().await;
    world.closed.send_replace(vec![asked.reservation_id.clone()]);
    world.heartbeat(|beat| beat.complete && beat.taken.contains(&asked.reservation_id)).await;
    world.refuse(&to).await;
    world.heartbeat(|beat| beat.ended.contains(&asked.reservation_id)).await;
    assert!(inbox.try_next().is_none());
}
