//! One JSON value a line: <https://github.com/ndjson/ndjson-spec>.

use super::{Frame, Framing};
use crate::error::{FrameError, Oversize};

/// Cuts a byte stream into lines. They end in LF or CRLF; empty ones are skipped.
#[derive(Debug)]
pub(crate) struct Ndjson {
    /// Bytes not yet handed out start at `at`; up to `scanned` they hold no line end.
    input: Vec<u8>,
    at: usize,
    scanned: usize,
    /// The limit was passed: what follows is the rest of that line.
    oversize: bool,
    limit: usize,
}

impl Ndjson {
    /// `limit` bounds one line.
    pub(crate) fn new(limit: usize) -> Ndjson {
        Ndjson { input: Vec::new(), at: 0, scanned: 0, oversize: false, limit }
    }

    fn frame(&self, start: usize, end: usize) -> Frame<'_> {
        Frame { event: "", data: self.input[start..end].trim_ascii() }
    }

    fn check(&mut self, line: usize) -> Result<(), Oversize> {
        self.oversize |= line > self.limit;
        if self.oversize { Err(Oversize { limit: self.limit }) } else { Ok(()) }
    }
}

impl Framing for Ndjson {
    fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.at);
        self.scanned -= self.at;
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        self.check(0)?;
        while let Some(found) = self.input[self.scanned..].iter().position(|b| *b == b'\n') {
            let (start, end) = (self.at, self.scanned + found);
            self.check(end - start)?;
            self.at = end + 1;
            self.scanned = self.at;
            if !self.input[start..end].trim_ascii().is_empty() {
                return Ok(Some(self.frame(start, end)));
            }
        }
        self.scanned = self.input.len();
        self.check(self.scanned - self.at)?;
        Ok(None)
    }

    fn finish(&mut self) -> Option<Frame<'_>> {
        let (start, end) = (self.at, self.input.len());
        self.at = end;
        self.scanned = end;
        Some(self.frame(start, end)).filter(|frame| !frame.data.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(ndjson: &mut Ndjson, piece: &[u8], out: &mut Vec<String>) -> Result<(), FrameError> {
        ndjson.push(piece);
        while let Some(frame) = ndjson.next_frame()? {
            out.push(String::from_utf8(frame.data.to_vec()).unwrap());
        }
        Ok(())
    }

    #[test]
    fn lines_wherever_they_are_cut() {
        let stream = b"{\"a\":1}\r\n\n{\"b\":\"\\n\"}\n \n{\"rest\":";
        for cut in 0..=stream.len() {
            let (mut ndjson, mut seen) = (Ndjson::new(100), Vec::new());
            for piece in [&stream[..cut], &stream[cut..]] {
                lines(&mut ndjson, piece, &mut seen).unwrap();
            }
            assert_eq!(seen, ["{\"a\":1}", "{\"b\":\"\\n\"}"], "cut at {cut}");
            assert_eq!(ndjson.finish().unwrap().data, b"{\"rest\":");
            assert_eq!(ndjson.finish(), None);
        }
    }

    #[test]
    fn an_oversize_line_is_an_error_wherever_it_is_cut() {
        let stream = b"{\"a\":1}\n{\"b\":\"0123456789\"}\n{\"c\":2}\n";
        for cut in 0..=stream.len() {
            let (mut ndjson, mut seen) = (Ndjson::new(12), Vec::new());
            let pieces = [&stream[..cut], &stream[cut..]];
            let failed = pieces.map(|piece| lines(&mut ndjson, piece, &mut seen));
            assert_eq!(failed[1], Err(FrameError::Oversize(Oversize { limit: 12 })), "cut at {cut}");
            assert_eq!(seen, ["{\"a\":1}"], "cut at {cut}");
        }
    }
}
