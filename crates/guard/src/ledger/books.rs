//! What was spent by project and UTC day of admission: the same sums as over the rows.

use std::collections::{BTreeMap, HashMap};

use farebox_proto::v1;
use farebox_types::{Money, Timestamp};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Day {
    calls: u64,
    cost: Money,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Books {
    /// By project, and days since the Unix epoch.
    days: HashMap<String, BTreeMap<i64, Day>>,
}

impl Books {
    /// One attempt of a call admitted at `admitted` has ended.
    pub(crate) fn add(&mut self, project: &str, admitted: Timestamp, cost: Money) {
        self.enter(project, admitted.millis().div_euclid(DAY_MS), 1, cost);
    }

    pub(crate) fn restore(&mut self, day: &v1::BooksDay) {
        if let Ok(date) = day.day.parse::<jiff::civil::Date>()
            && let Ok(begin) = date.to_zoned(jiff::tz::TimeZone::UTC)
        {
            let number = begin.timestamp().as_millisecond().div_euclid(DAY_MS);
            self.enter(&day.project, number, day.calls, v1::Money::of(&day.cost));
        }
    }

    fn enter(&mut self, project: &str, day: i64, calls: u64, cost: Money) {
        if !self.days.contains_key(project) {
            self.days.insert(project.to_owned(), BTreeMap::new());
        }
        let days = self.days.get_mut(project).expect("it was inserted if it was missing");
        let day = days.entry(day).or_default();
        day.calls += calls;
        day.cost += cost;
    }

    pub(crate) fn forget(&mut self, now: Timestamp, keep: u32) {
        let first = now.millis().div_euclid(DAY_MS) - i64::from(keep);
        self.days.retain(|_, days| {
            *days = days.split_off(&first);
            !days.is_empty()
        });
    }

    pub(crate) fn to_messages(&self) -> impl Iterator<Item = v1::BooksDay> {
        self.days.iter().flat_map(|(project, days)| {
            days.iter().map(|(number, day)| {
                let begin = jiff::Timestamp::from_millisecond(number * DAY_MS).unwrap_or_default();
                v1::BooksDay {
                    project: project.clone(),
                    day: begin.to_zoned(jiff::tz::TimeZone::UTC).date().to_string(),
                    calls: day.calls,
                    cost: Some(day.cost.into()),
                }
            })
        })
    }
}
