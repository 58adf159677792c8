//! A client that sends whatever it is told to.

use std::net::{IpAddr, SocketAddr};

use farebox_testkit::PATIENCE;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Raw {
        Raw(TcpStream::connect(addr).await.unwrap())
    }

    /// The same from another address of this machine.
    pub(crate) async fn connect_from(own: IpAddr, addr: SocketAddr) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((own, 0).into()).unwrap();
        Raw(socket.connect(addr).await.unwrap())
    }

    /// Whether it could be sent.
    pub(crate) async fn send(&mut self, text: &str) -> bool {
        self.0.write_all(text.as_bytes()).await.is_ok()
    }

    /// The next head of an answer.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, self.0.read_u8()).await.unwrap().unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// The next answer, head and body.
    pub(crate) async fn answer(&mut self) -> String {
        let head = self.head().await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        timeout(PATIENCE, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        head + std::str::from_utf8(&body).unwrap()
    }

    /// Everything until the server closes the connection.
    pub(crate) async fn until_closed(&mut self) -> String {
        let (mut said, mut some) = (Vec::new(), [0; 4096]);
        // A connection may also be reset.
        while let Ok(read @ 1..) = timeout(PATIENCE, self.0.read(&mut some)).await.expect("it is closed in time") {
            said.extend_from_slice(&some[..read]);
        }
        String::from_utf8(said).unwrap()
    }
}
