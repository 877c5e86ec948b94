"""`otel-steps receipts list|show`: the journal as people and programs read it."""

from __future__ import annotations

import heapq
import sys
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from .options import examples, json_option, readable_store, store_option
from .receipts_upkeep import prune, ship
from .since import Since
from .terminal import console, limit_text, line, plural, print_json, print_table, receipts_table, status_text, usd_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..receipts.reader import StoredReceipt
    from ..record import CompletedStep

STATUSES: Final = ("completed", "skipped", "escalated", "failed", "cancelled", "interrupted")
STATES: Final = ("waiting", "delivered", "set_aside", "history")


@click.group()
def receipts() -> None:
    """Read, deliver and tidy the receipts in the journal."""


receipts.add_command(ship)
receipts.add_command(prune)


@receipts.command(
    "list",
    epilog=examples(
        "otel-steps receipts list --status failed --since 24h",
        "otel-steps receipts list --json -n 0 | jq -s 'map(.cost_usd) | add'",
    ),
)
@store_option
@click.option("--step", metavar="NAME", help="Only this step.")
@click.option("--persona", metavar="NAME", help="Only this persona.")
@click.option("--status", type=click.Choice(STATUSES), help="Only this status.")
@click.option("--state", type=click.Choice(STATES), help="Only what became of delivery.")
@click.option("--run", "run_id", metavar="ID", help="Only this run.")
@click.option("--trace", "trace_id", metavar="ID", help="Only this trace.")
@click.option("--since", type=Since(), metavar="AGE|TIME", help="Only what ended since, such as 24h or 2026-01-31.")
@click.option("-n", "--limit", type=click.IntRange(0), default=20, show_default=True, help="Newest so many; 0 is all.")
@json_option
def list_receipts(*, store: Path | None, limit: int, as_json: bool, **wanted: str | None) -> None:
    """List the newest receipts, oldest of them first; each in its latest revision.

    With --json one object a line: the receipt's fields and `state` (waiting, delivered, set_aside, or history where
    there was no endpoint).
    """
    folder = readable_store(store)
    found = (stored for stored in _read(folder) if _matches(stored, wanted))
    chosen = _newest(found, limit)
    if as_json:
        for stored in chosen:
            print_json(_as_json(stored))
        return
    out = console()
    if not chosen:
        line(out, f"No receipts in {folder} match." if any(wanted.values()) else f"No receipts in {folder}.")
        return
    print_table(out, receipts_table(stored.record for stored in chosen))
    cost = usd_text(sum(stored.record.cost_nano_usd for stored in chosen))
    line(out, f"{plural(len(chosen), 'receipt')}, {cost}; {folder}")


@receipts.command(epilog=examples("otel-steps receipts show last", "otel-steps receipts show 01a20c97 --json"))
@click.argument("receipt_id")
@store_option
@json_option
def show(*, receipt_id: str, store: Path | None, as_json: bool) -> None:
    """Show one receipt in full; the beginning of its id is enough, and `last` is the newest.

    Exit code 1 where there is none, or the beginning fits several.
    """
    folder = readable_store(store)
    fitting = (s for s in _read(folder) if receipt_id == "last" or s.record.receipt_id.startswith(receipt_id.lower()))
    found = _newest(fitting, 1 if receipt_id == "last" else 0)
    if len(found) != 1:
        what = f"{len(found)} receipts begin with {receipt_id}" if found else f"no receipt {receipt_id}"
        line(console(stderr=True), f"{what} in {folder}")
        sys.exit(1)
    if as_json:
        print_json(_as_json(found[0]))
    else:
        _show(found[0])


def _read(folder: Path) -> Iterator[StoredReceipt]:
    from ..receipts.reader import read_receipts

    return read_receipts(folder)


def _matches(stored: StoredReceipt, wanted: dict[str, str | None]) -> bool:
    record = stored.record
    since = wanted["since"]
    return (
        wanted["step"] in {None, record.name}
        and wanted["persona"] in {None, record.persona}
        and wanted["status"] in {None, record.status}
        and wanted["state"] in {None, stored.state}
        and wanted["run_id"] in {None, record.run_id}
        and wanted["trace_id"] in {None, record.trace_id}
        and (since is None or record.ended_at >= since)
    )


def _newest(found: Iterator[StoredReceipt], limit: int) -> list[StoredReceipt]:
    """The newest `limit` (0: all), oldest first, one revision each; ids sort by the time at which the step began."""

    def age(stored: StoredReceipt) -> tuple[str, int]:
        return stored.record.receipt_id, stored.record.revision

    # with room for earlier revisions, of which a receipt seldom has more than one
    ordered = sorted(found, key=age) if limit == 0 else heapq.nlargest(limit * 4, found, key=age)[::-1]
    latest = {stored.record.receipt_id: stored for stored in ordered}
    return list(latest.values())[-limit:]


def _as_json(stored: StoredReceipt) -> dict[str, Any]:
    from ..record import completed_step_to_json

    return {**completed_step_to_json(stored.record), "state": stored.state}


def _show(stored: StoredReceipt) -> None:
    record = stored.record
    out = console()
    line(out, Text.assemble((record.name, "bold"), "  ", status_text(record.status, sign=True)))
    if record.error:
        line(out, Text(record.error, style="red"))
    for name, value in _facts(record, stored.state):
        line(out, Text.assemble((f"{name:<12} ", "dim"), value), indent=2)


def _facts(record: CompletedStep, state: str) -> Iterator[tuple[str, str]]:
    nested = record.total_llm_calls != record.llm_calls or record.total_cost_nano_usd != record.cost_nano_usd
    cached = f", {record.cache_read_tokens:,} read from cache" if record.cache_read_tokens else ""
    cached += f", {record.cache_write_tokens:,} written to cache" if record.cache_write_tokens else ""
    reasoning = f", {record.reasoning_tokens:,} reasoning" if record.reasoning_tokens else ""
    with_nested = f"{plural(record.total_llm_calls, 'call')}, {usd_text(record.total_cost_nano_usd)}" if nested else ""
    faults = ", ".join(
        f"{getattr(record, name)} {name.replace('_', ' ')}"
        for name in (
            *("unpriced_calls", "unmetered_calls", "invalid_costs", "duplicates_discarded"),
            "shared_unconsulted_calls",
        )
        if getattr(record, name)
    )
    facts = {
        "cost": usd_text(record.cost_nano_usd) + (f", priced by {record.price_source}" if record.price_source else ""),
        "limit": limit_text(record) + (f", broken: {', '.join(record.breached)}" if record.breached else ""),
        "calls": f"{record.llm_calls:,}",
        "input": f"{record.input_tokens:,} tokens{cached}",
        "output": f"{record.output_tokens:,} tokens{reasoning}",
        "with nested": with_nested,
        "to note": faults,
        "model": record.model or "",
        "persona": record.persona or "",
        "function": record.function or "",
        "boundary": record.error_boundary,
        "stage": " -> ".join(filter(None, (record.stage, record.next_stage))),
        "tools": ", ".join(record.tools_called),
        "denied tools": ", ".join(record.tools_denied),
        "started": record.started_at,
        "ended": record.ended_at,
        "delivery": state.replace("_", " "),
        "receipt": record.receipt_id + (f", revision {record.revision}" if record.revision > 1 else ""),
        "within": record.parent_receipt_id or "",
        "run": record.run_id or "",
        "trace": " ".join(filter(None, (record.trace_id, record.span_id))),
    }
    return ((name, value) for name, value in facts.items() if value)
