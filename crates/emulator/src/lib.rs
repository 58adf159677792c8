//! A provider emulator: real wire formats (OpenAI chat completions, responses and embeddings, Anthropic messages, Gemini;
//! whole and streamed), faults on demand, and a billing ledger of its own.
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
//! [`Script::obedient`] is a model that does what its prompt orders (`src/obey.rs` lists the orders), at a provider that
//! refuses what a real one would: members it does not know, calls without results, thoughts of others.
//!
//! Does not: check other requests as a real provider would beyond the basics, count real tokens, speak HTTP/2 or TLS.
//!
//! Over HTTP: `POST /v1/chat/completions`, `/v1/responses`, `/v1/embeddings`, `/v1/messages`, `/v1/messages/count_tokens`,
//! `/v1beta/models/…:{generateContent,streamGenerateContent,countTokens,embedContent,batchEmbedContents}`, `GET /v1/models`,
//! `GET /emulator/ledger?since=SEQ`, `GET /emulator/totals`, `GET /emulator/last/MODEL` (headers and body of the last request).
//! The caller's id of a call is read from the header `x-client-request-id`.

mod anthropic;
mod asked;
mod body;
mod embeddings;
mod endpoint;
mod gemini;
mod kept;
mod ledger;
mod obey;
mod openai;
mod openai_responses;
mod reply;
mod request;
mod route;
mod script;
mod server;

pub use ledger::{Dialect, Entry, Ledger, State, Totals};
pub use route::Seen;
pub use script::{Answer, Fault, Finish, Gate, Recorded, Refusal, Reply, Script, ToolCall, Until, Usage};
pub use server::{Emulator, EmulatorError, Options};
