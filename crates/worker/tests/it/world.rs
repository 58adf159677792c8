//! A worker over a real NATS server, with a guard that the test plays and a provider that is emulated.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use farebox_bus::{Bus, Headers, Inbox, Reach, Subscription, topology};
use farebox_config::Env;
use farebox_credentials::Credentials;
use farebox_directory::Directory;
use farebox_emulator::Emulator;
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

pub(crate) struct World {
    pub(crate) bus: Bus,
    pub(crate) emulator: Emulator,
    /// Amendments that the worker asks for.
    pub(crate) amends: Subscription,
    /// Ends that it tells.
    pub(crate) settles: Subscription,
    heartbeats: Subscription,
    /// What the guard says has ended.
    pub(crate) closed: watch::Sender<Vec<String>>,
    trigger: DrainTrigger,
    _nats: TestNats,
}

impl World {
    pub(crate) async fn start() -> World {
        World::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> World {
        let nats = TestNats::start().await.unwrap();
        let url = nats.url();
        let connect = || async { Bus::connect(&farebox_bus::Options { url: url.clone(), ..Default::default() }).await };
        let (bus, own, guard) = (connect().await.unwrap(), connect().await.unwrap(), connect().await.unwrap());
        topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await.unwrap();
        let amends = bus.subscribe(&subjects::amend(subjects::SHARD), None).await.unwrap();
        let settles = bus.subscribe(&subjects::settle(subjects::SHARD), None).await.unwrap();
        let heartbeats = bus.subscribe(&subjects::heartbeat(subjects::SHARD), None).await.unwrap();
        let asked = guard.subscribe(&subjects::guard_all(subjects::SHARD), None).await.unwrap();
        // What nobody hears would be said again, and come twice.
        bus.flush().await.unwrap();
        guard.flush().await.unwrap();
        let emulator =
            Emulator::start(farebox_emulator::Options { keep_requests: true, ..Default::default() }).await.unwrap();
        let (trigger, drain) = farebox_runtime::drain();
        let tasks = Tasks::new(trigger.clone());
        let (closed, said_closed) = watch::channel(Vec::new());
        tasks.spawn("guard", agree(guard, asked, said_closed));
        let (heartbeat_interval, guard_timeout) = (Span::from_millis(50), Span::from_secs(20));
        let options = Options { heartbeat_interval, guard_timeout, ..options };
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
        // Work without a plan is refused by whoever takes work.
        let takes_work = || bus.request(subjects::WORK, Headers::new(), bytes::Bytes::new(), Duration::from_secs(1));
        eventually(PATIENCE, "a worker takes work", || async { takes_work().await.is_ok() }).await;
        World { bus, emulator, amends, settles, heartbeats, closed, trigger, _nats: nats }
    }

    /// Hands a JSON caller's work over; where its answer comes, unless the envelope says otherwise.
    pub(crate) async fn offer(&self, plan: Vec<v1::Deployment>, budgets: Vec<v1::BudgetLeft>) -> Inbox {
        self.hand_over(plan, v1::Envelope { json: true, budgets, ..envelope("r1", BODY) }).await
    }

    pub(crate) async fn hand_over(&self, plan: Vec<v1::Deployment>, envelope: v1::Envelope) -> Inbox {
        let inbox = self.bus.inbox();
        let own = envelope.reply_to.is_empty();
        let reply_to = if own { inbox.subject() } else { envelope.reply_to.clone() };
        let work = v1::Work {
            envelope: Some(v1::Envelope { reply_to, ..envelope }),
            plan,
            reservation_id: ReservationId::generate().to_string(),
            call_id: CallId::generate().to_string(),
            ..Default::default()
        };
        let payload: bytes::Bytes = work.encode_to_vec().into();
        let mut offered = self.bus.offer(Reach::Far, subjects::WORK, Headers::new(), payload).await.unwrap();
        assert!(offered.refused(Duration::from_millis(100)).await.is_none(), "the worker does not take it");
        inbox
    }

    pub(crate) async fn amend(&mut self) -> (String, v1::AmendRequest) {
        let delivery = timeout(PATIENCE, self.amends.next()).await.unwrap().unwrap();
        (delivery.reply.clone().unwrap(), delivery.decode().unwrap())
    }

    pub(crate) async fn refuse(&self, to: &str) {
        let fault = Fault::new(ErrorKind::OverBudget, "budget `team` has nothing left");
        let result = Some(amend_reply::Result::Refused(fault.into()));
        self.bus.publish_message(to, Headers::new(), &v1::AmendReply { result }).await.unwrap();
    }

    /// The next heartbeat that is as asked for.
    pub(crate) async fn heartbeat(&mut self, is_it: impl Fn(&v1::HeartbeatRequest) -> bool) {
        let next = async {
            while let Some(delivery) = self.heartbeats.next().await {
                if is_it(&delivery.decode().unwrap()) {
                    return;
                }
            }
        };
        timeout(PATIENCE, next).await.unwrap();
    }

    pub(crate) fn sent(&self, model: &str) -> String {
        String::from_utf8(self.emulator.last_request(model).expect("it was sent").to_vec()).unwrap()
    }
}

/// What travels with a chat.
pub(crate) fn envelope(id: &str, body: &str) -> v1::Envelope {
    v1::Envelope {
        principal: Some(v1::Principal { project: "default".into(), ..Default::default() }),
        request_id: id.into(),
        deadline_unix_ms: SystemClock.now().after(PATIENCE).millis(),
        dialect: v1::Dialect::OpenaiChat.into(),
        body: body.to_owned().into(),
        ..Default::default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.trigger.drain();
    }
}

/// Answers heartbeats and ends; amendments are for the test.
async fn agree(bus: Bus, mut asked: Subscription, closed: watch::Receiver<Vec<String>>) {
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
    let providers: BTreeMap<String, ProviderOptions> = serde_json::from_value(json!({
        "emu": { "kind": "openai-compatible", "api_base": base },
        "claude": { "kind": "anthropic-compatible", "api_base": emulator.base_url() },
    }))
    .unwrap();
    let catalog = Catalog::new(&providers, &BTreeMap::new(), &RoutingOptions::default(), &Egress::default()).unwrap();
    let provider = |name: &str| catalog.provider(name).unwrap().clone();
    ["emu", "claude"].map(|name| Connection { provider: provider(name), credentials: Credentials::None }).into()
}

/// A deployment whose output costs a thousandth of a dollar a token.
pub(crate) fn deployment(model: &str) -> v1::Deployment {
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

pub(crate) async fn said(inbox: &mut Inbox) -> Value {
    serde_json::from_slice(&timeout(PATIENCE, inbox.next()).await.unwrap().unwrap().payload).unwrap()
}

pub(crate) const BODY: &str =
    "{ \"x\" : 1.10,\"messages\":[ {\"role\":\"user\",\"content\":\"hi\"}],\"model\" :\"m\",\"max_tokens\" :\t1000 }";
