//! From ledger messages to rows, without I/O.

use std::collections::{BTreeMap, HashSet};

use farebox_clickhouse::{CallRow, Period, Position};
use farebox_proto::v1::{self, ledger_entry::Entry};
use farebox_types::{ErrorKind, Money, Outcome, Usage};
use uuid::Uuid;

/// The rows of one ledger message: one for each attempt that ended in it.
pub fn rows_of(batch: v1::LedgerBatch, incarnation: u64, sequence: u64) -> impl Iterator<Item = CallRow> {
    batch.entries.into_iter().zip(0..).filter_map(move |(entry, index)| {
        let fact = match entry.entry? {
            Entry::Ended(ended) => ended.fact?,
            Entry::Amended(amended) => amended.fact?,
            Entry::Reserved(_) | Entry::Released(_) | Entry::Alerted(_) => return None,
        };
        Some(CallRow { ledger_incarnation: incarnation, ledger_sequence: sequence, ledger_index: index, ..row(fact) })
    })
}

/// Without its place in the ledger. Total: an end that was recorded has a row, however odd its fact is.
fn row(fact: v1::CallFact) -> CallRow {
    let outcome = fact.outcome().known().map_or("", Outcome::as_str).to_owned();
    let error_kind = fact.error_kind().known().map_or("", ErrorKind::as_str).to_owned();
    let principal = fact.principal.unwrap_or_default();
    let labels = fact.labels.unwrap_or_default();
    let usage = fact.usage.map(Usage::from).unwrap_or_default();
    CallRow {
        call_id: uuid("call", &fact.call_id),
        request_id: fact.request_id,
        reservation_id: uuid("reservation", &fact.reservation_id),
        attempt: fact.attempt,
        project: principal.project,
        key_id: principal.key_id,
        actor: labels.actor,
        task_id: labels.task_id,
        session_id: labels.session_id,
        end_user: labels.end_user,
        tags: labels.tags,
        model: fact.model,
        provider: fact.provider,
        upstream_model: fact.upstream_model,
        served_model: fact.served_model,
        outcome,
        error_kind,
        input_tokens: usage.input,
        cache_read_tokens: usage.cache_read,
        cache_write_5m_tokens: usage.cache_write_5m,
        cache_write_1h_tokens: usage.cache_write_1h,
        output_tokens: usage.output,
        reasoning_tokens: usage.reasoning,
        audio_input_tokens: usage.audio_input,
        audio_output_tokens: usage.audio_output,
        image_input_tokens: usage.image_input,
        image_output_tokens: usage.image_output,
        cache_read_audio_tokens: usage.cache_read_audio,
        searches: usage.searches,
        cost: v1::Money::of(&fact.cost).picos(),
        bound: v1::Money::of(&fact.bound).picos(),
        estimated: fact.estimated,
        cost_reported: fact.cost_reported,
        service_tier: fact.service_tier,
        price_version: fact.price_version,
        started_at: fact.started_unix_ms.clamp(0, Period::END),
        ended_at: fact.ended_unix_ms.clamp(0, Period::END),
        latency_ms: fact.latency_ms,
        first_token_ms: fact.first_token_ms,
        stream: fact.stream,
        cached: fact.cached,
        job: fact.job,
        finish_reason: fact.finish_reason,
        trace_id: fact.trace_id,
        ..CallRow::default()
    }
}

fn uuid(what: &'static str, given: &str) -> Uuid {
    Uuid::parse_str(given).unwrap_or_else(|_| {
        tracing::error!(what, "a fact in the ledger has an id that is no UUID: its row gets the nil one");
        Uuid::nil()
    })
}

/// A row as the fact that it was made from.
pub fn call_fact(row: CallRow) -> v1::CallFact {
    let usage = Usage {
        input: row.input_tokens,
        cache_read: row.cache_read_tokens,
        cache_write_5m: row.cache_write_5m_tokens,
        cache_write_1h: row.cache_write_1h_tokens,
        output: row.output_tokens,
        reasoning: row.reasoning_tokens,
        audio_input: row.audio_input_tokens,
        audio_output: row.audio_output_tokens,
        image_input: row.image_input_tokens,
        image_output: row.image_output_tokens,
        cache_read_audio: row.cache_read_audio_tokens,
        searches: row.searches,
    };
    let outcome = row.outcome.parse::<Outcome>().map_or(v1::Outcome::Unspecified, v1::Outcome::from);
    let error_kind = row.error_kind.parse::<ErrorKind>().map_or(v1::ErrorKind::Unspecified, v1::ErrorKind::from);
    v1::CallFact {
        call_id: row.call_id.to_string(),
        request_id: row.request_id,
        reservation_id: row.reservation_id.to_string(),
        attempt: row.attempt,
        principal: Some(v1::Principal { project: row.project, key_id: row.key_id, ..Default::default() }),
        labels: Some(v1::Labels {
            actor: row.actor,
            task_id: row.task_id,
            session_id: row.session_id,
            end_user: row.end_user,
            tags: row.tags,
        }),
        model: row.model,
        provider: row.provider,
        upstream_model: row.upstream_model,
        served_model: row.served_model,
        outcome: outcome.into(),
        error_kind: error_kind.into(),
        usage: Some(usage.into()),
        cost: Some(Money::from_picos(row.cost).into()),
        bound: Some(Money::from_picos(row.bound).into()),
        estimated: row.estimated,
        price_version: row.price_version,
        started_unix_ms: row.started_at,
        ended_unix_ms: row.ended_at,
        latency_ms: row.latency_ms,
        first_token_ms: row.first_token_ms,
        stream: row.stream,
        cached: row.cached,
        job: row.job,
        finish_reason: row.finish_reason,
        trace_id: row.trace_id,
        service_tier: row.service_tier,
        cost_reported: row.cost_reported,
    }
}

