//! TLS, with and without certificates of clients.

use farebox_admin::{
    Options,
    v1::{self, model_service_client::ModelServiceClient},
};
use farebox_runtime::listener::TlsOptions;
use farebox_types::Secret;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::world::{Connection, MASTER, World, bearing};

/// An authority and what it signed: certificate and key of whoever has the name.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> Secret {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    Secret::File(path)
}

async fn models(connection: Connection) -> bool {
    ModelServiceClient::new(connection).list_models(v1::ListModelsRequest::default()).await.is_ok()
}

async fn connect(world: &World, tls: Option<ClientTlsConfig>) -> Option<Connection> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", world.addr)).unwrap();
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.domain_name("localhost")).unwrap();
    }
    Some(bearing(endpoint.connect().await.ok()?, MASTER))
}

async fn served(world: &World, tls: Option<ClientTlsConfig>) -> bool {
    match connect(world, tls).await {
        Some(connection) => models(connection).await,
        None => false,
    }
}

#[tokio::test]
async fn a_client_speaks_tls_and_shows_a_certificate_where_one_is_wanted() {
    let (ours, others) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = ours.sign("localhost");
    let tls = TlsOptions::new(file(&dir, "cert.pem", &cert), file(&dir, "key.pem", &key));
    let trusting = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ours.0.pem()));

    let world = World::with(Options { tls: Some(tls.clone()), ..Options::default() }, Default::default()).await;
    assert!(served(&world, Some(trusting())).await);
    assert!(!served(&world, None).await, "plain text is not understood");
    let elsewhere = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(others.0.pem()));
    assert!(!served(&world, Some(elsewhere)).await, "the certificate is not of that authority");
    world.stop().await;

    let tls = TlsOptions { client_ca: Some(file(&dir, "ca.pem", &ours.0.pem())), ..tls };
    let world = World::with(Options { tls: Some(tls), ..Options::default() }, Default::default()).await;
    let with = |(cert, key): (String, String)| trusting().identity(Identity::from_pem(cert, key));
    assert!(served(&world, Some(with(ours.sign("client")))).await);
    assert!(!served(&world, Some(trusting())).await, "the key alone does not do");
    assert!(!served(&world, Some(with(others.sign("client")))).await, "a stranger's certificate does not do");
    world.stop().await;
}
