//! Connections: taken, bounded in number, and where the config says so spoken to in TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::shares::{Share, Shares, network};
pub use crate::tls::{Tls, TlsOptions};

/// Connections of one address above its share that are handed on at a time, to be told so. Others are closed.
const TOLD_MAX: usize = 4;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How connections are taken.
pub struct Terms {
    /// The option that says where, for errors.
    pub option: &'static str,
    pub tls: Option<Tls>,
    /// Connections at a time; more wait to be taken.
    pub connections_max: usize,
    /// Of one address; more are handed on as such, or closed. None: as many as there are.
    pub connections_per_address: Option<usize>,
    /// How long a client may take to agree on TLS.
    pub handshake_timeout: Duration,
}

/// Nobody can connect.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {listen} ({option}): is something else there?")]
    Bind {
        listen: SocketAddr,
        option: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot speak TLS ({option}): {reason}")]
    Tls { option: String, reason: String },
}

/// Takes connections.
pub struct Listener {
    tcp: TcpListener,
    addr: SocketAddr,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    per_address: Option<usize>,
    shares: Shares<IpAddr>,
    told: Shares<IpAddr>,
    handshake_timeout: Duration,
}

impl Listener {
    pub async fn bind(listen: SocketAddr, terms: Terms) -> Result<Listener, ListenError> {
        let Terms { option, tls, connections_max, connections_per_address: per_address, handshake_timeout } = terms;
        let failed = |source| ListenError::Bind { listen, option, source };
        let tcp = TcpListener::bind(listen).await.map_err(failed)?;
        let addr = tcp.local_addr().map_err(failed)?;
        let places = Arc::new(Semaphore::new(connections_max));
        let (shares, told) = (Shares::default(), Shares::default());
        Ok(Listener { tcp, addr, tls, places, per_address, shares, told, handshake_timeout })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Hands connections on until nobody takes them any more.
    pub async fn run(self, ready: mpsc::Sender<Connection>) {
        let renewing = async {
            match &self.tls {
                Some(tls) => tls.keep_new().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.take(ready) => {}
            () = renewing => {}
        }
    }

    async fn take(&self, ready: mpsc::Sender<Connection>) {
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
                    let Some((share, is_too_many)) = self.share(peer.ip()) else {
                        tracing::debug!(%peer, "a connection was closed: its address has too many");
                        continue;
                    };
                    let tls = self.tls.as_ref().map(Tls::acceptor);
                    let (within, ready) = (self.handshake_timeout, ready.clone());
                    handshakes.spawn(async move {
                        match timeout(within, greet(tcp, tls)).await {
                            // Nobody takes it at the end of the process.
                            Ok(Ok(io)) => {
                                let connection = Connection { io, peer, is_too_many, _share: share, _place: place };
                                drop(ready.send(connection).await);
                            }
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

    /// A connection's part of what its address may have, and whether it is one too many, to be told so.
    fn share(&self, address: IpAddr) -> Option<(Share<IpAddr>, bool)> {
        let one = |shares: &Shares<IpAddr>, max| {
            let mut share = shares.of(network(address), max);
            share.take(1).then_some(share)
        };
        let share = one(&self.shares, self.per_address.unwrap_or(usize::MAX));
        let told = || one(&self.told, TOLD_MAX).map(|share| (share, true));
        share.map(|share| (share, false)).or_else(told)
    }
}

async fn greet(tcp: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Io> {
    tcp.set_nodelay(true)?;
    Ok(match tls {
        Some(tls) => Io::Tls(Box::new(tls.accept(tcp).await?)),
        None => Io::Plain(tcp),
    })
}

/// One connection, and its place among those that may be, of all and of its address.
pub struct Connection {
    io: Io,
    peer: SocketAddr,
    is_too_many: bool,
    _share: Share<IpAddr>,
    _place: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub fn peer(&self) -> Peer {
        Peer(self.peer)
    }

    /// Whether its address has its share of connections without it: it is there to be told so.
    pub fn is_too_many(&self) -> bool {
        self.is_too_many
    }
}

macro_rules! io {
    ($connection:ident, $io:ident => $act:expr) => {
        match &mut $connection.get_mut().io {
            Io::Plain(tcp) => {
                let $io = Pin::new(tcp);
                $act
            }
            Io::Tls(tls) => {
                let $io = Pin::new(tls.as_mut());
                $act
            }
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        io!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        io!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        io!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(tcp) => tcp.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        io!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        io!(self, io => io.poll_shutdown(cx))
    }
}
