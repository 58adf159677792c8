//! CountTokens: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html>.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    fields::Fields,
    messages::{Block, Turn},
    request::{self, model_path},
    tools::ToolConfig,
    types::NAME,
};
use crate::{
    canonical::{Call, Extra},
    dialect::{CountDialect, DialectName, Encoded, Target},
    error::{DecodeError, EncodeError},
    notes::Notes,
};

pub(super) struct CountTokens;

#[derive(Serialize)]
struct Wire<'a> {
    input: Input<'a>,
}

#[derive(Serialize)]
struct Input<'a> {
    converse: Converse<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Converse<'a> {
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Extra::is_empty")]
    additional_model_request_fields: Extra,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counted {
    input_tokens: u64,
}

/// The endpoint takes models, no inference profiles: `us.anthropic.…` is refused.
pub(crate) fn without_region(model: &str) -> &str {
    let regions = ["us.", "us-gov.", "eu.", "apac.", "au.", "jp.", "ca.", "global."];
    regions.into_iter().find_map(|region| model.strip_prefix(region)).unwrap_or(model)
}

impl CountDialect for CountTokens {
    fn name(&self) -> DialectName {
        NAME
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        let mut notes = Notes::new(NAME, target);
        let fields = Fields::plan(call, target, &mut notes)?;
        let (system, messages, tool_config) = request::conversation(call, target, &mut notes)?;
        let converse = Converse { messages, system, tool_config, additional_model_request_fields: fields.additional };
        let wire = Wire { input: Input { converse } };
        let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
        let request = self.request(call, target, Bytes::from(body))?;
        Ok(Encoded { request, warnings: notes.into_warnings() })
    }

    fn request(&self, _call: &Call, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        let path = model_path(without_region(&target.model), "count-tokens");
        let beside = Target { path: None, ..target.clone() };
        beside.post(&path, body)
    }

    fn decode(&self, body: &[u8]) -> Result<u64, DecodeError> {
        let counted: Counted = serde_json::from_slice(body)
            .map_err(|error| DecodeError::Corrupt { dialect: NAME, problem: error.to_string() })?;
        Ok(counted.input_tokens)
    }
}
