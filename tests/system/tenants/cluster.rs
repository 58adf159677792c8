//! A NATS cluster of three servers with the files of deploy/nats, and what keys do on it.

use std::path::{Path, PathBuf};

use farebox_emulator::Emulator;
use farebox_testkit::{PATIENCE, Process, eventually, free_port, nats_program};
use tokio::net::TcpStream;

use super::*;
use crate::stage::{FAREBOX, play_within};

/// Behind the lines of deploy/nats/farebox.yaml.
const CONFIG: &str = r#"
clickhouse: { listen: "127.0.0.1:0" }
directory: { stale_after: 3s, check_interval: 200ms }
providers: { emu: { kind: openai-compatible, api_base: "EMULATOR/v1" } }
models: { plain: emu/plain }
routing: { default: plain }
prices: [{ provider: emu, models: [plain], input: "1", output: "2", max_output: 1000 }]
"#;

/// A file as it is delivered.
fn delivered(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/nats").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

async fn nats_config(dir: &Path) {
    let command = Process::builder(FAREBOX).args(["nats", "config", "--accounts-dir", "accounts", "--dir"]).arg(dir);
    let process = command.spawn().await.expect("farebox starts");
    let exit = process.wait(PATIENCE).await.unwrap_or_else(|error| panic!("{error}:\n{}", process.log()));
    assert!(exit.success(), "{}", process.log());
}

/// One server on a machine of its own: node.conf as it is, accounts.conf beside it. Only addresses and where data is kept
/// are this machine's.
struct Node {
    program: PathBuf,
    name: String,
    dir: PathBuf,
    port: u16,
    flags: Vec<String>,
    process: Process,
}

impl Node {
    async fn run(program: &Path, name: &str, dir: &Path, flags: &[String]) -> Process {
        let server = Process::builder(program).args(["--config", "node.conf"]).args(flags);
        server.env("NODE", name).current_dir(dir).spawn().await.expect("nats-server starts")
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn listens(&self) {
        let open = || async {
            assert!(self.process.is_running(), "{} has ended:\n{}", self.name, self.process.log());
            TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        };
        eventually(PATIENCE, "the server listens", open).await;
    }

    async fn start_again(&mut self) {
        self.process = Node::run(&self.program, &self.name, &self.dir, &self.flags).await;
        self.listens().await;
    }
}

/// Three servers with what the command wrote.
async fn nodes(dir: &Path) -> Vec<Node> {
    let program = nats_program().await.expect("a nats-server");
    let routed: Vec<u16> = (0..3).map(|_| free_port().expect("a port")).collect();
    let routes: Vec<String> = routed.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let mut nodes = Vec::new();
    for (n, route) in routes.iter().enumerate() {
        let (name, port) = (format!("nats-{n}"), free_port().expect("a port"));
        let own = dir.join(&name);
        std::fs::create_dir(&own).expect("a directory");
        let conf = delivered("node.conf");
        assert!(conf.contains("\"/data/jetstream\""), "where data is kept cannot be said by a flag: {conf}");
        std::fs::write(own.join("node.conf"), conf.replace("/data/", "")).expect("it is written");
        std::fs::copy(dir.join("accounts.conf"), own.join("accounts.conf")).expect("the command wrote it");
        let (port_flag, routes) = (port.to_string(), routes.join(","));
        let flags = [["--addr", "127.0.0.1"], ["--port", &port_flag], ["--cluster", route], ["--routes", &routes]];
        let flags: Vec<String> = flags.concat().into_iter().map(str::to_owned).collect();
        let process = Node::run(&program, &name, &own, &flags).await;
        nodes.push(Node { program: program.clone(), name, dir: own, port, flags, process });
    }
    for node in &nodes {
        node.listens().await;
    }
    nodes
}

/// All roles with the config of deploy/nats, as one process with credentials of its own.
async fn up(dir: &Path, urls: &str, emulator: &Emulator) -> Process {
    let config = delivered("farebox.yaml") + &CONFIG.replace("EMULATOR", &emulator.base_url());
    std::fs::write(dir.join("farebox.yaml"), config).expect("it is written");
    let creds = std::fs::read_to_string(dir.join("creds/up.creds")).expect("the command wrote it");
    let ready = dir.join("ready.json");
    let mut set =
        vec![format!("nats.url={urls}"), format!("identity.root_key=file:{}", dir.join("root.key").display())];
    // Three servers share one disk here.
    set.push("nats.storage.ledger_max_bytes=64MiB".to_owned());
    set.extend(["calls", "jobs", "results", "bodies"].map(|what| format!("nats.storage.{what}_max_bytes=16MiB")));
    let up = Process::builder(FAREBOX)
        .args(["up", "--data"])
        .arg(dir.join("data"))
        .arg("--config")
        .arg(dir.join("farebox.yaml"))
        .arg("--ready-file")
        .arg(&ready)
        .args(set.iter().flat_map(|value| ["--set", value.as_str()]))
        .env("NATS_CREDS", creds)
        .spawn()
        .await
        .expect("farebox starts");
    let waited = up.wait_ready(&ready, PATIENCE * 4).await;
    waited.unwrap_or_else(|error| panic!("{error}:\n{}", up.log()));
    up
}

#[test]
fn a_cluster_of_ones_own_lets_roles_and_keys_in_and_out() {
    play_within(Duration::from_secs(180), async {
        let dir = tempfile::tempdir().expect("a directory");
        nats_config(dir.path()).await;
        let mut nodes = nodes(dir.path()).await;
        let urls: Vec<String> = nodes.iter().map(Node::url).collect();
        let emulator = Emulator::start(farebox_emulator::Options::default()).await.expect("the emulator listens");
        let up = up(dir.path(), &urls.join(","), &emulator).await;

        let keyring = Keyring::load_or_create(dir.path()).expect("its root");
        let creds = std::fs::read_to_string(dir.path().join("creds/admin.creds")).expect("the command wrote it");
        let options = farebox_bus::Options { url: urls.join(","), ..Default::default() };
        let admin = Bus::connect_as(&options, Login::Creds(creds)).await.expect("admin connects");
        let store = Store::new(&admin, Arc::new(Policies::default()));
        let text = KeyText::new(KeyId::parse("k1").expect("an id"), [5; 32]);
        store.put(&v1::Project { name: "acme".to_owned(), ..Default::default() }, 0).await.expect("it is stored");
        let key = v1::Key {
            id: "k1".to_owned(),
            project: "acme".to_owned(),
            hash: text.hash(&keyring.pepper()).0.to_vec().into(),
            created_unix_ms: SystemClock.now().millis(),
            ..Default::default()
        };
        let revision = store.put(&key, 0).await.expect("it is stored");

        let mut clients = Vec::new();
        for url in &urls {
            assert!(ConnectOptions::new().connect(url).await.is_err(), "nobody comes in without a key");
            let options = ConnectOptions::with_token(text.reveal()).ignore_discovered_servers();
            let client = options.connect(url).await.unwrap_or_else(|error| panic!("{error}\n{}", up.log()));
            let answer = ask(&client, "llm.request", HeaderMap::new(), &chat("plain", json!({}))).await;
            assert_eq!(answer["farebox"]["outcome"], "ok", "{answer}");
            clients.push(client);
        }

        goes_stale(&mut nodes, &clients[0]).await;

        let revoked = v1::Key { revoked_unix_ms: SystemClock.now().millis(), ..key };
        store.put(&revoked, revision).await.expect("it is stored");
        let connected = |client: &Client| client.connection_state() == async_nats::connection::State::Connected;
        let out = || async { !clients.iter().any(connected) };
        // Two servers have just come back: what they say of their connections comes with the next look.
        eventually(AT_ONCE * 4, "the revoked key is out on all servers", out).await;
        for url in &urls {
            assert!(ConnectOptions::with_token(text.reveal()).connect(url).await.is_err(), "it comes in again");
        }
    });
}

/// One server of three takes no writes, so it cannot be told whether keys were revoked.
async fn goes_stale(nodes: &mut [Node], client: &Client) {
    for node in &nodes[1..] {
        node.process.kill9().await;
    }
    let asked = async || {
        let request = async_nats::Request::new().payload(chat("plain", json!({})).to_string().into());
        let answer = client.send_request("llm.request", request.timeout(Some(Duration::from_secs(2)))).await.ok()?;
        serde_json::from_slice::<Value>(&answer.payload).ok()
    };
    let said = async || {
        let answer = asked().await.unwrap_or_default();
        let error = &answer["error"];
        assert_ne!(error["type"], "unauthenticated", "{answer}");
        error["type"] == "unavailable" && error["message"].as_str().is_some_and(|said| said.contains("keys and rules"))
    };
    eventually(PATIENCE, "it says that it cannot know", said).await;
    for node in &mut nodes[1..] {
        node.start_again().await;
    }
    let answered = async || asked().await.is_some_and(|answer| answer["farebox"]["outcome"] == "ok");
    eventually(PATIENCE * 2, "it serves again", answered).await;
}
