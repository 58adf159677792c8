//! The table `calls`: what a row is and how it is written.

use clickhouse::Row as _;
use farebox_types::Money;
use uuid::Uuid;

use crate::rowbinary::RowBinary;

/// Where a row comes from: the stream sequence of its ledger message, and its entry's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub sequence: u64,
    pub index: u32,
}

/// One attempt at a provider. Times are milliseconds since the epoch, money is in pico-dollars.
#[derive(Clone, Debug, Default, PartialEq, Eq, clickhouse::Row, serde::Deserialize)]
pub struct CallRow {
    #[serde(with = "clickhouse::serde::uuid")]
    pub call_id: Uuid,
    pub request_id: String,
    #[serde(with = "clickhouse::serde::uuid")]
    pub reservation_id: Uuid,
    pub attempt: u32,
    pub project: String,
    pub key_id: String,
    pub actor: String,
    pub task_id: String,
    pub session_id: String,
    pub end_user: String,
    pub tags: Vec<String>,
    pub model: String,
    pub provider: String,
    pub upstream_model: String,
    pub served_model: String,
    pub outcome: String,
    /// Empty where the outcome is `ok`.
    pub error_kind: String,
    pub input_tokens: Option<u64>,
    pub cache_read_tokens: Option<u64>,
    pub cache_write_5m_tokens: Option<u64>,
    pub cache_write_1h_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
    pub audio_input_tokens: Option<u64>,
    pub audio_output_tokens: Option<u64>,
    pub image_input_tokens: Option<u64>,
    pub image_output_tokens: Option<u64>,
    pub cache_read_audio_tokens: Option<u64>,
    /// No tokens: how often the provider searched.
    pub searches: Option<u64>,
    pub cost: i128,
    pub bound: i128,
    pub estimated: bool,
    /// The cost is the provider's own word.
    pub cost_reported: bool,
    /// The tier that served, in the provider's word.
    pub service_tier: String,
    pub price_version: String,
    pub started_at: i64,
    pub ended_at: i64,
    pub latency_ms: u64,
    pub first_token_ms: Option<u64>,
    pub stream: bool,
    pub cached: bool,
    pub job: bool,
    pub finish_reason: String,
    pub trace_id: String,
    pub ledger_incarnation: u64,
    pub ledger_sequence: u64,
    pub ledger_index: u32,
}

/// The types of the fields above, in their order, as an insert announces them.
const TYPES: [&str; 47] = [
    "UUID",
    "String",
    "UUID",
    "UInt32",
    "String",
    "String",
    "String",
    "String",
    "String",
    "String",
    "Array(String)",
    "String",
    "String",
    "String",
    "String",
    "String",
    "String",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Nullable(UInt64)",
    "Decimal(38, 12)",
    "Decimal(38, 12)",
    "Bool",
    "Bool",
    "String",
    "String",
    "DateTime64(3, 'UTC')",
    "DateTime64(3, 'UTC')",
    "UInt64",
    "Nullable(UInt64)",
    "Bool",
    "Bool",
    "Bool",
    "String",
    "String",
    "UInt64",
    "UInt64",
    "UInt32",
];

impl CallRow {
    pub fn position(&self) -> Position {
        Position { sequence: self.ledger_sequence, index: self.ledger_index }
    }

    pub fn cost(&self) -> Money {
        Money::from_picos(self.cost)
    }

    pub fn bound(&self) -> Money {
        Money::from_picos(self.bound)
    }

    pub(crate) fn columns() -> String {
        CallRow::COLUMN_NAMES.join(", ")
    }

    /// Names and types, for ClickHouse's `input()`.
    pub(crate) fn structure() -> String {
        let columns = CallRow::COLUMN_NAMES.iter().zip(TYPES);
        columns.map(|(name, kind)| format!("{name} {kind}")).collect::<Vec<_>>().join(", ")
    }

    pub(crate) fn encode(&self, to: &mut RowBinary) {
        to.uuid(self.call_id);
        to.string(&self.request_id);
        to.uuid(self.reservation_id);
        to.u32(self.attempt);
        for text in [&self.project, &self.key_id, &self.actor, &self.task_id, &self.session_id, &self.end_user] {
            to.string(text);
        }
        to.strings(&self.tags);
        for text in
            [&self.model, &self.provider, &self.upstream_model, &self.served_model, &self.outcome, &self.error_kind]
        {
            to.string(text);
        }
        self.encode_tokens(to);
        to.i128(self.cost);
        to.i128(self.bound);
        to.bool(self.estimated);
        to.bool(self.cost_reported);
        to.string(&self.service_tier);
        to.string(&self.price_version);
        to.i64(self.started_at);
        to.i64(self.ended_at);
        to.u64(self.latency_ms);
        to.nullable_u64(self.first_token_ms);
        to.bool(self.stream);
        to.bool(self.cached);
        to.bool(self.job);
        to.string(&self.finish_reason);
        to.string(&self.trace_id);
        to.u64(self.ledger_incarnation);
        to.u64(self.ledger_sequence);
        to.u32(self.ledger_index);
    }

    fn encode_tokens(&self, to: &mut RowBinary) {
        for tokens in [
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_5m_tokens,
            self.cache_write_1h_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.audio_input_tokens,
            self.audio_output_tokens,
            self.image_input_tokens,
            self.image_output_tokens,
            self.cache_read_audio_tokens,
            self.searches,
        ] {
            to.nullable_u64(tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_its_type() {
        assert_eq!(CallRow::COLUMN_NAMES.len(), TYPES.len());
        let structure = CallRow::structure();
        for pair in
            ["call_id UUID,", "tags Array(String),", "cost Decimal(38, 12),", "job Bool,", "ledger_index UInt32"]
        {
            assert!(structure.contains(pair), "{pair} is not in {structure}");
        }
        let made = include_str!("../migrations/0001_calls.sql");
        let added = include_str!("../migrations/0003_tier_and_searches.sql");
        for name in CallRow::COLUMN_NAMES {
            let known = made.contains(&format!("\n    {name} "))
                || added.contains(&format!("ADD COLUMN IF NOT EXISTS {name} "));
            assert!(known, "{name}");
        }
    }
}
