//! The one place that builds the subscriber. An exporter becomes one more layer of [`subscriber`].

use std::{fmt, io, str::FromStr};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    fmt::{MakeWriter, layer},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// A level, or several for parts: `info`, `info,farebox_worker=debug`.
    pub log: String,
    pub format: Format,
}

impl Default for Options {
    fn default() -> Options {
        Options { log: "info,async_nats=warn".into(), format: Format::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(given: &str) -> Result<Format, String> {
        match given {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(format!("`{given}` is no log format: use `text` or `json`")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Text => "text",
            Format::Json => "json",
        })
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "`{given}` is no log filter: write a level (error, warn, info, debug, trace), or `info,farebox_worker=debug`"
    )]
    Filter {
        given: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging is already set up in this process")]
    Twice,
}

/// Sends the log lines of this process to standard error. Once per process.
pub fn init(options: &Options) -> Result<(), InitError> {
    // Colours only where a person looks.
    let ansi = io::IsTerminal::is_terminal(&io::stderr());
    subscriber(options, ansi, io::stderr)?.try_init().map_err(|_| InitError::Twice)
}

fn subscriber<W>(options: &Options, ansi: bool, writer: W) -> Result<impl Subscriber + Send + Sync, InitError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(&options.log)
        .map_err(|source| InitError::Filter { given: options.log.clone(), source })?;
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match options.format {
        Format::Text => layer().with_ansi(ansi).with_writer(writer).boxed(),
        Format::Json => layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter.and(filter_fn(shows_no_payload)))))
}

/// Dependencies whose `trace` shows what goes over the wire: prompts, answers, headers. So do all of Amazon's: one prints
/// the body that it signs.
const TALKATIVE: [&str; 6] = ["async_nats", "h2", "hyper", "hyper_util", "reqwest", "rustls"];

/// Whatever filter is asked for: prompts and keys stand in no log.
fn shows_no_payload(line: &Metadata<'_>) -> bool {
    let part = line.target().split("::").next().unwrap_or_default();
    *line.level() < Level::TRACE || !(TALKATIVE.contains(&part) || part.starts_with("aws_"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: &str, format: Format) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let options = Options { log: log.into(), format };
        let subscriber = subscriber(&options, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(port = 4000, "listening");
            tracing::debug!("a request");
        });
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn writes_what_the_filter_lets_through() {
        let text = logged("info", Format::Text);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("INFO") && text.contains("listening port=4000"), "{text}");
        assert_eq!(logged("debug", Format::Text).lines().count(), 2);
        assert_eq!(logged("warn", Format::Text), "");
        assert_eq!(logged("warn,farebox_telemetry=info", Format::Text).lines().count(), 1);
    }

    #[test]
    fn what_goes_over_the_wire_is_never_traced() {
        let memory = Memory::default();
        let writer = memory.clone();
        let options = Options { log: "trace".into(), format: Format::Text };
        let subscriber = subscriber(&options, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "async_nats::connection", payload = "a prompt");
            tracing::trace!(target: "aws_sigv4::http_request::sign", request = "a prompt");
            tracing::debug!(target: "async_nats::connection", "connected");
            tracing::trace!(target: "farebox_worker", "a step");
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("a prompt"), "{text}");
        assert!(text.contains("connected") && text.contains("a step"), "{text}");
    }

    #[test]
    fn json_lines_are_flat() {
        let text = logged("info", Format::Json);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["message"], &line["port"], &line["level"]),
            (&"listening".into(), &4000.into(), &"INFO".into())
        );
    }

    #[test]
    fn a_bad_filter_is_named() {
        let options = Options { log: "farebox=loud".into(), ..Options::default() };
        let error = init(&options).unwrap_err().to_string();
        assert!(error.starts_with("`farebox=loud` is no log filter"), "{error}");
    }
}
