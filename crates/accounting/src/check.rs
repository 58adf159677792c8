//! The self-check: what the guard's ledger says was spent, against the rows.
//!
//! Guarantees: only what the ledger had decided at one of its positions is compared, once all its rows up to there are
//! stored, so that a difference is one; each is announced once by the process that finds it, and has the same message id
//! wherever it is found again.
//!
//! Not here: which side is right. Somebody has to look.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use farebox_bus::{Bus, CallError, Delivery, Headers, StreamError, Subscription, topology};
use farebox_clickhouse::Client;
use farebox_proto::{
    headers, json,
    subjects::{self, SHARD, Tenancy},
    v1::{self, alert},
};
use farebox_types::{Clock, ErrorKind, Fault, Money, Project, Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use crate::{options::Options, service::Deps};

/// The rule that differences are announced under.
const RULE: &str = "books";
/// Between two looks at how far rows have come.
const PAUSE: Duration = Duration::from_millis(100);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Why it is not known whether the books agree.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    #[error("no guard says what its books hold: {0}")]
    Guard(#[from] CallError),
    #[error("the ledger stream cannot be read: {0}")]
    Stream(#[from] StreamError),
    #[error("ClickHouse does not say what its rows hold: {0}")]
    ClickHouse(#[from] farebox_clickhouse::Error),
    #[error("rows of the ledger up to message {sequence} were not written in time: accounting is behind")]
    Behind { sequence: u64 },
}

/// Compares.
pub(crate) struct Check {
    bus: Bus,
    tenancy: Tenancy,
    clock: Arc<dyn Clock>,
    clickhouse: Client,
    options: Options,
    operators: Project,
    /// Differences that were announced.
    said: HashSet<String>,
}

/// Calls and cost of one day of a project.
type Days = BTreeMap<(String, String), (u64, Money)>;

impl Check {
    pub(crate) fn new(options: &Options, deps: &Deps) -> Check {
        Check {
            bus: deps.bus.clone(),
            tenancy: deps.tenancy,
            clock: deps.clock.clone(),
            clickhouse: deps.clickhouse.clone(),
            options: options.clone(),
            operators: deps.operators.clone(),
            said: HashSet::new(),
        }
    }

    /// Compares from time to time while this accountant writes, and whenever somebody asks.
    pub(crate) async fn serve(mut self, mut asked: Subscription, writes: watch::Receiver<bool>) {
        let every = self.options.check_interval.get().max(PAUSE);
        let mut tick = interval_at(Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => if *writes.borrow() {
                    self.check().await;
                },
                delivery = asked.next() => match delivery {
                    Some(delivery) => self.answer(&delivery).await,
                    None => return,
                },
            }
        }
    }

    async fn answer(&mut self, delivery: &Delivery) {
        let reply = self.check().await;
        let Some(to) = delivery.reply.as_ref().filter(|reply| subjects::may_answer_to(reply)) else { return };
        if let Err(error) = self.bus.publish_message(to, Headers::new(), &reply).await {
            tracing::debug!(%error, "an answer about the books was not sent");
        }
    }

    async fn check(&mut self) -> v1::BooksCheckReply {
        match self.compare().await {
            Ok(reply) => {
                for difference in &reply.differences {
                    self.announce(difference, reply.sequence).await;
                }
                tracing::debug!(sequence = reply.sequence, days = reply.days, "the books were compared");
                reply
            }
            Err(unknown) => {
                tracing::warn!(error = %unknown, "the books were not compared");
                let fault = Fault::new(ErrorKind::Unavailable, unknown.to_string());
                v1::BooksCheckReply { error: Some(fault.into()), ..Default::default() }
            }
        }
    }

    async fn compare(&self) -> Result<v1::BooksCheckReply, Unknown> {
        let within = self.options.check_patience.get();
        let ask = v1::BooksRequest { shard: SHARD };
        let books: v1::BooksReply = self.bus.call(&subjects::books(SHARD), &ask, within).await?;
        self.written(books.sequence).await?;
        let incarnation = self.bus.stream_info(topology::LEDGER).await?.incarnation;
        let from = first_day(self.clock.now(), self.options.check_days);
        let rows = self.clickhouse.spent_by_day(incarnation, books.sequence, from.millis()).await?;
        let rows: Days = rows.into_iter().map(|day| ((day.project, day.day), (day.calls, day.cost))).collect();
        let first = date(from);
        let recent = books.days.into_iter().filter(|day| day.day >= first);
        let ledger: Days = recent.map(|day| ((day.project, day.day), (day.calls, v1::Money::of(&day.cost)))).collect();
        let differences = differences(&ledger, &rows);
        let days = u64::try_from(ledger.len()).unwrap_or(u64::MAX);
        Ok(v1::BooksCheckReply { sequence: books.sequence, days, differences, error: None })
    }

    /// Waits until all rows of the ledger up to there are in ClickHouse.
    async fn written(&self, sequence: u64) -> Result<(), Unknown> {
        let until = Instant::now() + self.options.check_patience.get();
        while self.bus.acknowledged(topology::LEDGER).await?.unwrap_or_default() < sequence {
            if Instant::now() >= until {
                return Err(Unknown::Behind { sequence });
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn announce(&mut self, difference: &v1::BooksDifference, sequence: u64) {
        let v1::BooksDifference { project, day, ledger_calls, row_calls, .. } = difference;
        let (ledger, rows) = (v1::Money::of(&difference.ledger_cost), v1::Money::of(&difference.row_cost));
        let message = format!(
            "the ledger has {ledger_calls} calls of {project} for ${ledger} on {day}, ClickHouse {row_calls} for ${rows}"
        );
        // What goes on growing on both sides stays the same difference.
        let calls = i128::from(*ledger_calls) - i128::from(*row_calls);
        if !self.said.insert(format!("{project} {day} {calls} {}", ledger - rows)) {
            return;
        }
        tracing::error!(sequence, "{message}");
        let alert = v1::Alert {
            kind: alert::Kind::Books.into(),
            rule: RULE.to_owned(),
            subject: project.clone(),
            window: day.clone(),
            at_unix_ms: self.clock.now().millis(),
            message,
            ..Default::default()
        };
        let id = format!("alert/{RULE}/{project}/{day}/{calls}/{}", ledger - rows);
        let head = Headers::new().with("Nats-Msg-Id", &id).with(headers::CONTENT_TYPE, headers::JSON);
        let subject = self.tenancy.alert(&self.operators, RULE);
        if let Err(error) = self.bus.publish(&subject, head, json::alert(&alert).into()).await {
            tracing::warn!(%error, "an alert about the books was not published");
        }
    }
}

/// Midnight, UTC, of the first of so many days.
fn first_day(now: Timestamp, days: u32) -> Timestamp {
    let today = now.millis().div_euclid(DAY_MS);
    Timestamp((today + 1 - i64::from(days.max(1))).max(0) * DAY_MS)
}

fn date(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    instant.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}

fn differences(ledger: &Days, rows: &Days) -> Vec<v1::BooksDifference> {
    let all: BTreeMap<_, ()> = ledger.keys().chain(rows.keys()).map(|day| (day, ())).collect();
    let of = |days: &Days, day| days.get(day).copied().unwrap_or_default();
    let different = all.into_keys().filter(|day| of(ledger, day) != of(rows, day));
    different
        .map(|key| {
            let ((ledger_calls, ledger_cost), (row_calls, row_cost)) = (of(ledger, key), of(rows, key));
            v1::BooksDifference {
                project: key.0.clone(),
                day: key.1.clone(),
                ledger_calls,
                ledger_cost: Some(ledger_cost.into()),
                row_calls,
                row_cost: Some(row_cost.into()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_a_day_on_which_one_side_has_more() {
        let day = |project: &str, calls, cost: u32| {
            ((project.to_owned(), "2026-11-21".to_owned()), (calls, Money::usd(i64::from(cost))))
        };
        let ledger: Days = [day("same", 2, 3), day("more", 2, 3), day("gone", 1, 0)].into();
        let rows: Days = [day("same", 2, 3), day("more", 2, 4), day("new", 1, 1)].into();
        let found: Vec<String> = differences(&ledger, &rows).into_iter().map(|one| one.project).collect();
        assert_eq!(found, ["gone", "more", "new"]);
        assert_eq!(differences(&ledger, &ledger), []);
    }

    #[test]
    fn today_is_the_last_day() {
        let noon = Timestamp(1_795_262_400_000);
        assert_eq!((date(first_day(noon, 1)), date(first_day(noon, 7))), ("2026-11-21".into(), "2026-11-15".into()));
    }
}
