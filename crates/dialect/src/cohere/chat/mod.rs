//! Cohere chat: <https://docs.cohere.com/reference/chat>, <https://docs.cohere.com/reference/chat-stream>.

mod citation;
mod logprobs;
mod messages;
mod request;
mod response;
mod stream;

use bytes::Bytes;

use super::error;
use crate::{
    canonical::{Call, Completion, Refusal},
    decoder::Decoder,
    dialect::{DialectName, Encoded, Head, ProviderDialect, StreamDecoder, StreamLimits, Target},
    error::{DecodeError, EncodeError},
    framing::{Framing, sse::Sse},
};

const NAME: DialectName = DialectName::CohereChat;

pub(crate) struct CohereChat;

impl ProviderDialect for CohereChat {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn request(&self, target: &Target, _stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        target.post(request::PATH, body)
    }

    fn decode(&self, _head: &Head, body: &[u8]) -> Result<Completion, DecodeError> {
        response::decode(body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        error::decode(head, body)
    }

    fn framing(&self, _target: &Target, limits: &StreamLimits) -> Box<dyn Framing> {
        Box::new(Sse::new(limits.max_frame_bytes))
    }

    fn decoder(&self, target: &Target, limits: &StreamLimits) -> Box<dyn StreamDecoder> {
        Box::new(Decoder::new(self.framing(target, limits), stream::Events::default()))
    }
}
