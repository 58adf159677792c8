//! Connections in TLS, and a certificate that is replaced while they live.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use farebox_config::Env;
use farebox_runtime::{
    Tasks, drain,
    listener::{Listener, Terms, Tls, TlsOptions},
};
use farebox_types::{Secret, Span};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const PATIENCE: Duration = Duration::from_secs(20);

/// Certificate and key.
fn made() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write(dir: &Path, cert: &str, key: &str) {
    std::fs::write(dir.join("cert.pem"), cert).unwrap();
    std::fs::write(dir.join("key.pem"), key).unwrap();
}

/// Echoes until `tasks` end.
async fn echo(dir: &Path, tasks: &Tasks) -> SocketAddr {
    let file = |name: &str| Secret::File(dir.join(name));
    let options =
        TlsOptions { check_interval: Span::from_millis(20), ..TlsOptions::new(file("cert.pem"), file("key.pem")) };
    let tls = Tls::read(&options, "edge.tls", &[b"h2"], &Env::default()).unwrap();
    let terms = Terms {
        option: "listen.http",
        tls: Some(tls),
        connections_max: 8,
        connections_per_address: None,
        handshake_timeout: Duration::from_secs(5),
    };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), terms).await.unwrap();
    let addr = listener.addr();
    let (ready, mut taken) = mpsc::channel(1);
    tasks.spawn("listener", listener.run(ready));
    let (echoing, drain) = (tasks.clone(), tasks.drain());
    tasks.spawn("echo", async move {
        loop {
            let mut connection = tokio::select! {
                Some(connection) = taken.recv() => connection,
                () = drain.signaled() => return,
            };
            let drain = drain.clone();
            echoing.spawn("connection", async move {
                let mut said = [0];
                while tokio::select! { read = connection.read_exact(&mut said) => read.is_ok(), () = drain.signaled() => false } {
                    connection.write_all(&said).await.unwrap();
                    connection.flush().await.unwrap();
                }
            });
        }
    });
    addr
}

/// A client that trusts this certificate alone.
async fn client(addr: SocketAddr, cert: &str) -> Option<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()
}

async fn echoes(client: &mut TlsStream<TcpStream>) -> bool {
    let mut said = [0];
    client.write_all(b"x").await.unwrap();
    timeout(PATIENCE, client.read_exact(&mut said)).await.unwrap().is_ok_and(|_| said == *b"x")
}

async fn until_trusted(addr: SocketAddr, cert: &str) -> TlsStream<TcpStream> {
    let trusted = async {
        loop {
            match client(addr, cert).await {
                Some(client) => return client,
                None => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(PATIENCE, trusted).await.expect("the new certificate is used")
}

#[tokio::test]
async fn a_new_certificate_holds_for_new_connections_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ((old, old_key), (new, new_key), (newest, newest_key)) = (made(), made(), made());
    write(dir.path(), &old, &old_key);
    let (trigger, _) = drain();
    let tasks = Tasks::new(trigger);
    let addr = echo(dir.path(), &tasks).await;
    let mut first = client(addr, &old).await.unwrap();
    assert!(echoes(&mut first).await);
    assert!(client(addr, &new).await.is_none());

    write(dir.path(), &new, &new_key);
    let mut second = until_trusted(addr, &new).await;
    assert!(echoes(&mut second).await);
    assert!(echoes(&mut first).await, "an old connection lives on");
    assert!(client(addr, &old).await.is_none());

    // Several looks at what cannot be used: a key of another certificate, then none at all.
    for (cert, key) in [(newest.as_str(), new_key.as_str()), ("", "")] {
        write(dir.path(), cert, key);
        sleep(Duration::from_millis(100)).await;
        assert!(client(addr, &new).await.is_some());
    }
    write(dir.path(), &newest, &newest_key);
    let mut third = until_trusted(addr, &newest).await;
    assert!(echoes(&mut third).await && echoes(&mut first).await);
    tasks.finish(PATIENCE).await.unwrap();
}

#[test]
fn what_is_wrong_is_named_and_no_key_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = made();
    let other = made().1;
    let file = |name: &str| Secret::File(dir.path().join(name));
    let options = TlsOptions::new(file("cert.pem"), file("key.pem"));
    for (cert, key, option) in [
        ("no certificate", key.as_str(), "edge.tls.cert"),
        (cert.as_str(), "a-secret", "edge.tls.key"),
        (cert.as_str(), other.as_str(), "edge.tls.cert"),
        (cert.as_str(), "", "edge.tls.key"),
    ] {
        write(dir.path(), cert, key);
        let error = Tls::read(&options, "edge.tls", &[b"h2"], &Env::default()).err().unwrap().to_string();
        assert!(error.contains(option), "{error}");
        assert!(!error.contains("a-secret"), "{error}");
    }
}
