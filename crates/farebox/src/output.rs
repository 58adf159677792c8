//! What a person reads.

/// One line for a person, on standard error: standard output is for results.
#[expect(clippy::print_stderr, reason = "the command line talks to a person")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
