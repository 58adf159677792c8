//! What every change says about itself, and how lists and moments are written on the command line.

use clap::Args;
use farebox_admin::v1 as admin;
use farebox_types::{Clock, Span, SystemClock, Timestamp};
use jiff::tz::TimeZone;

use crate::agent::{Failure, Moment};

/// Said with every change.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WriteArgs {
    /// Why, for the record of changes
    #[arg(long, value_name = "TEXT", default_value = "", help_heading = "Change")]
    reason: String,
    /// The same id again changes nothing and has the same answer
    #[arg(long, value_name = "ID", default_value = "", help_heading = "Change")]
    request_id: String,
    /// Change only what still has this revision
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Change")]
    revision: u64,
}

impl WriteArgs {
    pub(crate) fn message(&self) -> Option<admin::Write> {
        self.at(0)
    }

    /// Of what was just read at `revision`: nobody else's change in between is lost.
    pub(crate) fn at(&self, revision: u64) -> Option<admin::Write> {
        Some(admin::Write {
            request_id: self.request_id.clone(),
            revision: if self.revision == 0 { revision } else { self.revision },
            reason: self.reason.clone(),
        })
    }
}

/// Replaces a list by what was given; a single `-` empties it.
pub(crate) fn replace(list: &mut Vec<String>, given: Vec<String>) {
    if given.is_empty() {
        return;
    }
    *list = given.into_iter().filter(|item| item != "-").collect();
}

/// Pairs `NAME=VALUE`, taken over one by one; an empty value removes its name.
pub(crate) fn merge<'a>(
    map: &mut std::collections::BTreeMap<String, String>,
    given: impl IntoIterator<Item = &'a (String, String)>,
) {
    for (name, value) in given {
        if value.is_empty() {
            map.remove(name);
        } else {
            map.insert(name.clone(), value.clone());
        }
    }
}

/// `NAME=VALUE`
pub(crate) fn pair(given: &str) -> Result<(String, String), String> {
    let (name, value) = given.split_once('=').ok_or_else(|| format!("`{given}` is no NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A time to come: a span from now, or a date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Until(Moment);

impl std::str::FromStr for Until {
    type Err = String;

    fn from_str(given: &str) -> Result<Until, String> {
        given.parse().map(Until)
    }
}

impl Until {
    pub(crate) fn unix_ms(self) -> Result<i64, Failure> {
        let now = SystemClock.now();
        match self.0 {
            Moment::Ago(span) => Ok(ahead(now, span)),
            other => other.resolve(now, &TimeZone::system()).map(Timestamp::millis).map_err(Failure::Usage),
        }
    }
}

fn ahead(now: Timestamp, span: Span) -> i64 {
    now.millis().saturating_add(i64::try_from(span.millis()).unwrap_or(i64::MAX))
}

/// Where a thing is kept: what the config file says has no revision.
pub(crate) fn revision(number: u64) -> String {
    if number == 0 { "config".to_owned() } else { number.to_string() }
}

/// A moment for people; nothing where there is none.
pub(crate) fn shown(unix_ms: i64) -> String {
    if unix_ms == 0 {
        String::new()
    } else {
        crate::agent::wall(Timestamp(unix_ms), "%Y-%m-%d %H:%M", &TimeZone::system())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_replaced_and_emptied() {
        let mut list = vec!["a".to_owned()];
        replace(&mut list, Vec::new());
        assert_eq!(list, ["a"]);
        replace(&mut list, vec!["b".to_owned(), "c".to_owned()]);
        assert_eq!(list, ["b", "c"]);
        replace(&mut list, vec!["-".to_owned()]);
        assert!(list.is_empty());
    }

    #[test]
    fn a_span_lies_ahead() {
        assert_eq!(ahead(Timestamp(1_000), Span::from_secs(2)), 3_000);
        assert!("2026-12-01".parse::<Until>().is_ok());
        assert!("soon".parse::<Until>().is_err());
    }
}
