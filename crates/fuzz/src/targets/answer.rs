//! Whole answers.

use farebox_dialect::{Caller, DialectName, EmbedCall, Head, Provider, RerankCall, VectorEncoding, caller_dialect};
use http::StatusCode;

use super::sound;

/// An answer with a status of success.
pub(super) fn whole(provider: Provider, input: &[u8]) -> Result<(), String> {
    let head = Head { status: StatusCode::OK, ..Head::default() };
    match provider {
        Provider::Generate(dialect) => {
            if let Some(count) = dialect.counting() {
                drop(count.decode(input));
            }
            match dialect.decode(&head, input) {
                Ok(done) => sound::completion(&Default::default(), &done, input.len()),
                Err(error) => sound::fault(&error.into(), input.len()),
            }
        }
        Provider::Embed(dialect) => {
            let answer = match dialect.decode(&head, input) {
                Ok(answer) => answer,
                Err(error) => return sound::fault(&error.into(), input.len()),
            };
            sound::usage(&answer.usage)?;
            for name in DialectName::ALL {
                let Some(Caller::Embed(caller)) = caller_dialect(name) else { continue };
                for encoding in [VectorEncoding::Float, VectorEncoding::Base64] {
                    let call = EmbedCall { encoding: Some(encoding), ..EmbedCall::default() };
                    if let Ok(body) = caller.render(&call, &answer, &sound::stamp()) {
                        sound::json(name.as_str(), &body)?;
                        sound::size("vectors", body.len(), input.len())?;
                    }
                }
            }
            Ok(())
        }
        Provider::Rerank(dialect) => {
            let answer = match dialect.decode(&head, input) {
                Ok(answer) => answer,
                Err(error) => return sound::fault(&error.into(), input.len()),
            };
            sound::usage(&answer.usage)?;
            for name in DialectName::ALL {
                let Some(Caller::Rerank(caller)) = caller_dialect(name) else { continue };
                sound::json(name.as_str(), &caller.render(&RerankCall::default(), &answer, &sound::stamp()))?;
            }
            Ok(())
        }
    }
}

/// An answer with a status of failure. Its length says which, so that every input has one.
pub(super) fn refused(provider: Provider, input: &[u8]) -> Result<(), String> {
    const STATUSES: [u16; 12] = [400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 529];
    let status = StatusCode::from_u16(STATUSES[input.len() % STATUSES.len()]).unwrap_or_default();
    let head = Head { status, ..Head::default() };
    let refusal = match provider {
        Provider::Generate(dialect) => dialect.decode_error(&head, input),
        Provider::Embed(dialect) => dialect.decode_error(&head, input),
        Provider::Rerank(dialect) => dialect.decode_error(&head, input),
    };
    sound::fault(&refusal.into(), input.len())
}
