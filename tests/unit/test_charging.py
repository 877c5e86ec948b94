"""Charges as instrumentations report them, and what is told of them: prices, journal, thresholds, amended receipts."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

import pytest

from otel_steps import (
    StepBudgetExceeded,
    carry,
    current_step,
    drain_completed_steps,
    hook,
    persona,
    record_llm_usage,
    run,
    step,
)
from otel_steps.runtime import charging, lifecycle
from otel_steps.runtime.charging import take_in
from otel_steps.runtime.context import charged_scope, current_scope
from otel_steps.runtime.metrics import StepMetrics
from otel_steps.runtime.parts import ReceiptSink
from otel_steps.runtime.receipt import amended
from otel_steps.runtime.state import runtime
from otel_steps.usage import Usage


def by_span(tokens: int = 1, nano: int | None = 0, **more: Any) -> None:
    scope = charged_scope()
    assert scope is not None
    take_in(runtime(), scope, Usage("m", tokens, 0, cost_nano_usd=nano, **more), by_hand=False)


def test_an_amount_that_no_call_can_cost_is_held_within_bounds() -> None:
    with step("plan"):
        by_span(-5, -7, cache_read_tokens=-1, cache_write_tokens=-1, reasoning_tokens=-1)
        by_span(5, 10**60)
    (record,) = drain_completed_steps()
    assert (record.input_tokens, record.llm_calls, record.invalid_costs) == (5, 2, 1)
    assert 0 < record.cost_nano_usd <= 2**63 - 1


def test_a_report_that_completes_a_call_is_no_call_of_its_own() -> None:
    with step("plan"):
        by_span(0, None, metered=False)
        by_span(5, 10, completes=True)
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.unmetered_calls, record.input_tokens) == (1, 0, 5)


def test_without_a_price_list_a_call_is_unpriced() -> None:
    runtime().pricer = None
    with step("plan"):
        by_span(5, None)
        by_span(0, None)
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.unpriced_calls) == (2, 1)


def test_an_unpriced_call_breaks_a_daily_limit_alone_too() -> None:
    with pytest.raises(StepBudgetExceeded, match="set_price") as stopped, persona("coder", daily_usd=5, hourly_usd=1):
        record_llm_usage("no-such-model", 5, 5)
    assert stopped.value.limit == "daily_usd"
    with persona("free"):  # beside one that has windows, a persona without any
        record_llm_usage("no-such-model", 5, 5)


def test_a_call_told_twice_outside_any_step_is_on_no_receipt() -> None:
    with run("r") as r:
        for _ in range(2):
            record_llm_usage("m", 5, 0, 0.1, response_id="chatcmpl-abcdef0123456789")
    assert r.totals.llm_calls == 1


def test_the_journal_is_told_of_open_steps_and_of_no_closed_one() -> None:
    class Kept(ReceiptSink):
        def __init__(self) -> None:
            self.told: list[tuple[str, ...]] = []

        def spent(self, receipt_id: str, usage: Usage, opened: Any) -> None:
            self.told.append(tuple(record.name for record in opened))

        def completed(self, record: Any) -> None:
            self.told.append((f"{record.name} {record.revision}",))

    sink = runtime().sink = Kept()
    with step("outer"):
        with step("inner"):
            late = carry(record_llm_usage)
        late("m", 5, 0, 0.0)
    assert sink.told == [("inner 1",), ("outer",), ("inner 2",), ("outer 1",)]


def test_a_threshold_hook_that_fails_at_the_end_of_a_span_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @hook("OnBudgetThreshold(50)")
    def fails(told: Any) -> None:
        raise ValueError("broken hook")

    with caplog.at_level(logging.WARNING, "otel_steps"), step("plan", max_tokens=10):
        by_span(6)
    assert "broken hook" in caplog.text
    assert [record.status for record in drain_completed_steps()] == ["completed"]


def test_thresholds_are_a_matter_of_steps() -> None:
    told: list[Any] = []
    hook("OnBudgetThreshold(50)")(lambda each: told.append(each["target"]))
    with persona("coder", max_tokens=10), step("free"):
        by_span(6)
    with step("closed", max_tokens=10):
        late = carry(by_span)
    late(9)
    assert told == []


def test_late_usage_amends_the_metrics_of_a_reset_runtime_too() -> None:
    with step("plan"):
        late = carry(record_llm_usage)
    runtime().metrics = StepMetrics()
    late("m", 5, 0, 0.25)
    assert [(record.revision, record.cost_usd) for record in drain_completed_steps()] == [(1, 0.0), (2, 0.25)]


def test_metrics_that_fail_keep_no_amended_receipt_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise ValueError("reader")

    with step("plan"):
        late = carry(record_llm_usage)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr(StepMetrics, "step_amended", breaks)
    late("m", 5, 0, 0.0)
    assert runtime().faults.count == 1
    assert [record.revision for record in drain_completed_steps()] == [1, 2]


def test_an_open_steps_receipt_cannot_be_amended() -> None:
    with step("plan"):
        scope: Any = current_scope()
        with pytest.raises(ValueError, match="not closed"):
            amended(scope)


def test_a_limit_that_breaks_as_its_scope_is_left_is_nobodys() -> None:
    class Leaves:
        """A gate put in while another thread leaves the scope."""

        def __init__(self) -> None:
            self.left: list[Any] = []

        def limit_broke(self, owner: Any) -> None:
            owner.closed = True

        def scope_left(self, owner: Any) -> None:
            self.left.append(owner)

    rt = runtime()
    gate = rt.gate = Leaves()
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=1):
        scope: Any = current_scope()
        by_span(5)
        assert gate.left == [scope]
        rt.broken.clear()
        lifecycle.limit_broke(rt, scope)
        assert rt.broken == {}
    assert current_step() is None


def test_without_a_transport_gate_limits_hold_all_the_same() -> None:
    runtime().gate = None
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=1):
        record_llm_usage("m", 5, 0, 0.0)


def test_a_fault_while_the_interpreter_ends_is_counted_and_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    runtime().faults.report("the end", ValueError("late"))
    assert runtime().faults.count == 1


@pytest.mark.parametrize("unmetered", ["stop", "allow"])
def test_a_call_that_was_awaited_in_vain_breaks_what_one_without_usage_breaks(
    unmetered: str, caplog: pytest.LogCaptureFixture
) -> None:
    runtime().set_options(unmetered=unmetered)
    with contextlib.suppress(StepBudgetExceeded), step("outer", max_tokens=10), step("plan", max_usd=1) as plan:
        scope = charged_scope()
        assert scope is not None
        charging.judge_unmetered(runtime(), scope, "m")
        charging.judge_unmetered(runtime(), scope, "m")
        assert plan.breached == (("max_usd",) if unmetered == "stop" else ())
    assert "without usage" in caplog.text
