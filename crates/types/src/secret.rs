//! A reference to a secret. The secret itself never stands in a value of these types.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where a secret is kept. It is safe to print, log and store: it names the place, not the secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// `os.environ/NAME`: an environment variable of the process that needs it.
    Env(String),
    /// `file:/path`: a file, as mounted by an orchestrator. A newline at its end is not part of the secret.
    File(PathBuf),
}

/// A text that is no reference. It may be the secret itself, so it is not repeated here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error(
        "a secret is never written as plain text: write `os.environ/NAME` to take it from an environment variable, or \
         `file:/path` to read it from a file"
    )]
    PlainText,
    #[error("`os.environ/` must be followed by a variable's name (letters, digits and `_`)")]
    VariableName,
    #[error("`file:` must be followed by an absolute path, as in `file:/run/secrets/openai`")]
    Path,
}

const ENV: &str = "os.environ/";
const FILE: &str = "file:";

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(given: &str) -> Result<Secret, SecretError> {
        if let Some(name) = given.strip_prefix(ENV) {
            let valid = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return valid.then(|| Secret::Env(name.to_owned())).ok_or(SecretError::VariableName);
        }
        match given.strip_prefix(FILE) {
            Some(path) if path.starts_with('/') && path.len() > 1 => Ok(Secret::File(PathBuf::from(path))),
            Some(_) => Err(SecretError::Path),
            None => Err(SecretError::PlainText),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Env(name) => write!(f, "{ENV}{name}"),
            Secret::File(path) => write!(f, "{FILE}{}", path.display()),
        }
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
        let given = String::deserialize(from)?;
        given.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(os\\.environ/[A-Za-z_][A-Za-z0-9_]*|file:/.+)$",
            "description": "A reference to a secret: `os.environ/NAME` or `file:/path`. Plain text is refused."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_and_print_alike() {
        for text in ["os.environ/OPENAI_API_KEY", "file:/run/secrets/openai"] {
            assert_eq!(text.parse::<Secret>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn plain_text_is_refused_and_not_repeated() {
        let error = "sk-canary-1234".parse::<Secret>().unwrap_err();
        assert_eq!(error, SecretError::PlainText);
        assert!(!error.to_string().contains("canary"));
        assert_eq!("os.environ/".parse::<Secret>(), Err(SecretError::VariableName));
        assert_eq!("os.environ/A-B".parse::<Secret>(), Err(SecretError::VariableName));
        assert_eq!("file:key".parse::<Secret>(), Err(SecretError::Path));
    }
}
