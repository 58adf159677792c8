//! The whole config: the sum of what each part of farebox can be told.

use std::{collections::BTreeMap, ffi::OsStr, net::SocketAddr, path::Path, time::Duration};

use farebox_config::{
    ConfigError, ConfigFault, Env, FileSource, Loaded, Path as ConfigPath, Replacement, Sources, Step,
};
use farebox_identity::Durability;
use farebox_policy::{BudgetOptions, GroupOptions, KeyOptions, LimitOptions, OrganisationOptions, ProjectOptions};
use farebox_pricing::{PriceBook, PriceRow};
use farebox_providers::{Catalog, Egress, Model, ProviderOptions, RoutingOptions, Target};
use farebox_runtime::bounds;
use farebox_types::{ByteSize, Money, Secret, Span};
use farebox_worker::ProjectSecrets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// The url of a part that farebox starts itself.
pub(crate) const EMBEDDED: &str = "embedded";

/// `farebox.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) nats: Nats,
    pub(crate) clickhouse: ClickHouse,
    /// Where models are served: the name is the kind where it is a known one.
    pub(crate) providers: BTreeMap<String, ProviderOptions>,
    /// Where requests to providers may go.
    pub(crate) egress: Egress,
    /// What callers ask for.
    pub(crate) models: BTreeMap<String, Model>,
    /// Which model serves a task type, an agent role, or a request that names nothing.
    pub(crate) routing: RoutingOptions,
    /// Prices of your own: they replace the built-in ones of the same model.
    pub(crate) prices: Vec<PriceRow>,
    /// US dollars for one unit of another currency, for limits that are written in it: `EUR: 1.08`.
    pub(crate) currencies: BTreeMap<String, Money>,
    /// What several projects belong to.
    pub(crate) organisations: BTreeMap<String, OrganisationOptions>,
    /// Tenants.
    pub(crate) projects: BTreeMap<String, ProjectOptions>,
    /// Groups of keys.
    pub(crate) groups: BTreeMap<String, GroupOptions>,
    /// Keys, for set-ups that need no admin API, by their id.
    pub(crate) keys: BTreeMap<String, KeyOptions>,
    /// Limits on spend.
    pub(crate) budgets: Vec<BudgetOptions>,
    /// Limits on how often, how many tokens and how many at a time.
    pub(crate) limits: Vec<LimitOptions>,
    pub(crate) intake: farebox_intake::Options,
    pub(crate) guard: farebox_guard::Options,
    pub(crate) worker: farebox_worker::Options,
    pub(crate) accounting: farebox_accounting::Options,
    pub(crate) identity: farebox_identity::Options,
    pub(crate) edge: farebox_edge::Options,
    pub(crate) admin: farebox_admin::Options,
    pub(crate) directory: farebox_directory::Options,
    pub(crate) logs: farebox_telemetry::Options,
    pub(crate) process: Process,
}

/// Where farebox itself listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listen {
    /// OpenAI's and Anthropic's APIs; port 0: any free one.
    pub(crate) http: SocketAddr,
    /// The admin API; port 0: any free one.
    pub(crate) grpc: SocketAddr,
}

impl Default for Listen {
    fn default() -> Listen {
        let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Listen { http: here(4000), grpc: here(4001) }
    }
}

/// The message bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nats {
    /// `embedded`: farebox starts a nats-server itself. Else `nats://…`.
    pub(crate) url: String,
    /// Of a server elsewhere: a `.creds` text, a token or `user:password`, as `file:/path` or `os.environ/NAME`.
    pub(crate) credentials: Option<Secret>,
    /// Of a server elsewhere: whether it has farebox's accounts (one per project). Without them there is one tenant. The
    /// embedded server always has them.
    pub(crate) accounts: bool,
    /// Where the embedded server listens; port 0: any free one.
    pub(crate) listen: SocketAddr,
    /// What the embedded server's stored messages outlive.
    pub(crate) durability: Durability,
    /// The largest message of the embedded server.
    pub(crate) max_payload: ByteSize,
    pub(crate) connection: farebox_bus::Options,
    pub(crate) storage: farebox_bus::topology::StorageOptions,
}

