//! Amazon Bedrock's Converse and ConverseStream, for every model that Bedrock hosts:
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>. Whoever sends it signs it.

mod count;
mod error;
mod fields;
mod media;
mod messages;
mod request;
mod response;
mod stream;
mod tools;
mod types;
mod usage;

use bytes::Bytes;

pub(crate) use self::{
    count::without_region,
    error::{decode as decode_error, in_answer as refusal_in_answer},
    request::model_path,
};
use crate::{
    canonical::{Call, Completion, Refusal},
    decoder::Decoder,
    dialect::{CountDialect, DialectName, Encoded, Head, ProviderDialect, StreamDecoder, StreamLimits, Target},
    error::{DecodeError, EncodeError},
    framing::{Framing, event_stream::EventStream},
};

pub(crate) struct BedrockConverse;

impl ProviderDialect for BedrockConverse {
    fn name(&self) -> DialectName {
        DialectName::BedrockConverse
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn request(&self, target: &Target, stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        request::around(target, stream, body)
    }

    fn decode(&self, head: &Head, body: &[u8]) -> Result<Completion, DecodeError> {
        response::decode(head, body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        error::decode(head, body)
    }

    fn framing(&self, _target: &Target, limits: &StreamLimits) -> Box<dyn Framing> {
        Box::new(EventStream::new(limits.max_frame_bytes))
    }

    fn decoder(&self, target: &Target, limits: &StreamLimits) -> Box<dyn StreamDecoder> {
        Box::new(Decoder::new(self.framing(target, limits), stream::Events::default()))
    }

    fn counting(&self) -> Option<&'static dyn CountDialect> {
        Some(&count::CountTokens)
    }
}
