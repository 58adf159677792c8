//! Microsoft Entra's tokens, by the client credentials flow:
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.

use std::{path::PathBuf, time::Duration};

use farebox_types::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{
    error::{CredentialsError, causes},
    held::Held,
};

/// How an application shows that it is itself.
#[derive(Clone, Debug)]
pub enum EntraProof {
    Secret(SecretString),
    /// The file of a workload's own token (federated credentials). It is read each time, as it is replaced in place.
    TokenFile(PathBuf),
}

/// An application of a tenant.
#[derive(Clone, Debug)]
pub struct EntraApplication {
    pub authority: String,
    pub tenant_id: String,
    pub client_id: String,
    pub scope: String,
    pub proof: EntraProof,
}

/// The tokens of an application.
#[derive(Debug)]
pub struct Entra {
    application: EntraApplication,
    held: Held<SecretString>,
}

/// How long a token service may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What of a token service's refusal is repeated, in characters.
const REFUSAL_MAX: usize = 300;

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Entra {
    pub fn new(application: EntraApplication) -> Entra {
        Entra { application, held: Held::new() }
    }

    pub(crate) async fn token(&self, now: Timestamp) -> Result<SecretString, CredentialsError> {
        self.held.get(now, self.fetch(now)).await
    }

    async fn fetch(&self, now: Timestamp) -> Result<(SecretString, Option<Timestamp>), CredentialsError> {
        let application = &self.application;
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", application.client_id.clone()),
            ("scope", application.scope.clone()),
        ];
        match &application.proof {
            EntraProof::Secret(secret) => form.push(("client_secret", secret.expose_secret().to_owned())),
            EntraProof::TokenFile(path) => {
                let token = tokio::fs::read_to_string(path).await.map_err(|error| CredentialsError::Entra {
                    cause: format!("the token file {} cannot be read: {error}", path.display()),
                })?;
                form.push((
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
                ));
                form.push(("client_assertion", token.trim().to_owned()));
            }
        }
        let url =
            format!("{}/{}/oauth2/v2.0/token", application.authority.trim_end_matches('/'), application.tenant_id);
        // Once an hour: a client of its own is no loss.
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(failed)?;
        let answer = http.post(url).form(&form).send().await.map_err(failed)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(failed)?;
        if !status.is_success() {
            return Err(CredentialsError::Entra { cause: refusal(status, &body) });
        }
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|_| CredentialsError::Malformed { from: "Microsoft Entra" })?;
        let ends = now.after(Duration::from_secs(granted.expires_in));
        Ok((SecretString::from(granted.access_token), Some(ends)))
    }
}

fn failed(error: reqwest::Error) -> CredentialsError {
    CredentialsError::Entra { cause: causes(&error.without_url()) }
}

/// The service's own words: they name the application and what is wrong, not its secret.
fn refusal(status: reqwest::StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Refused>(body) {
        Ok(refused) => {
            let words = format!("{}: {}", refused.error, refused.error_description);
            words.lines().next().unwrap_or_default().chars().take(REFUSAL_MAX).collect()
        }
        Err(_) => format!("it answered with status {status}"),
    }
}
