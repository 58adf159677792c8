//! The call over HTTP, in OpenAI's dialect: to the provider itself, or to farebox.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::{Method, StatusCode};

use crate::{
    http::Pool,
    target::{Reading, Streamed, is_answer},
};

const PATH: &str = "/v1/chat/completions";
/// An event that is larger is a fault.
const EVENT_MAX: usize = 1 << 20;

#[derive(Clone)]
pub(crate) struct Client(Pool);

impl Client {
    pub(crate) fn new(addr: SocketAddr, key: Option<&str>) -> anyhow::Result<Client> {
        Ok(Client(Pool::new(addr, key)?))
    }

    pub(crate) async fn call(&self, body: Bytes) -> anyhow::Result<()> {
        let (status, body) = self.0.whole(Method::POST, PATH, body).await?;
        ensure!(status == StatusCode::OK && is_answer(&body), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(())
    }

    pub(crate) async fn stream(&self, body: Bytes) -> anyhow::Result<Streamed> {
        let (sender, response) = self.0.send(Method::POST, PATH, body).await?;
        ensure!(response.status() == StatusCode::OK, "the stream began with {}", response.status());
        let mut body = response.into_body();
        let mut reading = Reading::default();
        let mut events = Events::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the stream broke")?;
            if let Some(data) = frame.data_ref() {
                events.feed(data)?;
                while let Some(event) = events.next() {
                    reading.chunk(&event)?;
                }
            }
        }
        ensure!(events.done, "the stream ended without [DONE]");
        self.0.put(sender);
        reading.end()
    }
}

/// Cuts a body into the data of its events; each is one line here, as OpenAI writes them.
#[derive(Default)]
struct Events {
    buffer: BytesMut,
    done: bool,
}

impl Events {
    fn feed(&mut self, data: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(data);
        ensure!(self.buffer.len() <= EVENT_MAX, "an event is larger than {EVENT_MAX} bytes");
        Ok(())
    }

    fn next(&mut self) -> Option<Bytes> {
        while let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let mut line = self.buffer.split_to(at + 1).freeze();
            line.truncate(at);
            if line.starts_with(b"data: ") {
                line.advance(6);
                if line.as_ref() != b"[DONE]" {
                    return Some(line);
                }
                self.done = true;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_do_not_depend_on_where_the_bytes_are_cut() {
        let bytes = b"data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n";
        for cut in 0..bytes.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                events.feed(part).unwrap();
                seen.extend(std::iter::from_fn(|| events.next()));
            }
            assert_eq!(seen, [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
            assert!(events.done);
        }
    }
}
