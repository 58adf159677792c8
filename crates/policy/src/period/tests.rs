use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn calendar(name: &str) -> Period {
    name.parse().unwrap()
}

#[test]
fn a_moment_has_its_window_and_the_window_its_end() {
    for (period, zone, moment, window, ends) in [
        ("day", "", "2026-11-21T23:59:59.999Z", "2026-11-21", "2026-11-22T00:00:00Z"),
        ("day", "", "2026-11-22T00:00:00Z", "2026-11-22", "2026-11-23T00:00:00Z"),
        ("day", "Europe/Berlin", "2026-11-21T23:30:00Z", "2026-11-22", "2026-11-22T23:00:00Z"),
        // Days of 23 and 25 hours.
        ("day", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29", "2026-03-29T22:00:00Z"),
        ("day", "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25", "2026-10-25T23:00:00Z"),
        // The same hour twice, and each is its own.
        ("hour", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T02+02:00", "2026-10-25T01:00:00Z"),
        ("hour", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25T02+01:00", "2026-10-25T02:00:00Z"),
        // The clock is set back by half an hour, in the middle of none: 02:00 is 01:30 again.
        ("hour", "Australia/Lord_Howe", "2026-04-04T14:30:00Z", "2026-04-05T01+11:00", "2026-04-04T15:00:00Z"),
        ("hour", "Australia/Lord_Howe", "2026-04-04T15:10:00Z", "2026-04-05T01+10:30", "2026-04-04T15:30:00Z"),
        // And forward: 02:00 is 02:30.
        ("hour", "Australia/Lord_Howe", "2026-10-03T15:40:00Z", "2026-10-04T02+11:00", "2026-10-03T16:00:00Z"),
        ("hour", "Asia/Kathmandu", "2026-11-21T10:20:00Z", "2026-11-21T16+05:45", "2026-11-21T11:15:00Z"),
        ("minute", "", "2026-11-21T10:20:30Z", "2026-11-21T10:20+00:00", "2026-11-21T10:21:00Z"),
        // Midnight does not exist: the day begins at one.
        ("day", "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-23", "2026-04-23T22:00:00Z"),
        ("week", "", "2026-12-31T12:00:00Z", "2026-W53", "2027-01-04T00:00:00Z"),
        ("week", "", "2027-01-03T23:59:59Z", "2026-W53", "2027-01-04T00:00:00Z"),
        ("week", "", "2027-01-04T00:00:00Z", "2027-W01", "2027-01-11T00:00:00Z"),
        ("month", "", "2028-02-29T23:59:59Z", "2028-02", "2028-03-01T00:00:00Z"),
        ("month", "America/New_York", "2026-12-01T04:59:59Z", "2026-11", "2026-12-01T05:00:00Z"),
        // A day that never was: the date line moved.
        ("day", "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29", "2011-12-30T10:00:00Z"),
        ("day", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31", "2011-12-31T10:00:00Z"),
    ] {
        let (period, zone, moment) = (calendar(period), Zone::parse(zone).unwrap(), at(moment));
        assert_eq!(period.window(&zone, moment), window, "{period} {zone:?}");
        assert_eq!(period.ends(&zone, moment), Some(at(ends)), "{period} {zone:?} {window}");
    }
}

#[test]
fn what_has_one_window_never_ends() {
    for period in [Period::Lifetime, Period::Total] {
        assert_eq!(period.oldest_window(&Zone::default(), Timestamp(0)), "");
        assert_eq!(period.ends(&Zone::default(), Timestamp(0)), None);
    }
}

#[test]
fn a_slice_counts_until_all_of_it_has_left_the_span() {
    let (period, utc) = (calendar("rolling 1h"), Zone::default());
    let spent = period.window(&utc, at("2026-11-21T10:00:30Z"));
    assert_eq!(spent, "2026-11-21T10:00:00Z/1m");
    let counts = |moment| period.oldest_window(&utc, at(moment)) <= spent;
    assert!(counts("2026-11-21T10:00:30Z") && counts("2026-11-21T11:00:58.998Z"));
    assert!(!counts("2026-11-21T11:00:59.999Z"));
    assert_eq!(period.ends(&utc, at("2026-11-21T11:00:30Z")), Some(at("2026-11-21T11:00:59.999Z")));
    // Another span has windows of its own.
    assert_ne!(calendar("rolling 2h").window(&utc, at("2026-11-21T10:00:30Z")), spent);
}

#[test]
fn periods_and_zones_read_as_they_are_written() {
    for text in ["lifetime", "total", "minute", "hour", "day", "week", "month", "rolling 24h", "rolling 90m"] {
        assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
    }
    for text in ["", "daily", "rolling", "rolling week", "24h"] {
        assert!(text.parse::<Period>().unwrap_err().to_string().contains("rolling 24h"), "{text}");
    }
    assert_eq!(Zone::parse("Europe/Berlin").unwrap().as_str(), "Europe/Berlin");
    assert!(Zone::parse("Europe/Atlantis").unwrap_err().to_string().contains("Europe/Berlin"));
}

const ZONES: [&str; 11] = [
    "",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "America/Havana",
    "Atlantic/Azores",
    "Pacific/Chatham",
    "Africa/Casablanca",
];

fn zones() -> impl Strategy<Value = Zone> {
    proptest::sample::select(&ZONES[..]).prop_map(|name| Zone::parse(name).unwrap())
}

fn calendars() -> impl Strategy<Value = Period> {
    proptest::sample::select(&["minute", "hour", "day", "week", "month"][..]).prop_map(calendar)
}

/// 2015 to 2060.
fn moments() -> impl Strategy<Value = Timestamp> {
    (1_420_000_000_000..2_840_000_000_000_i64).prop_map(Timestamp)
}

proptest! {
    /// Windows follow each other without a gap: one holds until its end, and not at its end.
    #[test]
    fn a_window_holds_up_to_its_end(period in calendars(), zone in zones(), moment in moments(), share in 0.0..1.0_f64) {
        let window = period.window(&zone, moment);
        let end = period.ends(&zone, moment).unwrap();
        prop_assert!(end > moment);
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any moment in between")]
        let between = Timestamp(moment.0 + ((end.0 - moment.0) as f64 * share) as i64);
        prop_assert_eq!(period.window(&zone, between), window.clone());
        prop_assert_eq!(period.window(&zone, Timestamp(end.0 - 1)), window.clone());
        prop_assert_ne!(period.window(&zone, end), window);
    }

    /// A rolling sum never misses what was spent in the span, and holds nothing that is a slice older.
    #[test]
    fn a_rolling_sum_errs_high(minutes in 1..50_000_u64, extra in 0..60_000_u64, moment in moments(), ago in 0.0..2.0_f64) {
        let span = Span::from_millis(minutes * 60_000 + extra);
        let (period, utc) = (Period::Rolling(span), Zone::default());
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any moment before")]
        let ago = (span.millis() as f64 * ago) as i64;
        let length = i64::try_from(span.millis()).unwrap();
        let oldest = period.oldest_window(&utc, moment);
        let spent = period.window(&utc, Timestamp(moment.0 - ago));
        prop_assert!(spent <= period.window(&utc, moment));
        let counted = oldest <= spent;
        prop_assert!(counted || ago >= length);
        prop_assert!(!counted || ago < length + slice(span));
        // Nothing leaves before the end, and the oldest does then.
        let end = period.ends(&utc, moment).unwrap();
        prop_assert_eq!(&period.oldest_window(&utc, Timestamp(end.0 - 1)), &oldest);
        prop_assert!(period.oldest_window(&utc, end) > oldest);
    }
}
