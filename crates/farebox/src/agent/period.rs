//! Points in time as a person names them.

use std::str::FromStr;

use farebox_types::{Span, Timestamp};
use jiff::{civil::DateTime, tz::TimeZone};

/// `24h` ago, or a date, or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Ago(Span),
    At(Timestamp),
    /// Without an offset: as the clock on the wall showed it.
    Local(DateTime),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(given: &str) -> Result<Moment, String> {
        if let Ok(span) = given.parse() {
            return Ok(Moment::Ago(span));
        }
        if let Ok(at) = given.parse::<jiff::Timestamp>() {
            return Ok(Moment::At(Timestamp(at.as_millisecond())));
        }
        given.parse().map(Moment::Local).map_err(|_| {
            format!("`{given}` is no point in time: write how long ago, like 24h, or a date or time, like 2026-11-21 or 2026-11-21T08:30:00Z")
        })
    }
}

impl Moment {
    pub(crate) fn resolve(self, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
        match self {
            Moment::Ago(span) => Ok(now.before(span.get())),
            Moment::At(at) => Ok(at),
            Moment::Local(at) => {
                let zoned =
                    at.to_zoned(zone.clone()).map_err(|error| format!("`{at}` is no point in time: {error}"))?;
                Ok(Timestamp(zoned.timestamp().as_millisecond()))
            }
        }
    }
}

/// RFC 3339, UTC.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => at.to_string(),
        Err(_) => at.0.to_string(),
    }
}

/// A time of the wall clock in `zone`; `format` as strftime has it.
pub(crate) fn wall(at: Timestamp, format: &str, zone: &TimeZone) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => at.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_name_points_in_time() {
        let now = Timestamp(1_795_249_800_000);
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        for (given, expected) in [
            ("24h", "2026-11-20T08:30:00Z"),
            ("1h30m", "2026-11-21T07:00:00Z"),
            ("2026-11-21T08:30:00Z", "2026-11-21T08:30:00Z"),
            ("2026-11-21T08:30:00+02:00", "2026-11-21T06:30:00Z"),
            ("2026-11-21T08:30:00", "2026-11-21T07:30:00Z"),
            ("2026-11-21 08:30", "2026-11-21T07:30:00Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
        ] {
            let moment: Moment = given.parse().unwrap();
            assert_eq!(rfc3339(moment.resolve(now, &zone).unwrap()), expected, "{given}");
        }
        for bad in ["yesterday", "", "2026-13-01", "24"] {
            assert!(bad.parse::<Moment>().unwrap_err().contains("no point in time"), "{bad}");
        }
    }
}
