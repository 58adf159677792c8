//! Gemini embeddings: <https://ai.google.dev/api/embeddings>, and Vertex AI's form of them:
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api>.

mod request;
mod response;

use bytes::Bytes;

use crate::{
    canonical::{EmbedCall, Embeddings, Refusal},
    dialect::{DialectName, EmbedDialect, Encoded, Head, Target},
    error::{DecodeError, EncodeError},
    gemini,
};

const NAME: DialectName = DialectName::GeminiEmbeddings;

pub(crate) struct GeminiEmbeddings;

impl EmbedDialect for GeminiEmbeddings {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        request::around(target, body)
    }

    fn decode(&self, _head: &Head, body: &[u8]) -> Result<Embeddings, DecodeError> {
        response::decode(body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        gemini::error::decode(head, body)
    }
}
