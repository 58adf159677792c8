//! The guard on a real NATS: what it writes, what it finds there when it begins, and whom it tells.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use farebox_bus::{Bus, Fence, Headers, StoredMessage, topology};
use farebox_directory::Directory;
use farebox_guard::{Deps, Error, Options, Service};
use farebox_policy::{Budget, Period, Permille, Policies, Scope, Unreachable, WhenShort, Zone};
use farebox_proto::{
    headers,
    subjects::{self, SHARD, Tenancy},
    v1::{self, ledger_entry::Entry},
};
use farebox_runtime::DrainTrigger;
use farebox_testkit::{PATIENCE, TestNats, eventually};
use farebox_types::{ByteSize, CallId, Clock, Money, ReservationId, Span, SystemClock};
use prost::Message;
use tokio::task::JoinSet;

struct World {
    bus: Bus,
    nats: TestNats,
}

struct Guard {
    tasks: JoinSet<Result<(), Error>>,
    _trigger: DrainTrigger,
}

impl Guard {
    async fn ended(mut self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.unwrap().unwrap().unwrap()
    }
}

async fn connect(nats: &TestNats) -> Bus {
    Bus::connect(&farebox_bus::Options { url: nats.url(), ..Default::default() }).await.unwrap()
}

impl World {
    async fn start() -> World {
        World::on(TestNats::start().await.unwrap()).await
    }

    async fn on(nats: TestNats) -> World {
        let bus = connect(&nats).await;
        topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await.unwrap();
        World { bus, nats }
    }

    /// A guard with a connection of its own.
    async fn guard(&self, options: Options) -> Guard {
        // As the config's short budgets are.
        let budgets = options.budgets().map(|budget| (budget.name.clone(), budget)).collect();
        let policies = Policies { budgets, ..Policies::default() };
        self.guard_of(options, policies).await
    }

    async fn guard_of(&self, options: Options, policies: Policies) -> Guard {
        let deps = Deps {
            bus: connect(&self.nats).await,
            tenancy: Tenancy::Single,
            clock: Arc::new(SystemClock),
            directory: Directory::fixed(policies),
            guard_id: "g".into(),
        };
        let (trigger, drain) = farebox_runtime::drain();
        let mut tasks = JoinSet::new();
        tasks.spawn(Service::create(options, deps).run(drain));
        Guard { tasks, _trigger: trigger }
    }

    async fn store(&self, subject: &str, payload: Vec<u8>) -> u64 {
        let stored = self.bus.store(subject, Headers::new(), Fence::none(), payload.into(), PATIENCE).await;
        stored.unwrap().sequence
    }

    async fn store_batch(&self, entry: Entry, previous_sequence: u64) -> u64 {
        let entries = vec![v1::LedgerEntry { entry: Some(entry) }];
        let batch = v1::LedgerBatch { entries, previous_sequence, ..Default::default() };
        self.store(&subjects::ledger(SHARD), batch.encode_to_vec()).await
    }

    async fn stored(&self, subject: &str) -> Vec<StoredMessage> {
        self.bus.read_from(topology::LEDGER, subject, 1).await.unwrap().collect().await.unwrap()
    }

    /// Asks until a guard answers.
    async fn reserve(&self, request: &v1::ReserveRequest) -> v1::ReserveReply {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.bus.call(&subjects::reserve(SHARD), request, Duration::from_millis(500)).await {
                Ok(reply) => return reply,
                Err(error) => assert!(tokio::time::Instant::now() < until, "{error}"),
            }
        }
    }
}

fn request() -> v1::ReserveRequest {
    let attempt = v1::Attempt {
        call_id: CallId::generate().to_string(),
        bound: Some(Money::usd(1).into()),
        ..Default::default()
    };
    v1::ReserveRequest {
        reservation_id: ReservationId::generate().to_string(),
        principal: Some(v1::Principal { project: "acme".into(), ..Default::default() }),
        request_id: "r".into(),
        deadline_unix_ms: SystemClock.now().after(PATIENCE).millis(),
        attempt: Some(attempt),
        ..Default::default()
    }
}

