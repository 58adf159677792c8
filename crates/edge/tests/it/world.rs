//! An edge over a real NATS server, and an intake that the test plays.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use farebox_bus::{Bus, Headers, ObjectRef, Subscription, topology};
use farebox_config::Env;
use farebox_directory::Directory;
use farebox_edge::{Deps, Options, Service};
use farebox_policy::{Key, KeyId, KeyText, Pepper, Policies};
use farebox_proto::{
    headers,
    subjects::{self, Tenancy},
    v1,
};
use farebox_runtime::{DrainTrigger, Tasks};
use farebox_testkit::{PATIENCE, TestNats};
use farebox_types::{ErrorKind, Fault, Money, Project, SystemClock, Timestamp};
use prost::Message;
use reqwest::{RequestBuilder, Response};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const RESPONSES: &str = "/v1/responses";

const PEPPER: [u8; 32] = [7; 32];

pub(crate) struct World {
    pub(crate) nats: TestNats,
    /// The intake's connection.
    pub(crate) bus: Bus,
    pub(crate) addr: SocketAddr,
    requests: Subscription,
    cancels: Subscription,
    lookups: Subscription,
    http: reqwest::Client,
    pub(crate) tasks: Tasks,
    pub(crate) trigger: DrainTrigger,
}

impl World {
    pub(crate) async fn start(options: Options) -> World {
        World::with(options, |_| {}).await
    }

    /// With some of its surroundings another.
    pub(crate) async fn with(options: Options, other: impl FnOnce(&mut Deps)) -> World {
        let nats = TestNats::start().await.unwrap();
        let url = nats.url();
        let connect = || async { Bus::connect(&farebox_bus::Options { url: url.clone(), ..Default::default() }).await };
        let (bus, own) = (connect().await.unwrap(), connect().await.unwrap());
        topology::ensure_topology(&bus, Tenancy::Single, &topology::StorageOptions::default()).await.unwrap();
        let requests = bus.subscribe(subjects::EDGE_REQUEST, Some(subjects::INTAKE_QUEUE)).await.unwrap();
        let cancels = bus.subscribe(subjects::EDGE_CANCEL, Some(subjects::INTAKE_QUEUE)).await.unwrap();
        let lookups = bus.subscribe(subjects::EDGE_LOOKUP, Some(subjects::INTAKE_QUEUE)).await.unwrap();
        bus.flush().await.unwrap();
        let (trigger, drain) = farebox_runtime::drain();
        let tasks = Tasks::new(trigger.clone());
        let mut deps = Deps {
            bus: own,
            clock: Arc::new(SystemClock),
            tasks: tasks.clone(),
            env: Env::default(),
            directory: Directory::fixed(Policies::default()),
            pepper: Pepper::new(PEPPER),
            offered: watch::channel(Arc::default()).1,
        };
        other(&mut deps);
        let service = Service::create(SocketAddr::from(([127, 0, 0, 1], 0)), options, deps).await.unwrap();
        let addr = service.addr();
        tasks.spawn("edge", service.run(drain));
        World { nats, bus, addr, requests, cancels, lookups, http: reqwest::Client::new(), tasks, trigger }
    }

    pub(crate) fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.http.post(format!("http://{}{path}", self.addr)).body(body)
    }

    /// Sends a request; its answer's head comes when it comes.
    pub(crate) fn send(&self, request: RequestBuilder) -> Sent {
        let (tell, told) = oneshot::channel();
        let (stop, mut stopped) = oneshot::channel::<()>();
        self.tasks.spawn("client", async move {
            tokio::select! {
                response = request.send() => drop(tell.send(response.unwrap())),
                _ = &mut stopped => {}
            }
        });
        Sent { told, _stop: stop }
    }

    /// The next request that the edge hands over.
    pub(crate) async fn asked(&mut self) -> Asked {
        let delivery = timeout(PATIENCE, self.requests.next()).await.unwrap().unwrap();
        let request: v1::EdgeRequest = delivery.decode().unwrap();
        let traceparent = delivery.headers.traceparent().map(str::to_owned);
        Asked { to: delivery.reply.unwrap(), traceparent, request, bus: self.bus.clone(), sent: 0 }
    }

    /// The next cancel that the edge sends.
    pub(crate) async fn cancelled(&mut self) -> v1::EdgeCancel {
        timeout(PATIENCE, self.cancels.next()).await.unwrap().unwrap().decode().unwrap()
    }

    /// The next cancel of this request: those of others are said again until somebody confirms them.
    pub(crate) async fn cancelled_of(&mut self, asked: &Asked) -> v1::EdgeCancel {
        loop {
            let cancel = self.cancelled().await;
            if cancel.request_id == asked.id() {
                return cancel;
            }
        }
    }

    /// The edge asks whether an answer may still come.
    pub(crate) async fn looked_up(&mut self) -> (String, v1::EdgeLookup) {
        let delivery = timeout(PATIENCE, self.lookups.next()).await.unwrap().unwrap();
        (delivery.reply.clone().unwrap(), delivery.decode().unwrap())
    }

    /// There is no intake any more.
    pub(crate) async fn without_intake(mut self) -> World {
        self.requests = self.bus.subscribe("nobody.asks.here", None).await.unwrap();
        self.cancels = self.bus.subscribe("nobody.cancels.here", None).await.unwrap();
        self.bus.flush().await.unwrap();
        self
    }

    pub(crate) async fn put(&self, body: &str) -> ObjectRef {
        self.bus.put_object(topology::BODIES, Bytes::copy_from_slice(body.as_bytes()), PATIENCE).await.unwrap()
    }
}

