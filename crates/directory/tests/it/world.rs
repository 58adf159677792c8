//! A nats-server with the bucket, a store, and a directory that follows it.

use std::{sync::Arc, time::Duration};

use farebox_bus::{Bus, topology};
use farebox_directory::{Directory, Live, Options, Store};
use farebox_policy::{Policies, ProjectPolicy};
use farebox_proto::{subjects::Tenancy, v1};
use farebox_runtime::{DrainTrigger, Tasks, drain};
use farebox_testkit::{PATIENCE, TestNats, eventually};
use farebox_types::{Project, Span};

/// What a stored change may take until every role knows it.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) bus: Bus,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    trigger: DrainTrigger,
    tasks: Tasks,
}

impl World {
    pub(crate) async fn start(options: Options) -> World {
        let nats = TestNats::start().await.unwrap();
        let writer = connect(&nats).await;
        topology::ensure_topology(&writer, Tenancy::Projects, &topology::StorageOptions::default()).await.unwrap();
        // Another connection than the one that writes.
        let bus = connect(&nats).await;
        let live = Live::open(&bus, fixed(), options).await.unwrap();
        let directory = live.directory();
        let (trigger, signal) = drain();
        let tasks = Tasks::new(trigger.clone());
        tasks.spawn("directory", live.run(signal));
        World { store: Store::new(&writer, Arc::new(fixed())), bus: writer, nats, directory, trigger, tasks }
    }

    /// Waits until the directory knows something, which must not take long.
    pub(crate) async fn known(&self, what: &str, known: impl Fn(&Policies) -> bool) {
        let known = || async { self.directory.read().is_ok_and(|policies| known(&policies)) };
        eventually(AT_ONCE, what, known).await;
    }

    pub(crate) async fn stop(self) {
        self.trigger.drain();
        self.tasks.finish(PATIENCE).await.unwrap();
    }
}

async fn connect(nats: &TestNats) -> Bus {
    let options = farebox_bus::Options {
        url: nats.url(),
        api_timeout: Span::from_secs(1),
        ping_interval: Span::from_millis(500),
        ..Default::default()
    };
    Bus::connect(&options).await.unwrap()
}

/// What the config file says: one project.
pub(crate) fn fixed() -> Policies {
    let name = Project::parse("fixed").unwrap();
    let project = ProjectPolicy {
        name,
        organisation: String::new(),
        models: vec!["from-the-file".to_owned()],
        provider_keys: Default::default(),
        disabled: false,
        metadata: Default::default(),
    };
    Policies { projects: [("fixed".to_owned(), project)].into(), ..Policies::default() }
}

pub(crate) fn project(name: &str) -> v1::Project {
    v1::Project { name: name.to_owned(), ..Default::default() }
}

pub(crate) fn key(id: &str, project: &str) -> v1::Key {
    v1::Key {
        id: id.to_owned(),
        project: project.to_owned(),
        hash: vec![7; 32].into(),
        created_unix_ms: 1_760_000_000_000,
        ..Default::default()
    }
}
