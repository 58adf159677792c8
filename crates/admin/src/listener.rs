//! Connections: taken, bounded in number, and where the config says so spoken to in TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use farebox_config::Env;
use farebox_types::Secret;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use crate::{
    error::Error,
    options::{Options, TlsOptions},
};

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One connection, and its place among those that may be.
pub(crate) struct Connection {
    io: Box<dyn Io>,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Takes connections.
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
    handshake_timeout: Duration,
}

impl Listener {
    pub(crate) async fn bind(listen: SocketAddr, options: &Options, env: &Env) -> Result<Listener, Error> {
        let tls = options.tls.as_ref().map(|tls| acceptor(tls, env)).transpose()?;
        let tcp = TcpListener::bind(listen).await.map_err(|source| Error::Listen { listen, source })?;
        Ok(Listener {
            tcp,
            tls,
            places: Arc::new(Semaphore::new(options.connections_max)),
            handshake_timeout: options.handshake_timeout.get(),
        })
    }

    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Hands connections on until nobody takes them any more.
    pub(crate) async fn run(self, ready: mpsc::Sender<io::Result<Connection>>) {
        let mut handshakes = JoinSet::new();
        loop {
            let next = async {
                let place = Arc::clone(&self.places).acquire_owned().await;
                (place, self.tcp.accept().await)
            };
            let (place, taken) = tokio::select! {
                next = next => next,
                _ = handshakes.join_next(), if !handshakes.is_empty() => continue,
                () = ready.closed() => return,
            };
            let Ok(place) = place else { return };
            match taken {
                Ok((tcp, peer)) => {
                    let (tls, within, ready) = (self.tls.clone(), self.handshake_timeout, ready.clone());
                    handshakes.spawn(async move {
                        match timeout(within, greet(tcp, tls)).await {
                            // Nobody takes it at the end of the process.
                            Ok(Ok(io)) => drop(ready.send(Ok(Connection { io, peer, _place: place })).await),
                            Ok(Err(error)) => {
                                tracing::debug!(%peer, %error, "a client does not speak TLS as it should")
                            }
                            Err(_) => tracing::debug!(%peer, "a client did not agree on TLS in time"),
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    // Too many open files: at once it would be no better.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn greet(tcp: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Box<dyn Io>> {
    tcp.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Box::new(tls.accept(tcp).await?),
        None => Box::new(tcp),
    })
}

fn acceptor(options: &TlsOptions, env: &Env) -> Result<TlsAcceptor, Error> {
    let bad = |option: &'static str, reason: String| Error::Tls { option, reason };
    let read = |secret: &Secret, option: &'static str| {
        farebox_config::resolve(secret, &format!("admin.tls.{option}"), env)
            .map_err(|fault| bad(option, fault.to_string()))
    };
    let certificates = |secret: &Secret, option: &'static str| -> Result<Vec<CertificateDer<'static>>, Error> {
        let pem = read(secret, option)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.expose_secret().as_bytes()).collect();
        match found {
            Ok(found) if found.is_empty() => Err(bad(option, "no certificate in PEM is in it".to_owned())),
            Ok(found) => Ok(found),
            Err(error) => Err(bad(option, error.to_string())),
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad("cert", error.to_string()))?;
    let builder = match &options.client_ca {
        None => builder.with_no_client_auth(),
        Some(secret) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(secret, "client_ca")? {
                roots.add(certificate).map_err(|error| bad("client_ca", error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| bad("client_ca", error.to_string()))?)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(read(&options.key, "key")?.expose_secret().as_bytes())
        // The reason may repeat what was read.
        .map_err(|_| bad("key", "no private key in PEM is in it".to_owned()))?;
    let certificate = certificates(&options.cert, "cert")?;
    let mut config = builder.with_single_cert(certificate, key).map_err(|error| bad("cert", error.to_string()))?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(TlsAcceptor::from(Arc::new(config)))
}
