-- Who writes to `calls`: only the newest term may. Every insert checks it, so the insert of a term before writes nothing.
CREATE TABLE IF NOT EXISTS accounting_terms
(
    term UInt64,
    holder String,
    began_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY term
