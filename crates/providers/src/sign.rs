//! Requests to Amazon's services, signed (Signature Version 4):
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>.
//!
//! The signature covers the request as it is sent: method, host, the path with its percent signs (which the service
//! does not undo, so they are encoded once more for the signature), query, body, and of the headers those that nobody
//! on the way has a reason to change: `content-type` and `x-amz…`.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{self, SignableBody, SignableRequest, SigningSettings},
    sign::v4,
};
use farebox_types::ErrorKind;
use http::{HeaderName, HeaderValue, Request, header::CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};

/// Who signs.
#[derive(Clone, Debug)]
pub struct AwsCredentials {
    pub access_key: String,
    pub secret_key: SecretString,
    /// Of credentials that are lent for a time.
    pub session_token: Option<SecretString>,
}

/// A request that cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("a request without a host cannot be signed: the provider's base URL comes first")]
    NoHost,
    #[error("the credentials for Amazon hold characters that no header can carry: check where they come from")]
    Credentials,
    #[error("the request cannot be signed: a header of it is no text, or its URL is none")]
    Request,
}

impl SignError {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

/// Signs a request that is complete: nothing that the signature covers may change afterwards. A second signature
/// replaces the first.
pub fn sign<B: AsRef<[u8]>>(
    request: &mut Request<B>,
    credentials: &AwsCredentials,
    region: &str,
    service: &str,
    at: SystemTime,
) -> Result<(), SignError> {
    if request.uri().host().is_none() {
        return Err(SignError::NoHost);
    }
    let identity = Credentials::new(
        &credentials.access_key,
        credentials.secret_key.expose_secret(),
        credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned()),
        None,
        "farebox",
    )
    .into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(at)
        .settings(SigningSettings::default())
        .build()
        .expect("all five are given")
        .into();
    let headers = request.headers().iter().filter(|(name, _)| is_covered(name));
    let headers = headers.map(|(name, value)| Ok((name.as_str(), value.to_str().map_err(|_| SignError::Request)?)));
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.uri().to_string(),
        headers.collect::<Result<Vec<_>, SignError>>()?.into_iter(),
        SignableBody::Bytes(request.body().as_ref()),
    );
    let signed = http_request::sign(signable.map_err(|_| SignError::Request)?, &params);
    let (instructions, _) = signed.map_err(|_| SignError::Request)?.into_parts();
    for header in instructions.into_parts().0 {
        let mut value = HeaderValue::from_str(header.value()).map_err(|_| SignError::Credentials)?;
        value.set_sensitive(true);
        request.headers_mut().insert(header.name(), value);
    }
    Ok(())
}

/// What an earlier signature left is made anew, not covered.
fn is_covered(name: &HeaderName) -> bool {
    let made = ["x-amz-date", "x-amz-security-token"];
    name == CONTENT_TYPE || name.as_str().starts_with("x-amz") && !made.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        url: String,
        region: String,
        headers: BTreeMap<String, String>,
        body: String,
        unix_seconds: u64,
        access_key: String,
        secret_key: String,
        session_token: Option<String>,
        signed: BTreeMap<String, String>,
    }

    impl Case {
        fn request(&self) -> Request<Vec<u8>> {
            let mut request = Request::post(&self.url);
            for (name, value) in &self.headers {
                request = request.header(name, value.trim());
            }
            request.body(self.body.clone().into_bytes()).unwrap()
        }

        fn credentials(&self) -> AwsCredentials {
            AwsCredentials {
                access_key: self.access_key.clone(),
                secret_key: self.secret_key.clone().into(),
                session_token: self.session_token.clone().map(SecretString::from),
            }
        }

        fn sign(&self, request: &mut Request<Vec<u8>>) -> Result<(), SignError> {
            let at = UNIX_EPOCH + Duration::from_secs(self.unix_seconds);
            sign(request, &self.credentials(), &self.region, "bedrock", at)
        }
    }

    fn cases() -> Vec<Case> {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../tests/sigv4.json")).unwrap();
        assert!(cases.len() >= 8);
        cases
    }

    #[test]
    fn signatures_are_those_of_botocore() {
        for case in cases() {
            let mut request = case.request();
            case.sign(&mut request).unwrap();
            let headers = request.headers();
            for (name, expected) in &case.signed {
                assert_eq!(headers[name.as_str()], expected.as_str(), "{} of {}", name, case.url);
            }
            let token = headers.get("x-amz-security-token").map(|value| value.to_str().unwrap());
            assert_eq!(token, case.session_token.as_deref());
            assert!(headers["authorization"].is_sensitive());
            assert_eq!(request.uri().to_string(), case.url, "what is sent is what was signed");
        }
    }

    #[test]
    fn signing_again_and_headers_of_the_way_change_nothing() {
        for case in cases() {
            let mut request = case.request();
            request.headers_mut().insert("user-agent", HeaderValue::from_static("farebox"));
            request.headers_mut().insert("accept", HeaderValue::from_static("*/*"));
            request.headers_mut().insert("traceparent", HeaderValue::from_static("00-1-2-01"));
            case.sign(&mut request).unwrap();
            case.sign(&mut request).unwrap();
            assert_eq!(request.headers()["authorization"], case.signed["Authorization"].as_str(), "{}", case.url);
            assert_eq!(request.headers().get_all("authorization").iter().count(), 1);
        }
    }

    #[test]
    fn a_changed_request_has_another_signature() {
        let case = &cases()[0];
        let signature = |change: &dyn Fn(&mut Request<Vec<u8>>)| {
            let mut request = case.request();
            change(&mut request);
            case.sign(&mut request).unwrap();
            request.headers()["authorization"].clone()
        };
        let expected = case.signed["Authorization"].as_str();
        assert_eq!(signature(&|_| {}), expected);
        assert_ne!(signature(&|request| request.body_mut().push(b' ')), expected);
        assert_ne!(
            signature(&|request| *request.uri_mut() = case.url.replace("invoke", "converse").parse().unwrap()),
            expected
        );
        assert_ne!(signature(&|request| *request.method_mut() = http::Method::PUT), expected);
    }

    #[test]
    fn what_cannot_be_signed_is_an_error() {
        let case = &cases()[0];
        let mut pathless = Request::post("/model/x/converse").body(Vec::new()).unwrap();
        assert_eq!(case.sign(&mut pathless), Err(SignError::NoHost));
        let bad = AwsCredentials { session_token: Some("a\nb".to_owned().into()), ..case.credentials() };
        let signed = sign(&mut case.request(), &bad, "us-east-1", "bedrock", UNIX_EPOCH);
        assert!(matches!(signed, Err(SignError::Credentials | SignError::Request)), "{signed:?}");
        let mut odd = case.request();
        odd.headers_mut().insert("x-amz-odd", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(case.sign(&mut odd), Err(SignError::Request));
        assert!(!format!("{:?}", case.credentials()).contains(&case.secret_key));
    }
}
