//! What every dialect is translated through: the call, the whole answer and the events of a streamed one.

mod call;
mod collect;
mod completion;
mod event;

pub use call::{
    Call, Content, Effort, Extra, Media, Message, NativeTool, Part, Reasoning, ReasoningRequest, ResponseFormat, Role,
    Sampling, Source, Tool, ToolCall, ToolChoice, ToolResult,
};
pub use collect::Collector;
pub use completion::{Choice, Completion, FinishReason, Refusal};
pub use event::{Delta, Ending, Event, PartId, PartKind, Truncated};
