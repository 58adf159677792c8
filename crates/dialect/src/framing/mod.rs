//! How a stream of bytes is cut into frames, apart from what the frames mean.

pub(crate) mod event_stream;
pub(crate) mod json_array;
pub(crate) mod ndjson;
pub mod sse;

use crate::error::FrameError;

/// One frame of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The frame's name, where the framing has names; empty otherwise.
    pub event: &'a str,
    pub data: &'a [u8],
}

/// Cuts bytes into frames. Where the bytes were cut on their way must not matter.
pub trait Framing: Send {
    fn push(&mut self, bytes: &[u8]);

    /// The next whole frame, if one is there.
    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError>;

    /// The bytes have ended: what stands there without its closing mark.
    fn finish(&mut self) -> Option<Frame<'_>>;
}
