//! Times of the day, in UTC.

use farebox_types::Timestamp;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// Some hours of some weekdays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Milliseconds of the day: the first is in it, the second is not.
    spans: Vec<(i64, i64)>,
    /// 1 is Monday; empty: every day.
    weekdays: Vec<u8>,
}

impl Window {
    /// `None`: a text is no span of hours, or a number is no weekday.
    pub(crate) fn read(hours: &[String], weekdays: &[u8]) -> Option<Window> {
        let mut spans = Vec::new();
        for text in hours {
            let (start, end) = text.split_once('-')?;
            let (start, end) = (time(start)?, time(end)?);
            if start == end || start == DAY {
                return None;
            }
            if start < end {
                spans.push((start, end));
            } else {
                spans.extend([(start, DAY), (0, end)]);
            }
        }
        let good = !spans.is_empty() && weekdays.iter().all(|day| (1..=7).contains(day));
        good.then(|| Window { spans, weekdays: weekdays.to_vec() })
    }

    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        let time = at.millis().rem_euclid(DAY);
        // 1970-01-01 was a Thursday.
        let weekday = (at.millis().div_euclid(DAY) + 3).rem_euclid(7) + 1;
        let on_the_day = self.weekdays.is_empty() || self.weekdays.iter().any(|day| i64::from(*day) == weekday);
        on_the_day && self.spans.iter().any(|(start, end)| *start <= time && time < *end)
    }
}

/// `16:30`, in milliseconds since midnight; `24:00` is the end of the day.
fn time(text: &str) -> Option<i64> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().map(i64::from);
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let time = (hours * 60 + minutes) * MINUTE;
    (minutes < 60 && time <= DAY).then_some(time)
}
