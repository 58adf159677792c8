//! What a client is told when something does not work: a gRPC status with details of `google.rpc`.

use std::{collections::HashMap, time::Duration};

use farebox_bus::{CallError, StreamError};
use farebox_directory::Stale;
use farebox_types::{ErrorKind, Fault};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of all reasons.
pub const DOMAIN: &str = "farebox";
/// When to try again where nobody knows better.
const RETRY: Duration = Duration::from_secs(1);

/// Why a request was not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: ErrorKind,
    /// Where the kind alone says too little.
    code: Option<Code>,
    message: String,
    details: Vec<Detail>,
}

#[derive(Debug)]
enum Detail {
    Field {
        path: String,
        message: String,
    },
    Resource {
        kind: &'static str,
        name: String,
    },
    /// What stands in the way of a change.
    Precondition {
        kind: &'static str,
        subject: String,
        message: String,
    },
    RetryAfter(Duration),
}

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Refusal {
        Refusal { kind, code: None, message: message.into(), details: Vec::new() }
    }

    fn with(mut self, detail: Detail) -> Refusal {
        self.details.push(detail);
        self
    }

    /// One field of the request is wrong.
    pub(crate) fn field(path: &str, message: impl Into<String>) -> Refusal {
        Refusal::fields(vec![(path.to_owned(), message.into())])
    }

    /// Fields of the request are wrong.
    pub(crate) fn fields(wrong: Vec<(String, String)>) -> Refusal {
        let said: Vec<String> = wrong.iter().map(|(path, message)| format!("{path}: {message}")).collect();
        let refusal = Refusal::new(ErrorKind::BadRequest, said.join("; "));
        wrong.into_iter().fold(refusal, |refusal, (path, message)| refusal.with(Detail::Field { path, message }))
    }

    pub(crate) fn not_found(kind: &'static str, name: &str) -> Refusal {
        Refusal::new(ErrorKind::NotFound, format!("there is no {kind} `{name}`"))
            .with(Detail::Resource { kind, name: name.to_owned() })
    }

    pub(crate) fn exists(kind: &'static str, name: &str) -> Refusal {
        Refusal::new(
            ErrorKind::Conflict,
            format!("there is a {kind} `{name}` already: update it, or choose another name"),
        )
        .with(Detail::Resource { kind, name: name.to_owned() })
    }

    /// The request id stands for another request.
    pub(crate) fn other_request(request_id: &str) -> Refusal {
        let message = format!("the request id `{request_id}` was used before for another request: choose a new one");
        Refusal::new(ErrorKind::Conflict, message)
            .with(Detail::Resource { kind: "request", name: request_id.to_owned() })
    }

    /// Somebody changed it meanwhile.
    pub(crate) fn revision(kind: &'static str, name: &str, wanted: u64, present: u64) -> Refusal {
        let message =
            format!("the {kind} `{name}` has revision {present}, not {wanted}: read it again, then change it");
        let subject = format!("{kind}/{name}");
        Refusal { code: Some(Code::Aborted), ..Refusal::new(ErrorKind::Conflict, message.clone()) }
            .with(Detail::Precondition { kind: "REVISION", subject, message })
    }

    /// Other things stand in the way of the change.
    pub(crate) fn in_the_way(kind: &'static str, obstacles: Vec<(String, String)>) -> Refusal {
        let said: Vec<String> = obstacles.iter().map(|(subject, message)| format!("{subject}: {message}")).collect();
        let refusal =
            Refusal { code: Some(Code::FailedPrecondition), ..Refusal::new(ErrorKind::Conflict, said.join("; ")) };
        obstacles
            .into_iter()
            .fold(refusal, |refusal, (subject, message)| refusal.with(Detail::Precondition { kind, subject, message }))
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        let refusal = Refusal::new(fault.kind, fault.message);
        match fault.retry_after {
            Some(after) => refusal.with(Detail::RetryAfter(after)),
            None => refusal,
        }
    }
}

impl From<Stale> for Refusal {
    fn from(stale: Stale) -> Refusal {
        Refusal::new(ErrorKind::Unavailable, stale.to_string())
    }
}

impl From<StreamError> for Refusal {
    fn from(error: StreamError) -> Refusal {
        tracing::warn!(%error, "a stored thing cannot be read");
        Refusal::new(error.kind(), error.to_string())
    }
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Refusal {
        let kind = match error.kind() {
            // The deadline that passed was the server's own.
            ErrorKind::DeadlineExceeded => ErrorKind::Unavailable,
            kind => kind,
        };
        Refusal::new(kind, error.to_string())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let Refusal { kind, code, message, details: given } = refusal;
        let mut details = ErrorDetails::new();
        details.set_error_info(kind.as_str().to_uppercase(), DOMAIN, HashMap::new());
        if kind.is_retryable() {
            details.set_retry_info(Some(RETRY));
        }
        for detail in given {
            match detail {
                Detail::Field { path, message } => details.add_bad_request_violation(path, message),
                Detail::Resource { kind, name } => details.set_resource_info(kind, name, "", message.clone()),
                Detail::Precondition { kind, subject, message } => {
                    details.add_precondition_failure_violation(kind, subject, message)
                }
                Detail::RetryAfter(after) => details.set_retry_info(Some(after)),
            };
        }
        Status::with_error_details(code.unwrap_or(Code::from_i32(kind.grpc_code())), message, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code_reason_and_domain() {
        for kind in ErrorKind::ALL {
            let status = Status::from(Refusal::new(kind, "why"));
            assert_eq!(status.code(), Code::from_i32(kind.grpc_code()));
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.to_lowercase().as_str(), info.domain.as_str()), (kind.as_str(), DOMAIN));
            assert_eq!(details.retry_info().is_some(), kind.is_retryable(), "{kind}");
        }
    }

    #[test]
    fn wrong_fields_are_named_one_by_one() {
        let wrong = vec![("key.project".to_owned(), "unknown".to_owned()), ("key.name".to_owned(), "empty".to_owned())];
        let status = Status::from(Refusal::fields(wrong));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let fields: Vec<&str> =
            details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["key.project", "key.name"]);
        assert!(status.message().contains("key.project: unknown"));
    }

    #[test]
    fn a_changed_revision_is_no_duplicate() {
        let status = Status::from(Refusal::revision("budget", "daily", 3, 5));
        assert_eq!(status.code(), Code::Aborted);
        let details = status.get_error_details();
        assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "budget/daily");
    }
}