/// The month of a time as ClickHouse's `toYYYYMM` has it in UTC: the partition of a row.
fn month(unix_ms: i64) -> i64 {
    // Days since 0000-03-01; a year that begins in March has its leap day at the end.
    let days = unix_ms.div_euclid(86_400_000) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    year * 100 + month
}

/// One insert each: an insert that touches one partition is stored whole or not at all.
pub(crate) fn by_month(rows: Vec<CallRow>) -> Vec<Vec<CallRow>> {
    let mut months: BTreeMap<i64, Vec<CallRow>> = BTreeMap::new();
    for row in rows {
        months.entry(month(row.ended_at)).or_default().push(row);
    }
    months.into_values().collect()
}

/// The sequences that may have rows already, each once: those that are not above all that were ever written.
pub(crate) fn doubtful(rows: &[CallRow], high: u64) -> Vec<u64> {
    let mut sequences: Vec<u64> = rows.iter().map(|row| row.ledger_sequence).filter(|s| *s <= high).collect();
    sequences.sort_unstable();
    sequences.dedup();
    sequences
}

/// The rows that are not there yet, each once: a batch may hold a message twice.
pub(crate) fn missing(rows: Vec<CallRow>, mut present: HashSet<Position>) -> Vec<CallRow> {
    rows.into_iter().filter(|row| present.insert(row.position())).collect()
}

