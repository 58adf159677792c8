//! What readiness checks need of the network: a free port, a line, a tiny GET. Loopback only.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_BYTES: u64 = 64 << 10;

/// A port on which nothing listened a moment ago. Another process may take it before it is used: retry then.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub(crate) fn is_taken(port: u16) -> bool {
    matches!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)), Err(e) if e.kind() == io::ErrorKind::AddrInUse)
}

/// The first line that a server sends by itself.
pub(crate) async fn greeting(addr: SocketAddr) -> io::Result<String> {
    bounded(async {
        let stream = TcpStream::connect(addr).await?;
        let mut line = String::new();
        BufReader::new(stream.take(PROBE_BYTES)).read_line(&mut line).await?;
        Ok(line)
    })
    .await
}

/// The body of a 200 answer to `GET path`.
pub(crate) async fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    bounded(async {
        let mut stream = TcpStream::connect(addr).await?;
        let head = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(PROBE_BYTES).read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        if head.split(' ').nth(1) != Some("200") {
            return Err(io::Error::other(body.trim().to_owned()));
        }
        Ok(body.to_owned())
    })
    .await
}

async fn bounded<T>(probe: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PROBE_TIMEOUT, probe).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
