//! Where a call goes, and what one call tells.

use std::{borrow::Cow, net::SocketAddr, time::Instant};

use bytes::Bytes;

use crate::{client::Client, config::KEY, emulator::ANSWER, through::Through};

/// Which road the calls of a leg take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Road {
    /// To the provider.
    Direct,
    /// Through farebox, over NATS.
    Bus,
    /// Through farebox, over HTTP.
    Http,
}

/// The ends of the roads.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The emulator that only direct calls reach.
    pub(crate) direct: SocketAddr,
    /// The server behind which farebox listens.
    pub(crate) nats: String,
    /// farebox's HTTP edge.
    pub(crate) edge: SocketAddr,
}

/// A way to make calls. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Target {
    Http(Client),
    Bus(Through),
}

/// What one streamed call tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streamed {
    /// When the first text was there.
    pub(crate) first: Instant,
    /// Pieces with text.
    pub(crate) chunks: u64,
}

impl Target {
    pub(crate) async fn connect(road: Road, places: &Places) -> anyhow::Result<Target> {
        Ok(match road {
            Road::Direct => Target::Http(Client::new(places.direct, None)?),
            Road::Bus => Target::Bus(Through::connect(&places.nats).await?),
            Road::Http => Target::Http(Client::new(places.edge, Some(KEY.1))?),
        })
    }

    pub(crate) async fn call(&self, body: Bytes) -> anyhow::Result<()> {
        match self {
            Target::Http(client) => client.call(body).await,
            Target::Bus(through) => through.call(body).await,
        }
    }

    pub(crate) async fn stream(&self, body: Bytes) -> anyhow::Result<Streamed> {
        match self {
            Target::Http(client) => client.stream(body).await,
            Target::Bus(through) => through.stream(body).await,
        }
    }
}

/// Whether the bytes of an answer hold the text that the emulator gives.
pub(crate) fn is_answer(body: &[u8]) -> bool {
    body.windows(ANSWER.len()).any(|window| window == ANSWER.as_bytes())
}

/// Puts a streamed text together.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    text: String,
    first: Option<Instant>,
    chunks: u64,
}

#[derive(serde::Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(serde::Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Delta<'a>,
}

#[derive(Default, serde::Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
}

impl Reading {
    /// One chunk object of OpenAI's.
    pub(crate) fn chunk(&mut self, json: &[u8]) -> anyhow::Result<()> {
        let chunk: Chunk<'_> = serde_json::from_slice(json)?;
        let text = chunk.choices.first().and_then(|choice| choice.delta.content.as_deref()).unwrap_or_default();
        if !text.is_empty() {
            self.first.get_or_insert_with(Instant::now);
            self.chunks += 1;
            self.text.push_str(text);
        }
        Ok(())
    }

    /// The stream is over: the text must be the emulator's, whole.
    pub(crate) fn end(self) -> anyhow::Result<Streamed> {
        anyhow::ensure!(self.text == ANSWER, "the streamed text is not the whole answer: {:?}", self.text);
        let first = self.first.ok_or_else(|| anyhow::anyhow!("the stream had no text"))?;
        Ok(Streamed { first, chunks: self.chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_with_a_gap_is_no_answer() {
        let (start, end) = ANSWER.split_at(100);
        let chunk = |text: &str| format!("{{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}");
        let mut whole = Reading::default();
        whole.chunk(br#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#).unwrap();
        whole.chunk(chunk(start).as_bytes()).unwrap();
        let mut gap = Reading::default();
        gap.chunk(chunk(start).as_bytes()).unwrap();
        whole.chunk(chunk(end).as_bytes()).unwrap();
        whole.chunk(br#"{"choices":[],"usage":{"total_tokens":3}}"#).unwrap();
        assert_eq!(whole.end().unwrap().chunks, 2);
        assert!(gap.end().is_err());
    }

    #[test]
    fn an_answer_is_known_by_its_text() {
        assert!(is_answer(format!("{{\"content\":\"{ANSWER}\"}}").as_bytes()));
        assert!(!is_answer(b"{\"error\":{}}"));
    }
}
