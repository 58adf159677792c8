//! The grammar of a streamed answer.
//!
//! ```text
//! stream  = Unknown* Started (part | Usage | ServiceTier | ReportedCost | Unknown)* Finish+  Ending::Complete
//!         | …the same, cut anywhere… Error                                                   Ending::Refused
//! part    = PartStart{id} Delta{id}* PartEnd{id}
//! ```
//! `Started` comes once, before anything that has a meaning. A part's id is used once per stream; parts of one stream
//! may overlap (several choices, parallel tool calls). All parts of a choice have ended before its `Finish`. Usage replaces earlier usage.

use farebox_types::{ErrorKind, Fault, Money, Usage};

use super::{
    call::{Citation, Content},
    completion::{FinishReason, Refusal},
};
use crate::{dialect::DialectName, json::RawJson};

/// Numbers the parts of one stream, from 0, in the order in which they start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartId(pub u32);

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Started {
        id: String,
        model: String,
        created: Option<i64>,
    },
    PartStart {
        id: PartId,
        choice: u32,
        kind: PartKind,
    },
    Delta {
        id: PartId,
        delta: Delta,
    },
    PartEnd {
        id: PartId,
    },
    /// Replaces any usage before it.
    Usage(Usage),
    ServiceTier(String),
    /// What the provider itself says it charges. Replaces any before it.
    ReportedCost(Money),
    Finish {
        choice: u32,
        reason: FinishReason,
        stop_sequence: Option<String>,
    },
    /// The provider broke off with an error of its own. Nothing follows.
    Error(Refusal),
    /// A frame of a type this dialect has no meaning for: its type only, never its content.
    Unknown(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    Text,
    Refusal,
    Reasoning,
    ToolCall {
        id: String,
        name: String,
    },
    /// An image, a document or a recording, in one piece; no deltas follow.
    Media(Box<Content>),
    /// A block that only its own dialect understands, as it was announced; `Delta::Args` extend its input.
    Other {
        dialect: DialectName,
        kind: String,
        raw: RawJson,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    Text(String),
    /// A piece of a tool call's arguments: JSON text that may be cut anywhere.
    Args(String),
    Reasoning(String),
    /// The whole signature, not a piece of it: of reasoning, or (Gemini) of the part it stands in.
    Signature(String),
    /// Reasoning that only the provider can read, whole.
    Encrypted(String),
    /// Whose reasoning it is and under which id; comes first in its part, and again where the id is known later.
    Origin {
        dialect: DialectName,
        id: Option<String>,
    },
    /// What the text so far leans on.
    Citation(Box<Citation>),
    /// Log probabilities of the piece just sent.
    Logprobs(RawJson),
}

/// How a stream ended, when it ended with a word of the provider's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The terminal event came and every choice said why it finished.
    Complete,
    /// An error came in its place.
    Refused(Refusal),
}

/// The stream ended without its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's stream ended before its end: {missing} is missing; what arrived is not the whole answer")]
pub struct Truncated {
    pub missing: &'static str,
}

impl Truncated {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Truncated
    }
}

impl From<Truncated> for Fault {
    fn from(truncated: Truncated) -> Fault {
        Fault::new(truncated.kind(), truncated.to_string())
    }
}
