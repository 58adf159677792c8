//! Why a command did not do what it was asked for, and with which code it ends.

use std::{io, process::ExitCode};

use farebox_client::Error;
use farebox_types::{ErrorKind, Fault, Span};

use super::output::Output;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// There is nothing to connect to.
    #[error("{0}")]
    Connect(String),
    /// farebox, or the provider behind it, said no.
    #[error("{0}")]
    Refused(Fault),
    /// The command was stopped.
    #[error("{0}")]
    Stopped(String),
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Refused(fault) => Failure::Refused(fault),
            Error::Connect(error) => Failure::Connect(error.to_string()),
            other => Failure::Refused(Fault::new(other.kind(), other.to_string())),
        }
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Connect(_) => 3,
            Failure::Refused(_) | Failure::Stopped(_) | Failure::Output(_) => 1,
        }
    }

    /// What to do next, where that is known.
    fn hint(&self) -> Option<String> {
        let Failure::Refused(fault) = self else { return None };
        match fault.retry_after {
            Some(after) => Some(format!("try again in {}", Span::from(after))),
            None if fault.kind == ErrorKind::OverBudget => None,
            None if fault.kind.is_retryable() => Some("the same call may succeed later".to_owned()),
            None => None,
        }
    }
}

/// Says how a command ended, and with which code the process ends. Whoever reads the output may stop reading: that is
/// no failure.
pub(crate) fn finish(ended: Result<(), Failure>, output: &mut Output) -> anyhow::Result<ExitCode> {
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(failure) => {
            output.note(&format!("error: {failure}"));
            if let Some(hint) = failure.hint() {
                output.note(&format!("hint: {hint}"));
            }
            Ok(ExitCode::from(failure.code()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::output::captured, *};

    fn said(failure: Failure) -> (String, ExitCode) {
        let (mut output, _, err) = captured::output();
        let code = finish(Err(failure), &mut output).unwrap();
        (err.text(), code)
    }

    #[test]
    fn a_refusal_says_when_to_try_again() {
        let fault = Fault::new(ErrorKind::RateLimited, "openai is busy").retry_after(Duration::from_millis(1_500));
        let (text, code) = said(Failure::Refused(fault));
        assert_eq!(text, "error: openai is busy\nhint: try again in 1500ms\n");
        assert_eq!(code, ExitCode::from(1));
    }

    #[test]
    fn each_failure_has_its_code() {
        for (failure, code) in [
            (Failure::Usage("x".into()), 2),
            (Failure::Connect("x".into()), 3),
            (Failure::Refused(Fault::new(ErrorKind::OverBudget, "x")), 1),
            (Failure::Stopped("x".into()), 1),
        ] {
            assert_eq!(said(failure), ("error: x\n".to_owned(), ExitCode::from(code)));
        }
    }

    #[test]
    fn a_reader_that_has_enough_is_no_failure() {
        let (text, code) = said(Failure::Output(io::ErrorKind::BrokenPipe.into()));
        assert_eq!((text.as_str(), code), ("", ExitCode::SUCCESS));
    }
}