fn reserved(request: &v1::ReserveRequest) -> Entry {
    Entry::Reserved(v1::Reserved {
        request: Some(request.clone()),
        holds: Vec::new(),
        at_unix_ms: SystemClock.now().millis(),
        ..Default::default()
    })
}

fn is_granted(reply: &v1::ReserveReply) -> bool {
    matches!(reply.result, Some(v1::reserve_reply::Result::Granted(_)))
}

#[tokio::test]
async fn a_guard_that_another_overtook_removes_nothing_and_leads_anew() {
    let world = World::start().await;
    // The second batch is one too many.
    let _guard = world.guard(Options { snapshot_every: ByteSize(1500), ..Options::default() }).await;
    let long = |id: &str| v1::ReserveRequest {
        request_id: id.into(),
        body_digest: vec![1; 32].into(),
        trace_id: "t".repeat(1000),
        ..request()
    };
    let known = |id: &'static str| {
        let lookup =
            v1::LookupRequest { shard: SHARD, project: "acme".into(), request_id: id.into(), made_here: false };
        let bus = &world.bus;
        async move {
            let reply = bus.call(&subjects::lookup(SHARD), &lookup, Duration::from_millis(500)).await;
            reply.ok().map(|reply: v1::LookupReply| reply.existing.is_some())
        }
    };
    assert!(is_granted(&world.reserve(&long("first")).await));
    assert_eq!(known("first").await, Some(true));
    // As the next leader does. That it holds nothing shows below who goes by it.
    let through_sequence = world.stored(&subjects::ledger(SHARD)).await.last().unwrap().sequence;
    let of_another =
        v1::SnapshotPart { through_sequence, parts: 1, snapshot_id: "of another".into(), ..Default::default() };
    let newer = world.store(&subjects::ledger_snapshot(SHARD), of_another.encode_to_vec()).await;
    assert!(is_granted(&world.reserve(&long("second")).await));
    eventually(PATIENCE, "it leads anew, from the newer snapshot", || async { known("first").await == Some(false) })
        .await;
    assert_eq!(known("second").await, Some(true));
    let kept: Vec<u64> =
        world.stored(&subjects::ledger_snapshot(SHARD)).await.iter().map(|message| message.sequence).collect();
    assert_eq!(kept, [newer]);
}

#[tokio::test]
async fn snapshots_follow_one_another_and_only_the_newest_stays() {
    let world = World::start().await;
    let _guard = world.guard(Options { snapshot_every: ByteSize(1), ..Options::default() }).await;
    for _ in 0..5 {
        assert!(is_granted(&world.reserve(&request()).await));
    }
    let newest = world.stored(&subjects::ledger(SHARD)).await.last().unwrap().sequence;
    eventually(PATIENCE, "the newest snapshot is alone", || async {
        let stored = world.stored(&subjects::ledger_snapshot(SHARD)).await;
        let parts: Vec<_> = stored.iter().map(|m| v1::SnapshotPart::decode(m.payload.clone()).unwrap()).collect();
        matches!(&parts[..], [part] if part.through_sequence == newest && part.open.len() == 5)
    })
    .await;
}

/// Others are decided while a batch is being stored: the state is ahead of the ledger then.
#[tokio::test]
async fn a_snapshot_under_load_holds_what_is_stored_and_no_more() {
    const CALLERS: usize = 32;
    const CALLS: usize = 20;
    let world = World::start().await;
    let _guard = world.guard(Options { snapshot_every: ByteSize(20_000), ..Options::default() }).await;
    assert!(is_granted(&world.reserve(&request()).await));
    let caller = async || {
        for _ in 0..CALLS {
            assert!(is_granted(&world.reserve(&request()).await));
        }
    };
    futures::future::join_all((0..CALLERS).map(|_| caller())).await;
    let reserved = |messages: &[StoredMessage], through: u64| -> usize {
        let until = messages.iter().filter(|message| message.sequence <= through);
        until.map(|message| v1::LedgerBatch::decode(message.payload.clone()).unwrap().entries.len()).sum()
    };
    // A snapshot may be under way still.
    eventually(PATIENCE, "the newest snapshot agrees with the ledger", || async {
        let stored = world.stored(&subjects::ledger_snapshot(SHARD)).await;
        let parts: Vec<_> = stored.iter().map(|m| v1::SnapshotPart::decode(m.payload.clone()).unwrap()).collect();
        let Some(first) = parts.first() else { return false };
        let is_one = parts.len() == usize::try_from(first.parts).unwrap();
        let open: usize = parts.iter().map(|part| part.open.len()).sum();
        is_one && open == reserved(&world.stored(&subjects::ledger(SHARD)).await, first.through_sequence)
    })
    .await;
    assert_eq!(reserved(&world.stored(&subjects::ledger(SHARD)).await, u64::MAX), CALLERS * CALLS + 1);
}

