//! The role: listens, serves, and says how it is.

use std::{future, net::SocketAddr, sync::Arc, time::Duration};

use axum::middleware;
use farebox_bus::Bus;
use farebox_config::Env;
use farebox_directory::{Audit, Directory, Store};
use farebox_policy::Pepper;
use farebox_proto::subjects::Tenancy;
use farebox_runtime::{
    Drain,
    listener::{Listener, Terms, Tls},
};
use farebox_types::{Clock, Secret};
use futures::stream;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{Semaphore, broadcast, mpsc, watch},
    time::sleep,
};
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    DESCRIPTOR,
    api::{Api, Offers, Parts},
    calls,
    config_book::ConfigBook,
    entities::Entities,
    error::Error,
    gate::{Gate, MASTER_MIN},
    health::Health,
    incoming::Incoming,
    options::Options,
    v1::{
        audit_service_server::AuditServiceServer, budget_service_server::BudgetServiceServer,
        call_service_server::CallServiceServer, config_service_server::ConfigServiceServer,
        group_service_server::GroupServiceServer, key_service_server::KeyServiceServer,
        limit_service_server::LimitServiceServer, model_service_server::ModelServiceServer,
        organisation_service_server::OrganisationServiceServer, project_service_server::ProjectServiceServer,
    },
};

/// Between two looks at whether the services can do their work.
const LOOK: Duration = Duration::from_millis(500);

/// Says of a reference whether it is allowed.
pub type Nameable = Arc<dyn Fn(&Secret) -> bool + Send + Sync>;

/// What admin needs from outside.
pub struct Deps {
    pub bus: Bus,
    pub tenancy: Tenancy,
    pub clock: Arc<dyn Clock>,
    /// Where references to secrets lead.
    pub env: Env,
    /// What admins' keys are checked against.
    pub directory: Directory,
    /// Where everything that is managed is kept.
    pub store: Store,
    /// The configs that are applied while farebox runs.
    pub config: ConfigBook,
    pub pepper: Pepper,
    /// Where the options name none.
    pub master_key: Option<SecretString>,
    /// Whether projects may name this secret as a key of theirs.
    pub nameable: Nameable,
    /// The newest models and prices.
    pub offers: watch::Receiver<Arc<Offers>>,
}

/// The admin API, bound to its address.
pub struct Service {
    options: Options,
    listener: Listener,
    gate: Arc<Gate>,
    deps: Deps,
}

