//! HTTP/1.1 by hand: every byte that is sent and that comes back is seen, and so is how a body ends.

use std::{io, net::SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::stage::SOON;

/// A client's connection.
pub(crate) struct Wire {
    stream: TcpStream,
    read: BytesMut,
    framing: Framing,
}

/// How the body of the answer ends that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
    Over,
}

#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What comes next of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// In a chunked body: one chunk.
    Data(Bytes),
    /// The body is complete, as HTTP sees it.
    End,
    /// The connection ended first.
    Broken,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// It ended as HTTP says that bodies end.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The events of a stream: name and payload. What is no whole event is an error of farebox's.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let text = self.text();
        assert!(text.is_empty() || text.ends_with("\n\n"), "half an event: {text}");
        let event = |block: &str| {
            let (mut name, mut data) = (String::new(), Vec::new());
            for line in block.lines() {
                match line.split_once(':') {
                    Some(("event", value)) => name = value.trim().to_owned(),
                    Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value)),
                    _ => {}
                }
            }
            (name, data.join("\n"))
        };
        text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':')).map(event).collect()
    }
}

impl Wire {
    pub(crate) async fn connect(to: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect(to).await.expect("the edge listens"))
    }

    /// With as little room for what it does not read as the system allows.
    pub(crate) async fn narrow(to: SocketAddr) -> Wire {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a size");
        Wire::over(socket.connect(to).await.expect("the edge listens"))
    }

    fn over(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).expect("an open connection");
        Wire { stream, read: BytesMut::new(), framing: Framing::Over }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Whether more came.
    async fn fill(&mut self) -> bool {
        self.read.reserve(16 << 10);
        matches!(self.stream.read_buf(&mut self.read).await, Ok(1..))
    }

    /// Up to and with the next line end.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line = self.read.split_to(at + 2);
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The head of the next answer. None: the connection ended without one.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        loop {
            let first = self.line().await?;
            let status = first.strip_prefix("HTTP/1.1 ").or_else(|| first.strip_prefix("HTTP/1.0 "));
            let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
            let mut head = Head { status: status.unwrap_or_else(|| panic!("no answer: {first}")), headers: Vec::new() };
            loop {
                let line = self.line().await?;
                let Some((name, value)) = line.split_once(':') else { break };
                head.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            if head.status >= 200 {
                self.framing = framing(&head);
                return Some(head);
            }
        }
    }

    /// What comes next of the body.
    pub(crate) async fn next(&mut self) -> Next {
        match self.framing {
            Framing::Over | Framing::Length(0) => Next::End,
            Framing::Chunked => self.chunk().await.unwrap_or(Next::Broken),
            Framing::Length(left) => {
                if self.read.is_empty() && !self.fill().await {
                    return Next::Broken;
                }
                let data = self.read.split_to(self.read.len().min(left)).freeze();
                self.framing = Framing::Length(left - data.len());
                Next::Data(data)
            }
            Framing::Close => {
                if self.read.is_empty() && !self.fill().await {
                    return Next::End;
                }
                Next::Data(self.read.split().freeze())
            }
        }
    }

    async fn chunk(&mut self) -> Option<Next> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no chunk: {size}"));
        if size == 0 {
            while !self.line().await?.is_empty() {}
            self.framing = Framing::Over;
            return Some(Next::End);
        }
        while self.read.len() < size + 2 {
            if !self.fill().await {
                return None;
            }
        }
        let data = self.read.split_to(size).freeze();
        self.read.advance(2);
        Some(Next::Data(data))
    }

    /// The next answer to its end. None: the connection ended before it began.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        Some(self.rest(head).await)
    }

    /// The rest of an answer.
    pub(crate) async fn rest(&mut self, head: Head) -> Answer {
        self.rest_seen(head, || ()).await
    }

    /// The same, and says so of each part of it that comes.
    pub(crate) async fn rest_seen(&mut self, head: Head, seen: impl Fn()) -> Answer {
        let mut answer = Answer { head, body: Vec::new(), whole: false };
        loop {
            match self.next().await {
                Next::Data(data) => {
                    answer.body.extend_from_slice(&data);
                    seen();
                }
                end => {
                    answer.whole = end == Next::End;
                    return answer;
                }
            }
        }
    }
}

fn framing(head: &Head) -> Framing {
    if head.status == 204 || head.status == 304 {
        return Framing::Over;
    }
    if head.get("transfer-encoding") == Some("chunked") {
        return Framing::Chunked;
    }
    head.get("content-length").and_then(|length| length.parse().ok()).map_or(Framing::Close, Framing::Length)
}

/// A request that sends JSON, with its length.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: farebox\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: farebox\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// One request on a connection of its own, and its whole answer.
pub(crate) async fn ask(to: SocketAddr, request: &[u8]) -> Answer {
    let asking = async {
        let mut wire = Wire::connect(to).await;
        wire.send(request).await.expect("it is sent");
        wire.answer().await
    };
    timeout(SOON, asking).await.expect("no silence").expect("an answer")
}
