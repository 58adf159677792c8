//! How long a budget lasts, and which of its windows a moment falls into. Nothing is ever reset: the next window is
//! another window.

use std::{fmt, str::FromStr};

use farebox_types::{Span, Timestamp};
use jiff::{
    Zoned,
    civil::{Date, Weekday},
    tz::{TimeZone, TimeZoneDatabase},
};

/// A calendar period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calendar {
    Minute,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
}

/// How long a budget lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// As long as what it counts by lives: a task, a session.
    Lifetime,
    /// For ever.
    Total,
    /// In the budget's time zone.
    Calendar(Calendar),
    /// The span that ends now.
    Rolling(Span),
}

/// Where calendar periods begin. Known to the binary itself, so that it means the same on every machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    /// As it was written; empty: UTC.
    name: String,
    rules: TimeZone,
}

/// A text that names no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time zone that is known here: write an IANA name such as Europe/Berlin, or leave it out for UTC")]
pub struct UnknownZone(pub String);

/// A text that is no period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no period: write lifetime, total, minute, hour, day, week, month, or a span such as `rolling 24h`")]
pub struct UnknownPeriod(pub String);

impl Zone {
    pub fn parse(name: &str) -> Result<Zone, UnknownZone> {
        if name.is_empty() {
            return Ok(Zone::default());
        }
        let rules = TimeZoneDatabase::bundled().get(name).map_err(|_| UnknownZone(name.chars().take(64).collect()))?;
        Ok(Zone { name: name.to_owned(), rules })
    }

    /// As it was written; empty: UTC.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    fn at(&self, at: Timestamp) -> Zoned {
        instant(at).to_zoned(self.rules.clone())
    }

    /// The first moment of a date that comes after `at`.
    fn start_of(&self, date: Date, at: Timestamp) -> Option<Timestamp> {
        let midnight = self.rules.to_ambiguous_timestamp(date.at(0, 0, 0, 0));
        let moments = [midnight.compatible(), midnight.later()];
        let mut moments = moments.into_iter().filter_map(|moment| Some(Timestamp(moment.ok()?.as_millisecond())));
        moments.find(|moment| *moment > at)
    }

    /// When the current stretch of `unit` milliseconds on the clock on the wall ends, be it by the clock being changed.
    fn end_of_stretch(&self, unit: i64, at: Timestamp) -> Timestamp {
        let now = instant(at);
        let offset = |at: jiff::Timestamp| i64::from(self.rules.to_offset(at).seconds()) * 1000;
        let end = Timestamp(at.millis() + unit - (at.millis() + offset(now)).rem_euclid(unit));
        let changes = self.rules.following(now).map(|change| change.timestamp());
        let changes = changes.take_while(|change| change.as_millisecond() < end.millis());
        changes
            .map(|change| (change, offset(change)))
            .find(|(_, then)| *then != offset(now))
            .map_or(end, |(change, _)| Timestamp(change.as_millisecond()))
    }
}

/// As it was written.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(given: &str) -> Result<Zone, UnknownZone> {
        Zone::parse(given)
    }
}

/// UTC
impl Default for Zone {
    fn default() -> Zone {
        Zone { name: String::new(), rules: TimeZone::UTC }
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.name.is_empty() { "UTC" } else { &self.name })
    }
}

impl Period {
    /// In how many slices a rolling period is counted. A slice counts until all of it has left the span, so that never
    /// less is counted than was spent in the span, and at most one slice more.
    pub const SLICES: u64 = 60;
    /// The shortest rolling period.
    pub const ROLLING_MIN: Span = Span::from_secs(60);

