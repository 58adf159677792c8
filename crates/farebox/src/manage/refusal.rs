//! The API's refusals, for people.

use farebox_types::{ErrorKind, Fault};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::agent::Failure;

/// With what the details say: which field is wrong, when to try again.
pub(crate) fn failure_of(status: Status) -> Failure {
    let details = status.get_error_details();
    let named = details
        .error_info()
        .and_then(|info| ErrorKind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(&info.reason)));
    let kind = named.unwrap_or_else(|| kind_of(status.code()));
    let mut message = status.message().to_owned();
    if let Some(bad) = details.bad_request() {
        for field in &bad.field_violations {
            if !message.contains(&field.description) {
                message.push_str(&format!("\n  {}: {}", field.field, field.description));
            }
        }
    }
    let mut fault = Fault::new(kind, message);
    if let Some(after) = details.retry_info().and_then(|info| info.retry_delay) {
        fault = fault.retry_after(after);
    }
    Failure::Refused(fault)
}

/// Of a status that does not come from farebox itself.
fn kind_of(code: Code) -> ErrorKind {
    let known = ErrorKind::ALL.into_iter().find(|kind| kind.grpc_code() == i32::from(code));
    known.unwrap_or(ErrorKind::Internal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_kind_is_read_however_it_is_written() {
        for kind in ErrorKind::ALL {
            for reason in [kind.as_str().to_owned(), kind.as_str().to_uppercase()] {
                let details = ErrorDetails::with_error_info(reason, "farebox", std::collections::HashMap::new());
                // Many kinds share a code: it alone does not tell.
                let Failure::Refused(fault) = failure_of(Status::with_error_details(Code::Unknown, "why", details))
                else {
                    panic!("not a refusal")
                };
                assert_eq!(fault.kind, kind);
            }
        }
    }

    #[test]
    fn a_wrong_field_is_named_and_a_pause_is_said() {
        let mut details = ErrorDetails::with_bad_request_violation("budget.period", "`fortnight` is no period");
        details.set_error_info("BAD_REQUEST", "farebox", std::collections::HashMap::<String, String>::new());
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::InvalidArgument, "the budget cannot be so", details);
        let Failure::Refused(fault) = failure_of(status) else { panic!("not a refusal") };
        assert_eq!(fault.kind, ErrorKind::BadRequest);
        assert_eq!(fault.message, "the budget cannot be so\n  budget.period: `fortnight` is no period");
        assert_eq!(fault.retry_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_status_of_somebody_else_has_the_kind_of_its_code() {
        let Failure::Refused(fault) = failure_of(Status::unavailable("gone")) else { panic!("not a refusal") };
        assert_eq!(fault.kind, ErrorKind::Unavailable);
    }
}