impl Default for Nats {
    fn default() -> Nats {
        Nats {
            url: EMBEDDED.to_owned(),
            credentials: None,
            accounts: false,
            listen: SocketAddr::from(([127, 0, 0, 1], 4222)),
            durability: Durability::default(),
            max_payload: ByteSize(8 * 1024 * 1024),
            connection: farebox_bus::Options::default(),
            storage: farebox_bus::topology::StorageOptions::default(),
        }
    }
}

/// The ledger's home.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClickHouse {
    /// `embedded`: farebox starts a ClickHouse itself. Else `http://…`.
    pub(crate) url: String,
    /// Where the embedded server's HTTP interface listens; port 0: any free one.
    pub(crate) listen: SocketAddr,
    pub(crate) connection: farebox_clickhouse::Options,
}

impl Default for ClickHouse {
    fn default() -> ClickHouse {
        ClickHouse {
            url: EMBEDDED.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8123)),
            connection: farebox_clickhouse::Options::default(),
        }
    }
}

/// This process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Process {
    /// Threads that run it. One has the lowest latency on a small machine.
    pub(crate) threads: usize,
    /// How long everything may take to end after Ctrl-C.
    pub(crate) drain_timeout: Span,
    /// How long everything may take to answer at start.
    pub(crate) start_timeout: Span,
}

impl Default for Process {
    fn default() -> Process {
        Process { threads: 1, drain_timeout: Span::from_secs(40), start_timeout: Span::from_secs(60) }
    }
}

/// Variables with farebox's prefix that are flags, not config.
const RESERVED: [&str; 11] =
    ["CONFIG", "DATA", "NATS", "CREDS", "KEY", "READY_FILE", "LOG", "GRPC", "ADMIN_KEY", "MASTER_KEY", "URL"];

/// The environment of this process, as far as it is text.
pub(crate) fn environment() -> Env {
    let text = |value: &OsStr| value.to_str().map(str::to_owned);
    std::env::vars_os().filter_map(|(name, value)| Some((text(&name)?, text(&value)?))).collect()
}

/// The sections that can change while farebox runs. The others are read at start only.
pub(crate) const LIVE: [&str; 12] = [
    "providers",
    "egress",
    "models",
    "routing",
    "prices",
    "currencies",
    "organisations",
    "projects",
    "groups",
    "keys",
    "budgets",
    "limits",
];

/// What the config of this process is made of, apart from what is applied while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    sources: Sources,
    /// Where the provider emulator of `--demo` listens.
    pub(crate) demo: Option<String>,
}

impl Base {
    /// The file as it is now, the environment and the flags.
    pub(crate) fn read(path: Option<&Path>, flags: Vec<(String, String)>) -> Result<Base, ConfigError> {
        let default = Path::new("farebox.yaml");
        let path = path.or_else(|| default.exists().then_some(default));
        let sources = Sources {
            file: path.map(FileSource::read).transpose()?,
            replacement: None,
            env: environment(),
            reserved_env: RESERVED.iter().map(|name| (*name).to_owned()).collect(),
            flags,
        };
        Ok(Base { sources, demo: None })
    }

    /// What [`Loaded::show`] made of a config, of whatever process.
    pub(crate) fn shown(text: String) -> Base {
        let file = FileSource { name: "the config that runs".to_owned(), text };
        Base { sources: Sources { file: Some(file), ..Sources::default() }, demo: None }
    }

    /// Defaults, then the file, then the environment, then flags.
    pub(crate) fn load(&self) -> Result<Loaded<Config>, ConfigError> {
        self.loaded(&self.sources)
    }

    /// The same with a document in place of the file's sections that can change.
    pub(crate) fn with(&self, document: FileSource) -> Result<Loaded<Config>, ConfigError> {
        self.replaced(document, LIVE.map(str::to_owned).to_vec())
    }

