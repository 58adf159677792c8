//! Who is calling: what the server says, never what a message says.

use farebox_proto::subjects::Tenancy;
use farebox_types::{ErrorKind, Fault, Project};
use serde::Deserialize;

use crate::{delivery::Delivery, headers::REQUEST_INFO};

/// Who sent a message, as the NATS server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub project: Project,
    /// The key with which the caller connected; `None` for a caller without one.
    pub key_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subject `{subject}` does not say which project is calling")]
pub struct UnknownCaller {
    pub subject: String,
}

impl From<UnknownCaller> for Fault {
    fn from(unknown: UnknownCaller) -> Fault {
        Fault::new(ErrorKind::Unauthenticated, unknown.to_string())
    }
}

/// The user name of a caller that brought no key.
pub const ANONYMOUS: &str = "anonymous";

/// Longest key id that is believed.
const KEY_ID_MAX: usize = 128;

/// Reads who is calling from a message on one of the callers' subjects.
///
/// With projects, the subject's second word is put there by the import of the caller's account, and the header by the
/// server, which replaces one that a caller sent. Without accounts there is one project, and the header, which anybody
/// could have sent, is not read.
pub fn caller(delivery: &Delivery, tenancy: Tenancy) -> Result<Caller, UnknownCaller> {
    #[derive(Deserialize)]
    struct Info {
        user: Option<String>,
    }
    let unknown = || UnknownCaller { subject: delivery.subject.clone() };
    let project = tenancy.project_in(&delivery.subject).ok_or_else(unknown)?;
    let key_id = match tenancy {
        Tenancy::Single => None,
        Tenancy::Projects => delivery
            .headers
            .get(REQUEST_INFO)
            .and_then(|text| serde_json::from_str::<Info>(text).ok())
            .and_then(|info| info.user)
            .filter(|user| !user.is_empty() && user.len() <= KEY_ID_MAX && user != ANONYMOUS),
    };
    Ok(Caller { project, key_id })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::headers::Headers;

    fn delivery(subject: &str, info: &str) -> Delivery {
        let headers = Headers::new().with(REQUEST_INFO, info);
        let payload = Bytes::new();
        Delivery { subject: subject.to_owned(), reply: None, headers, payload, status: None, description: None }
    }

    #[test]
    fn the_server_names_project_and_key() {
        let found = caller(&delivery("llm.acme.request", r#"{"acc":"AX","user":"key-1"}"#), Tenancy::Projects).unwrap();
        assert_eq!((found.project.as_str(), found.key_id.as_deref()), ("acme", Some("key-1")));
    }

    #[test]
    fn without_accounts_the_header_is_not_believed() {
        let found = caller(&delivery("llm.request", r#"{"user":"key-1"}"#), Tenancy::Single).unwrap();
        assert_eq!((found.project.as_str(), found.key_id), ("default", None));
    }

    #[test]
    fn a_subject_without_a_project_is_nobody() {
        assert!(caller(&delivery("llm.request", "{}"), Tenancy::Projects).is_err());
        let broken = caller(&delivery("llm.acme.request", "{not json"), Tenancy::Projects).unwrap();
        assert_eq!(broken.key_id, None);
    }
}
