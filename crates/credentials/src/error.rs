use farebox_providers::SignError;
use farebox_types::ErrorKind;

/// A request could not be given what its provider wants to see. The cause is said without secrets.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("no Amazon credentials were found or could be fetched: {cause}")]
    Aws { cause: String },
    #[error("no Google token was found or could be fetched: {cause}")]
    Google { cause: String },
    #[error("Microsoft Entra gave no token: {cause}")]
    Entra { cause: String },
    #[error("{from} answered something that cannot be used")]
    Malformed { from: &'static str },
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl CredentialsError {
    /// What farebox itself needs to be let in is missing: nothing the caller did.
    pub fn kind(&self) -> ErrorKind {
        match self {
            CredentialsError::Sign(error) => error.kind(),
            _ => ErrorKind::Upstream,
        }
    }
}

/// An error with all its causes in one line.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let next = inner.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = inner.source();
    }
    text
}
