"""What a forked child does first, done here: the parent's scopes, receipts, locks and connections are not its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context as otel_context

from otel_steps import (
    StepBudgetExceeded,
    current_step,
    peek_completed_steps,
    persona,
    record_llm_usage,
    run,
    step,
    suspended,
)
from otel_steps.runtime import fork, meter
from otel_steps.runtime.context import OTEL_KEY, raw_current
from otel_steps.runtime.state import runtime
from otel_steps.runtime.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

in_child: Any = getattr(fork, "_in_child")  # noqa: B009 - what os.register_at_fork calls


@pytest.fixture(autouse=True)
def parents_context() -> Iterator[None]:
    """A child's context ends with it; this process goes on."""
    before = otel_context.get_current()
    yield
    otel_context.attach(before)


class Gate:
    """A transport gate that notes who left; broken where it is told so."""

    def __init__(self, error: Exception | None = None) -> None:
        self.left: list[Any] = []
        self.error = error

    def limit_broke(self, owner: Any) -> None:
        pass

    def scope_left(self, owner: Any) -> None:
        self.left.append(owner)
        if self.error is not None:
            raise self.error


def test_a_child_has_no_open_steps_and_no_receipts(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    rt = runtime()
    rt.windows = Windows(tmp_path / "windows.db", rt.warnings)
    lock = meter.LOCK
    with step("finished"):
        pass
    with run("r") as r, persona("p"), step("outer") as outer, step("inner") as inner:
        in_child()
        assert meter.LOCK is not lock
        assert (current_step(), raw_current()) == (None, None)
        assert otel_context.get_current().get(OTEL_KEY) is None
        assert peek_completed_steps() == []
        assert rt.span_scopes == {}
        record_llm_usage("m", 5, 5, 0.0)
    assert peek_completed_steps() == []  # the parent writes their receipts
    assert (outer.llm_calls, inner.llm_calls, r.totals.llm_calls) == (0, 0, 0)


def test_a_child_that_is_forked_while_the_scopes_are_left_has_none_either() -> None:
    with step("outer") as outer:
        with suspended():
            in_child()
        assert current_step() is None
        record_llm_usage("m", 5, 5, 0.0)
    assert outer.llm_calls == 0


def test_a_child_outside_every_scope_has_nothing_to_leave() -> None:
    in_child()
    assert current_step() is None


def test_the_transport_gate_lets_go_of_the_parents_scopes() -> None:
    rt = runtime()
    gate = rt.gate = Gate()
    with pytest.raises(BaseException) as left, step("plan", max_tokens=1):
        with pytest.raises(BaseException):
            record_llm_usage("m", 5, 5, 0.0)
        in_child()
        assert [owner.name for owner in gate.left] == ["plan"]
        assert rt.broken == {}
        raise KeyboardInterrupt
    assert left.type is KeyboardInterrupt


def test_a_gate_that_fails_in_the_child_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    rt = runtime()
    rt.gate = Gate(ValueError("stuck"))
    block = step("plan", max_tokens=1)
    block.__enter__()
    with pytest.raises(BaseException):
        record_llm_usage("m", 5, 5, 0.0)
    before = rt.faults.count
    in_child()
    assert rt.faults.count == before + 1
    rt.gate = None
    in_child()
    with pytest.raises(StepBudgetExceeded):  # who unwinds through the parent's blocks meets their boundaries
        block.__exit__(None, None, None)


def test_the_budget_windows_of_a_child_begin_a_connection_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows(tmp_path / "windows.db", runtime().warnings, clock=lambda: 1_000_000.0)
    assert windows.add("coder", 5) == (5, 5)
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    windows.forked()
    assert windows.add("coder", 7) == (12, 12)  # with its parent's, which is in the store
    assert len(windows._abandoned) == 1  # never closed here
    monkeypatch.setattr(os, "getpid", lambda: parent + 2)
    windows.close()
    assert windows.add("coder", 1) == (13, 13)
    assert len(windows._abandoned) == 1
    windows.close()
    for connection in windows._abandoned:
        connection.close()


def test_a_system_without_fork_has_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "register_at_fork")
    fork.watch()


def test_the_shared_budgets_of_a_child_begin_connections_of_their_own() -> None:
    class Shared:
        forks = 0

        def forked(self) -> None:
            self.forks += 1

    shared: Any = Shared()
    runtime().shared = shared
    in_child()
    runtime().shared = None
    assert shared.forks == 1