/// Names exactly these rows within a term.
pub(crate) fn token(term: u64, rows: &[CallRow]) -> String {
    let place =
        |row: Option<&CallRow>| row.map_or(String::new(), |r| format!("{}.{}", r.ledger_sequence, r.ledger_index));
    let incarnation = rows.first().map_or(0, |row| row.ledger_incarnation);
    format!("{term}:{incarnation}:{}-{}:{}", place(rows.first()), place(rows.last()), rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(call: u128) -> v1::CallFact {
        v1::CallFact {
            call_id: Uuid::from_u128(call).to_string(),
            reservation_id: Uuid::from_u128(7).to_string(),
            ..v1::CallFact::default()
        }
    }

    fn entry(entry: Entry) -> v1::LedgerEntry {
        v1::LedgerEntry { entry: Some(entry) }
    }

    fn ended(call: u128) -> v1::LedgerEntry {
        entry(Entry::Ended(v1::Ended { reservation_id: "r".into(), fact: Some(fact(call)) }))
    }

    fn at(sequence: u64, index: u32) -> CallRow {
        CallRow { ledger_incarnation: 9, ledger_sequence: sequence, ledger_index: index, ..CallRow::default() }
    }

    fn places(rows: &[CallRow]) -> Vec<(u64, u32)> {
        rows.iter().map(|r| (r.ledger_sequence, r.ledger_index)).collect()
    }

    #[test]
    fn every_end_gives_one_row_with_its_place() {
        let batch = v1::LedgerBatch {
            entries: vec![
                entry(Entry::Reserved(v1::Reserved::default())),
                ended(1),
                entry(Entry::Released(v1::Released::default())),
                entry(Entry::Amended(v1::Amended { fact: Some(fact(2)), ..v1::Amended::default() })),
                ended(3),
            ],
            ..v1::LedgerBatch::default()
        };
        let rows: Vec<CallRow> = rows_of(batch, 9, 40).collect();
        let calls: Vec<u128> = rows.iter().map(|r| r.call_id.as_u128()).collect();
        assert_eq!(calls, [1, 2, 3]);
        assert_eq!(places(&rows), [(40, 1), (40, 3), (40, 4)]);
        assert!(rows.iter().all(|r| r.ledger_incarnation == 9));
    }

    #[test]
    fn money_is_the_same_integer_in_the_row() {
        for (usd, pico, picos) in [
            (0, 1, 1_i128),
            (0, 10_500_000_000, 10_500_000_000),
            (12, 345_678_901_234, 12_345_678_901_234),
            (-1, -250_000_000_000, -1_250_000_000_000),
            (9_007_199_254_740_993, 1, 9_007_199_254_740_993_000_000_000_001),
        ] {
            let money = Some(v1::Money { usd, pico });
            let given = v1::CallFact { cost: money, bound: money, ..fact(1) };
            let row = row(given.clone());
            assert_eq!((row.cost, row.bound), (picos, picos));
            assert_eq!(call_fact(row).cost, given.cost);
        }
    }

    #[test]
    fn not_reported_is_not_zero() {
        let usage = v1::Usage { input: Some(0), output: Some(5), ..v1::Usage::default() };
        let row = row(v1::CallFact { usage: Some(usage), ..fact(1) });
        assert_eq!((row.input_tokens, row.output_tokens, row.cache_read_tokens), (Some(0), Some(5), None));
    }

    #[test]
    fn a_row_tells_its_fact_again() {
        let given = v1::CallFact {
            request_id: "r-1".into(),
            attempt: 2,
            principal: Some(v1::Principal {
                project: "acme".into(),
                key_id: "k".into(),
                entrance: 0,
                ..Default::default()
            }),
            labels: Some(v1::Labels {
                actor: "writer".into(),
                tags: vec!["a".into(), "b".into()],
                ..Default::default()
            }),
            model: "fast".into(),
            provider: "openai".into(),
            outcome: v1::Outcome::Lost.into(),
            error_kind: v1::ErrorKind::Lost.into(),
            usage: Some(v1::Usage {
                input: Some(3),
                reasoning: Some(4),
                cache_read_audio: Some(5),
                searches: Some(6),
                ..Default::default()
            }),
            cost: Some(v1::Money { usd: 1, pico: 2 }),
            bound: Some(v1::Money { usd: 3, pico: 4 }),
            estimated: true,
            started_unix_ms: 1_000,
            ended_unix_ms: 2_000,
            latency_ms: 900,
            first_token_ms: Some(100),
            stream: true,
            job: true,
            finish_reason: "stop".into(),
            service_tier: "flex".into(),
            cost_reported: true,
            trace_id: "0af7651916cd43dd8448eb211c80319c".into(),
            ..fact(5)
        };
        assert_eq!(call_fact(row(given.clone())), given);
    }

    #[test]
    fn an_odd_fact_has_a_row_all_the_same() {
        let given = v1::CallFact { call_id: "?".into(), ended_unix_ms: i64::MIN, ..v1::CallFact::default() };
        let row = row(given);
        assert_eq!((row.call_id, row.ended_at), (Uuid::nil(), 0));
    }

    #[test]
    fn months_begin_and_end_where_the_calendar_says() {
        for (unix_ms, expected) in [
            (0, 197_001),
            (951_782_400_000, 200_002),
            (951_868_799_999, 200_002),
            (951_868_800_000, 200_003),
            (1_798_761_599_999, 202_612),
            (1_798_761_600_000, 202_701),
            (Period::END, 219_912),
        ] {
            assert_eq!(month(unix_ms), expected, "{unix_ms}");
        }
    }

    #[test]
    fn one_insert_holds_one_month_and_keeps_the_order() {
        let row = |ended_at, sequence| CallRow { ended_at, ..at(sequence, 0) };
        let november = 1_798_761_600_000 - 40 * 86_400_000;
        let january = 1_798_761_600_000;
        let groups = by_month(vec![row(january, 1), row(november, 2), row(january, 3)]);
        assert_eq!(groups.iter().map(|g| places(g)).collect::<Vec<_>>(), [vec![(2, 0)], vec![(1, 0), (3, 0)]]);
        assert!(by_month(Vec::new()).is_empty());
    }

    #[test]
    fn only_what_may_be_there_is_looked_up() {
        let rows = [at(5, 0), at(5, 1), at(3, 0), at(8, 0)];
        assert_eq!(doubtful(&rows, 5), [3, 5]);
        assert!(doubtful(&rows, 2).is_empty());
    }

    #[test]
    fn what_is_there_or_comes_twice_is_not_written_again() {
        let rows = vec![at(5, 0), at(5, 1), at(6, 0), at(6, 0), at(7, 2)];
        let present = HashSet::from([Position { sequence: 5, index: 1 }, Position { sequence: 7, index: 0 }]);
        assert_eq!(places(&missing(rows, present)), [(5, 0), (6, 0), (7, 2)]);
    }

    #[test]
    fn a_token_names_its_rows_and_its_term() {
        let rows = [at(5, 0), at(6, 1)];
        assert_eq!(token(3, &rows), "3:9:5.0-6.1:2");
        assert_ne!(token(3, &rows), token(4, &rows));
        assert_ne!(token(3, &rows), token(3, &rows[..1]));
    }
}
