"""Receipts of real steps for the store's tests: stops, late usage, missing prices, odd text, steps inside steps."""

from __future__ import annotations

import contextlib
import contextvars
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.sdk.trace import TracerProvider

import otel_steps
from otel_steps import drain_completed_steps, persona, record_llm_usage, run, step, tool
from otel_steps.record import parse_rfc3339, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_steps.record import CompletedStep

PRICED = "gpt-4o"


def run_agents(rounds: int = 20) -> list[CompletedStep]:
    """Every receipt, amended ones in each revision, in the order in which they were written."""
    otel_steps.reset()
    otel_steps.configure(tracer_provider=TracerProvider(), deliver=False, unpriced="allow", durability="off")
    for number in range(rounds):
        _one_run(number)
        _no_run(number)
    return drain_completed_steps()


def newest(receipts: Sequence[CompletedStep]) -> list[CompletedStep]:
    """Of each receipt the highest revision, one of the step's own before an interrupted one."""
    chosen: dict[str, CompletedStep] = {}
    for each in receipts:
        have = chosen.setdefault(each.receipt_id, each)
        if (each.revision, each.status != "interrupted") > (have.revision, have.status != "interrupted"):
            chosen[each.receipt_id] = each
    return list(chosen.values())


def interrupted(receipt: CompletedStep) -> CompletedStep:
    """What the next process says of this step after a loss of power that took its receipt from the journal."""
    half = receipt.cost_nano_usd // 2
    return msgspec.structs.replace(
        receipt,
        status="interrupted",
        revision=1,
        cost_nano_usd=half,
        total_cost_nano_usd=half,
        ended_at=rfc3339(parse_rfc3339(receipt.started_at) + 1),
    )


@tool
def search(query: str) -> str:
    """A tool whose name lands on the receipt."""
    return query.upper()


def _one_run(number: int) -> None:
    with contextlib.suppress(otel_steps.StepEscalated), run(f"night {number}"), persona("researcher"):
        with step("answer", max_usd=0.5, max_tokens=100_000, error_boundary="escalate"):
            record_llm_usage(PRICED, 1000 + number, 200, 0.000000001 * (number + 1))
            with step("search", model=PRICED):
                search("x")
                record_llm_usage(PRICED, 10 * number, 5, 0.001)
                late = contextvars.copy_context()
            with step("rank", max_usd=0.01, error_boundary="continue"):
                record_llm_usage("claude-sonnet-4-5", 5000, 500, 0.004 + 0.001 * number)
            if number % 3 == 0:  # usage of a stream that was read to its end after its step: a second revision
                late.run(record_llm_usage, PRICED, 3, 4, 0.25)
            if number % 6 == 0:
                late.run(record_llm_usage, PRICED, 1, 1, 0.5)


def _no_run(number: int) -> None:
    with step("unpriced"):
        record_llm_usage("nobody/knows", 7, number)
    with contextlib.suppress(otel_steps.StepBudgetExceeded):
        with step('odd "näme" <&>\n☃', max_tokens=50):
            record_llm_usage(PRICED, 40 + number, 5, 0.002)
    with contextlib.suppress(ValueError):
        with persona("writer"), step("draft"):
            record_llm_usage(PRICED, 1, 1, 0.5)
            raise ValueError("it's broken; -- 'quoted' \\ text")
