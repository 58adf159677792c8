//! A nats-server, a directory that follows it, and the API on a port of its own.

use std::sync::Arc;

use farebox_admin::{
    ConfigBook, ConfigReader, Deps, Offers, Options, Service,
    v1::{self, key_service_client::KeyServiceClient},
};
use farebox_bus::{Bus, topology};
use farebox_config::Env;
use farebox_directory::{Directory, Live, Store};
use farebox_policy::{Pepper, Policies, ProjectPolicy};
use farebox_pricing::PriceBook;
use farebox_proto::{subjects::Tenancy, v1 as wire};
use farebox_providers::{Catalog, Egress};
use farebox_runtime::{DrainTrigger, Tasks, drain};
use farebox_testkit::{PATIENCE, TestNats, eventually};
use farebox_types::{Project, Secret, Span, SystemClock};
use serde_json::json;
use tokio::sync::watch;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

pub(crate) const MASTER: &str = "a-master-key-for-tests";

pub(crate) type Connection = InterceptedService<Channel, Bearer>;

/// Comes with a key.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

pub(crate) fn bearing(channel: Channel, key: &str) -> Connection {
    InterceptedService::new(channel, Bearer(format!("Bearer {key}").parse().unwrap()))
}

pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) bus: Bus,
    pub(crate) directory: Directory,
    pub(crate) addr: String,
    trigger: DrainTrigger,
    tasks: Tasks,
}

impl World {
    pub(crate) async fn start() -> World {
        World::with(Options::default(), farebox_directory::Options::default()).await
    }

    pub(crate) async fn with(options: Options, following: farebox_directory::Options) -> World {
        let nats = TestNats::start().await.unwrap();
        let link = farebox_bus::Options {
            url: nats.url(),
            api_timeout: Span::from_secs(2),
            ping_interval: Span::from_millis(500),
            ..Default::default()
        };
        let bus = Bus::connect(&link).await.unwrap();
        topology::ensure_topology(&bus, Tenancy::Projects, &topology::StorageOptions::default()).await.unwrap();
        let live = Live::open(&bus, fixed(), following).await.unwrap();
        let directory = live.directory();
        let (trigger, signal) = drain();
        let tasks = Tasks::new(trigger.clone());
        tasks.spawn("directory", live.run(signal.clone()));
        let deps = Deps {
            bus: bus.clone(),
            tenancy: Tenancy::Projects,
            clock: Arc::new(SystemClock),
            env: Env::default(),
            directory: directory.clone(),
            store: Store::new(&bus, Arc::new(fixed())),
            config: ConfigBook::new(bus.bucket(topology::CONFIG), Arc::new(Reader), 64 * 8192),
            pepper: Pepper::new([7; 32]),
            master_key: Some(MASTER.into()),
            nameable: Arc::new(|secret: &Secret| secret.to_string().starts_with("os.environ/ITS_")),
            offers: watch::channel(Arc::new(offers())).1,
        };
        let service = Service::create("127.0.0.1:0".parse().unwrap(), options, deps).await.unwrap();
        let addr = service.addr().to_string();
        tasks.spawn("admin", service.run(signal));
        World { nats, bus, directory, addr, trigger, tasks }
    }

    /// A connection of whoever has this key.
    pub(crate) async fn connect(&self, key: &str) -> Connection {
        let channel = Endpoint::from_shared(format!("http://{}", self.addr)).unwrap().connect().await.unwrap();
        bearing(channel, key)
    }

    pub(crate) async fn master(&self) -> Connection {
        self.connect(MASTER).await
    }

    /// Makes a key and waits until it is known.
    pub(crate) async fn key(&self, key: wire::Key) -> String {
        let mut keys = KeyServiceClient::new(self.master().await);
        let made = keys.create_key(v1::CreateKeyRequest { key: Some(key), write: None }).await.unwrap().into_inner();
        let id = made.key.unwrap().id;
        self.known("the new key", |policies| policies.keys.keys().any(|known| known.as_str() == id)).await;
        made.text
    }

    pub(crate) async fn known(&self, what: &str, known: impl Fn(&Policies) -> bool) {
        let known = || async { self.directory.read().is_ok_and(|policies| known(&policies)) };
        eventually(PATIENCE, what, known).await;
    }

    pub(crate) fn begin_drain(&self) {
        self.trigger.drain();
    }

    pub(crate) async fn stop(self) {
        self.trigger.drain();
        self.tasks.finish(PATIENCE).await.unwrap();
    }
}

/// Finds a fault in documents with the word `bad`.
struct Reader;

impl ConfigReader for Reader {
    fn check(&self, document: &str) -> Result<Vec<String>, Vec<v1::ConfigFault>> {
        let fault = v1::ConfigFault {
            path: "models.bad".to_owned(),
            message: "there is no provider `bad`".to_owned(),
            line: 2,
            column: 3,
            source: "document:2:3".to_owned(),
        };
        if document.contains("bad") { Err(vec![fault]) } else { Ok(vec!["models".to_owned()]) }
    }

    fn check_again(&self, document: &str) -> Result<Vec<String>, Vec<v1::ConfigFault>> {
        self.check(document)
    }

    fn show(&self) -> (u64, String) {
        (0, "models: {}".to_owned())
    }
}

/// What the config file says: one project.
fn fixed() -> Policies {
    let name = Project::parse("acme").unwrap();
    let project = ProjectPolicy {
        name,
        organisation: String::new(),
        models: Vec::new(),
        provider_keys: Default::default(),
        disabled: false,
        metadata: Default::default(),
    };
    Policies { projects: [("acme".to_owned(), project)].into(), ..Policies::default() }
}

fn offers() -> Offers {
    let providers = json!({
        "bedrock": { "region": "eu-west-1" },
        "local": { "kind": "openai-compatible", "api_base": "http://127.0.0.1:1/v1" },
    });
    let models = json!({
        "small": {
            "deployments": [{ "target": "local/s1", "rpm": 60, "tpm": 90_000, "concurrent": 4 }, { "target": "local/s2" }],
            "fallback": ["large"],
        },
        "large": "local/l1",
    });
    let routing = json!({ "default": "small", "tasks": { "code": "large" } });
    let catalog = Catalog::new(
        &serde_json::from_value(providers).unwrap(),
        &serde_json::from_value(models).unwrap(),
        &serde_json::from_value(routing).unwrap(),
        &Egress::default(),
    );
    let prices = json!([{ "provider": "local", "models": ["l1"], "input": "3", "output": "15" }]);
    let prices = serde_json::from_value::<Vec<_>>(prices).unwrap();
    Offers { catalog: catalog.unwrap(), prices: PriceBook::of(&prices).unwrap() }
}

pub(crate) fn write(request_id: &str, revision: u64, reason: &str) -> Option<v1::Write> {
    Some(v1::Write { request_id: request_id.to_owned(), revision, reason: reason.to_owned() })
}

/// The fields that a refusal names.
pub(crate) fn fields(refusal: &Status) -> Vec<String> {
    let details = refusal.get_error_details();
    let found = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    found.into_iter().map(|violation| violation.field).collect()
}

/// The reason that a refusal gives, for programs.
pub(crate) fn reason(refusal: &Status) -> String {
    refusal.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
