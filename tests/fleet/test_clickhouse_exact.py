"""Hundreds of thousands of receipts, each delivered more than once: sums are exact to the nano-dollar, beyond 2**53."""

from __future__ import annotations

from tests.fleet.clickhouse import ClickHouse, question, receipts_store

RECEIPTS = 140_000
STEPS = 7
BIG = 2**53 + 1
WINDOW = {"from": "2026-11-01 00:00:00", "to": "2026-11-03 00:00:00", "tenant": ""}

# Receipt n in a revision: no double holds its cost, its step is n mod 7, and each fifth receipt is amended.
DELIVERY = """
INSERT INTO otel_steps_landing (Timestamp, ServiceName, ResourceAttributes, LogAttributes)
SELECT
    toDateTime64('2026-11-01 00:00:00', 9, 'UTC') + INTERVAL number % 170000 SECOND,
    'agents',
    map('tenant', concat('t', toString(number % 3))),
    map(
        'otel_steps.receipt_id', leftPad(lower(hex(number)), 32, '0'),
        'otel_steps.revision', toString({revision:UInt32}),
        'otel_steps.name', concat('step ', toString(number % 7)),
        'otel_steps.status', 'completed',
        'otel_steps.llm_calls', toString(number % 11),
        'otel_steps.cost_nano_usd', toString(9007199254740993 * {revision:UInt32} + number)
    )
FROM numbers({count:UInt64})
WHERE {revision:UInt32} = 1 OR number % 5 = 0
ORDER BY cityHash64(number)
"""


def deliver(store: ClickHouse, revision: int) -> None:
    store.run(DELIVERY, {"revision": revision, "count": RECEIPTS})


def cost_of(number: int) -> int:
    return BIG * (2 if number % 5 == 0 else 1) + number


def test_sums_of_many_receipts_are_exact_merged_or_not() -> None:
    wanted = {f"step {step}": sum(map(cost_of, range(step, RECEIPTS, STEPS))) for step in range(STEPS)}
    total = sum(wanted.values())
    assert total > 2**63, "more than an Int64 holds"
    with receipts_store() as store:
        for revision in (1, 2, 1):
            deliver(store, revision)
        before = store.rows(question("cost_by_step"), WINDOW)
        assert {row["step"]: int(row["usd"] * 10**9) for row in before} == wanted
        assert {row["step"]: row["usd"] * 10**9 for row in before} == wanted
        assert sum(row["steps"] for row in before) == RECEIPTS
        assert sum(row["calls"] for row in before) == sum(number % 11 for number in range(RECEIPTS))
        (day_1, day_2) = store.rows(question("cost_by_day"), WINDOW)
        assert (day_1["usd"] + day_2["usd"]) * 10**9 == total
        store.run("OPTIMIZE TABLE otel_steps_receipts FINAL")
        assert store.value("SELECT count() FROM otel_steps_receipts") == RECEIPTS
        assert store.rows(question("cost_by_step"), WINDOW) == before
