//! The response's body: pieces at a pace, faults, and the billing of what went out.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::{Fault, State, Usage, ledger::OpenEntry};

/// One piece of a body, and how many output tokens have been produced when it is out; `None` before there is output.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    pub(crate) produced: Option<u64>,
}

impl Piece {
    /// Sent before the provider has produced anything.
    pub(crate) fn free(bytes: impl Into<Bytes>) -> Piece {
        Piece { bytes: bytes.into(), produced: None }
    }

    pub(crate) fn billed(bytes: impl Into<Bytes>, produced: u64) -> Piece {
        Piece { bytes: bytes.into(), produced: Some(produced) }
    }
}

pub(crate) enum ReplyBody {
    /// Everything at once; already in the books.
    Whole(Option<Bytes>),
    Played(Box<Played>),
}

/// Pieces in order, as a script wants them.
pub(crate) struct Played {
    pub(crate) pieces: std::vec::IntoIter<Piece>,
    pub(crate) entry: Option<OpenEntry>,
    pub(crate) usage: Usage,
    pub(crate) pace: Duration,
    /// Tokens that are billed before they are sent.
    pub(crate) ahead: u64,
    pub(crate) end: End,
    /// Announced as `content-length`, whatever is sent.
    pub(crate) length: Option<u64>,
    pub(crate) timer: Option<Pin<Box<Sleep>>>,
    pub(crate) waited: bool,
    /// Pieces that still go out before this is waited for.
    pub(crate) hold: Option<(usize, Opened)>,
}

pub(crate) type Opened = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What stands behind the last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body is complete.
    Clean(State),
    Hang,
    Close,
    /// About to close: what came before has been flushed.
    Closing,
}

/// The body was cut on purpose; hyper then closes the connection.
#[derive(Debug)]
pub(crate) struct CutByScript;

impl fmt::Display for CutByScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut by the script")
    }
}

impl std::error::Error for CutByScript {}

impl From<Infallible> for CutByScript {
    fn from(never: Infallible) -> CutByScript {
        match never {}
    }
}

/// Applies a fault to the pieces of a body. `corrupt` and `error` are the dialect's; `terminal` counts the pieces at
/// the end that tell a client that the answer is complete.
pub(crate) fn break_pieces(
    fault: Fault,
    pieces: &mut Vec<Piece>,
    terminal: usize,
    corrupt: &'static str,
    error: &'static str,
) -> End {
    match fault {
        Fault::None | Fault::HangBeforeHead => return End::Clean(State::Answered),
        Fault::HangAfter(n) => {
            pieces.truncate(n);
            return End::Hang;
        }
        Fault::CutAfter(n) => pieces.truncate(n),
        Fault::CutAtByte(n) => cut_at(pieces, n),
        Fault::CorruptAt(n) => {
            if let Some(piece) = pieces.get_mut(n) {
                piece.bytes = Bytes::from_static(corrupt.as_bytes());
            }
            return End::Clean(State::Answered);
        }
        Fault::ErrorAfter(n) => {
            pieces.truncate(n);
            let produced = pieces.last().and_then(|p| p.produced);
            pieces.push(Piece { bytes: Bytes::from_static(error.as_bytes()), produced });
            return End::Clean(State::Error);
        }
        Fault::NoTerminal => {
            pieces.truncate(pieces.len().saturating_sub(terminal));
            return End::Clean(State::Cut);
        }
    }
    End::Close
}

/// A piece that is cut in the middle has been produced as a whole.
fn cut_at(pieces: &mut Vec<Piece>, at: usize) {
    let mut left = at;
    for i in 0..pieces.len() {
        let Some(piece) = pieces.get_mut(i) else { return };
        if piece.bytes.len() > left {
            piece.bytes.truncate(left);
            pieces.truncate(if left == 0 { i } else { i + 1 });
            return;
        }
        left -= piece.bytes.len();
    }
}

impl Played {
    fn finish(&mut self, state: State) {
        if let Some(entry) = self.entry.take() {
            entry.end(state);
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutByScript>>> {
        if !self.waited && !self.pace.is_zero() {
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.pace)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
        self.waited = true;
        if let Some((left, opened)) = &mut self.hold {
            match left.checked_sub(1) {
                Some(rest) => *left = rest,
                None => {
                    ready!(opened.as_mut().poll(cx));
                    self.hold = None;
                }
            }
        }
        if let Some(piece) = self.pieces.next() {
            self.waited = false;
            if let Some(produced) = piece.produced
                && let Some(entry) = &mut self.entry
            {
                entry.bill(&self.usage, produced.saturating_add(self.ahead).min(self.usage.output));
                entry.publish();
            }
            if self.pieces.as_slice().is_empty()
                && let End::Clean(state) = self.end
            {
                // A body with a known length is not asked again after its last byte.
                self.finish(state);
            }
            return Poll::Ready(Some(Ok(Frame::data(piece.bytes))));
        }
        match self.end {
            End::Clean(state) => {
                self.finish(state);
                Poll::Ready(None)
            }
            End::Hang => Poll::Pending,
            End::Close => {
                // hyper drops what it has buffered when a body fails; give it one turn to flush.
                self.end = End::Closing;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Closing => {
                self.finish(State::Cut);
                Poll::Ready(Some(Err(CutByScript)))
            }
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutByScript;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutByScript>>> {
        match &mut *self {
            ReplyBody::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            ReplyBody::Played(played) => played.poll_piece(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ReplyBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            ReplyBody::Played(played) => played.length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
