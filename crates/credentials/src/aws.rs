//! Amazon's signature: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use bytes::Bytes;
use farebox_providers::{AwsCredentials, sign};
use farebox_types::Timestamp;
use http::Request;
use secrecy::SecretString;
use tokio::sync::OnceCell;

use crate::{
    error::{CredentialsError, causes},
    held::Held,
};

/// The name that signatures for Bedrock's runtime carry.
const SERVICE: &str = "bedrock";

/// Credentials for one region: a static key, a profile, or whoever the process is (environment, shared config files, web
/// identity, the role of the container or instance).
pub struct Aws {
    region: String,
    profile: Option<String>,
    keys: Option<AwsCredentials>,
    chain: OnceCell<SharedCredentialsProvider>,
    held: Held<AwsCredentials>,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("region", &self.region).field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl Aws {
    pub fn new(region: String, keys: Option<AwsCredentials>, profile: Option<String>) -> Aws {
        Aws { region, profile, keys, chain: OnceCell::new(), held: Held::new() }
    }

    pub(crate) async fn sign(
        &self,
        request: Request<Bytes>,
        now: Timestamp,
    ) -> Result<Request<Bytes>, CredentialsError> {
        let keys = match &self.keys {
            Some(keys) => keys.clone(),
            None => self.held.get(now, Box::pin(self.fetch())).await?,
        };
        let mut request = request;
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.millis()).unwrap_or_default());
        sign(&mut request, &keys, &self.region, SERVICE, at)?;
        Ok(request)
    }

    async fn fetch(&self) -> Result<(AwsCredentials, Option<Timestamp>), CredentialsError> {
        let chain = self.chain.get_or_try_init(|| self.chain()).await?;
        let found =
            chain.provide_credentials().await.map_err(|error| CredentialsError::Aws { cause: causes(&error) })?;
        let ends =
            found.expiry().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| Timestamp(0).after(since));
        let keys = AwsCredentials {
            access_key: found.access_key_id().to_owned(),
            secret_key: SecretString::from(found.secret_access_key()),
            session_token: found.session_token().map(SecretString::from),
        };
        Ok((keys, ends))
    }

    async fn chain(&self) -> Result<SharedCredentialsProvider, CredentialsError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(self.region.clone()));
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        let none = || CredentialsError::Aws { cause: "the process has no credentials provider".to_owned() };
        loader.load().await.credentials_provider().ok_or_else(none)
    }
}
