-- One row per attempt at a provider. Its place in the ledger is the offset of accounting: (incarnation, sequence, index).
-- A plain MergeTree: a row written twice must be seen in tests and sums at once, not disappear at some later merge.
CREATE TABLE IF NOT EXISTS calls
(
    call_id UUID,
    request_id String,
    reservation_id UUID,
    attempt UInt32,
    project LowCardinality(String),
    key_id LowCardinality(String),
    actor LowCardinality(String),
    task_id String,
    session_id String,
    end_user String,
    tags Array(String),
    model LowCardinality(String),
    provider LowCardinality(String),
    upstream_model LowCardinality(String),
    served_model LowCardinality(String),
    outcome LowCardinality(String),
    error_kind LowCardinality(String),
    input_tokens Nullable(UInt64),
    cache_read_tokens Nullable(UInt64),
    cache_write_5m_tokens Nullable(UInt64),
    cache_write_1h_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64),
    reasoning_tokens Nullable(UInt64),
    audio_input_tokens Nullable(UInt64),
    audio_output_tokens Nullable(UInt64),
    image_input_tokens Nullable(UInt64),
    image_output_tokens Nullable(UInt64),
    cost Decimal(38, 12),
    bound Decimal(38, 12),
    estimated Bool,
    price_version LowCardinality(String),
    started_at DateTime64(3, 'UTC'),
    ended_at DateTime64(3, 'UTC'),
    latency_ms UInt64,
    first_token_ms Nullable(UInt64),
    stream Bool,
    cached Bool,
    job Bool,
    finish_reason LowCardinality(String),
    trace_id String,
    ledger_incarnation UInt64 CODEC(ZSTD),
    ledger_sequence UInt64 CODEC(Delta, ZSTD),
    ledger_index UInt32 CODEC(ZSTD),
    INDEX by_ledger_sequence ledger_sequence TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ended_at)
ORDER BY (project, ended_at, ledger_sequence, ledger_index)
SETTINGS non_replicated_deduplication_window = 1000, ttl_only_drop_parts = 1
