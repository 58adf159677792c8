//! A provider emulator: real wire formats (OpenAI chat completions and Anthropic messages, whole and streamed), faults
//! on demand, and a billing ledger of its own.
//!
//! Guarantees: every request that reached a completion endpoint has one [`Entry`]; a call is billed once the
//! provider has begun to produce output, with the prompt and what was produced until then; totals are exact whatever
//! the bound on entries; without a script the same request gets the same answer and the same usage.
//!
//! Default answer: a sentence that says that this is an emulator, with the beginning of the last message. Default
//! usage: one token per four bytes (rounded up) of the raw `messages`, `system` and `tools` of the request, and of the
//! answer's text; the request's output limit is kept.
//!
//! Whatever else speaks HTTP is played by routes: given bytes, in pieces and with faults, for any request below a path;
//! the requests are kept.
//!
//! Does not: check requests as a real provider would beyond the basics, count real tokens, speak HTTP/2 or TLS.
//!
//! Over HTTP: `POST /v1/chat/completions`, `POST /v1/messages`, `POST /v1/messages/count_tokens`, `GET /v1/models`,
//! `GET /emulator/ledger?since=SEQ`, `GET /emulator/totals`. The caller's id of a call is read from the header
//! `x-client-request-id`.

mod anthropic;
mod body;
mod ledger;
mod openai;
mod reply;
mod request;
mod route;
mod script;
mod server;

pub use ledger::{Dialect, Entry, Ledger, State, Totals};
pub use route::Seen;
pub use script::{Answer, Fault, Finish, Recorded, Refusal, Reply, Script, ToolCall, Usage};
pub use server::{Emulator, EmulatorError, Options};
