//! OpenAI's older text completions: <https://platform.openai.com/docs/api-reference/completions>. A prompt, not a
//! conversation: no tools, no media.

mod answer;
mod request;
mod stream;

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

const NAME: DialectName = DialectName::OpenAiCompletions;

pub(crate) struct OpenAiCompletions;

impl ProviderDialect for OpenAiCompletions {
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
        answer::decode(body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        error::decode(head, body)
    }

    fn framing(&self, _target: &Target, limits: &StreamLimits) -> Box<dyn Framing> {
        Box::new(Sse::new(limits.max_frame_bytes))
    }

    fn decoder(&self, target: &Target, limits: &StreamLimits) -> Box<dyn StreamDecoder> {
        Box::new(Decoder::new(self.framing(target, limits), stream::Chunks::default()))
    }

    fn passes(&self, frame: Frame<'_>, include_usage: bool) -> bool {
        stream::passes(frame, include_usage)
    }
}

impl CallerDialect for OpenAiCompletions {
    fn name(&self) -> DialectName {
        NAME
    }

    fn parse(&self, _headers: &HeaderMap, body: &[u8]) -> Result<Call, BadRequest> {
        request::parse(body)
    }

    fn render(&self, _call: &Call, completion: &Completion, stamp: &Stamp) -> Bytes {
        answer::whole(completion, stamp)
    }

    fn renderer(&self, call: &Call, stamp: &Stamp) -> Box<dyn StreamEncoder> {
        Box::new(stream::Render::new(call.include_usage, stamp.clone()))
    }

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes) {
        error::render(fault)
    }
}