    /// The window that a moment falls into: a pure function of the rule and the time, so that going back in time goes
    /// back to the windows of that time. Empty for periods that have only one.
    pub fn window(&self, zone: &Zone, at: Timestamp) -> String {
        match self {
            Period::Lifetime | Period::Total => String::new(),
            Period::Calendar(calendar) => {
                let local = zone.at(at);
                match calendar {
                    // With the offset: where the clock is set back, the same hour comes twice.
                    Calendar::Minute => local.strftime("%Y-%m-%dT%H:%M%:z").to_string(),
                    Calendar::Hour => local.strftime("%Y-%m-%dT%H%:z").to_string(),
                    Calendar::Day => local.date().to_string(),
                    Calendar::Week => local.strftime("%G-W%V").to_string(),
                    Calendar::Month => local.strftime("%Y-%m").to_string(),
                }
            }
            Period::Rolling(span) => slice_name(*span, at.millis().div_euclid(slice(*span))),
        }
    }

    /// The oldest window whose spend counts at a moment. Of a rolling period it is the slice that the span begins in, and
    /// all later ones, by name, count with it; other periods have one window at a time.
    pub fn oldest_window(&self, zone: &Zone, at: Timestamp) -> String {
        match self {
            Period::Rolling(span) => slice_name(*span, oldest_slice(*span, at)),
            _ => self.window(zone, at),
        }
    }

    /// When what counts changes by itself: a window ends, or the oldest slice of a rolling period leaves it.
    pub fn ends(&self, zone: &Zone, at: Timestamp) -> Option<Timestamp> {
        let calendar = match self {
            Period::Lifetime | Period::Total => return None,
            Period::Rolling(span) => {
                let slice = slice(*span);
                let last = (oldest_slice(*span, at) + 1) * slice - 1;
                return Some(Timestamp(last).after(span.get()));
            }
            Period::Calendar(calendar) => calendar,
        };
        let today = zone.at(at).date();
        let next = match calendar {
            Calendar::Minute => return Some(zone.end_of_stretch(60_000, at)),
            Calendar::Hour => return Some(zone.end_of_stretch(3_600_000, at)),
            Calendar::Day => today.tomorrow(),
            Calendar::Week => today.nth_weekday(1, Weekday::Monday),
            Calendar::Month => today.last_of_month().tomorrow(),
        };
        zone.start_of(next.ok()?, at)
    }
}

/// As the config says it.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Period::Lifetime => "lifetime",
            Period::Total => "total",
            Period::Calendar(Calendar::Minute) => "minute",
            Period::Calendar(Calendar::Hour) => "hour",
            Period::Calendar(Calendar::Day) => "day",
            Period::Calendar(Calendar::Week) => "week",
            Period::Calendar(Calendar::Month) => "month",
            Period::Rolling(span) => return write!(f, "rolling {span}"),
        })
    }
}

impl FromStr for Period {
    type Err = UnknownPeriod;

    fn from_str(given: &str) -> Result<Period, UnknownPeriod> {
        let unknown = || UnknownPeriod(given.chars().take(64).collect());
        Ok(match given.trim() {
            "lifetime" => Period::Lifetime,
            "total" => Period::Total,
            "minute" => Period::Calendar(Calendar::Minute),
            "hour" => Period::Calendar(Calendar::Hour),
            "day" => Period::Calendar(Calendar::Day),
            "week" => Period::Calendar(Calendar::Week),
            "month" => Period::Calendar(Calendar::Month),
            text => {
                let span = text.strip_prefix("rolling ").ok_or_else(unknown)?;
                Period::Rolling(span.parse().map_err(|_| unknown())?)
            }
        })
    }
}

fn instant(at: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default()
}

/// Length of a slice in milliseconds.
fn slice(span: Span) -> i64 {
    i64::try_from(span.millis().div_ceil(Period::SLICES)).unwrap_or(i64::MAX).max(1)
}

/// The slice in which the first moment of the span lies: the span holds what is later than its length ago.
fn oldest_slice(span: Span, at: Timestamp) -> i64 {
    at.before(span.get()).millis().saturating_add(1).div_euclid(slice(span))
}

/// Begin and length, so that slices of another span are other windows.
fn slice_name(span: Span, index: i64) -> String {
    let slice = slice(span);
    format!("{}/{}", instant(Timestamp(index.saturating_mul(slice))), Span::from_millis(slice.unsigned_abs()))
}

#[cfg(test)]
mod tests;
