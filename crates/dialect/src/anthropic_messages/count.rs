//! Token counts, in both directions: <https://docs.anthropic.com/en/api/messages-count-tokens>.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use farebox_types::Fault;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{error, hosting, parse, request, types::NAME};
use crate::{
    canonical::Call,
    dialect::{CountCaller, CountDialect, DialectName, Encoded, Hosting, Target},
    error::{BadRequest, DecodeError, EncodeError},
    notes::Notes,
    rewrite::Edit,
};

pub(crate) struct AnthropicCountTokens;

#[derive(Serialize)]
struct Counted {
    input_tokens: u64,
}

impl CountCaller for AnthropicCountTokens {
    fn name(&self) -> DialectName {
        DialectName::AnthropicCountTokens
    }

    fn parse(&self, headers: &HeaderMap, body: &[u8]) -> Result<Call, BadRequest> {
        parse::parse(headers, body)
    }

    fn render(&self, tokens: u64) -> Bytes {
        Bytes::from(serde_json::to_vec(&Counted { input_tokens: tokens }).expect("a number can always be written"))
    }

    fn render_error(&self, fault: &Fault) -> (StatusCode, Bytes) {
        error::render(fault)
    }
}

/// Bedrock counts for a whole request to InvokeModel, in base64:
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html>.
#[derive(Serialize)]
struct Wrapped {
    input: Input,
}

#[derive(Serialize)]
struct Input {
    #[serde(rename = "invokeModel")]
    invoke_model: Invoke,
}

#[derive(Serialize)]
struct Invoke {
    body: String,
}

/// Either API's answer.
#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "inputTokens")]
    input_tokens: u64,
}

impl CountDialect for AnthropicCountTokens {
    fn name(&self) -> DialectName {
        DialectName::AnthropicCountTokens
    }

    fn encode(&self, call: &Call, target: &Target) -> Result<Encoded, EncodeError> {
        let mut notes = Notes::new(NAME, target);
        let mut wire = request::wire(call, target, &mut notes)?;
        if target.hosting != Hosting::Bedrock {
            wire.only_counted(&target.model);
        }
        let body = serde_json::to_vec(&wire).map_err(|error| EncodeError::Write(error.to_string()))?;
        let request = self.request(call, target, Bytes::from(body))?;
        Ok(Encoded { request, warnings: notes.into_warnings() })
    }

    fn edits(&self, call: &Call, target: &Target) -> Vec<Edit<'static>> {
        hosting::counting_edits(call, target)
    }

    fn request(&self, call: &Call, target: &Target, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
        let body = if target.hosting == Hosting::Bedrock {
            let wrapped = Wrapped { input: Input { invoke_model: Invoke { body: STANDARD.encode(&body) } } };
            Bytes::from(serde_json::to_vec(&wrapped).map_err(|error| EncodeError::Write(error.to_string()))?)
        } else {
            body
        };
        let beside = Target { path: None, ..target.clone() };
        let mut request = hosting::post(&beside, &hosting::counting_path(target), body)?;
        request.headers_mut().extend(hosting::headers(call, target.hosting));
        Ok(request)
    }

    fn decode(&self, body: &[u8]) -> Result<u64, DecodeError> {
        let answer: Answer = serde_json::from_slice(body)
            .map_err(|error| DecodeError::Corrupt { dialect: NAME, problem: error.to_string() })?;
        Ok(answer.input_tokens)
    }
}
