//! The server's side of TLS, read again when its files change.

use std::sync::Arc;

use farebox_config::Env;
use farebox_types::{Secret, Span};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_rustls::TlsAcceptor;

use crate::{bounds, listener::ListenError};

/// Certificates and keys are PEM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsOptions {
    /// The server's certificate and those between it and its authority.
    pub cert: Secret,
    pub key: Secret,
    /// Clients need a certificate of this authority, as well as a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<Secret>,
    /// How often the files are looked at. What is new in them holds for new connections.
    #[serde(default = "check_interval")]
    pub check_interval: Span,
}

fn check_interval() -> Span {
    Span::from_secs(10)
}

impl TlsOptions {
    pub fn new(cert: Secret, key: Secret) -> TlsOptions {
        TlsOptions { cert, key, client_ca: None, check_interval: check_interval() }
    }

    /// What cannot work, as path below `tls` and reason.
    pub fn faults(&self) -> Vec<bounds::Fault> {
        bounds::too_short([("tls.check_interval", self.check_interval)]).collect()
    }
}

/// What a server shows to clients, and wants to see of them.
pub struct Tls {
    source: Source,
    /// What `newest` was made of.
    first: Pem,
    newest: watch::Sender<TlsAcceptor>,
}

impl Tls {
    /// Reads everything now. `section`: where the options stand in the config. `protocols`: what is spoken inside, the
    /// best first.
    pub fn read(
        options: &TlsOptions,
        section: &'static str,
        protocols: &'static [&'static [u8]],
        env: &Env,
    ) -> Result<Tls, ListenError> {
        let source = Source { options: options.clone(), section, protocols, env: env.clone() };
        let first = source.read()?;
        let newest = watch::Sender::new(source.acceptor(&first)?);
        Ok(Tls { source, first, newest })
    }

    /// For one new connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.newest.borrow().clone()
    }

    /// Looks at the files again and again. What cannot be used changes nothing, and is said once.
    pub(crate) async fn keep_new(&self) {
        let mut seen = self.first.clone();
        let mut unread = false;
        loop {
            sleep(self.source.options.check_interval.get()).await;
            let source = self.source.clone();
            // A mounted directory may hang.
            let Ok(read) = spawn_blocking(move || source.read()).await else { continue };
            let pem = match read {
                Ok(pem) => pem,
                Err(error) => {
                    if !unread {
                        tracing::error!(%error, "the old certificate stays in use");
                    }
                    unread = true;
                    continue;
                }
            };
            unread = false;
            if pem.same(&seen) {
                continue;
            }
            match self.source.acceptor(&pem) {
                Ok(acceptor) => {
                    self.newest.send_replace(acceptor);
                    tracing::info!(section = self.source.section, "a new certificate is in use");
                }
                // Also in the middle of a replacement: the certificate is new, and the key is not yet.
                Err(error) => tracing::error!(%error, "the old certificate stays in use"),
            }
            seen = pem;
        }
    }
}

#[derive(Clone)]
struct Source {
    options: TlsOptions,
    section: &'static str,
    protocols: &'static [&'static [u8]],
    env: Env,
}

/// What the options lead to.
#[derive(Clone)]
struct Pem {
    cert: SecretString,
    key: SecretString,
    client_ca: Option<SecretString>,
}

impl Pem {
    fn same(&self, other: &Pem) -> bool {
        let text = |secret: &SecretString| secret.expose_secret().to_owned();
        let all = |pem: &Pem| (text(&pem.cert), text(&pem.key), pem.client_ca.as_ref().map(text));
        all(self) == all(other)
    }
}

impl Source {
    fn bad(&self, option: &str, reason: impl ToString) -> ListenError {
        ListenError::Tls { option: format!("{}.{option}", self.section), reason: reason.to_string() }
    }

    fn read(&self) -> Result<Pem, ListenError> {
        let TlsOptions { cert, key, client_ca, .. } = &self.options;
        let read = |secret: &Secret, option: &str| {
            farebox_config::resolve(secret, &format!("{}.{option}", self.section), &self.env)
                .map_err(|fault| self.bad(option, fault))
        };
        Ok(Pem {
            cert: read(cert, "cert")?,
            key: read(key, "key")?,
            client_ca: client_ca.as_ref().map(|secret| read(secret, "client_ca")).transpose()?,
        })
    }

    fn acceptor(&self, pem: &Pem) -> Result<TlsAcceptor, ListenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.bad("cert", error))?;
        let builder = match &pem.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in self.certificates(pem, "client_ca")? {
                    roots.add(certificate).map_err(|error| self.bad("client_ca", error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| self.bad("client_ca", error))?)
            }
        };
        let key = PrivateKeyDer::from_pem_slice(pem.key.expose_secret().as_bytes())
            // The reason may repeat what was read.
            .map_err(|_| self.bad("key", "no private key in PEM is in it"))?;
        let certificates = self.certificates(&pem.cert, "cert")?;
        let mut config = builder.with_single_cert(certificates, key).map_err(|error| self.bad("cert", error))?;
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn certificates(&self, pem: &SecretString, option: &str) -> Result<Vec<CertificateDer<'static>>, ListenError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret().as_bytes()).collect();
        match found {
            Ok(found) if found.is_empty() => Err(self.bad(option, "no certificate in PEM is in it")),
            Ok(found) => Ok(found),
            Err(error) => Err(self.bad(option, error)),
        }
    }
}
