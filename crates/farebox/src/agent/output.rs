//! Where the command line writes: the one place that knows standard output and standard error.

use std::io::{self, IsTerminal, Write};

/// Standard output and standard error, or what stands for them in a test.
pub(crate) struct Output {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    err_is_terminal: bool,
}

impl Output {
    pub(crate) fn standard() -> Output {
        let err = io::stderr();
        Output { err_is_terminal: err.is_terminal(), out: Box::new(io::stdout()), err: Box::new(err) }
    }

    #[cfg(test)]
    pub(crate) fn into(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Output {
        Output { out: Box::new(out), err: Box::new(err), err_is_terminal: false }
    }

    /// Whether somebody watches standard error.
    pub(crate) fn is_watched(&self) -> bool {
        self.err_is_terminal
    }

    /// Writes as it is, at once.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.out.write_all(bytes.as_ref())?;
        self.out.flush()
    }

    /// Writes a whole line.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.write(format!("{text}\n"))
    }

    /// Writes JSON as one line. A line end in JSON can only be white space, so that its meaning stays.
    pub(crate) fn json_line(&mut self, json: &[u8]) -> io::Result<()> {
        let mut line: Vec<u8> = json.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')).copied().collect();
        line.push(b'\n');
        self.write(line)
    }

    /// A line on standard error. That it cannot be written is no reason to stop.
    pub(crate) fn note(&mut self, text: &str) {
        let _ = self.err.write_all(format!("{text}\n").as_bytes());
    }

    /// Replaces the last line of a terminal; nothing where standard error is none.
    pub(crate) fn status(&mut self, text: &str) {
        if self.err_is_terminal {
            let _ = self.err.write_all(format!("\r\x1b[2K{text}").as_bytes());
            let _ = self.err.flush();
        }
    }
}

/// What others wrote, safe to show: control characters could rewrite the terminal or forge a line.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Buffers that a test can read while an [`Output`] writes to them.
#[cfg(test)]
pub(crate) mod captured {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::Output;

    #[derive(Clone, Default)]
    pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output and what it wrote to standard output and standard error.
    pub(crate) fn output() -> (Output, Buffer, Buffer) {
        let (out, err) = (Buffer::default(), Buffer::default());
        (Output::into(out.clone(), err.clone()), out, err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_json_on_one_line() {
        let (mut output, out, _) = captured::output();
        output.json_line(b"{\n  \"a\": \"b\\n\"\r\n}\n").unwrap();
        assert_eq!(out.text(), "{  \"a\": \"b\\n\"}\n");
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