#[tokio::test]
async fn a_ledger_with_a_gap_is_not_led() {
    let world = World::start().await;
    world.store_batch(reserved(&request()), 0).await;
    let second = world.store_batch(reserved(&request()), 1).await;
    let gap = world.store_batch(reserved(&request()), second).await;
    assert!(world.bus.delete(topology::LEDGER, second).await.unwrap());
    let error = world.guard(Options::default()).await.ended().await.unwrap_err();
    assert!(matches!(&error, Error::Damaged { sequence, .. } if *sequence == gap), "{error}");
    assert!(error.to_string().contains("restore the stream from a backup"), "{error}");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_not_passed_over() {
    let world = World::start().await;
    let part = world.store(&subjects::ledger_snapshot(SHARD), b"\xff\xff".to_vec()).await;
    let error = world.guard(Options::default()).await.ended().await.unwrap_err();
    assert!(matches!(&error, Error::Damaged { sequence, .. } if *sequence == part), "{error}");
}

#[tokio::test]
async fn a_guard_that_died_before_it_told_the_caller_of_a_lost_call_is_made_up_for() {
    let world = World::start().await;
    let mut inbox = world.bus.inbox();
    let request = v1::ReserveRequest { reply_to: inbox.subject(), ..request() };
    let first = world.store_batch(reserved(&request), 0).await;
    let fact = v1::CallFact {
        call_id: request.attempt.as_ref().unwrap().call_id.clone(),
        outcome: v1::Outcome::Lost.into(),
        cost: Some(Money::usd(1).into()),
        ..Default::default()
    };
    let ended = v1::Ended { reservation_id: request.reservation_id.clone(), fact: Some(fact) };
    world.store_batch(Entry::Ended(ended), first).await;
    let _guard = world.guard(Options::default()).await;
    let answer = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!(answer.headers.get(headers::ERROR), Some("lost"));
}

#[tokio::test]
async fn what_is_lost_at_a_time_may_be_more_than_fits_into_one_message() {
    let world = World::on(TestNats::builder().config("max_payload: 16384").start().await.unwrap()).await;
    let mut inboxes = Vec::new();
    let mut previous = 0;
    for _ in 0..30 {
        let inbox = world.bus.inbox();
        let request = v1::ReserveRequest { reply_to: inbox.subject(), trace_id: "t".repeat(1000), ..request() };
        previous = world.store_batch(reserved(&request), previous).await;
        inboxes.push(inbox);
    }
    let (lease, expiry_interval) = (Span::from_secs(1), Span::from_millis(100));
    let _guard = world.guard(Options { lease, expiry_interval, ..Options::default() }).await;
    for mut inbox in inboxes {
        let answer = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
        assert_eq!(answer.headers.get(headers::ERROR), Some("lost"));
    }
    let ends = world.stored(&subjects::ledger(SHARD)).await.split_off(30);
    let ends: Vec<usize> =
        ends.iter().map(|m| v1::LedgerBatch::decode(m.payload.clone()).unwrap().entries.len()).collect();
    assert!(ends.len() > 1 && ends.iter().sum::<usize>() == 30, "{ends:?}");
}

/// A refusal ends nothing: the call is its worker's, until the guard tells its caller.
#[tokio::test]
async fn a_caller_whose_further_attempt_was_refused_is_told_where_its_worker_falls_silent() {
    let world = World::start().await;
    let (lease, expiry_interval) = (Span::from_secs(4), Span::from_millis(100));
    let options = Options { max_cost_per_day: Some(Money::usd(2)), lease, expiry_interval, ..Options::default() };
    let _guard = world.guard(options).await;
    let mut inbox = world.bus.inbox();
    let call = v1::ReserveRequest { reply_to: inbox.subject(), ..request() };
    assert!(is_granted(&world.reserve(&call).await));
    let failed = v1::AttemptEnd {
        outcome: v1::Outcome::Error.into(),
        error_kind: v1::ErrorKind::Upstream.into(),
        ..settlement(&call).end.unwrap()
    };
    let too_much = v1::Attempt { bound: Some(Money::usd(3).into()), ..request().attempt.unwrap() };
    let amend = v1::AmendRequest {
        reservation_id: call.reservation_id.clone(),
        ended: Some(failed),
        next: Some(too_much),
        ..Default::default()
    };
    let reply: v1::AmendReply = world.bus.call(&subjects::amend(SHARD), &amend, PATIENCE).await.unwrap();
    assert!(matches!(reply.result, Some(v1::amend_reply::Result::Refused(_))), "{reply:?}");
    let answer = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!(answer.headers.get(headers::ERROR), Some("lost"));
}

#[tokio::test]
async fn a_heartbeat_is_answered_once() {
    let world = World::start().await;
    let _guard = world.guard(Options::default()).await;
    world.reserve(&request()).await;
    let mut inbox = world.bus.inbox();
    let beat = v1::HeartbeatRequest { worker_id: "w".into(), ..Default::default() };
    let payload = beat.encode_to_vec().into();
    let subject = subjects::heartbeat(SHARD);
    world.bus.publish_with_reply(&subject, &inbox.subject(), Headers::new(), payload).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!(first.decode::<v1::HeartbeatReply>().unwrap().guard_id, "g");
    // What came on the other subscription has been seen before this is.
    world.reserve(&request()).await;
    assert!(inbox.try_next().is_none());
}

#[tokio::test]
async fn a_guard_that_does_not_know_yet_that_another_leads_does_not_answer_from_memory() {
    let world = World::start().await;
    // It is far from renewing its lease when it is overtaken.
    let options = Options { lead_ttl: Span::from_secs(600), lead_check: Span::from_millis(0), ..Options::default() };
    let _guard = world.guard(options).await;
    world.reserve(&request()).await;
    let lookup = v1::LookupRequest { shard: SHARD, project: "acme".into(), request_id: "r".into(), made_here: false };
    let ask = async |within| {
        let asked = world.bus.call(&subjects::lookup(SHARD), &lookup, within).await;
        asked.map(|_: v1::LookupReply| ())
    };
    ask(PATIENCE).await.unwrap();
    world.bus.bucket(topology::LEASES).put("guard-0", "another".into()).await.unwrap();
    assert!(ask(Duration::from_secs(2)).await.is_err());
}

fn grace(request: &v1::ReserveRequest) -> Vec<u8> {
    let Entry::Reserved(mut reserved) = reserved(request) else { unreachable!("it is a reservation") };
    reserved.holds = vec![v1::Hold { budget: "soft".into(), amount: Some(Money::usd(1).into()), ..Default::default() }];
    v1::GraceEntry { entry: Some(v1::grace_entry::Entry::Reserved(reserved)), ..Default::default() }.encode_to_vec()
}

fn settlement(request: &v1::ReserveRequest) -> v1::SettleRequest {
    let end = v1::AttemptEnd {
        call_id: request.attempt.as_ref().unwrap().call_id.clone(),
        outcome: v1::Outcome::Ok.into(),
        ..Default::default()
    };
    v1::SettleRequest { shard: SHARD, reservation_id: request.reservation_id.clone(), end: Some(end) }
}

impl World {
    async fn settle(&self, request: &v1::ReserveRequest) -> v1::SettleReply {
        self.bus.call(&subjects::settle(SHARD), &settlement(request), PATIENCE).await.unwrap()
    }

    async fn entries(&self) -> Vec<Entry> {
        let batches = self.stored(&subjects::ledger(SHARD)).await;
        let entries = batches.into_iter().flat_map(|m| v1::LedgerBatch::decode(m.payload).unwrap().entries);
        entries.filter_map(|entry| entry.entry).collect()
    }

    async fn is_taken_over(&self) {
        eventually(PATIENCE, "the grace stream is empty", || async {
            self.bus.stream_info(topology::GRACE).await.unwrap().messages == 0
        })
        .await;
    }
}

fn is_settled(reply: &v1::SettleReply) -> bool {
    matches!(reply.result, Some(v1::settle_reply::Result::Settled(_)))
}

#[tokio::test]
async fn what_was_reserved_without_a_guard_is_taken_over_once_and_people_are_told() {
    let world = World::start().await;
    let mut alerts = world.bus.subscribe("llm.alert.*", None).await.unwrap();
    let (first, second) = (request(), request());
    for one in [&first, &second, &first] {
        world.store(&subjects::grace(SHARD), grace(one)).await;
    }
    let _guard = world.guard(Options::default()).await;
    world.is_taken_over().await;
    let reserved = world.entries().await.into_iter().filter(|entry| matches!(entry, Entry::Reserved(_))).count();
    assert_eq!(reserved, 2);
    let told = tokio::time::timeout(PATIENCE, alerts.next()).await.unwrap().unwrap();
    let event: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!(
        (told.subject.as_str(), &event["type"], &event["kind"]),
        ("llm.alert.soft", &"llm.alert".into(), &"grace".into())
    );
    assert!(event["message"].as_str().unwrap().contains("2 calls that may cost $2"), "{event}");
    for one in [&first, &second] {
        assert!(is_settled(&world.settle(one).await));
    }
}

#[tokio::test]
async fn what_is_reserved_without_a_guard_too_late_is_taken_over_before_its_end_is_decided() {
    let world = World::start().await;
    // It looks by itself only once in a very long time.
    let options = Options { expiry_interval: Span::from_secs(600), ..Options::default() };
    let _guard = world.guard(options).await;
    world.reserve(&request()).await;
    let late = request();
    world.store(&subjects::grace(SHARD), grace(&late)).await;
    assert!(is_settled(&world.settle(&late).await));
    let late = request();
    world.store(&subjects::grace(SHARD), grace(&late)).await;
    let beat = v1::HeartbeatRequest {
        worker_id: "w".into(),
        taken: vec![late.reservation_id.clone(), ReservationId::generate().to_string()],
        complete: true,
        ..Default::default()
    };
    let reply: v1::HeartbeatReply = world.bus.call(&subjects::heartbeat(SHARD), &beat, PATIENCE).await.unwrap();
    assert_eq!(reply.closed, beat.taken[1..]);
}

#[tokio::test]
async fn what_nobody_took_without_a_guard_is_given_back() {
    let world = World::start().await;
    let unused = request();
    world.store(&subjects::grace(SHARD), grace(&unused)).await;
    let released = v1::Released { reservation_id: unused.reservation_id.clone() };
    let released = v1::GraceEntry { entry: Some(v1::grace_entry::Entry::Released(released)), ..Default::default() };
    world.store(&subjects::grace(SHARD), released.encode_to_vec()).await;
    let _guard = world.guard(Options::default()).await;
    world.is_taken_over().await;
    assert!(world.entries().await.iter().any(|entry| matches!(entry, Entry::Released(_))));
}

#[tokio::test]
async fn who_waits_is_answered_when_a_call_has_ended_or_its_wait_has() {
    let world = World::start().await;
    let limit = Some("1.50".parse().unwrap());
    let options = Options { max_cost_per_day: limit, wait_for_holds: Span::from_secs(4), ..Options::default() };
    let _guard = world.guard(options).await;
    let (running, waits, too_late) = (request(), request(), request());
    assert!(is_granted(&world.reserve(&running).await));
    let subject = subjects::reserve(SHARD);
    let ask = async |request| -> v1::ReserveReply { world.bus.call(&subject, request, PATIENCE).await.unwrap() };
    let status = async || -> v1::BudgetStatusReply {
        let asked = v1::BudgetStatusRequest::default();
        world.bus.call(&subjects::budgets(SHARD), &asked, PATIENCE).await.unwrap()
    };
    let ends = async {
        eventually(PATIENCE, "one waits", || async { status().await.waiting == 1 }).await;
        assert!(is_settled(&world.settle(&running).await));
    };
    let (answer, ()) = tokio::join!(ask(&waits), ends);
    assert!(is_granted(&answer));
    assert!(!is_granted(&ask(&too_late).await));
    let status = status().await;
    let newest = world.stored(&subjects::ledger(SHARD)).await.last().unwrap().sequence;
    assert_eq!((status.waiting, status.open, status.sequence), (0, 1, newest));
    let books: v1::BooksReply =
        world.bus.call(&subjects::books(SHARD), &v1::BooksRequest::default(), PATIENCE).await.unwrap();
    assert_eq!((books.sequence, books.days.len(), books.days[0].calls), (newest, 1, 1));
}

/// One budget for everything and for ever, announced at a half and when it is spent.
fn two_dollars() -> Policies {
    let budget = Budget {
        name: "two".into(),
        scope: Scope::default(),
        period: Period::Total,
        time_zone: Zone::default(),
        limit: Money::usd(2),
        limit_text: String::new(),
        alert: vec![Permille(500), Permille(1000)],
        hard: false,
        when_short: WhenShort::Refuse,
        unbounded_ceiling: None,
        unreachable: Unreachable::Open,
        raises: Vec::new(),
    };
    Policies { budgets: [("two".to_owned(), budget)].into(), ..Policies::default() }
}

#[tokio::test]
async fn a_threshold_is_announced_once_also_by_a_guard_that_follows_one_that_was_killed() {
    let world = World::start().await;
    let mut alerts = world.bus.subscribe("llm.alert.two", None).await.unwrap();
    let mut told: BTreeMap<String, (u64, serde_json::Value)> = BTreeMap::new();
    for _ in 0..4 {
        // Each of them dies with what it has stored.
        let guard = world.guard_of(Options::default(), two_dollars()).await;
        let request = request();
        assert!(is_granted(&world.reserve(&request).await));
        let mut settlement = settlement(&request);
        settlement.end.as_mut().unwrap().cost = Some(Money::usd(1).into());
        let settled: v1::SettleReply = world.bus.call(&subjects::settle(SHARD), &settlement, PATIENCE).await.unwrap();
        assert!(is_settled(&settled));
        drop(guard);
    }
    let _guard = world.guard_of(Options::default(), two_dollars()).await;
    world.reserve(&request()).await;
    let mut hear = |alert: farebox_bus::Delivery| {
        let id = alert.headers.get("Nats-Msg-Id").unwrap().to_owned();
        let event: serde_json::Value = serde_json::from_slice(&alert.payload).unwrap();
        assert_eq!(alert.headers.get(headers::CONTENT_TYPE), Some(headers::JSON));
        assert_eq!(
            (&event["type"], &event["rule"], &event["kind"]),
            (&"llm.alert".into(), &"two".into(), &"threshold".into())
        );
        told.entry(id).or_insert((0, event)).0 += 1;
        told.len()
    };
    // Both, and whatever else is said until another call is admitted.
    while hear(tokio::time::timeout(PATIENCE, alerts.next()).await.unwrap().unwrap()) < 2 {}
    world.reserve(&request()).await;
    while let Some(alert) = alerts.try_next() {
        hear(alert);
    }
    let mut thresholds: Vec<f64> = told.values().map(|(_, event)| event["threshold"].as_f64().unwrap()).collect();
    thresholds.sort_by(f64::total_cmp);
    assert_eq!(thresholds, [0.5, 1.0], "{told:?}");
    let events: Vec<&serde_json::Value> = told.values().map(|(_, event)| event).collect();
    assert!(events.iter().all(|event| event["limit_usd"] == "2"), "{events:?}");
}
