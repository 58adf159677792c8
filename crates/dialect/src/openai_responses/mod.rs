//! OpenAI responses: <https://platform.openai.com/docs/api-reference/responses>. Towards a provider each call stands on
//! its own: nothing is stored there, and reasoning comes back sealed, so that the next turn can carry it.

mod groups;
mod input;
mod items;
mod object;
mod parse;
mod render;
mod request;
mod response;
mod stream;
pub(crate) mod usage;

use bytes::Bytes;
use farebox_types::Fault;
use http::{HeaderMap, StatusCode};

use crate::{
    canonical::{Call, Completion, Refusal},
    decoder::Decoder,
    dialect::{
        CallerDialect, DialectName, Encoded, Head, Passing, ProviderDialect, Stamp, StreamDecoder, StreamEncoder,
        StreamLimits, Target,
    },
    error::{BadRequest, DecodeError, EncodeError},
    framing::{Frame, Framing, sse::Sse},
    openai_error as error,
    rewrite::Edit,
};

const NAME: DialectName = DialectName::OpenAiResponses;
/// Reasoning under such an id was said by another provider, without a seal: it is shown, and sent to nobody.
const FOREIGN_REASONING: &str = "rs_farebox";

pub(crate) struct OpenAiResponses;

impl ProviderDialect for OpenAiResponses {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn edits(&self, passing: &Passing<'_>) -> Vec<Edit<'static>> {
        request::edits(passing)
    }

    fn request(&self, target: &Target, _stream: bool, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        request::around(target, body)
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

    fn passes(&self, frame: Frame<'_>, _include_usage: bool) -> bool {
        stream::passes(frame)
    }
}

impl CallerDialect for OpenAiResponses {
    fn name(&self) -> DialectName {
        NAME
    }

    fn parse(&self, _headers: &HeaderMap, body: &[u8]) -> Result<Call, BadRequest> {
        parse::parse(body)
    }

    fn render(&self, call: &Call, completion: &Completion, stamp: &Stamp) -> Bytes {
        object::whole(call, completion, stamp)
    }

    fn renderer(&self, call: &Call, stamp: &Stamp) -> Box<dyn StreamEncoder> {
        Box::new(render::Events::new(call.clone(), stamp.clone()))
    }

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes) {
        error::render(fault)
    }
}
