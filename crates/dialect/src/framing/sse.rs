//! Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>.

use bytes::Bytes;
use memchr::memchr2;

use super::{Frame, Framing};
use crate::error::{FrameError, Oversize};

/// What ends an OpenAI stream, framed.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// One JSON object as an event without a name.
pub fn frame(json: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(json.len() + 8);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}

/// Cuts a byte stream into events. Lines end in LF, CRLF or CR; comments, `id` and `retry` are skipped; an event
/// without data is none.
#[derive(Debug)]
pub struct Sse {
    /// Bytes not yet read as lines start at `at`; up to `scanned` they hold no line end.
    input: Vec<u8>,
    at: usize,
    scanned: usize,
    data: Vec<u8>,
    event: String,
    has_data: bool,
    /// The frame in `data` and `event` has been handed out.
    handed_out: bool,
    /// The last line ended in CR: an LF right after it belongs to that line end.
    after_cr: bool,
    first_line: bool,
    /// The limit was passed: whatever follows could not be told apart from the rest of that event.
    oversize: bool,
    limit: usize,
}

impl Sse {
    /// `limit` bounds one event: its data so far and the line being read.
    pub fn new(limit: usize) -> Sse {
        Sse {
            input: Vec::new(),
            at: 0,
            scanned: 0,
            data: Vec::new(),
            event: String::new(),
            has_data: false,
            handed_out: false,
            after_cr: false,
            first_line: true,
            oversize: false,
            limit,
        }
    }

    /// The next whole line as a range of `input`, without its end.
    fn next_line(&mut self) -> Option<(usize, usize)> {
        if self.after_cr && self.at < self.input.len() {
            self.after_cr = false;
            if self.input[self.at] == b'\n' {
                self.at += 1;
            }
        }
        let from = self.scanned.max(self.at);
        let Some(found) = memchr2(b'\n', b'\r', &self.input[from..]) else {
            self.scanned = self.input.len();
            return None;
        };
        let (start, end) = (self.at, from + found);
        self.after_cr = self.input[end] == b'\r';
        self.at = end + 1;
        self.scanned = self.at;
        Some((start, end))
    }

    fn take_line(&mut self, start: usize, end: usize) {
        let mut line = &self.input[start..end];
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let (name, value) = match line.iter().position(|b| *b == b':') {
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (line, &b""[..]),
        };
        match name {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.event.clear();
                self.event.push_str(&String::from_utf8_lossy(value));
            }
            _ => {}
        }
    }

    fn forget_frame(&mut self) {
        self.data.clear();
        self.event.clear();
        self.has_data = false;
        self.handed_out = false;
    }

    fn check(&mut self, line: usize) -> Result<(), Oversize> {
        self.oversize |= self.data.len() + line > self.limit;
        if self.oversize { Err(Oversize { limit: self.limit }) } else { Ok(()) }
    }
}

impl Framing for Sse {
    fn push(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.input.drain(..self.at);
            self.scanned -= self.at;
            self.at = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        self.check(0)?;
        if self.handed_out {
            self.forget_frame();
        }
        while let Some((start, end)) = self.next_line() {
            self.check(end - start)?;
            if start < end {
                self.take_line(start, end);
            } else if self.has_data {
                self.handed_out = true;
                return Ok(Some(Frame { event: &self.event, data: &self.data }));
            } else {
                self.first_line = false;
                self.forget_frame();
            }
        }
        self.check(self.input.len() - self.at)?;
        Ok(None)
    }

    fn finish(&mut self) -> Option<Frame<'_>> {
        if self.handed_out {
            self.forget_frame();
        }
        if self.at < self.input.len() {
            let (start, end) = (self.at, self.input.len());
            self.at = end;
            self.scanned = end;
            self.take_line(start, end);
        }
        self.handed_out = true;
        self.has_data.then_some(Frame { event: &self.event, data: &self.data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut sse = Sse::new(1024);
        let mut out = Vec::new();
        for piece in pieces {
            sse.push(piece);
            while let Some(frame) = sse.next_frame().unwrap() {
                out.push((frame.event.to_owned(), String::from_utf8(frame.data.to_vec()).unwrap()));
            }
        }
        out
    }

    #[test]
    fn every_line_end_and_field_form() {
        let stream = "\u{feff}data: a\r\n\r\n: comment\revent: x\rdata:b\rdata:  c\r\rid: 9\nretry: 5\nevent: lost\n\n\
                      data\n\ndata: é{\"k\":\":\"}\n\n\n\ndata: unfinished\n"
            .as_bytes();
        let expected =
            [("", "a"), ("x", "b\n c"), ("", ""), ("", "é{\"k\":\":\"}")].map(|(e, d)| (e.to_owned(), d.to_owned()));
        assert_eq!(frames(&[stream]), expected);
        for cut in 0..=stream.len() {
            assert_eq!(frames(&[&stream[..cut], &stream[cut..]]), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(frames(&bytes), expected);
    }

    #[test]
    fn an_oversize_event_is_an_error_wherever_it_is_cut() {
        let stream = b"data: ok\n\ndata: 0123456789\ndata: 0123456789\n\n";
        for cut in 0..=stream.len() {
            let mut sse = Sse::new(24);
            let (mut seen, mut failed) = (0, false);
            for piece in [&stream[..cut], &stream[cut..]] {
                sse.push(piece);
                loop {
                    match sse.next_frame() {
                        Ok(Some(_)) => seen += 1,
                        Ok(None) => break,
                        Err(error) => {
                            assert_eq!(error, FrameError::Oversize(Oversize { limit: 24 }));
                            failed = true;
                            break;
                        }
                    }
                }
            }
            assert!(failed, "cut at {cut}");
            assert_eq!(seen, 1, "cut at {cut}");
        }
    }

    #[test]
    fn the_last_event_may_lack_its_blank_line() {
        let mut sse = Sse::new(100);
        sse.push(b"data: [DONE]");
        assert_eq!(sse.next_frame().unwrap(), None);
        assert_eq!(sse.finish().unwrap().data, b"[DONE]");
        assert_eq!(sse.finish(), None);
    }

    #[test]
    fn framing_round_trips() {
        let framed = frame(br#"{"a":1}"#);
        assert_eq!(frames(&[&framed, DONE]), [("", r#"{"a":1}"#), ("", "[DONE]")].map(|(e, d)| (e.into(), d.into())));
    }
}
