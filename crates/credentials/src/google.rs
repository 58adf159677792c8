//! Google's tokens: <https://cloud.google.com/docs/authentication/application-default-credentials>.

use std::{fmt, sync::Arc};

use gcp_auth::{CustomServiceAccount, TokenProvider};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

use crate::error::{CredentialsError, causes};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A service account, or whoever the process is: `GOOGLE_APPLICATION_CREDENTIALS`, the login of `gcloud`, or the metadata
/// service of the machine or pod (workload identity).
pub struct Google {
    service_account: Option<SecretString>,
    provider: OnceCell<Arc<dyn TokenProvider>>,
}

impl fmt::Debug for Google {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Google").finish_non_exhaustive()
    }
}

impl Google {
    /// `service_account`: its key file's JSON; `None`: the process's own identity.
    pub fn new(service_account: Option<SecretString>) -> Google {
        Google { service_account, provider: OnceCell::new() }
    }

    pub(crate) async fn token(&self) -> Result<SecretString, CredentialsError> {
        let failed = |error: gcp_auth::Error| CredentialsError::Google { cause: causes(&error) };
        let provider = self.provider.get_or_try_init(|| self.provider()).await.map_err(failed)?;
        // The library keeps the token until it ends.
        let token = provider.token(&[SCOPE]).await.map_err(failed)?;
        Ok(SecretString::from(token.as_str()))
    }

    async fn provider(&self) -> Result<Arc<dyn TokenProvider>, gcp_auth::Error> {
        match &self.service_account {
            Some(json) => Ok(Arc::new(CustomServiceAccount::from_json(json.expose_secret())?)),
            None => gcp_auth::provider().await,
        }
    }
}