impl Service {
    /// Binds the address and reads what references to secrets lead to.
    pub async fn create(listen: SocketAddr, options: Options, deps: Deps) -> Result<Service, Error> {
        let tls = options.tls.as_ref().map(|tls| Tls::read(tls, "admin.tls", &[b"h2"], &deps.env)).transpose()?;
        let terms = Terms {
            option: "listen.grpc",
            tls,
            connections_max: options.connections_max,
            connections_per_address: None,
            handshake_timeout: options.handshake_timeout.get(),
        };
        let listener = Listener::bind(listen, terms).await?;
        let gate = Arc::new(Gate {
            directory: deps.directory.clone(),
            pepper: deps.pepper.clone(),
            master: master_key(&options, &deps)?,
            clock: Arc::clone(&deps.clock),
            request_timeout: options.request_timeout.get(),
        });
        Ok(Service { options, listener, gate, deps })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// Serves until the drain; requests under way then have `drain_grace` to end.
    pub async fn run(self, drain: Drain) -> Result<(), Error> {
        let Service { options, listener, gate, deps, .. } = self;
        let facts = deps.bus.subscribe(&deps.tenancy.calls(), None).await?;
        let (health, tails) = (Arc::new(Health::new(&options)), broadcast::Sender::new(options.tail_capacity));
        let hearing = calls::listen(facts, Arc::clone(&health), tails.clone());
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let standing = standing(reporter, deps.bus.clone(), deps.directory);
        let api = Api(Arc::new(Parts {
            entities: Entities { store: deps.store, audit: Audit::new(&deps.bus), retries: options.write_retries },
            config: deps.config,
            bus: deps.bus,
            clock: deps.clock,
            pepper: deps.pepper,
            gate: Arc::clone(&gate),
            offers: deps.offers,
            nameable: deps.nameable,
            health,
            calls: tails,
            tails: Arc::new(Semaphore::new(options.tails_max)),
            drain: drain.clone(),
            options: options.clone(),
        }));
        let routes = routes(&api, options.message_max.len())?.add_service(health_service);
        let gated = routes.prepare().into_axum_router().layer(middleware::from_fn_with_state(gate, Gate::admit));
        let (ready, mut connections) = mpsc::channel(1);
        let incoming = stream::poll_fn(move |cx| connections.poll_recv(cx).map(|next| next.map(Incoming::taken)));
        let served = server(&options).add_routes(gated.into()).serve_with_incoming_shutdown(incoming, drain.signaled());
        let late = async {
            drain.signaled().await;
            sleep(options.drain_grace.get()).await;
        };
        let beside = async {
            tokio::join!(listener.run(ready), hearing, standing);
            future::pending::<()>().await;
        };
        tokio::select! {
            served = served => Ok(served?),
            () = late => Ok(()),
            () = beside => Ok(()),
        }
    }
}

fn master_key(options: &Options, deps: &Deps) -> Result<Option<SecretString>, Error> {
    let key = match &options.master_key {
        Some(secret) => {
            let resolved = farebox_config::resolve(secret, "admin.master_key", &deps.env);
            Some(resolved.map_err(|fault| Error::MasterKey { reason: format!("cannot be read: {fault}") })?)
        }
        None => deps.master_key.clone(),
    };
    match key {
        Some(key) if key.expose_secret().chars().count() < MASTER_MIN => {
            Err(Error::MasterKey { reason: format!("is too short: at least {MASTER_MIN} characters") })
        }
        key => Ok(key),
    }
}

/// All services but health, which lives as long as the process.
fn routes(api: &Api, message_max: usize) -> Result<Routes, Error> {
    let describe = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that a client that learns all from here can read what errors say.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let damaged = |error: tonic_reflection::server::Error| Error::Reflection(Box::new(error));
    let v1 = describe().build_v1().map_err(damaged)?;
    // For clients from before 2023.
    let v1alpha = describe().build_v1alpha().map_err(damaged)?;
    macro_rules! bounded {
        ($server:ident) => {
            $server::new(api.clone()).max_decoding_message_size(message_max)
        };
    }
    Ok(Routes::new(v1)
        .add_service(v1alpha)
        .add_service(bounded!(KeyServiceServer))
        .add_service(bounded!(ProjectServiceServer))
        .add_service(bounded!(OrganisationServiceServer))
        .add_service(bounded!(GroupServiceServer))
        .add_service(bounded!(BudgetServiceServer))
        .add_service(bounded!(LimitServiceServer))
        .add_service(bounded!(ModelServiceServer))
        .add_service(bounded!(CallServiceServer))
        .add_service(bounded!(ConfigServiceServer))
        .add_service(bounded!(AuditServiceServer)))
}

/// By the names under which health is asked for.
const SERVICES: [&str; 10] = [
    "farebox.admin.v1.KeyService",
    "farebox.admin.v1.ProjectService",
    "farebox.admin.v1.OrganisationService",
    "farebox.admin.v1.GroupService",
    "farebox.admin.v1.BudgetService",
    "farebox.admin.v1.LimitService",
    "farebox.admin.v1.ModelService",
    "farebox.admin.v1.CallService",
    "farebox.admin.v1.ConfigService",
    "farebox.admin.v1.AuditService",
];

fn server(options: &Options) -> Server {
    Server::builder()
        .max_concurrent_streams(options.streams_max)
        .http2_keepalive_interval(Some(options.keepalive_interval.get()))
        .http2_keepalive_timeout(Some(options.keepalive_timeout.get()))
        .http2_max_header_list_size(16 * 1024)
}

/// Says of each service whether it can do its work: keys and rules are known, and the bus is there.
async fn standing(reporter: HealthReporter, bus: Bus, directory: Directory) {
    loop {
        let fit = bus.is_connected() && directory.read().is_ok();
        let status = if fit { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in std::iter::once("").chain(SERVICES) {
            reporter.set_service_status(name, status).await;
        }
        sleep(LOOK).await;
    }
}
