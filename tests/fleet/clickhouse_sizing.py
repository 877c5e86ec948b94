"""What receipts take on disk in ClickHouse: `python -m tests.fleet.clickhouse_sizing [RECEIPTS]`, a million by default.

Made up in the engine with the spread of a fleet: 6 services, 40 steps, 12 personas, 8 models, runs of 8 receipts with
random ids, costs and token counts over three decades, 3 % with an error text, 2 % amended.
"""

from __future__ import annotations

import sys
import time

from tests.fleet.clickhouse import ClickHouse, question, receipts_store

BATCH = 100_000
MAKE = """
INSERT INTO otel_steps_landing (Timestamp, ServiceName, ResourceAttributes, LogAttributes)
WITH
    number + {first:UInt64} AS n,
    intDiv(n, 8) AS run,
    1796000000000 + run * 40 AS run_ms,
    run_ms + n % 8 * 900 AS began_ms,
    began_ms + 200 + sipHash64(n, 12) % 9000 AS ended_ms,
    leftPad(lower(hex(run_ms)), 12, '0') AS run_head,
    lower(hex(sipHash64(run))) AS run_tail,
    concat(leftPad(lower(hex(began_ms)), 12, '0'), '7', substring(lower(hex(sipHash64(n, 1))), 2, 3),
           lower(hex(sipHash64(n, 2)))) AS receipt_id,
    concat(run_head, '7', substring(lower(hex(sipHash64(n - n % 8, 1))), 2, 3),
           lower(hex(sipHash64(n - n % 8, 2)))) AS parent_id,
    toUInt64(exp(6 + sipHash64(n, 13) / 18446744073709551615 * 7)) AS tokens_in,
    toUInt64(exp(3 + sipHash64(n, 14) / 18446744073709551615 * 5)) AS tokens_out,
    tokens_in * 2500 + tokens_out * 10000 AS cost,
    if(sipHash64(n, 15) % 3 = 0, 0.05, 0.5) AS max_usd,
    replaceOne(toString(toDateTime64(began_ms / 1000, 3, 'UTC')), ' ', 'T') AS began_text,
    replaceOne(toString(toDateTime64(ended_ms / 1000, 3, 'UTC')), ' ', 'T') AS ended_text,
    sipHash64(n, 16) % 100 < 3 AS failed
SELECT
    toDateTime64(ended_ms / 1000, 9, 'UTC'),
    concat('service-', toString(run % 6)),
    map('service.name', concat('service-', toString(run % 6)), 'tenant', concat('tenant-', toString(run % 3))),
    mapConcat(
        map(
            'otel_steps.schema', '1',
            'otel_steps.receipt_id', receipt_id,
            'otel_steps.revision', toString({revision:UInt32}),
            'otel_steps.name', concat('step-', toString(sipHash64(n % 8, run % 5))),
            'otel_steps.function', concat('agents.flow', toString(run % 5), ':step_', toString(n % 8)),
            'otel_steps.persona', concat('persona-', toString(run % 12)),
            'otel_steps.model', concat('model-', toString((run + n) % 8)),
            'otel_steps.status', if(failed, 'failed', 'completed'),
            'otel_steps.error_boundary', 'fail',
            'otel_steps.run_id', concat(run_head, '7', substring(run_tail, 2), 'abcd'),
            'otel_steps.trace_id', concat(run_tail, lower(hex(sipHash64(run, 3)))),
            'otel_steps.span_id', lower(hex(sipHash64(n, 4))),
            'otel_steps.started_at', concat(began_text, leftPad(toString(sipHash64(n, 17) % 1000000), 6, '0'), 'Z'),
            'otel_steps.ended_at', concat(ended_text, leftPad(toString(sipHash64(n, 18) % 1000000), 6, '0'), 'Z'),
            'otel_steps.price_source', 'genai-prices',
            'otel_steps.tools_called', if(sipHash64(n, 19) % 4 = 0, '["search","read_file"]', '[]'),
            'otel_steps.tools_denied', '[]',
            'otel_steps.breached', if(sipHash64(n, 20) % 50 = 0, '["max_usd"]', '[]')
        ),
        map(
            'otel_steps.cost_nano_usd', toString(cost),
            'otel_steps.total_cost_nano_usd', toString(cost * if(n % 8 = 0, 5, 1)),
            'otel_steps.input_tokens', toString(tokens_in),
            'otel_steps.output_tokens', toString(tokens_out),
            'otel_steps.total_input_tokens', toString(tokens_in * if(n % 8 = 0, 5, 1)),
            'otel_steps.total_output_tokens', toString(tokens_out * if(n % 8 = 0, 5, 1)),
            'otel_steps.cache_read_tokens', toString(if(sipHash64(n, 21) % 2 = 0, intDiv(tokens_in, 2), 0)),
            'otel_steps.llm_calls', toString(1 + sipHash64(n, 22) % 4),
            'otel_steps.total_llm_calls', toString(1 + sipHash64(n, 22) % 4),
            'otel_steps.max_usd', toString(max_usd)
        ),
        if(n % 8 = 0, map(), map('otel_steps.parent_receipt_id', parent_id)),
        if(failed, map('otel_steps.error', concat('RateLimitError: 429 of request req_', hex(sipHash64(n, 23)),
                       ', please try again in ', toString(sipHash64(n, 24) % 60), ' s')), map())
    )
FROM numbers({count:UInt64})
WHERE {revision:UInt32} = 1 OR number % 50 = 0
"""
MONTH = {"from": "2026-11-01 00:00:00", "to": "2026-12-31 00:00:00", "tenant": ""}


def main(receipts: int) -> None:
    """Insert, merge, and print what `system.parts` says."""
    with receipts_store() as store:
        began = time.perf_counter()
        for first in range(0, receipts, BATCH):
            for revision in (1, 2):
                store.run(MAKE, {"first": first, "revision": revision, "count": min(BATCH, receipts - first)})
        print(f"inserted in {time.perf_counter() - began:.1f} s")
        _tell(store, "as inserted")
        store.run("OPTIMIZE TABLE otel_steps_receipts FINAL")
        _tell(store, "merged")
        for row in store.rows(
            "SELECT column, sum(column_data_compressed_bytes) AS bytes FROM system.parts_columns"
            " WHERE active AND database = currentDatabase() GROUP BY column ORDER BY bytes DESC LIMIT 12"
        ):
            print(f"  {row['column']:<22}{row['bytes'] / receipts:7.1f} bytes a receipt")
        for name in ("cost_by_step", "budget_use", "missing"):
            began = time.perf_counter()
            store.rows(question(name), MONTH)
            print(f"{name}.sql over all of them: {time.perf_counter() - began:.2f} s")


def _tell(store: ClickHouse, state: str) -> None:
    (row,) = store.rows(
        "SELECT sum(rows) AS n, sum(bytes_on_disk) AS disk, sum(data_uncompressed_bytes) AS raw, count() AS parts"
        " FROM system.parts WHERE active AND database = currentDatabase() AND table = 'otel_steps_receipts'"
    )
    each = f"{row['disk'] / row['n']:.0f} bytes a row on disk, {row['raw'] / row['n']:.0f} before compression"
    print(f"{state}: {row['n']} rows in {row['parts']} parts, {row['disk'] / 2**20:.0f} MiB, {each}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
