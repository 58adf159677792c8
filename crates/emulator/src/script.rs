//! What the emulator is told to answer.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

/// How one request is answered.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub answer: Answer,
    /// Before the response's head is sent.
    pub delay: Duration,
    /// Between two pieces of the body.
    pub pace: Duration,
    /// In how many pieces text is streamed, or a recorded body is sent. `None`: a few.
    pub chunks: Option<usize>,
    /// After so many pieces of the body (in a stream every event is one) nothing is said until then.
    pub hold: Option<(usize, Until)>,
    pub fault: Fault,
    /// The prompt is billed on arrival, and a whole answer in full even if its caller left.
    pub bill_on_arrival: bool,
    /// In a stream so many output tokens are produced, and billed, before they are sent.
    pub ahead: u64,
}

/// When an answer that was held back goes on.
#[derive(Clone, Debug)]
pub enum Until {
    Opened(Gate),
    /// Counted from the last piece.
    Over(Duration),
}

impl Until {
    pub(crate) async fn come(self) {
        match self {
            Until::Opened(gate) => gate.opened().await,
            Until::Over(silence) => tokio::time::sleep(silence).await,
        }
    }
}

/// Keeps answers back, all those of scripts that have a clone of it, until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(self) {
        let mut open = self.0.subscribe();
        // The sender is here: it cannot fail.
        let _ = open.wait_for(|open| *open).await;
    }
}

#[derive(Clone, Debug, Default)]
pub enum Answer {
    /// The deterministic answer that says what it is.
    #[default]
    Echo,
    Reply(Reply),
    Refuse(Refusal),
    /// What the prompt orders, from a provider that looks closely at what it is sent; see the crate's documentation.
    Obey,
    /// A recorded exchange, byte for byte.
    Recorded(Recorded),
}

/// What goes wrong. Positions count pieces of the body; in a stream every event is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// The response's head never comes.
    HangBeforeHead,
    /// The head comes, and after so many pieces nothing more.
    HangAfter(usize),
    /// The connection is closed after so many pieces.
    CutAfter(usize),
    /// The connection is closed after so many bytes of the body.
    CutAtByte(usize),
    /// The piece at this position is replaced by one that cannot be parsed.
    CorruptAt(usize),
    /// The provider reports an error inside the stream, after so many pieces, and ends it.
    ErrorAfter(usize),
    /// The stream ends cleanly after its content, without what a provider ends it with.
    NoTerminal,
}

/// An answer of a model.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// OpenAI's chat does not show it.
    pub thinking: Option<String>,
    /// What the provider searches by itself before it answers. Only Anthropic's messages show it.
    pub search: Option<String>,
    pub text: String,
    pub tool_calls: Vec<ToolCall>,
    /// `None`: tool use if there are tool calls, else stop.
    pub finish: Option<Finish>,
    /// `None`: counted as the default answer's.
    pub usage: Option<Usage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text, sent as it is.
    pub arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Stop,
    Length,
    ToolUse,
    Refusal,
}

/// Tokens. Input buckets are disjoint; `output` includes `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub output: u64,
    pub reasoning: u64,
    pub searches: u64,
}

impl Usage {
    pub fn new(input: u64, output: u64) -> Usage {
        Usage { input, output, ..Usage::default() }
    }

    /// All tokens that went in.
    pub fn prompt(&self) -> u64 {
        self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h
    }
}

/// An error answer, in the shape of the dialect that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
    /// In whole seconds, rounded up.
    pub retry_after: Option<Duration>,
    /// Sent instead of the dialect's own shape.
    pub body: Option<String>,
}

/// A response taken from a recording.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// What the provider billed for it.
    pub usage: Usage,
}

impl Script {
    pub fn text(text: impl Into<String>) -> Script {
        Script::reply(Reply { text: text.into(), ..Reply::default() })
    }

    pub fn reply(reply: Reply) -> Script {
        Script { answer: Answer::Reply(reply), ..Script::default() }
    }

    /// The default answer with exactly this usage.
    pub fn usage(usage: Usage) -> Script {
        Script::reply(Reply {
            text: "This is the farebox demo emulator, not a real model.".into(),
            usage: Some(usage),
            ..Reply::default()
        })
    }

    pub fn obedient() -> Script {
        Script { answer: Answer::Obey, ..Script::default() }
    }

    pub fn refuse(status: u16, message: impl Into<String>) -> Script {
        let refusal = Refusal { status, message: message.into(), retry_after: None, body: None };
        Script { answer: Answer::Refuse(refusal), ..Script::default() }
    }

    pub fn rate_limited(retry_after: Duration) -> Script {
        let message = "Rate limit reached for requests".into();
        let refusal = Refusal { status: 429, message, retry_after: Some(retry_after), body: None };
        Script { answer: Answer::Refuse(refusal), ..Script::default() }
    }

    /// Status 200 with an error as its body.
    pub fn error_body(body: impl Into<String>) -> Script {
        let refusal = Refusal { status: 200, message: String::new(), retry_after: None, body: Some(body.into()) };
        Script { answer: Answer::Refuse(refusal), ..Script::default() }
    }

    pub fn recorded(recorded: Recorded) -> Script {
        Script { answer: Answer::Recorded(recorded), ..Script::default() }
    }

    pub fn fault(mut self, fault: Fault) -> Script {
        self.fault = fault;
        self
    }

    pub fn delay(mut self, delay: Duration) -> Script {
        self.delay = delay;
        self
    }

    pub fn pace(mut self, pace: Duration) -> Script {
        self.pace = pace;
        self
    }

    pub fn chunks(mut self, chunks: usize) -> Script {
        self.chunks = Some(chunks);
        self
    }

    pub fn hold_after(mut self, pieces: usize, gate: &Gate) -> Script {
        self.hold = Some((pieces, Until::Opened(gate.clone())));
        self
    }

    pub fn silent_after(mut self, pieces: usize, silence: Duration) -> Script {
        self.hold = Some((pieces, Until::Over(silence)));
        self
    }

    pub fn ahead(mut self, tokens: u64) -> Script {
        self.ahead = tokens;
        self
    }

    pub fn bill_on_arrival(mut self) -> Script {
        self.bill_on_arrival = true;
        self
    }
}
