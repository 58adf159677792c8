//! Intakes over a real NATS server on which no guard leads.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use farebox_bus::{Bus, Headers, LeaseOptions, Subscription, topology};
use farebox_directory::{Directory, Keys};
use farebox_intake::{Deps, Options, Routes, Service, WithoutGuard};
use farebox_policy::{Budget, Dimension, Period, Pick, Policies, Scope, Unreachable, WhenShort, Zone};
use farebox_pricing::{PriceBook, PriceRow};
use farebox_proto::{
    subjects::{self, SHARD, Tenancy},
    v1::{self, grace_entry::Entry},
};
use farebox_providers::{Catalog, Egress, Model, ProviderOptions, RoutingOptions};
use farebox_runtime::{DrainTrigger, Tasks};
use farebox_testkit::{PATIENCE, TestNats, eventually};
use farebox_types::{Money, Span, SystemClock};
use prost::Message;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::Instant};

struct World {
    bus: Bus,
    /// Everything that intakes offer to workers.
    work: Subscription,
    triggers: Vec<DrainTrigger>,
    _nats: TestNats,
}

/// Calls of the model `flat` cost a dollar each.
fn routes() -> Routes {
    let providers: BTreeMap<String, ProviderOptions> =
        serde_json::from_value(json!({ "emu": { "kind": "openai-compatible", "api_base": "http://127.0.0.1:1/v1" } }))
            .unwrap();
    let models: BTreeMap<String, Model> = serde_json::from_value(json!({ "flat": "emu/flat" })).unwrap();
    let catalog = Catalog::new(&providers, &models, &RoutingOptions::default(), &Egress::default()).unwrap();
    let row = json!({
        "provider": "emu", "models": ["flat"], "input": "0", "output": "0", "per_request": "1", "max_output": 5000,
    });
    let rows: Vec<PriceRow> = vec![serde_json::from_value(row).unwrap()];
    Routes { catalog, prices: PriceBook::with_overrides(&rows).unwrap() }
}

fn budget(name: &str, scope: Scope, unreachable: Unreachable) -> (String, Budget) {
    let budget = Budget {
        name: name.to_owned(),
        scope,
        period: Period::Total,
        time_zone: Zone::default(),
        limit: Money::usd(1000),
        limit_text: String::new(),
        alert: Vec::new(),
        hard: true,
        when_short: WhenShort::Refuse,
        unbounded_ceiling: None,
        unreachable,
        raises: Vec::new(),
    };
    (name.to_owned(), budget)
}

fn everything(unreachable: Unreachable) -> (String, Budget) {
    budget("all", Scope::default(), unreachable)
}

impl World {
    async fn start(intakes: usize, budgets: &[(String, Budget)], options: Options) -> World {
        let nats = TestNats::start().await.unwrap();
        let url = nats.url();
        let connect = || async { Bus::connect(&farebox_bus::Options { url: url.clone(), ..Default::default() }).await };
        let bus = connect().await.unwrap();
        topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await.unwrap();
        let work = bus.subscribe(subjects::WORK, None).await.unwrap();
        bus.flush().await.unwrap();
        let policies = Policies { budgets: budgets.iter().cloned().collect(), ..Policies::default() };
        let options = Options {
            guard_timeout: Span::from_millis(100),
            guard_deadline: Span::from_secs(4),
            grace_after: Span::from_millis(100),
            offer_wait: Span::from_millis(50),
            ..options
        };
        let mut triggers = Vec::new();
        for _ in 0..intakes {
            let (trigger, drain) = farebox_runtime::drain();
            let tasks = Tasks::new(trigger.clone());
            let deps = Deps {
                bus: connect().await.unwrap(),
                tenancy: Tenancy::Single,
                clock: Arc::new(SystemClock),
                tasks: tasks.clone(),
                directory: Directory::fixed(policies.clone()),
                keys: Keys::Foreign,
                routes: watch::channel(Arc::new(routes())).1,
            };
            tasks.spawn("intake", Service::create(options.clone(), deps).run(drain));
            triggers.push(trigger);
        }
        let world = World { bus, work, triggers, _nats: nats };
        // Requests are what it listens for last.
        eventually(PATIENCE, "intake listens", || async {
            world.bus.request("llm.request", Headers::new(), "{}".into(), Duration::from_secs(1)).await.is_ok()
        })
        .await;
        world
    }