/// A request that was sent. Dropped, its client goes.
pub(crate) struct Sent {
    told: oneshot::Receiver<Response>,
    _stop: oneshot::Sender<()>,
}

impl Sent {
    pub(crate) async fn answer(self) -> Response {
        timeout(PATIENCE, self.told).await.unwrap().unwrap()
    }
}

/// One request, as intake has it.
pub(crate) struct Asked {
    pub(crate) request: v1::EdgeRequest,
    pub(crate) traceparent: Option<String>,
    pub(crate) to: String,
    bus: Bus,
    sent: u64,
}

impl Asked {
    pub(crate) fn id(&self) -> &str {
        &self.llm().request_id
    }

    pub(crate) fn llm(&self) -> &v1::LlmRequest {
        self.request.request.as_ref().unwrap()
    }

    pub(crate) fn raw(&self) -> &v1::RawBody {
        match self.llm().body.as_ref().unwrap() {
            v1::llm_request::Body::Raw(raw) => raw,
            other => panic!("{other:?}"),
        }
    }

    async fn publish(&self, kind: &str, message: &impl Message) {
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::PROTOBUF).with(headers::TYPE, kind);
        self.bus.publish_message(&self.to, head, message).await.unwrap();
    }

    /// Waits until the server has what was sent.
    pub(crate) async fn flush(&self) {
        self.bus.flush().await.unwrap();
    }

    /// The next piece of a stream.
    pub(crate) async fn piece(&mut self, payload: &str) {
        self.numbered(self.sent, payload).await;
        self.sent += 1;
    }

    pub(crate) async fn numbered(&self, seq: u64, payload: &str) {
        let begun = (seq == 0).then(|| v1::CallBegun {
            call_id: "call-1".into(),
            model: "fast".into(),
            provider: "openai".into(),
            attempt: 1,
            ..Default::default()
        });
        let piece = Some(v1::llm_chunk::Piece::Raw(Bytes::copy_from_slice(payload.as_bytes())));
        self.publish("chunk", &v1::LlmChunk { request_id: self.id().to_owned(), seq, piece, begun }).await;
    }

    /// A whole answer, after as many pieces as were sent.
    pub(crate) async fn whole(&self, body: &str) {
        let bytes = Bytes::copy_from_slice(body.as_bytes());
        self.ends(v1::llm_response::Result::Raw(v1::RawBody { dialect: 0, bytes })).await;
    }

    pub(crate) async fn fails(&self, fault: Fault) {
        self.ends(v1::llm_response::Result::Error(fault.into())).await;
    }

    pub(crate) async fn ends(&self, result: v1::llm_response::Result) {
        self.ends_after(self.sent, result).await;
    }

    /// An answer that was first given to a JSON caller on the bus.
    pub(crate) async fn ends_in_json(&self, answer: &str) {
        let head = Headers::new().with(headers::CONTENT_TYPE, headers::JSON).with(headers::TYPE, "final");
        self.bus.publish(&self.to, head, answer.to_owned().into()).await.unwrap();
    }

    /// What intake says to a cancel of it.
    pub(crate) async fn confirms(&self, cancelled: bool) {
        let receipt = v1::CancelReceipt { request_id: self.id().to_owned(), cancelled };
        self.bus.publish_message(&self.to, Headers::new(), &receipt).await.unwrap();
    }

    pub(crate) async fn ends_after(&self, chunks: u64, result: v1::llm_response::Result) {
        let report = v1::CallReport {
            call_id: "call-1".into(),
            model: "fast".into(),
            provider: "openai".into(),
            served_model: "gpt-4o-mini".into(),
            cost: Some(Money::from_picos(11_700_000).into()),
            attempts: 1,
            ..Default::default()
        };
        let last =
            v1::LlmResponse { request_id: self.id().to_owned(), chunks, result: Some(result), report: Some(report) };
        self.publish("final", &last).await;
    }
}

/// A key as its holder has it, and as the edge knows it.
pub(crate) fn key(id: &str, project: &str) -> (String, Key) {
    let id = KeyId::parse(id).unwrap();
    let text = KeyText::new(id.clone(), [1; 32]);
    let key = Key {
        id,
        project: Some(Project::parse(project).unwrap()),
        name: String::new(),
        hash: text.hash(&Pepper::new(PEPPER)),
        previous: None,
        groups: Vec::new(),
        expires: None,
        revoked: None,
        models: Vec::new(),
        subjects: Vec::new(),
        addresses: Vec::new(),
        pins: Default::default(),
        metadata: Default::default(),
        created: Timestamp(0),
        role: None,
    };
    (text.reveal(), key)
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

pub(crate) async fn json_of(response: Response) -> serde_json::Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

pub(crate) fn limited() -> Fault {
    Fault::new(ErrorKind::RateLimited, "Please retry after 2 seconds").retry_after(Duration::from_secs(2))
}
