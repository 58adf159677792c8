//! OpenAI embeddings: <https://platform.openai.com/docs/api-reference/embeddings>.

mod request;
mod response;
mod vector;

use bytes::Bytes;
use farebox_types::Fault;
use http::{HeaderMap, StatusCode};

use crate::{
    canonical::{EmbedCall, Embeddings, Refusal},
    dialect::{DialectName, EmbedCaller, EmbedDialect, Encoded, Head, Stamp, Target},
    error::{BadRequest, DecodeError, EncodeError},
    openai_error,
    rewrite::Edit,
};

const NAME: DialectName = DialectName::OpenAiEmbeddings;

pub(crate) struct OpenAiEmbeddings;

impl EmbedDialect for OpenAiEmbeddings {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn edits(&self, target: &Target) -> Vec<Edit<'static>> {
        vec![Edit::string("model", &target.model)]
    }

    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        target.post(request::PATH, body)
    }

    fn decode(&self, _head: &Head, body: &[u8]) -> Result<Embeddings, DecodeError> {
        response::decode(body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        openai_error::decode(head, body)
    }
}

impl EmbedCaller for OpenAiEmbeddings {
    fn name(&self) -> DialectName {
        NAME
    }

    fn parse(&self, _headers: &HeaderMap, body: &[u8]) -> Result<EmbedCall, BadRequest> {
        request::parse(body)
    }

    fn render(&self, call: &EmbedCall, answer: &Embeddings, stamp: &Stamp) -> Result<Bytes, DecodeError> {
        response::render(call, answer, stamp)
    }

    fn counted(&self, answer: Bytes, input: u64) -> Bytes {
        response::counted(answer, input)
    }

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes) {
        openai_error::render(fault)
    }
}