    /// The same, if the document says nothing new of the sections that cannot change. All its faults otherwise.
    pub(crate) fn check(&self, document: FileSource) -> Result<Loaded<Config>, ConfigError> {
        let mut sections = farebox_config::sections(&document)?;
        sections.extend(LIVE.map(str::to_owned));
        let wanted = self.replaced(document, sections)?;
        let differs = farebox_config::differences(&self.load()?.value, &wanted.value)?;
        let fixed = differs.into_iter().filter(|path| !is_live(path)).map(|path| ConfigFault {
            message:
                "this cannot change while farebox runs: leave it as it is here, or change the config file and restart"
                    .to_owned(),
            path,
        });
        match wanted.place(fixed.collect()) {
            Some(error) => Err(error),
            None => Ok(wanted),
        }
    }

    fn replaced(&self, document: FileSource, sections: Vec<String>) -> Result<Loaded<Config>, ConfigError> {
        self.loaded(&Sources { replacement: Some(Replacement { document, sections }), ..self.sources.clone() })
    }

    fn loaded(&self, sources: &Sources) -> Result<Loaded<Config>, ConfigError> {
        let mut loaded = farebox_config::load(sources, validate)?;
        if let Some(emulator) = &self.demo {
            loaded.value.add_demo(emulator);
        }
        Ok(loaded)
    }
}

/// Whether what stands there can change while farebox runs.
fn is_live(path: &ConfigPath) -> bool {
    matches!(path.0.first(), Some(Step::Key(section)) if LIVE.contains(&section.as_str()))
}

impl Config {
    /// Adds the emulator as a provider, with two models that talk and one that has embeddings.
    fn add_demo(&mut self, emulator: &str) {
        let provider = ProviderOptions {
            kind: Some("demo".to_owned()),
            api_base: Some(format!("{emulator}/v1")),
            ..Default::default()
        };
        self.providers.insert("demo".to_owned(), provider);
        for name in ["demo-small", "demo-large", "demo-embed"] {
            let target = Target { provider: "demo".to_owned(), model: name.to_owned() };
            self.models.entry(name.to_owned()).or_insert_with(|| Model::from(target));
        }
        self.routing.default.get_or_insert_with(|| "demo-small".to_owned());
    }
}

