//! The contract on the bus: the messages of `proto/farebox/v1`, and the subjects they travel on.
//!
//! Messages only ever grow: `tests/compatibility.rs` compares them with the last released descriptor. Subjects are
//! built by [`subjects`], nowhere else.

mod convert;
pub mod json;
pub mod subjects;

/// The generated messages.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/farebox.v1.rs"));
}

pub use convert::{InvalidMessage, ParseId};

/// The compiled descriptor set of the contract.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/farebox.v1.binpb"));

/// Header names of farebox's own messages.
pub mod headers {
    /// `application/json` or `application/x-protobuf`.
    pub const CONTENT_TYPE: &str = "Content-Type";
    pub const JSON: &str = "application/json";
    pub const PROTOBUF: &str = "application/x-protobuf";
    /// The dialect of a JSON request, by its name; without it, `openai-chat`.
    pub const DIALECT: &str = "Farebox-Dialect";
    /// `chunk` or `final`.
    pub const TYPE: &str = "Farebox-Type";
    /// The kind of error that a final answer is; absent where it is none.
    pub const ERROR: &str = "Farebox-Error";
    /// Those that belong to a final answer, also where it is stored.
    pub const ANSWER: [&str; 4] = [CONTENT_TYPE, TYPE, ERROR, BODY_DIGEST];
    /// The number of a chunk.
    pub const SEQ: &str = "Farebox-Seq";
    /// Which request body a stored result answers (hexadecimal SHA-256).
    pub const BODY_DIGEST: &str = "Farebox-Body-Digest";
    /// Which project a question of farebox's own roles is about; nowhere else is it read.
    pub const PROJECT: &str = "Farebox-Project";
    /// W3C trace context: <https://www.w3.org/TR/trace-context/>.
    pub const TRACEPARENT: &str = "traceparent";
}
