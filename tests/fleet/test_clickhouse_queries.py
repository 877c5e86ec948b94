"""Every question of collector-config/clickhouse/queries, against a recount in Python of the same receipts."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from otel_steps.cli.report_sums import add_up
from otel_steps.record import parse_rfc3339, rfc3339
from tests.fleet.clickhouse import SQL, ClickHouse, question, receipts_store
from tests.fleet.clickhouse_receipts import interrupted, newest, run_agents
from tests.fleet.clickhouse_rows import COLUMNS, receipt_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_steps.record import CompletedStep

DAY_NS = 24 * 3600 * 10**9
TENANTS = {"acme": "agents", "beta": "web"}
"""Each tenant's service."""


@dataclass(frozen=True)
class Fleet:
    """A store that had receipts delivered the hard way, and the receipts that are true."""

    store: ClickHouse
    receipts: dict[str, list[CompletedStep]]
    window: dict[str, Any]

    def of(self, tenant: str) -> list[CompletedStep]:
        return self.receipts[tenant] if tenant else [each for own in self.receipts.values() for each in own]

    def ask(self, name: str, tenant: str = "", **parameters: Any) -> list[dict[str, Any]]:
        return self.store.rows(question(name), self.window | {"tenant": tenant} | parameters)


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with receipts_store() as store:
        written = {"acme": run_agents(20), "beta": run_agents(6)}
        truth: dict[str, list[CompletedStep]] = {}
        for tenant, receipts in written.items():
            told = [on_its_day(each) for each in receipts]
            told[3] = msgspec.structs.replace(told[3], duplicates_discarded=4, invalid_costs=2, unmetered_calls=1)
            truth[tenant] = newest(told)
            rows = (told + [interrupted(each) for each in told if each.revision == 1][::4]) * 2
            random.Random(1).shuffle(rows)
            for start in range(0, len(rows), 40):
                part = receipt_rows(rows[start : start + 40], {"service.name": TENANTS[tenant], "tenant": tenant})
                store.insert("otel_steps_landing", part, COLUMNS)
        days = sorted(each.ended_at[:10] for own in truth.values() for each in own)
        end = datetime.fromisoformat(days[-1]) + timedelta(days=1)
        yield Fleet(store, truth, {"from": f"{days[0]} 00:00:00", "to": f"{end:%Y-%m-%d} 00:00:00"})


def on_its_day(receipt: CompletedStep) -> CompletedStep:
    """The receipts of a trace, moved to one of four days."""
    back = int((receipt.trace_id or "0")[0], 16) % 4 * DAY_NS
    times = {key: rfc3339(parse_rfc3339(getattr(receipt, key)) - back) for key in ("started_at", "ended_at")}
    return msgspec.structs.replace(receipt, **times)


def usd(nano: int) -> Decimal:
    return Decimal(nano) / 10**9


def costs(receipts: list[CompletedStep], key: Callable[[CompletedStep], Any]) -> dict[Any, tuple[Any, ...]]:
    sums: dict[Any, list[int]] = defaultdict(lambda: [0] * 5)
    for each in receipts:
        figures = (1, each.llm_calls, each.input_tokens, each.output_tokens, each.cost_nano_usd)
        sums[key(each)] = [old + new for old, new in zip(sums[key(each)], figures, strict=True)]
    return {name: (*figures[:4], usd(figures[4])) for name, figures in sums.items()}


BY: dict[str, Callable[[CompletedStep], Any]] = {
    "step": lambda each: each.name,
    "persona": lambda each: each.persona or "",
    "model": lambda each: each.model or "",
    "day": lambda each: each.ended_at[:10],
}


@pytest.mark.parametrize("tenant", ["", "acme", "beta"])
@pytest.mark.parametrize("by", BY)
def test_cost_by(fleet: Fleet, by: str, tenant: str) -> None:
    rows = fleet.ask(f"cost_by_{by}", tenant)
    figures = ("steps", "calls", "tokens_in", "tokens_out", "usd")
    found = {row[by]: tuple(row[figure] for figure in figures) for row in rows}
    assert found == costs(fleet.of(tenant), BY[by])
    assert len(rows) == len(found) >= (1 if by == "day" else 3)
    order = [row["day"] for row in rows] if by == "day" else [-row["usd"] for row in rows]
    assert order == sorted(order)


