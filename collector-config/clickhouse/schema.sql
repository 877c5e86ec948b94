-- Receipts of otel_steps in ClickHouse: one row per receipt, typed, money in whole nano-USD.
--
-- Run it once in the database that the Collector writes to; running it again changes nothing:
--     clickhouse-client --database otel --multiquery < schema.sql
-- and let the exporter write to the landing table:
--     clickhouse: {endpoint: ..., database: otel, logs_table_name: otel_steps_landing, create_schema: false}
--
-- Tested with the engines of ClickHouse 26.5 and 26.9.

-- 1. The rows as the Collector's clickhouseexporter inserts them: the columns of its logs table. Nothing is kept here:
-- each insert flows through the view below, and is acknowledged when the view's rows are written.
CREATE TABLE IF NOT EXISTS otel_steps_landing
(
    `Timestamp`          DateTime64(9),
    `TraceId`            String,
    `SpanId`             String,
    `TraceFlags`         UInt8,
    `SeverityText`       LowCardinality(String),
    `SeverityNumber`     UInt8,
    `ServiceName`        LowCardinality(String),
    `Body`               String,
    `ResourceSchemaUrl`  LowCardinality(String),
    `ResourceAttributes` Map(LowCardinality(String), String),
    `ScopeSchemaUrl`     LowCardinality(String),
    `ScopeName`          String,
    `ScopeVersion`       LowCardinality(String),
    `ScopeAttributes`    Map(LowCardinality(String), String),
    `LogAttributes`      Map(LowCardinality(String), String),
    `EventName`          String
)
ENGINE = Null;

