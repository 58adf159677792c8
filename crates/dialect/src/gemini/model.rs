//! What a model's name says: where it is called, and which generation of words it knows.

use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};

use crate::{
    dialect::{Hosting, Target},
    error::EncodeError,
    path::segment,
};

pub(super) const WHOLE: &str = "generateContent";
pub(super) const STREAM: &str = "streamGenerateContent?alt=sse";
pub(super) const COUNT: &str = "countTokens";

/// The model as a resource below the base URL, without a slash in front: Vertex files models under their publisher.
/// Names that are resources already (`publishers/…`, `tunedModels/…`, `endpoints/…`) stay as they are.
pub(crate) fn resource(target: &Target) -> String {
    let model = target.model.as_str();
    match target.hosting {
        _ if model.contains('/') => model.trim_start_matches('/').to_owned(),
        Hosting::Vertex => format!("publishers/google/models/{model}"),
        Hosting::Own | Hosting::Bedrock => format!("models/{model}"),
    }
}

/// A call of one of the model's methods. A path of the target's own stands for the model, not for the method.
pub(crate) fn post(target: &Target, method: &str, body: Bytes) -> Result<http::Request<Bytes>, EncodeError> {
    let path = target.path.clone().unwrap_or_else(|| {
        let segments: Vec<String> = resource(target).split('/').map(segment).collect();
        format!("/{}", segments.join("/"))
    });
    http::Request::builder()
        .method(Method::POST)
        .uri(format!("{path}:{method}"))
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| EncodeError::Write(error.to_string()))
}

/// `gemini-2.5-flash`: 2.5. `None` for names that do not say (`gemini-flash-latest`, tuned models).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(u32, u32);

impl Generation {
    pub(super) const TWO_FIVE: Generation = Generation(2, 5);
    pub(super) const THREE: Generation = Generation(3, 0);

    pub(super) fn of(model: &str) -> Option<Generation> {
        let (_, rest) = model.rsplit_once("gemini-")?;
        let version = rest.split('-').next()?;
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        Some(Generation(major.parse().ok()?, minor.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations() {
        for (model, expected) in [
            ("gemini-2.5-flash-lite", Some(Generation::TWO_FIVE)),
            ("publishers/google/models/gemini-3-pro-preview", Some(Generation::THREE)),
            ("gemini-3.6-flash", Some(Generation(3, 6))),
            ("models/gemini-1.5-pro", Some(Generation(1, 5))),
            ("gemini-flash-latest", None),
            ("tunedModels/birds-1", None),
        ] {
            assert_eq!(Generation::of(model), expected, "{model}");
        }
    }

    #[test]
    fn paths() {
        let path = |hosting, model: &str| {
            let target = Target { hosting, ..Target::new(model) };
            post(&target, WHOLE, Bytes::new()).unwrap().uri().to_string()
        };
        for (hosting, model, expected) in [
            (Hosting::Own, "gemini-2.5-pro", "/models/gemini-2.5-pro:generateContent"),
            (Hosting::Own, "tunedModels/a?b#c", "/tunedModels/a%3Fb%23c:generateContent"),
            (Hosting::Vertex, "gemini-2.5-pro", "/publishers/google/models/gemini-2.5-pro:generateContent"),
            (Hosting::Vertex, "publishers/meta/models/llama", "/publishers/meta/models/llama:generateContent"),
            (Hosting::Vertex, "endpoints/7", "/endpoints/7:generateContent"),
        ] {
            assert_eq!(path(hosting, model), expected);
        }
    }

    #[test]
    fn resources() {
        for (hosting, model, path) in [
            (Hosting::Own, "gemini-2.5-pro", "models/gemini-2.5-pro"),
            (Hosting::Own, "tunedModels/birds", "tunedModels/birds"),
            (Hosting::Vertex, "gemini-2.5-pro", "publishers/google/models/gemini-2.5-pro"),
            (Hosting::Vertex, "publishers/google/models/gemini-2.5-pro", "publishers/google/models/gemini-2.5-pro"),
            (Hosting::Vertex, "endpoints/77", "endpoints/77"),
        ] {
            assert_eq!(resource(&Target { hosting, ..Target::new(model) }), path);
        }
    }
}
