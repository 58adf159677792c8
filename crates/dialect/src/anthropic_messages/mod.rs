//! Anthropic messages: <https://docs.anthropic.com/en/api/messages>.

mod blocks;
mod citations;
mod count;
mod error;
mod hosting;
mod messages;
mod parse;
mod references;
mod render;
mod request;
mod response;
mod stream;
mod thinking;
mod types;
mod usage;

use bytes::Bytes;
use farebox_types::Fault;
use http::{HeaderMap, StatusCode};

pub(crate) use self::{count::AnthropicCountTokens, references::spell_out};
use crate::{
    canonical::{Call, Completion, Refusal},
    decoder::Decoder,
    dialect::{
        CallerDialect, CountDialect, DialectName, Encoded, Head, Hosting, Passing, ProviderDialect, Stamp,
        StreamDecoder, StreamEncoder, StreamLimits, Target,
    },
    error::{BadRequest, DecodeError, EncodeError},
    framing::{Framing, event_stream::InvokedModel, sse::Sse},
    rewrite::Edit,
};

pub(crate) struct AnthropicMessages;

impl ProviderDialect for AnthropicMessages {
    fn name(&self) -> DialectName {
        DialectName::AnthropicMessages
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn edits(&self, passing: &Passing<'_>) -> Vec<Edit<'static>> {
        hosting::edits(passing)
    }

    fn headers(&self, passing: &Passing<'_>) -> HeaderMap {
        hosting::headers(passing.call, passing.target.hosting)
    }

    fn request(&self, target: &Target, stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        request::around(target, stream, body)
    }

    fn decode(&self, _head: &Head, body: &[u8]) -> Result<Completion, DecodeError> {
        response::decode(body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        error::decode(head, body)
    }

    fn framing(&self, target: &Target, limits: &StreamLimits) -> Box<dyn Framing> {
        match target.hosting {
            Hosting::Own | Hosting::Vertex => Box::new(Sse::new(limits.max_frame_bytes)),
            Hosting::Bedrock => Box::new(InvokedModel::new(limits.max_frame_bytes)),
        }
    }

    fn decoder(&self, target: &Target, limits: &StreamLimits) -> Box<dyn StreamDecoder> {
        Box::new(Decoder::new(self.framing(target, limits), stream::Events::default()))
    }

    fn counting(&self) -> Option<&'static dyn CountDialect> {
        Some(&AnthropicCountTokens)
    }
}

impl CallerDialect for AnthropicMessages {
    fn name(&self) -> DialectName {
        DialectName::AnthropicMessages
    }

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<Call, BadRequest> {
        parse::parse(headers, body)
    }

    fn render(&self, _call: &Call, completion: &Completion, stamp: &Stamp) -> Bytes {
        render::whole(completion, stamp)
    }

    fn renderer(&self, _call: &Call, stamp: &Stamp) -> Box<dyn StreamEncoder> {
        Box::new(render::Blocks::new(stamp.clone()))
    }

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes) {
        error::render(fault)
    }
}