    /// What a worker is offered; or what the caller hears.
    async fn ask(&mut self, farebox: Value) -> Result<v1::Work, Value> {
        self.ask_with(json!({ "farebox": farebox })).await
    }

    /// The same, with these members beside what is asked.
    async fn ask_with(&mut self, members: Value) -> Result<v1::Work, Value> {
        tokio::select! {
            said = said(self.bus.clone(), members) => Err(said),
            offered = self.work.next() => Ok(offered.unwrap().decode().unwrap()),
        }
    }

    async fn stored(&self) -> Vec<v1::GraceEntry> {
        let stored = self.bus.read_from(topology::GRACE, &subjects::grace(SHARD), 1).await.unwrap();
        let entries = stored.collect().await.unwrap();
        entries.into_iter().map(|message| v1::GraceEntry::decode(message.payload).unwrap()).collect()
    }
}

/// What a caller hears.
async fn said(bus: Bus, members: Value) -> Value {
    let mut body = json!({ "model": "flat", "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let answer = bus.request("llm.request", Headers::new(), body.to_string().into(), PATIENCE).await;
    serde_json::from_slice(&answer.unwrap().payload).unwrap()
}

impl Drop for World {
    fn drop(&mut self) {
        self.triggers.iter().for_each(DrainTrigger::drain);
    }
}

#[tokio::test]
async fn a_call_whose_budgets_are_open_goes_on_and_is_stored_before_a_worker_hears_of_it() {
    let mut world = World::start(1, &[everything(Unreachable::Open)], Options::default()).await;
    let work = world.ask(json!({ "task_id": "t" })).await.unwrap();
    assert!(work.grace);
    let warnings = &work.envelope.unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("no guard could be reached")), "{warnings:?}");
    let stored = world.stored().await;
    let [v1::GraceEntry { entry: Some(Entry::Reserved(reserved)), .. }] = &stored[..] else {
        panic!("{stored:?}");
    };
    let request = reserved.request.as_ref().unwrap();
    assert_eq!(
        (&request.reservation_id, request.labels.as_ref().unwrap().task_id.as_str()),
        (&work.reservation_id, "t")
    );
    assert_eq!(request.attempt.as_ref().unwrap().call_id, work.call_id);
    assert_eq!(v1::Money::of(&reserved.holds[0].amount), Money::usd(1));
}

