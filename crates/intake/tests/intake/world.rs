//! Intake over a real NATS server, with a guard and workers that the test plays.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use farebox_bus::{Bus, Delivery, Fence, Headers, Inbox, Subscription, topology};
use farebox_directory::{Directory, Keys};
use farebox_intake::{Deps, Options, Routes, Service};
use farebox_policy::Policies;
use farebox_pricing::PriceBook;
use farebox_proto::{
    headers,
    subjects::{self, Tenancy},
    v1::{self, reserve_reply},
};
use farebox_providers::{Catalog, Egress, Model, ProviderOptions, RoutingOptions};
use farebox_runtime::{DrainTrigger, Tasks};
use farebox_testkit::{PATIENCE, TestNats, eventually};
use farebox_types::{Project, RequestId, Span, SystemClock};
use prost::Message;
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout};

pub(crate) struct World {
    pub(crate) bus: Bus,
    /// Everything that intake asks the guard.
    pub(crate) guard: Subscription,
    /// Everything that intake offers to workers.
    pub(crate) work: Subscription,
    trigger: DrainTrigger,
    _nats: TestNats,
}

impl World {
    pub(crate) async fn start(options: Options) -> World {
        World::with(options, Directory::fixed(Policies::default())).await
    }

    pub(crate) async fn with(options: Options, directory: Directory) -> World {
        let nats = TestNats::start().await.unwrap();
        let url = nats.url();
        let connect = || async { Bus::connect(&farebox_bus::Options { url: url.clone(), ..Default::default() }).await };
        let (bus, own) = (connect().await.unwrap(), connect().await.unwrap());
        topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await.unwrap();
        let guard = bus.subscribe(&subjects::guard_all(subjects::SHARD), None).await.unwrap();
        let work = bus.subscribe(subjects::WORK, None).await.unwrap();
        bus.flush().await.unwrap();
        let (trigger, drain) = farebox_runtime::drain();
        let tasks = Tasks::new(trigger.clone());
        let deps = Deps {
            bus: own,
            tenancy: Tenancy::Single,
            clock: Arc::new(SystemClock),
            tasks: tasks.clone(),
            directory,
            keys: Keys::Foreign,
            routes: watch::channel(Arc::new(Routes { catalog: catalog(), prices: prices() })).1,
        };
        tasks.spawn("intake", Service::create(options, deps).run(drain));
        let world = World { bus, guard, work, trigger, _nats: nats };
        // Requests are what it listens for last.
        eventually(PATIENCE, "intake listens", || async {
            world.bus.request("llm.request", Headers::new(), "{}".into(), Duration::from_secs(1)).await.is_ok()
        })
        .await;
        world
    }

    pub(crate) async fn ask(&self, subject: &str, body: &Value) -> Inbox {
        let inbox = self.bus.inbox();
        let to = inbox.subject();
        self.bus.publish_with_reply(subject, &to, Headers::new(), body.to_string().into()).await.unwrap();
        inbox
    }

    /// The guard's next question of this kind; others are not answered.
    pub(crate) async fn asked(&mut self, subject: &str) -> Delivery {
        let next = async {
            loop {
                let delivery = self.guard.next().await.unwrap();
                if delivery.subject == subject {
                    return delivery;
                }
            }
        };
        timeout(PATIENCE, next).await.unwrap()
    }

    pub(crate) async fn reserve(&mut self) -> (Delivery, v1::ReserveRequest) {
        let delivery = self.asked(&subjects::reserve(subjects::SHARD)).await;
        let request = delivery.decode().unwrap();
        (delivery, request)
    }

    pub(crate) async fn release(&mut self) -> (Delivery, v1::ReleaseRequest) {
        let delivery = self.asked(&subjects::release(subjects::SHARD)).await;
        let request = delivery.decode().unwrap();
        (delivery, request)
    }

    pub(crate) async fn answer(&self, to: &Delivery, message: &impl Message) {
        let to = to.reply.as_deref().unwrap();
        self.bus.publish_message(to, Headers::new(), message).await.unwrap();
    }

    pub(crate) async fn grant(&self, to: &Delivery) {
        let result =
            reserve_reply::Result::Granted(v1::Granted { lease_ms: 6_000, budgets: Vec::new(), ..Default::default() });
        self.answer(to, &v1::ReserveReply { result: Some(result) }).await;
    }

    pub(crate) async fn work(&mut self) -> v1::Work {
        timeout(PATIENCE, self.work.next()).await.unwrap().unwrap().decode().unwrap()
    }

    pub(crate) async fn keep(&self, id: &str, digest: &str, payload: &'static str) {
        self.keep_as(id, headers::JSON, digest, payload.into()).await;
    }

    /// A final answer that was given before.
    pub(crate) async fn keep_as(&self, id: &str, content_type: &str, digest: &str, payload: Vec<u8>) {
        let subject = Tenancy::Single.response(&Project::default_project(), &RequestId::parse(id).unwrap());
        let head = Headers::new()
            .with(headers::CONTENT_TYPE, content_type)
            .with(headers::TYPE, "final")
            .with(headers::BODY_DIGEST, digest);
        self.bus.store(&subject, head, Fence::after_subject_seq(0), payload.into(), PATIENCE).await.unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.trigger.drain();
    }
}

pub(crate) fn catalog() -> Catalog {
    let providers: BTreeMap<String, ProviderOptions> = serde_json::from_value(json!({
        "emu": { "kind": "openai-compatible", "api_base": "http://127.0.0.1:1/v1" },
        "claude": { "kind": "anthropic-compatible", "api_base": "http://127.0.0.1:1" },
    }))
    .unwrap();
    let models: BTreeMap<String, Model> = serde_json::from_value(json!({
        "limited": "emu/limited",
        "open": "emu/open",
        "claude": "claude/limited",
        "unpriced": "emu/unpriced",
        "spread": { "deployments": [{ "target": "emu/rated", "rpm": 1 }], "fallback": ["open", "claude"] },
        "half": { "deployments": [{ "target": "emu/limited" }], "fallback": ["unpriced"] },
    }))
    .unwrap();
    let routing: RoutingOptions =
        serde_json::from_value(json!({ "tasks": { "quick": "limited" }, "agents": { "writer": "open" } })).unwrap();
    Catalog::new(&providers, &models, &routing, &Egress::default()).unwrap()
}

pub(crate) fn prices() -> PriceBook {
    let rows = json!([
        { "provider": "emu", "models": ["limited", "rated"], "input": "1", "output": "2", "max_output": 5000 },
        { "provider": "claude", "models": ["limited"], "input": "1", "output": "2", "max_output": 5000 },
        { "provider": "emu", "models": ["open"], "input": "1", "output": "2" },
    ]);
    let rows: Vec<farebox_pricing::PriceRow> = serde_json::from_value(rows).unwrap();
    PriceBook::with_overrides(&rows).unwrap()
}

pub(crate) fn chat(model: &str, farebox: Value) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }], "farebox": farebox })
}

/// For tests whose guard answers, or whose callers do not wait for what it says: it is asked once, and has the time that a
/// busy machine takes.
pub(crate) fn quick() -> Options {
    Options {
        guard_timeout: Span::from_secs(4),
        guard_deadline: Span::from_secs(4),
        release_deadline: Span::from_secs(20),
        offer_wait: Span::from_millis(50),
        job_retry_pause: Span::from_millis(20),
        ..Options::default()
    }
}

pub(crate) async fn said(inbox: &mut Inbox) -> Value {
    let answer = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}