@pytest.mark.parametrize("by", BY)
def test_costs_are_those_of_the_report_command(fleet: Fleet, by: str) -> None:
    told = {key: sums.cost_nano_usd for key, sums in add_up(lambda: fleet.of(""), by).items()}
    found = {row[by] or "-": row["usd"] * 10**9 for row in fleet.ask(f"cost_by_{by}")}
    assert found == told


def test_cost_by_tenant(fleet: Fleet) -> None:
    found = {row["tenant"]: row["usd"] for row in fleet.ask("cost_by_tenant")}
    assert found == {name: usd(sum(each.cost_nano_usd for each in own)) for name, own in fleet.receipts.items()}
    assert [row["tenant"] for row in fleet.ask("cost_by_tenant", "beta")] == ["beta"]


def test_a_window_takes_its_begin_and_not_its_end(fleet: Fleet) -> None:
    days = [row["day"] for row in fleet.ask("cost_by_day")]
    assert len(days) > 1
    some = fleet.ask("cost_by_day", **{"from": f"{days[0]} 00:00:00", "to": f"{days[1]} 00:00:00"})
    assert [row["day"] for row in some] == days[:1]


def test_budget_use(fleet: Fleet) -> None:
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    stops: Counter[tuple[str, str]] = Counter()
    for each in fleet.of(""):
        used: dict[str, float] = {}
        if each.max_usd:
            used["max_usd"] = each.total_cost_nano_usd / 10**9 / each.max_usd
        if each.max_tokens:
            used["max_tokens"] = (each.total_input_tokens + each.total_output_tokens) / each.max_tokens
        for limit, share in used.items():
            shares[each.name, limit].append(share)
            stops[each.name, limit] += limit in each.breached
    found = {(row["step"], row["limit"]): row for row in fleet.ask("budget_use")}
    assert set(found) == set(shares)
    for key, values in shares.items():
        values.sort()
        row = found[key]
        assert (row["receipts"], row["stops"], row["most"]) == (len(values), stops[key], values[-1])
        assert row["p50"] == values[math.ceil(0.5 * len(values)) - 1]
        assert row["p95"] == values[math.ceil(0.95 * len(values)) - 1]
    assert any(row["most"] > 1 for row in found.values())


def test_stops(fleet: Fleet) -> None:
    count: Counter[tuple[str, str, str]] = Counter()
    statuses: Counter[str] = Counter()
    spent: Counter[tuple[str, str, str]] = Counter()
    for each in fleet.of(""):
        if each.breached:
            key = (each.name, each.breached[0], each.error_boundary)
            count[key] += 1
            statuses[each.status] += 1
            spent[key] += each.total_cost_nano_usd
    rows = fleet.ask("stops")
    found = {(row["step"], row["limit"], row["boundary"]): row for row in rows}
    assert {key: row["stops"] for key, row in found.items()} == count
    assert {key: row["usd"] for key, row in found.items()} == {key: usd(nano) for key, nano in spent.items()}
    for status in ("failed", "skipped", "escalated"):
        assert sum(row[status] for row in rows) == statuses[status] > 0


def test_unpriced(fleet: Fleet) -> None:
    wanted: Counter[tuple[str, str, str]] = Counter()
    for tenant, own in fleet.receipts.items():
        for each in own:
            missing = each.unpriced_calls + each.unmetered_calls + each.invalid_costs
            if missing:
                wanted[TENANTS[tenant], each.name, each.model or ""] += missing
    rows = fleet.ask("unpriced")
    found = {
        (row["service"], row["step"], row["model"]): row["unpriced"] + row["unmetered"] + row["invalid"] for row in rows
    }
    assert found == wanted
    assert sum(row["invalid"] for row in rows) == 4
    assert sum(row["unpriced"] for row in rows) == sum(each.unpriced_calls for each in fleet.of("")) > 0


def test_dearest_runs(fleet: Fleet) -> None:
    runs: dict[tuple[str, str], list[CompletedStep]] = defaultdict(list)
    for tenant, own in fleet.receipts.items():
        for each in own:
            runs[tenant, each.run_id or each.trace_id or each.receipt_id].append(each)
    rows = fleet.ask("dearest_runs", top=7)
    assert len(rows) == 7
    sums = {key: sum(each.cost_nano_usd for each in steps) for key, steps in runs.items()}
    assert [row["usd"] for row in rows] == [usd(nano) for nano in sorted(sums.values(), reverse=True)[:7]]
    for row in rows:
        steps = runs[row["tenant"], row["run"]]
        assert row["usd"] == usd(sums[row["tenant"], row["run"]])
        assert row["traces"] == sorted({each.trace_id for each in steps if each.trace_id}) != []
        assert row["steps"] == len(steps)