/// What is wrong with a config that can be read.
pub(crate) fn validate(config: &Config) -> Vec<ConfigFault> {
    let fault = |(path, message): bounds::Fault| ConfigFault::new(path, message);
    let mut faults: Vec<ConfigFault> =
        Catalog::check(&config.providers, &config.models, &config.routing, &config.egress)
            .into_iter()
            .map(|fault| ConfigFault::new(&fault.path, fault.message))
            .collect();
    if let Err(error) = PriceBook::with_overrides(&config.prices) {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        faults.push(ConfigFault::new("prices", format!("{error}{cause}")));
    }
    let edge = config.edge.faults(config.listen.http);
    faults.extend(edge.into_iter().map(|(path, message)| ConfigFault::new(&format!("edge.{path}"), message)));
    let admin = config.admin.faults(config.listen.grpc);
    faults.extend(admin.into_iter().map(|(path, message)| ConfigFault::new(&format!("admin.{path}"), message)));
    if config.nats.url != EMBEDDED && !config.nats.url.contains("://") {
        let message = format!("`{}` is no address: write `embedded` or nats://host:port", config.nats.url);
        faults.push(ConfigFault::new("nats.url", message));
    }
    if config.identity.root_key.is_some() && config.nats.url != EMBEDDED && !config.nats.accounts {
        let message = "the root of accounts is of no use on a server without them: set nats.accounts: true";
        faults.push(ConfigFault::new("identity.root_key", message));
    }
    if config.directory.stale_after.get() < config.directory.check_interval.get() * 2 {
        let message = format!(
            "{} would make everything stale all the time: at least twice directory.check_interval ({})",
            config.directory.stale_after, config.directory.check_interval
        );
        faults.push(ConfigFault::new("directory.stale_after", message));
    }
    if config.clickhouse.url != EMBEDDED && !config.clickhouse.url.starts_with("http") {
        let message = format!("`{}` is no address: write `embedded` or http://host:8123", config.clickhouse.url);
        faults.push(ConfigFault::new("clickhouse.url", message));
    }
    if config.worker.heartbeat_interval.get() * 3 > config.guard.lease.get() {
        let message = format!(
            "{} is too long for a lease of {} (guard.lease): three heartbeats must fit into it",
            config.worker.heartbeat_interval, config.guard.lease
        );
        faults.push(ConfigFault::new("worker.heartbeat_interval", message));
    }
    faults.extend(drains(config));
    let spans = [
        ("guard.lease", config.guard.lease),
        ("guard.expiry_interval", config.guard.expiry_interval),
        ("guard.store_timeout", config.guard.store_timeout),
        ("worker.heartbeat_interval", config.worker.heartbeat_interval),
        ("worker.guard_timeout", config.worker.guard_timeout),
        ("intake.guard_timeout", config.intake.guard_timeout),
        ("directory.check_interval", config.directory.check_interval),
        ("identity.servers_wait", config.identity.servers_wait),
        ("identity.sweep_interval", config.identity.sweep_interval),
        ("intake.job_ack_wait", config.intake.job_ack_wait),
        ("intake.result_wait", config.intake.result_wait),
    ];
    faults.extend(bounds::too_short(spans).map(fault));
    faults.extend(rules::faults(config));
    for (path, wait) in
        [("guard.wait_for_holds", config.guard.wait_for_holds), ("guard.limit_wait", config.guard.limit_wait)]
    {
        if wait.get() >= config.intake.guard_deadline.get() {
            let given_up = config.intake.guard_deadline;
            let message = format!("{wait} is too long: intake gives up after {given_up} (intake.guard_deadline)");
            faults.push(ConfigFault::new(path, message));
        }
    }
    if config.guard.lead_ttl.get() < Duration::from_secs(1) {
        faults.push(ConfigFault::new("guard.lead_ttl", "a lead of less than 1s cannot be kept"));
    }
    let counts = [
        ("guard.batch_max", config.guard.batch_max),
        ("worker.max_in_flight", config.worker.max_in_flight),
        ("intake.max_in_flight", config.intake.max_in_flight),
        ("nats.connection.command_capacity", config.nats.connection.command_capacity),
        ("nats.connection.object_transfers", config.nats.connection.object_transfers),
        ("nats.connection.subscription_capacity", config.nats.connection.subscription_capacity),
    ];
    faults.extend(bounds::zero(counts).map(fault));
    faults.extend(project_secrets(&config.worker.project_secrets));
    if config.process.threads == 0 {
        faults.push(ConfigFault::new("process.threads", "at least one thread is needed".to_owned()));
    }
    faults
}

/// A process that is ended before its parts have ended cuts off what they still do.
fn drains(config: &Config) -> Vec<ConfigFault> {
    let (edge, worker, end) = (&config.edge, &config.worker, config.process.drain_timeout);
    let parts = [
        ("edge.drain_timeout", edge.drain_timeout, "edge.answer_grace", edge.answer_grace),
        ("worker.drain_timeout", worker.drain_timeout, "worker.guard_timeout", worker.guard_timeout),
    ];
    let late = parts.into_iter().filter(|(_, drain, _, last)| drain.get() + last.get() > end.get());
    let fault = |(path, drain, name, last)| {
        let message = format!(
            "{drain}, and {last} more ({name}), are longer than the {end} in which the whole process ends \
             (process.drain_timeout): shorten this, or give the process more"
        );
        ConfigFault::new(path, message)
    };
    late.map(fault).collect()
}

