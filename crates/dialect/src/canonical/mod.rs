//! What every dialect is translated through: the call, the whole answer and the events of a streamed one.

mod call;
mod collect;
mod completion;
mod embedding;
mod event;
mod rerank;
pub(crate) mod sealed;
mod written;

pub use call::{
    CacheMark, Call, Citation, Content, Effort, Extra, Grouped, Media, Message, NativeTool, Part, Reasoning,
    ReasoningRequest, ResponseFormat, Role, Sampling, Source, Tool, ToolCall, ToolChoice, ToolResult,
};
pub(crate) use call::{Schema, plain_id};
pub use collect::Collector;
pub use completion::{Choice, Completion, FinishReason, Refusal};
pub use embedding::{EmbedCall, EmbedInput, EmbedPurpose, Embeddings, Vector, VectorEncoding};
pub use event::{Delta, Ending, Event, PartId, PartKind, Truncated};
pub use rerank::{Ranked, Ranking, RerankCall, RerankDocument};