def test_run_steps(fleet: Fleet) -> None:
    run = next(each.run_id for each in fleet.of("acme") if each.run_id)
    steps = {each.receipt_id: each for each in fleet.of("acme") if each.run_id == run}
    rows = fleet.ask("run_steps", run=run)
    assert [row["step"] for row in rows] == [each.name for each in sorted(steps.values(), key=lambda x: x.started_at)]
    assert {row["receipt"] for row in rows} == set(steps)
    for row in rows:
        each = steps[row["receipt"]]
        around = steps.get(each.parent_receipt_id or "")
        assert row["inside"] == ("" if around is None else around.name)
        assert (row["usd"], row["usd_inclusive"]) == (usd(each.cost_nano_usd), usd(each.total_cost_nano_usd))
    outermost = [row for row in rows if not row["inside"]]
    assert sum(row["usd"] for row in rows) == sum(row["usd_inclusive"] for row in outermost)
    assert fleet.ask("run_steps", "beta", run=run) == []


def test_duplicates(fleet: Fleet) -> None:
    rows = fleet.ask("duplicates")
    assert {(row["service"], row["duplicates"]) for row in rows} == {("agents", 4), ("web", 4)}
    assert [row["duplicates_per_call"] for row in fleet.ask("duplicates", "beta")] == [round(4 / rows[0]["calls"], 3)]


def test_merges_change_no_answer(fleet: Fleet) -> None:
    parameters: dict[str, Any] = {"top": 50, "run": fleet.of("")[0].run_id or ""}
    names = sorted(path.stem for path in (SQL / "queries").glob("*.sql"))
    before = {name: fleet.ask(name, **parameters) for name in names}
    rows = fleet.store.value("SELECT count() FROM otel_steps_receipts")
    fleet.store.run("OPTIMIZE TABLE otel_steps_receipts FINAL")
    assert fleet.store.value("SELECT count() FROM otel_steps_receipts") == len(fleet.of("")) < rows
    assert {name: fleet.ask(name, **parameters) for name in names} == before


def test_missing(fleet: Fleet) -> None:
    # nothing where every receipt is there, and the step around one that is not
    assert fleet.ask("missing") == []
    lost = next(each for each in fleet.of("acme") if each.name == "search" and each.total_cost_nano_usd)
    with receipts_store() as store:
        for tenant, own in fleet.receipts.items():
            rows = receipt_rows([each for each in own if each is not lost], {"tenant": tenant})
            store.insert("otel_steps_landing", rows, COLUMNS)
        found = store.rows(question("missing"), fleet.window | {"tenant": ""})
    assert [(row["receipt"], row["missing_usd"]) for row in found] == [
        (lost.parent_receipt_id, usd(lost.total_cost_nano_usd))
    ]


@pytest.mark.parametrize("path", sorted((SQL / "queries").glob("*.sql")), ids=lambda path: path.stem)
def test_each_file_says_what_it_answers_and_what_it_takes(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    head = "".join(re.findall(r"^--.*\n", text, re.MULTILINE))
    assert "?" in head.splitlines()[0], "the first line is the question"
    parameters = set(re.findall(r"\{(\w+):", text))
    (told,) = re.findall(r"^-- Parameters: (.+)", head, re.MULTILINE)
    assert parameters == set(re.findall(r"\b(?:from|to|tenant|top|run)\b(?=[, (;.])", re.sub(r"\([^)]*\)", "", told)))
    assert "otel_steps_receipts_latest" in text
    assert not re.search(r"otel_steps_receipts\b(?!_latest)", text), "the table itself counts receipts twice"


def test_the_readme_lists_every_question() -> None:
    readme = (SQL / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)\.sql`", readme)) == {path.stem for path in SQL.rglob("*.sql")}


def test_every_question_is_tested() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    tested = tests | {f"cost_by_{by}" for by in BY}
    assert {path.stem for path in (SQL / "queries").glob("*.sql")} <= tested
