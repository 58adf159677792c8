//! One JSON array whose elements come one by one, as Google's servers stream where server-sent events were not asked for.

use super::{Frame, Framing};
use crate::error::{FrameError, Oversize};

/// Cuts the bytes of an array into its elements, which are objects. What an element holds is not checked here.
#[derive(Debug)]
pub(crate) struct JsonArray {
    /// Bytes from `at` on belong to no frame yet; up to `scanned` they have been looked at.
    input: Vec<u8>,
    at: usize,
    scanned: usize,
    /// Braces open within the element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    limit: usize,
}

impl JsonArray {
    /// `limit` bounds one element.
    pub(crate) fn new(limit: usize) -> JsonArray {
        JsonArray { input: Vec::new(), at: 0, scanned: 0, depth: 0, in_string: false, escaped: false, limit }
    }

    /// Takes one byte in; `true`: it closes an element.
    fn step(&mut self, byte: u8) -> bool {
        match byte {
            _ if std::mem::take(&mut self.escaped) => {}
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' => self.depth += 1,
            b'}' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

impl Framing for JsonArray {
    fn push(&mut self, bytes: &[u8]) {
        self.input.drain(..self.at);
        self.scanned -= self.at;
        self.at = 0;
        self.input.extend_from_slice(bytes);
    }

    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        while self.scanned < self.input.len() {
            let byte = self.input[self.scanned];
            if self.depth == 0 && byte != b'{' {
                if !matches!(byte, b'[' | b']' | b',') && !byte.is_ascii_whitespace() {
                    return Err(FrameError::Corrupt("the stream is no array of objects"));
                }
                self.scanned += 1;
                self.at = self.scanned;
                continue;
            }
            if self.scanned - self.at >= self.limit {
                return Err(Oversize { limit: self.limit }.into());
            }
            self.scanned += 1;
            if self.step(byte) {
                let start = std::mem::replace(&mut self.at, self.scanned);
                return Ok(Some(Frame { event: "", data: &self.input[start..self.scanned] }));
            }
        }
        Ok(None)
    }

    /// An element without its end is none.
    fn finish(&mut self) -> Option<Frame<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(pieces: &[&[u8]], limit: usize) -> (Vec<String>, Result<(), FrameError>) {
        let (mut array, mut out) = (JsonArray::new(limit), Vec::new());
        for piece in pieces {
            array.push(piece);
            loop {
                match array.next_frame() {
                    Ok(Some(frame)) => out.push(String::from_utf8(frame.data.to_vec()).unwrap()),
                    Ok(None) => break,
                    Err(error) => return (out, Err(error)),
                }
            }
        }
        (out, Ok(()))
    }

    #[test]
    fn elements_wherever_they_are_cut() {
        let stream = br#"[{"a":"}\"]{","b":{"c":[1]}}
,
{"d":"\\"} , {}]"#;
        let expected = [r#"{"a":"}\"]{","b":{"c":[1]}}"#, r#"{"d":"\\"}"#, "{}"].map(str::to_owned);
        for cut in 0..=stream.len() {
            assert_eq!(elements(&[&stream[..cut], &stream[cut..]], 100), (expected.to_vec(), Ok(())), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_such_array_is_an_error() {
        let (seen, failed) = elements(&[b"[{}, 7]"], 100);
        assert_eq!((seen.len(), failed), (1, Err(FrameError::Corrupt("the stream is no array of objects"))));
        let (seen, failed) = elements(&[b"[{}, {\"a\"", b":1234567}]"], 10);
        assert_eq!((seen.len(), failed), (1, Err(FrameError::Oversize(Oversize { limit: 10 }))));
    }
}
