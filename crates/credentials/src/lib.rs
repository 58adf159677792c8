//! Whose request it is: keys as they are, and tokens that have to be fetched.
//!
//! **Does.** [`Credentials`] puts on a request what its provider wants to see: a bearer token of Google's or Microsoft's, or
//! Amazon's signature. Tokens are fetched when they are first needed, kept until shortly before they end, and fetched
//! once however many requests wait for them.
//!
//! **Guarantees.** No secret is in an error, a log line or a `Debug` text.
//!
//! **Does not.** A plain key is put on by [`farebox_providers::Provider::apply`], which needs no I/O.

mod aws;
mod entra;
mod error;
mod google;
mod held;

use bytes::Bytes;
use farebox_types::{Secret, Timestamp};
use http::{HeaderValue, Request, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};

pub use self::{
    aws::Aws,
    entra::{Entra, EntraApplication, EntraProof},
    error::CredentialsError,
    google::Google,
};

/// What a provider is shown.
#[derive(Debug)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A plain key, by its reference: whoever sends a request reads it then.
    Key(Secret),
    Aws(Aws),
    Google(Google),
    Entra(Entra),
}

impl Credentials {
    /// Where the plain key is, when it is one.
    pub fn key(&self) -> Option<&Secret> {
        if let Credentials::Key(key) = self { Some(key) } else { None }
    }

    /// The request with what has to be fetched or computed for it. A plain key is not its business.
    pub async fn authorize(&self, request: Request<Bytes>, now: Timestamp) -> Result<Request<Bytes>, CredentialsError> {
        match self {
            Credentials::None | Credentials::Key(_) => Ok(request),
            Credentials::Aws(aws) => aws.sign(request, now).await,
            Credentials::Google(google) => bearer(request, &google.token().await?),
            Credentials::Entra(entra) => bearer(request, &entra.token(now).await?),
        }
    }
}

fn bearer(mut request: Request<Bytes>, token: &SecretString) -> Result<Request<Bytes>, CredentialsError> {
    let text = format!("Bearer {}", token.expose_secret());
    let mut value =
        HeaderValue::try_from(text).map_err(|_| CredentialsError::Malformed { from: "the token service" })?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(request)
}