#[tokio::test]
async fn a_call_is_refused_where_one_budget_does_not_allow_it_or_only_the_ledger_can_tell() {
    let task = Scope(vec![(Dimension::Task, Pick::Each)]);
    let budgets = [everything(Unreachable::Open), budget("tasks", task, Unreachable::Closed)];
    let mut world = World::start(1, &budgets, Options::default()).await;
    for farebox in [json!({ "task_id": "t" }), json!({ "request_id": "chosen" })] {
        let refused = world.ask(farebox.clone()).await.expect_err("it is refused");
        assert_eq!(refused["error"]["type"], "unavailable", "{refused}");
        assert!(refused["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{refused}");
    }
    assert_eq!(world.stored().await, []);
    world.ask(json!({})).await.expect("it counts in the open one only");
}

#[tokio::test]
async fn a_call_in_no_budget_does_as_the_option_says() {
    let mut world = World::start(1, &[], Options::default()).await;
    world.ask(json!({})).await.unwrap_err();
    let mut world = World::start(1, &[], Options { without_guard: WithoutGuard::Open, ..Options::default() }).await;
    world.ask(json!({})).await.unwrap();
}

#[tokio::test]
async fn two_intakes_together_reserve_no_more_than_the_amount() {
    let task = Scope(vec![(Dimension::Task, Pick::Each)]);
    let budgets = [everything(Unreachable::Open), budget("tasks", task, Unreachable::Grace(Money::usd(5)))];
    let mut world = World::start(2, &budgets, Options::default()).await;
    let mut callers = JoinSet::new();
    for caller in 0..50 {
        let task = if caller % 2 == 0 { "even" } else { "odd" };
        callers.spawn(said(world.bus.clone(), json!({ "farebox": { "task_id": task } })));
    }
    let (mut refusals, mut offered) = (Vec::new(), 0);
    while refusals.len() + offered < 50 {
        tokio::select! {
            said = callers.join_next() => refusals.push(said.unwrap().unwrap()),
            work = world.work.next() => offered += usize::from(work.is_some()),
        }
    }
    assert_eq!(refusals.len(), 40, "five of each task went on");
    for refused in refusals {
        assert_eq!(refused["error"]["type"], "unavailable", "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains("without one is used up"), "{refused}");
    }
    assert_eq!(world.stored().await.len(), 10);
}

#[tokio::test]
async fn a_call_that_nothing_bounds_takes_the_largest_ceiling_of_each_of_its_budgets() {
    let ceiling = |name, usd, unreachable| {
        let (name, budget) = budget(name, Scope::default(), unreachable);
        (name, Budget { unbounded_ceiling: Some(Money::usd(usd)), ..budget })
    };
    let budgets = [ceiling("large", 4, Unreachable::Open), ceiling("small", 2, Unreachable::Grace(Money::usd(5)))];
    let mut world = World::start(1, &budgets, Options::default()).await;
    let work = world.ask_with(json!({ "plugins": [{ "id": "web" }] })).await.unwrap();
    assert_eq!(v1::Money::of(&work.plan[0].bound), Money::usd(4), "what it costs where nobody knows the bill");
    let [v1::GraceEntry { entry: Some(Entry::Reserved(reserved)), .. }] = &world.stored().await[..] else {
        panic!("one entry");
    };
    let attempt = reserved.request.as_ref().unwrap().attempt.as_ref().unwrap();
    assert_eq!(v1::Money::of(&attempt.bound), Money::usd(4), "what it costs if it is lost");
    let holds: Vec<Money> = reserved.holds.iter().map(|hold| v1::Money::of(&hold.amount)).collect();
    assert_eq!(holds, [Money::usd(4), Money::usd(4)]);
    let refused = world.ask_with(json!({ "plugins": [{ "id": "web" }] })).await.unwrap_err();
    assert!(refused["error"]["message"].as_str().unwrap().contains("without one is used up"), "{refused}");
}

#[tokio::test]
async fn nothing_is_reserved_while_a_guard_leads_that_does_not_answer() {
    let mut world = World::start(1, &[everything(Unreachable::Open)], Options::default()).await;
    let leases = world.bus.bucket(topology::LEASES);
    let lead = leases.acquire(&topology::guard_lease(SHARD), "g", &LeaseOptions::default()).await;
    let began = Instant::now();
    assert_eq!(world.ask(json!({})).await.unwrap_err()["error"]["type"], "unavailable");
    assert!(began.elapsed() > Duration::from_secs(1), "the guard is asked until its deadline");
    assert_eq!(world.stored().await, []);
    lead.release().await;
    world.ask(json!({})).await.unwrap();
}

#[tokio::test]
async fn what_no_worker_takes_is_given_back() {
    let options = Options { worker_deadline: Span::from_millis(200), ..Options::default() };
    let mut world = World::start(1, &[everything(Unreachable::Open)], options).await;
    world.work.stop().await;
    world.bus.flush().await.unwrap();
    let refused = said(world.bus.clone(), json!({})).await;
    assert_eq!(refused["error"]["type"], "unavailable");
    eventually(PATIENCE, "it is given back", async || world.stored().await.len() == 2).await;
    let stored = world.stored().await;
    let entries: Vec<&Entry> = stored.iter().filter_map(|entry| entry.entry.as_ref()).collect();
    let [Entry::Reserved(reserved), Entry::Released(released)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(reserved.request.as_ref().unwrap().reservation_id, released.reservation_id);
}