/// What projects may name must be less than everything.
fn project_secrets(allowed: &ProjectSecrets) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    if allowed.env_prefix.as_ref().is_some_and(String::is_empty) {
        let message = "every variable begins so: write what those that projects may name begin with, or leave it out";
        faults.push(ConfigFault::new("worker.project_secrets.env_prefix", message));
    }
    for (i, dir) in allowed.dirs.iter().enumerate() {
        if !dir.is_absolute() || dir.parent().is_none() {
            let message =
                format!("`{}` is no directory for secrets: write an absolute path, and not `/`", dir.display());
            faults.push(ConfigFault::new(&format!("worker.project_secrets.dirs[{i}]"), message));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(text: &str) -> Base {
        let file = FileSource { name: "farebox.yaml".to_owned(), text: text.to_owned() };
        let flags = vec![("guard.lease".to_owned(), "9s".to_owned())];
        Base { sources: Sources { file: Some(file), flags, ..Sources::default() }, demo: None }
    }

    fn document(text: &str) -> FileSource {
        FileSource { name: "document".to_owned(), text: text.to_owned() }
    }

    const FILE: &str = "process: { threads: 2 }\nproviders: { ollama: { api_base: \"http://127.0.0.1:1/v1\" } }\nmodels: { a: ollama/a }\n";

    #[test]
    fn every_section_that_can_change_is_one() {
        let all = serde_json::to_value(Config::default()).unwrap();
        for section in LIVE {
            assert!(all.get(section).is_some(), "{section}");
        }
    }

    #[test]
    fn a_document_may_repeat_what_cannot_change_and_leave_it_out() {
        for text in [FILE.to_owned(), FILE.replace("process: { threads: 2 }", ""), "models: {}".to_owned()] {
            let checked = base(FILE).check(document(&text)).unwrap();
            assert_eq!(checked.value.process.threads, 2, "{text}");
            assert_eq!(checked.value.guard.lease, Span::from_secs(9), "flags lie over it");
        }
        let bare = base(FILE).with(document("models: {}\nprocess: { threads: 9 }")).unwrap();
        assert_eq!((bare.value.models.len(), bare.value.providers.len(), bare.value.process.threads), (0, 0, 2));
    }

    #[test]
    fn what_cannot_change_is_refused_where_it_stands() {
        let text = "models: {}\nprocess:\n  threads: 3\nworker: { max_in_flight: 1 }\n";
        let error = base(FILE).check(document(text)).unwrap_err();
        let said: Vec<String> = error.faults.iter().map(|fault| format!("{} {}", fault.origin, fault.path)).collect();
        assert_eq!(said, ["document:4:26 worker.max_in_flight", "document:3:12 process.threads"], "{error}");
        assert!(error.to_string().contains("restart"), "{error}");
    }

    #[test]
    fn faults_are_those_of_a_config_file() {
        let error = base(FILE).check(document("models:\n  a: nowhere/a\nmodel: 1\n")).unwrap_err();
        let said: Vec<String> = error.faults.iter().map(|fault| format!("{} {}", fault.origin, fault.path)).collect();
        assert_eq!(said, ["document:2:6 models.a.deployments[0].target", "document:3:1 model"], "{error}");
    }

    #[test]
    fn parts_end_before_their_process_does() {
        let said = |process: &str| match base(&format!("process: {{ drain_timeout: {process} }}\n")).load() {
            Ok(_) => Vec::new(),
            Err(error) => error.faults.iter().map(|fault| format!("{} {}", fault.path, fault.message)).collect(),
        };
        assert_eq!(said("30s"), Vec::<String>::new());
        let short = said("21s");
        assert_eq!(short.len(), 2, "{short:?}");
        for (path, fault) in
            ["edge.drain_timeout 20s, and 2s more (edge.answer_grace)", "worker.drain_timeout 20s"].iter().zip(&short)
        {
            assert!(
                fault.starts_with(path) && fault.contains("21s") && fault.contains("process.drain_timeout"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_project_may_not_name_everything() {
        let text = "worker: { project_secrets: { env_prefix: \"\", dirs: [/, keys] } }";
        let error = base(text).load().unwrap_err();
        assert_eq!(error.faults.len(), 3, "{error}");
    }
}
