"""The table of receipts: one row per receipt, the right one, whatever came how often and in which order."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_steps.record import CompletedStep
from tests.fleet.clickhouse import SQL, ClickHouse, question, receipts_store
from tests.fleet.clickhouse_receipts import interrupted, newest, run_agents
from tests.fleet.clickhouse_rows import COLUMNS, RESOURCE, WITHOUT_EVENT, receipt_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LANDING = "otel_steps_landing"
SAME = "* EXCEPT (received_at)"
"""All that does not depend on when a row came."""


@pytest.fixture(scope="module")
def engine() -> Iterator[ClickHouse]:
    """Keeps the engine up between tests."""
    engine = ClickHouse()
    yield engine
    engine.close()


@pytest.fixture
def store(engine: ClickHouse) -> Iterator[ClickHouse]:
    assert engine.value("SELECT 1") == 1
    with receipts_store() as store:
        yield store


def receipt(**changes: Any) -> CompletedStep:
    fields: dict[str, Any] = {
        "name": "plan",
        "receipt_id": "0" * 32,
        "started_at": "2026-11-24T23:59:59.999999999Z",
        "ended_at": "2026-11-25T00:00:00.000000001Z",
    }
    return CompletedStep(**fields | changes)


def insert(store: ClickHouse, receipts: Sequence[CompletedStep], **resource: Any) -> None:
    store.insert(LANDING, receipt_rows(receipts, RESOURCE | resource), COLUMNS)


def latest(store: ClickHouse, columns: str = SAME) -> list[dict[str, Any]]:
    return store.rows(f"SELECT {columns} FROM otel_steps_receipts_latest ORDER BY tenant, receipt_id")


def merge(store: ClickHouse) -> None:
    store.run("OPTIMIZE TABLE otel_steps_receipts FINAL")


def as_row(step: CompletedStep) -> dict[str, Any]:
    """A receipt as the table has it: no text is an empty one, times in ClickHouse's notation."""
    row = {**msgspec.structs.asdict(step), "tenant": RESOURCE["tenant"], "service_name": RESOURCE["service.name"]}
    nullable = {"max_tokens", "max_usd"}
    texts = {key: "" for key, value in row.items() if value is None and key not in nullable}
    lists = {key: list(row[key]) for key in ("breached", "tools_called", "tools_denied")}
    times = {key: row[key].replace("T", " ").removesuffix("Z") for key in ("started_at", "ended_at")}
    return {key: value for key, value in (row | texts | lists | times).items() if key not in MADE_HERE}


MADE_HERE = frozenset({"cost_usd", "total_cost_usd", "received_at"})


def test_every_field_of_a_real_receipt_is_in_its_column(store: ClickHouse) -> None:
    receipts = run_agents(9)
    insert(store, receipts)
    rows = [{key: value for key, value in row.items() if key not in MADE_HERE} for row in latest(store)]
    wanted = sorted(map(as_row, newest(receipts)), key=lambda row: row["receipt_id"])
    assert rows == wanted
    assert len({row["status"] for row in rows}) >= 4


def test_money_has_its_point_set_and_nothing_lost(store: ClickHouse) -> None:
    insert(store, [receipt(cost_nano_usd=2**63 - 1, total_cost_nano_usd=1)])
    ((own, total),) = (row.values() for row in latest(store, "toString(cost_usd), toString(total_cost_usd)"))
    assert (own, total) == ("9223372036.854775807", "0.000000001")


