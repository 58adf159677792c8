//! A NATS cluster of three servers, set up as deploy/nats says, and what keys do on it.

use std::path::Path;

use farebox_emulator::Emulator;
use farebox_testkit::{PATIENCE, Process, TestNats, eventually, free_port};

use super::*;
use crate::stage::{FAREBOX, play_within};

const CONFIG: &str = r#"
nats: { url: "URLS", accounts: true, storage: { replicas: 3, ledger_max_bytes: 64MiB, calls_max_bytes: 16MiB, jobs_max_bytes: 16MiB, results_max_bytes: 16MiB, bodies_max_bytes: 16MiB } }
clickhouse: { listen: "127.0.0.1:0" }
identity: { root_key: "file:DIR/root.key", anonymous: false }
directory: { stale_after: 3s, check_interval: 200ms }
providers: { emu: { kind: openai-compatible, api_base: "EMULATOR/v1" } }
models: { plain: emu/plain }
routing: { default: plain }
prices: [{ provider: emu, models: [plain], input: "1", output: "2", max_output: 1000 }]
"#;

/// Three servers with the lines that the command wrote.
async fn servers(dir: &Path) -> Vec<TestNats> {
    let lines = std::fs::read_to_string(dir.join("accounts.conf")).expect("the command wrote it");
    let ports: Vec<u16> = (0..3).map(|_| free_port().expect("a port")).collect();
    let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let mut servers = Vec::new();
    for (node, port) in ports.iter().enumerate() {
        let own = lines.replace("/data/accounts", &dir.join(format!("accounts-{node}")).display().to_string());
        let cluster = format!(
            "server_name: nats-{node}\nmax_payload: 8MB\nno_fast_producer_stall: true\n\
             cluster {{ name: farebox, listen: \"127.0.0.1:{port}\", routes: {routes:?} }}\n{own}"
        );
        servers.push(TestNats::builder().config(&cluster).start().await.expect("a server starts"));
    }
    servers
}

#[test]
fn a_cluster_of_ones_own_lets_roles_and_keys_in_and_out() {
    play_within(Duration::from_secs(180), async {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Process::builder(FAREBOX).args(["nats", "config", "--dir"]).arg(dir.path()).spawn().await;
        let made = made.expect("farebox starts");
        let written = || async { dir.path().join("creds/up.creds").exists() };
        eventually(PATIENCE, &format!("the command is done: {}", made.log()), written).await;
        let servers = servers(dir.path()).await;
        let urls: Vec<String> = servers.iter().map(TestNats::url).collect();
        let emulator = Emulator::start(farebox_emulator::Options::default()).await.expect("the emulator listens");
        let config = CONFIG
            .replace("URLS", &urls.join(","))
            .replace("DIR", &dir.path().display().to_string())
            .replace("EMULATOR", &emulator.base_url());
        std::fs::write(dir.path().join("farebox.yaml"), config).expect("it is written");
        let ready = dir.path().join("ready.json");
        let up = Process::builder(FAREBOX)
            .args(["up", "--data"])
            .arg(dir.path().join("data"))
            .arg("--config")
            .arg(dir.path().join("farebox.yaml"))
            .arg("--ready-file")
            .arg(&ready)
            .spawn()
            .await
            .expect("farebox starts");
        let waited = up.wait_ready(&ready, PATIENCE * 4).await;
        waited.unwrap_or_else(|error| panic!("{error}:\n{}", up.log()));

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

        goes_stale(&servers, &clients[0]).await;

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
async fn goes_stale(servers: &[TestNats], client: &Client) {
    for server in &servers[1..] {
        server.kill9().await;
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
    for server in &servers[1..] {
        server.start_again().await.expect("it starts");
    }
    let answered = async || asked().await.is_some_and(|answer| answer["farebox"]["outcome"] == "ok");
    eventually(PATIENCE * 2, "it serves again", answered).await;
}
