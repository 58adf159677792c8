-- What rows before this lack: nothing was reported of it.
ALTER TABLE calls
    ADD COLUMN IF NOT EXISTS cache_read_audio_tokens Nullable(UInt64) AFTER image_output_tokens,
    ADD COLUMN IF NOT EXISTS searches Nullable(UInt64) AFTER cache_read_audio_tokens,
    ADD COLUMN IF NOT EXISTS cost_reported Bool AFTER estimated,
    ADD COLUMN IF NOT EXISTS service_tier LowCardinality(String) AFTER cost_reported