def test_revisions_in_any_order_and_number_leave_the_highest(store: ClickHouse) -> None:
    receipts = run_agents(13)
    assert max(each.revision for each in receipts) >= 3
    lost_power = [interrupted(each) for each in receipts if each.revision == 1][::3]
    rows = (receipts + lost_power) * 3
    random.Random(7).shuffle(rows)
    for start in range(0, len(rows), 50):
        insert(store, rows[start : start + 50])
    before = latest(store)
    assert store.value("SELECT count() FROM otel_steps_receipts") > len(before)
    merge(store)
    assert latest(store) == before
    assert store.value("SELECT count() FROM otel_steps_receipts") == len(before)
    wanted = newest(receipts + lost_power)
    found = {row["receipt_id"]: (row["revision"], row["cost_nano_usd"], row["status"]) for row in before}
    assert found == {each.receipt_id: (each.revision, each.cost_nano_usd, each.status) for each in wanted}


def of_one_writer(drawn: tuple[int, int, str]) -> tuple[int, int, bool]:
    """A step and the process that finds it dead each write a revision once."""
    number, revision, status = drawn
    return number, revision, status == "interrupted"


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_the_answer_does_not_depend_on_order_batches_or_repetition(engine: ClickHouse, data: st.DataObject) -> None:
    revisions = st.tuples(st.integers(0, 3), st.integers(1, 4), st.sampled_from(["completed", "interrupted", "failed"]))
    drawn = data.draw(st.lists(revisions, min_size=1, max_size=12, unique_by=of_one_writer))
    receipts = [
        receipt(receipt_id=f"{number:032x}", revision=revision, status=status, cost_nano_usd=10**9 * number + revision)
        for number, revision, status in drawn
    ]
    deliveries = data.draw(st.permutations(receipts + data.draw(st.lists(st.sampled_from(receipts), max_size=6))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(deliveries)), max_size=3)))
    assert engine.value("SELECT 1") == 1
    with receipts_store() as store:
        for start, end in zip([0, *cuts], [*cuts, len(deliveries)], strict=True):
            if start < end:
                insert(store, deliveries[start:end])
        found = {row["receipt_id"]: (row["revision"], row["status"]) for row in latest(store)}
        assert found == {each.receipt_id: (each.revision, each.status) for each in newest(receipts)}
        merge(store)
        assert found == {row["receipt_id"]: (row["revision"], row["status"]) for row in latest(store)}


def test_a_window_that_holds_only_a_replaced_row_holds_nothing(store: ClickHouse) -> None:
    whole = receipt(cost_nano_usd=5)
    insert(store, [whole])
    insert(store, [interrupted(whole)])
    window = {"from": "2026-11-24 00:00:00", "to": "2026-11-25 00:00:00", "tenant": ""}
    assert store.rows(question("cost_by_day"), window) == []
    both = window | {"to": "2026-11-26 00:00:00"}
    assert [row["day"] for row in store.rows(question("cost_by_day"), both)] == ["2026-11-25"]


def test_all_rows_of_a_receipt_share_a_partition(store: ClickHouse) -> None:
    receipts = run_agents(7)
    insert(store, receipts + [interrupted(each) for each in receipts])
    spread = "SELECT max(n) FROM (SELECT uniqExact(_partition_id) n FROM otel_steps_receipts GROUP BY receipt_id)"
    assert store.value(spread) == 1


def test_tenants_do_not_replace_each_others_receipts(store: ClickHouse) -> None:
    insert(store, [receipt(cost_nano_usd=1)], tenant="acme")
    insert(store, [receipt(cost_nano_usd=2, revision=9)], tenant="other")
    merge(store)
    assert [(row["tenant"], row["cost_nano_usd"]) for row in latest(store)] == [("acme", 1), ("other", 2)]


def test_receipts_arrive_without_the_event_column_and_other_logs_do_not(store: ClickHouse) -> None:
    rows = receipt_rows([receipt()])
    other = {**rows[0], "LogAttributes": {"message": "hello"}, "EventName": "otel_steps.step.completed"}
    store.insert(LANDING, [*rows, other], WITHOUT_EVENT)
    assert [row["name"] for row in latest(store)] == ["plan"]


