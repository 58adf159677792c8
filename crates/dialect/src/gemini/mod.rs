//! Google's Gemini: <https://ai.google.dev/api/generate-content>, and the same calls on Vertex AI:
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference>.

mod assembly;
mod config;
mod contents;
pub(crate) mod error;
mod framing;
mod grounding;
pub(crate) mod model;
mod request;
mod response;
mod stream;
mod tools;
pub(crate) mod types;
pub(crate) mod usage;

use bytes::Bytes;

use crate::{
    canonical::{Call, Completion, Refusal},
    decoder::Decoder,
    dialect::{CountDialect, DialectName, Encoded, Head, ProviderDialect, StreamDecoder, StreamLimits, Target},
    error::{DecodeError, EncodeError},
    framing::Framing,
};

pub(crate) struct Gemini;

impl ProviderDialect for Gemini {
    fn name(&self) -> DialectName {
        DialectName::Gemini
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn request(&self, target: &Target, stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        model::post(target, if stream { model::STREAM } else { model::WHOLE }, body)
    }

    fn decode(&self, _head: &Head, body: &[u8]) -> Result<Completion, DecodeError> {
        response::decode(body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        error::decode(head, body)
    }

    fn framing(&self, _target: &Target, limits: &StreamLimits) -> Box<dyn Framing> {
        Box::new(framing::EventsOrArray::new(limits.max_frame_bytes))
    }

    fn decoder(&self, target: &Target, limits: &StreamLimits) -> Box<dyn StreamDecoder> {
        Box::new(Decoder::new(self.framing(target, limits), stream::Events::default()))
    }

    fn counting(&self) -> Option<&'static dyn CountDialect> {
        Some(&GeminiCount)
    }
}

/// <https://ai.google.dev/api/tokens>.
struct GeminiCount;

impl CountDialect for GeminiCount {
    fn name(&self) -> DialectName {
        DialectName::Gemini
    }

    fn request(&self, _call: &Call, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        model::post(target, model::COUNT, body)
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode_count(call, target)
    }

    fn decode(&self, body: &[u8]) -> Result<u64, DecodeError> {
        response::decode_count(body)
    }
}