-- 2. The receipts. A receipt comes more than once: delivery is at least once, and usage that arrives after a step closed
-- makes a new revision of its receipt. Rows of one (tenant, receipt_id) are one receipt; the highest `version` stays.
--
-- The partition is the week in which the step started, because that is the same in every row of a receipt: its revisions
-- meet in one partition, where merges leave one of them. (ended_at is the same in all revisions too, but after a loss of
-- power the next process may report a receipt that had arrived once more, as `interrupted`, with an earlier end.)
-- Weeks are counted modulo 80: more than are kept, and fewer than the 100 partitions that ClickHouse lets one insert have,
-- so that no batch is refused, whatever clocks its receipts come from.
--
-- Kept for 400 days from arrival: a clock that is wrong by years makes nothing disappear.
CREATE TABLE IF NOT EXISTS otel_steps_receipts
(
    `tenant`               LowCardinality(String) COMMENT 'resource attribute tenant, empty where it is not set',
    `receipt_id`           String COMMENT 'UUID version 7 in hex: sorts by the time the step started' CODEC(ZSTD(1)),
    `revision`             UInt32 COMMENT '1, and one more each time the receipt was amended',
    `service_name`         LowCardinality(String),
    `name`                 LowCardinality(String) COMMENT 'the step',
    `function`             LowCardinality(String) COMMENT 'module:qualname, empty for a block',
    `persona`              LowCardinality(String) COMMENT 'empty where there was none',
    `stage`                LowCardinality(String),
    `next_stage`           LowCardinality(String),
    `model`                LowCardinality(String) COMMENT 'empty where no model was called or declared',
    `status`               LowCardinality(String) COMMENT 'completed, failed, skipped, escalated, cancelled, interrupted',
    `error`                String CODEC(ZSTD(1)),
    `error_boundary`       LowCardinality(String) COMMENT 'fail, continue, escalate',
    `run_id`               String CODEC(ZSTD(1)),
    `trace_id`             String CODEC(ZSTD(1)),
    `span_id`              String CODEC(ZSTD(1)),
    `parent_receipt_id`    String COMMENT 'receipt of the step around it, empty for an outermost one' CODEC(ZSTD(1)),
    `started_at`           DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `ended_at`             DateTime64(9, 'UTC') CODEC(Delta(8), ZSTD(1)),
    `cost_nano_usd`        Int64 COMMENT 'own cost in billionths of a dollar; own costs add up to the total' CODEC(ZSTD(1)),
    `input_tokens`         Int64 CODEC(ZSTD(1)),
    `output_tokens`        Int64 CODEC(ZSTD(1)),
    `cache_read_tokens`    Int64 CODEC(ZSTD(1)),
    `cache_write_tokens`   Int64 CODEC(ZSTD(1)),
    `reasoning_tokens`     Int64 CODEC(ZSTD(1)),
    `llm_calls`            Int64 CODEC(ZSTD(1)),
    `total_cost_nano_usd`  Int64 COMMENT 'with all steps nested in it: never add these up' CODEC(ZSTD(1)),
    `total_input_tokens`   Int64 CODEC(ZSTD(1)),
    `total_output_tokens`  Int64 CODEC(ZSTD(1)),
    `total_llm_calls`      Int64 CODEC(ZSTD(1)),
    `max_tokens`           Nullable(Int64) COMMENT 'limit, NULL where there is none',
    `max_usd`              Nullable(Float64) COMMENT 'limit in US dollars, NULL where there is none',
    `breached`             Array(String) COMMENT 'limits that broke, the primary one first' CODEC(ZSTD(1)),
    `unpriced_calls`       Int64 CODEC(ZSTD(1)),
    `unmetered_calls`      Int64 CODEC(ZSTD(1)),
    `invalid_costs`        Int64 CODEC(ZSTD(1)),
    `duplicates_discarded` Int64 CODEC(ZSTD(1)),
    `shared_unconsulted_calls` Int64 CODEC(ZSTD(1)),
    `price_source`         LowCardinality(String),
    `tools_called`         Array(String) CODEC(ZSTD(1)),
    `tools_denied`         Array(String) CODEC(ZSTD(1)),
    `schema`               UInt16 COMMENT 'version of the receipt''s shape',
    `received_at`          DateTime('UTC') COMMENT 'when this row was inserted' CODEC(Delta(4), ZSTD(1)),
    -- An `interrupted` receipt yields to the one that the step itself wrote, whichever came first.
    `version`              UInt64 MATERIALIZED toUInt64(revision) * 2 + (status != 'interrupted'),
    INDEX ended_at_range ended_at TYPE minmax GRANULARITY 1,
    INDEX traces trace_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX runs run_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toRelativeWeekNum(started_at) % 80
ORDER BY (tenant, receipt_id)
TTL received_at + INTERVAL 400 DAY
SETTINGS merge_with_ttl_timeout = 86400;

-- 3. From attributes, which arrive as text, to columns. Told by the receipt's id and not by EventName: an exporter that
-- started while ClickHouse was away leaves that column out for as long as it lives. Nothing here raises: one odd value
-- would hold up every receipt behind it, so what cannot be read is 0, empty or NULL.
CREATE MATERIALIZED VIEW IF NOT EXISTS otel_steps_landing_to_receipts TO otel_steps_receipts AS
SELECT
    ResourceAttributes['tenant'] AS tenant,
    LogAttributes['otel_steps.receipt_id'] AS receipt_id,
    toUInt32OrZero(LogAttributes['otel_steps.revision']) AS revision,
    ServiceName AS service_name,
    LogAttributes['otel_steps.name'] AS name,
    LogAttributes['otel_steps.function'] AS function,
    LogAttributes['otel_steps.persona'] AS persona,
    LogAttributes['otel_steps.stage'] AS stage,
    LogAttributes['otel_steps.next_stage'] AS next_stage,
    LogAttributes['otel_steps.model'] AS model,
    LogAttributes['otel_steps.status'] AS status,
    LogAttributes['otel_steps.error'] AS error,
    LogAttributes['otel_steps.error_boundary'] AS error_boundary,
    LogAttributes['otel_steps.run_id'] AS run_id,
    LogAttributes['otel_steps.trace_id'] AS trace_id,
    LogAttributes['otel_steps.span_id'] AS span_id,
    LogAttributes['otel_steps.parent_receipt_id'] AS parent_receipt_id,
    coalesce(toDateTime64OrNull(nullIf(substring(LogAttributes['otel_steps.started_at'], 1, 29), ''), 9, 'UTC'), Timestamp) AS started_at,
    coalesce(toDateTime64OrNull(nullIf(substring(LogAttributes['otel_steps.ended_at'], 1, 29), ''), 9, 'UTC'), Timestamp) AS ended_at,
    toInt64OrZero(LogAttributes['otel_steps.cost_nano_usd']) AS cost_nano_usd,
    toInt64OrZero(LogAttributes['otel_steps.input_tokens']) AS input_tokens,
    toInt64OrZero(LogAttributes['otel_steps.output_tokens']) AS output_tokens,
    toInt64OrZero(LogAttributes['otel_steps.cache_read_tokens']) AS cache_read_tokens,
    toInt64OrZero(LogAttributes['otel_steps.cache_write_tokens']) AS cache_write_tokens,
    toInt64OrZero(LogAttributes['otel_steps.reasoning_tokens']) AS reasoning_tokens,
    toInt64OrZero(LogAttributes['otel_steps.llm_calls']) AS llm_calls,
    toInt64OrZero(LogAttributes['otel_steps.total_cost_nano_usd']) AS total_cost_nano_usd,
    toInt64OrZero(LogAttributes['otel_steps.total_input_tokens']) AS total_input_tokens,
    toInt64OrZero(LogAttributes['otel_steps.total_output_tokens']) AS total_output_tokens,
    toInt64OrZero(LogAttributes['otel_steps.total_llm_calls']) AS total_llm_calls,
    toInt64OrNull(LogAttributes['otel_steps.max_tokens']) AS max_tokens,
    toFloat64OrNull(LogAttributes['otel_steps.max_usd']) AS max_usd,
    JSONExtract(LogAttributes['otel_steps.breached'], 'Array(String)') AS breached,
    toInt64OrZero(LogAttributes['otel_steps.unpriced_calls']) AS unpriced_calls,
    toInt64OrZero(LogAttributes['otel_steps.unmetered_calls']) AS unmetered_calls,
    toInt64OrZero(LogAttributes['otel_steps.invalid_costs']) AS invalid_costs,
    toInt64OrZero(LogAttributes['otel_steps.duplicates_discarded']) AS duplicates_discarded,
    toInt64OrZero(LogAttributes['otel_steps.shared_unconsulted_calls']) AS shared_unconsulted_calls,
    LogAttributes['otel_steps.price_source'] AS price_source,
    JSONExtract(LogAttributes['otel_steps.tools_called'], 'Array(String)') AS tools_called,
    JSONExtract(LogAttributes['otel_steps.tools_denied'], 'Array(String)') AS tools_denied,
    toUInt16OrZero(LogAttributes['otel_steps.schema']) AS schema,
    now('UTC') AS received_at
FROM otel_steps_landing
WHERE LogAttributes['otel_steps.receipt_id'] != '';

-- 4. What everybody asks: one row per receipt, merged or not (asking the table itself counts a receipt as often as it
-- came). `cost_usd` is the same number as cost_nano_usd with its point set: a Decimal, so that sums are exact.
CREATE VIEW IF NOT EXISTS otel_steps_receipts_latest AS
SELECT
    *,
    reinterpret(cost_nano_usd, 'Decimal(18, 9)') AS cost_usd,
    reinterpret(total_cost_nano_usd, 'Decimal(18, 9)') AS total_cost_usd
FROM otel_steps_receipts FINAL;