def test_no_value_of_a_receipt_holds_up_the_others(store: ClickHouse) -> None:
    good = receipt_rows([receipt()])[0]
    attributes: dict[str, str] = good["LogAttributes"]
    odd: list[dict[str, Any]] = []
    for number, junk in enumerate(
        ("", "x", "-1", "1e400", "9" * 40, "[", '[1,{"a":2}]', "1900-01-01T00:00:00.000000000Z")
    ):
        changed = {key: junk for key in attributes if key != "otel_steps.receipt_id"}
        odd.append({**good, "LogAttributes": {**changed, "otel_steps.receipt_id": f"odd{number}"}})
    odd.append({**good, "LogAttributes": {"otel_steps.receipt_id": "bare"}, "ResourceAttributes": {}})
    store.insert(LANDING, [good, *odd], COLUMNS)
    assert len(latest(store)) == 1 + len(odd)
    bare = next(row for row in latest(store) if row["receipt_id"] == "bare")
    assert (bare["tenant"], bare["ended_at"]) == ("", "2026-11-25 00:00:00.000000001")


def test_one_batch_from_clocks_of_every_year_is_taken(store: ClickHouse) -> None:
    years = [f"{year}-0{month}-03T04:05:06.000000007Z" for year in range(1970, 2261) for month in (1, 5, 9)]
    insert(store, [receipt(receipt_id=f"{n:032x}", started_at=at, ended_at=at) for n, at in enumerate(years)])
    assert len(latest(store)) == len(years)
    assert store.value("SELECT uniqExact(_partition_id) <= 100 FROM otel_steps_receipts") == 1


def test_receipts_are_kept_for_400_days_from_their_arrival_and_no_longer(store: ClickHouse) -> None:
    insert(store, [receipt(receipt_id="new")])
    insert(store, [receipt(receipt_id="from a wrong clock", started_at="1970-01-01T00:00:00.000000000Z")])
    for days in (399, 401):
        old = f"'{days} days' AS receipt_id, now('UTC') - INTERVAL {days} DAY AS received_at"
        source = "(SELECT * FROM otel_steps_receipts WHERE receipt_id = 'new')"
        store.run(f"INSERT INTO otel_steps_receipts SELECT * REPLACE ({old}) FROM {source}")
    merge(store)
    assert [row["receipt_id"] for row in latest(store)] == ["399 days", "from a wrong clock", "new"]


def test_what_the_readme_says_to_keep_less_and_to_remove_a_tenant_does(store: ClickHouse) -> None:
    readme = (SQL / "README.md").read_text(encoding="utf-8")
    (shorter,) = re.findall(r"^    (ALTER TABLE .+ MODIFY TTL .+)$", readme, re.MULTILINE)
    (removal,) = re.findall(r"`(DELETE FROM .+)`", readme)
    insert(store, [receipt()])
    insert(store, [receipt(receipt_id="kept")], tenant="other")
    old = "'old' AS receipt_id, 'other' AS tenant, now('UTC') - INTERVAL 100 DAY AS received_at"
    store.run(f"INSERT INTO otel_steps_receipts SELECT * REPLACE ({old}) FROM (SELECT * FROM otel_steps_receipts)")
    store.run(shorter)
    store.run(removal)
    merge(store)
    assert [row["receipt_id"] for row in latest(store)] == ["kept"]


def test_weeks_that_are_kept_at_the_same_time_have_partitions_of_their_own(store: ClickHouse) -> None:
    weeks = "SELECT toDateTime64('2026-11-24 00:00:00', 9, 'UTC') + INTERVAL number WEEK AS at FROM numbers(75)"
    assert store.value(f"SELECT uniqExact(toRelativeWeekNum(at) % 80) FROM ({weeks})") == 75


def test_the_schema_can_be_run_again(store: ClickHouse) -> None:
    insert(store, [receipt()])
    store.script((SQL / "schema.sql").read_text(encoding="utf-8"))
    insert(store, [receipt(receipt_id="second")])
    assert len(latest(store)) == 2
