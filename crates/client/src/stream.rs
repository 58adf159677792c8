//! A streamed answer.

use std::time::Duration;

use farebox_bus::Inbox;
use farebox_proto::{headers, v1};
use farebox_types::{ErrorKind, Fault};
use tokio::time::{Instant, timeout_at};

use crate::{accept, error::Error};

/// What a stream yields.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a stream is made of chunks: they are not put on the heap one by one")]
pub enum Piece {
    Chunk(v1::LlmChunk),
    /// The last: the whole answer.
    Final(Box<v1::LlmResponse>),
}

/// The pieces of one answer.
pub struct Stream {
    inbox: Inbox,
    until: Instant,
    next_seq: u64,
    ended: bool,
}

impl Stream {
    pub(crate) fn new(inbox: Inbox, within: Duration) -> Stream {
        Stream { inbox, until: Instant::now() + within, next_seq: 0, ended: false }
    }

    /// The next piece; `None` after the final one. A gap is said once, and the stream goes on.
    pub async fn next(&mut self) -> Option<Result<Piece, Error>> {
        if self.ended {
            return None;
        }
        let late =
            || Error::Refused(Fault::new(ErrorKind::DeadlineExceeded, "the answer did not end before its deadline"));
        let delivery = match timeout_at(self.until, self.inbox.next()).await {
            Ok(Some(delivery)) if delivery.is_no_responders() => {
                self.ended = true;
                let fault =
                    Fault::new(ErrorKind::Unavailable, "no farebox listens on this NATS server: start `farebox up`");
                return Some(Err(Error::Refused(fault)));
            }
            Ok(Some(delivery)) => delivery,
            Ok(None) | Err(_) => {
                self.ended = true;
                return Some(Err(late()));
            }
        };
        if delivery.headers.get(headers::TYPE) == Some("final") {
            self.ended = true;
            let answer = delivery.decode::<v1::LlmResponse>().map_err(Error::from).and_then(accept);
            return Some(answer.map(|response| Piece::Final(Box::new(response))));
        }
        match delivery.decode::<v1::LlmChunk>() {
            Ok(chunk) if chunk.seq == self.next_seq => {
                self.next_seq += 1;
                Some(Ok(Piece::Chunk(chunk)))
            }
            Ok(chunk) => {
                let expected = self.next_seq;
                self.next_seq = chunk.seq + 1;
                Some(Err(Error::Gap { expected, got: chunk.seq }))
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error.into()))
            }
        }
    }
}
