//! Amazon's Titan embeddings through Bedrock's InvokeModel, one input a call:
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html>,
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-mm.html>.

mod request;
mod response;

use bytes::Bytes;

use crate::{
    bedrock_converse,
    canonical::{EmbedCall, Embeddings, Refusal},
    dialect::{DialectName, EmbedDialect, Encoded, Head, Target},
    error::{DecodeError, EncodeError},
};

const NAME: DialectName = DialectName::TitanEmbeddings;

pub(crate) struct TitanEmbeddings;

impl EmbedDialect for TitanEmbeddings {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &EmbedCall, target: &Target) -> Result<Encoded, EncodeError> {
        request::encode(call, target)
    }

    fn request(&self, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        target.post(&bedrock_converse::model_path(&target.model, "invoke"), body)
    }

    fn decode(&self, head: &Head, body: &[u8]) -> Result<Embeddings, DecodeError> {
        response::decode(head, body)
    }

    fn decode_error(&self, head: &Head, body: &[u8]) -> Refusal {
        bedrock_converse::decode_error(head, body)
    }
}
