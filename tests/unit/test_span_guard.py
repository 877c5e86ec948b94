"""What others get for the span of a scope: theirs to read and to annotate, not to name, end, or count a call on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from otel_steps import StepBudgetExceeded, step, suspended
from otel_steps.runtime import context, span_guard
from otel_steps.runtime.charging import take_in
from otel_steps.runtime.state import runtime
from otel_steps.usage import Usage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Meter:
    """Meters what has `gen_ai.usage.input_tokens`, as the conventions would; keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, Any], bool]] = []
        self.again: list[bool] = []
        self.takes_all = False

    def __call__(self, scope: Any, attributes: dict[str, Any], failed: bool, again: bool = False) -> bool:
        self.told.append((attributes, failed))
        self.again.append(again)
        tokens = attributes.get("gen_ai.usage.input_tokens")
        if tokens is None:
            return self.takes_all
        take_in(runtime(), scope, Usage("m", tokens, 0, cost_nano_usd=0), by_hand=False)
        return True


@pytest.fixture
def meter() -> Meter:
    made = Meter()
    runtime().meter_told = made
    return made


def tell(tokens: int) -> None:
    trace.get_current_span().set_attribute("gen_ai.usage.input_tokens", tokens)


def test_what_is_not_of_a_call_reaches_the_span_until_the_scope_ends(spans: InMemorySpanExporter) -> None:
    with step("plan") as plan:
        guard: Any = trace.get_current_span()
        assert guard.get_span_context().is_valid
        assert guard.is_recording()
        assert guard.name == "plan"
        link = trace.SpanContext(1, 2, is_remote=False)
        guard.set_attributes({"user": "u", "team": "t"})
        guard.add_event("seen", {"n": 1})
        guard.add_link(link)
        guard.record_exception(ValueError("kept"))
        guard.update_name("mine")
        guard.set_status(Status(StatusCode.ERROR, "theirs"))
        guard.set_status(StatusCode.OK)
        guard.end()
        assert guard.is_recording()
    guard.set_attribute("late", 1)
    guard.add_event("late")
    guard.add_link(link)
    guard.record_exception(ValueError("late"))
    assert plan.status == "completed"
    (span,) = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert (span.name, span.status.status_code, span.status.description) == ("plan", StatusCode.OK, None)
    assert (attributes["user"], attributes["team"]) == ("u", "t")
    assert "late" not in attributes
    assert [event.name for event in span.events] == ["seen", "exception"]
    assert [each.context for each in span.links] == [link]


def test_a_call_ends_where_its_next_begins(spans: InMemorySpanExporter, meter: Meter) -> None:
    with step("plan") as plan:
        tell(5)
        tell(7)  # the same key again: the next call
        trace.get_current_span().set_status(StatusCode.ERROR)
        tell(9)
    assert (plan.llm_calls, plan.input_tokens) == (3, 21)
    assert [failed for _, failed in meter.told] == [False, False, True]
    (span,) = spans.get_finished_spans()
    assert not [key for key in span.attributes or {} if key.startswith("gen_ai.usage")]


def test_a_call_is_metered_a_moment_after_it_was_told(spans: InMemorySpanExporter, meter: Meter) -> None:
    with step("plan") as plan:
        tell(5)
        deadline = time.monotonic() + 5
        while plan.llm_calls == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        assert plan.llm_calls == 1
    assert len(spans.get_finished_spans()) == 1


def test_a_limit_looks_at_what_was_told_at_each_gate(spans: InMemorySpanExporter, meter: Meter) -> None:
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=10) as plan:
        tell(50)
        plan.check()
        raise AssertionError("not stopped")
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=10):
        tell(50)
    assert len(spans.get_finished_spans()) == 2


def test_what_tells_of_no_call_goes_onto_the_span_after_all(spans: InMemorySpanExporter, meter: Meter) -> None:
    with step("plan"):
        trace.get_current_span().set_attribute("gen_ai.request.model", "m")
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["gen_ai.request.model"] == "m"
    assert len(meter.told) == 1


def test_without_anybody_who_meters_everything_goes_onto_the_span(spans: InMemorySpanExporter) -> None:
    runtime().meter_told = None
    with step("plan"):
        tell(5)
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["gen_ai.usage.input_tokens"] == 5


def test_another_scopes_call_is_left_to_its_own_gates(
    spans: InMemorySpanExporter, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(span_guard, "SETTLE_AFTER_S", 60.0)
    with step("first") as first:
        trace.get_current_span().set_attribute("gen_ai.request.model", "m")
        tell(5)
        with suspended(), step("apart") as apart:
            apart.check()
        assert first.llm_calls == 0
        first.check()
        assert first.llm_calls == 1
    assert len(spans.get_finished_spans()) == 2


def test_a_fault_in_metering_is_reported_and_raised_nowhere(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> bool:
        raise ValueError("broken")

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    runtime().meter_told = breaks
    with step("plan") as plan:
        tell(5)
    assert plan.status == "completed"
    assert runtime().faults.count == 1
    assert len(spans.get_finished_spans()) == 1


def write(guard: Any, **values: Any) -> threading.Thread:
    """Attributes of a call written by another thread, one every few milliseconds."""

    def write_them() -> None:
        for key, value in values.items():
            guard.set_attribute(f"gen_ai.{key.replace('__', '.')}", value)
            begun.set()
            time.sleep(span_guard.SETTLE_AFTER_S / 3)

    begun = threading.Event()
    thread = threading.Thread(target=write_them)
    thread.start()
    assert begun.wait(10)
    return thread


@pytest.mark.usefixtures("spans")
def test_a_gate_waits_for_a_call_that_another_thread_is_writing(meter: Meter) -> None:
    with step("plan"):
        thread = write(trace.get_current_span(), request__model="m", usage__input_tokens=10, usage__output_tokens=5)
    thread.join()
    assert meter.told[0][0]["gen_ai.usage.input_tokens"] == 10


@pytest.mark.usefixtures("spans")
def test_a_gate_that_may_not_wait_takes_what_is_there(meter: Meter) -> None:
    with step("plan"):
        scope = context.current_scope()
        assert scope is not None
        thread = write(trace.get_current_span(), usage__input_tokens=10)
        span_guard.settle_told(runtime(), scope, wait=False)
        assert meter.told == [({"gen_ai.usage.input_tokens": 10}, False)]
        thread.join()


@pytest.mark.usefixtures("spans")
def test_the_rest_of_a_call_that_was_metered_is_no_other_call(meter: Meter) -> None:
    with step("plan") as plan:
        tell(10)
        plan.check()
        trace.get_current_span().set_attribute("gen_ai.response.id", "a")
        plan.check()
        assert plan.llm_calls == 1


@pytest.mark.usefixtures("spans")
def test_usage_that_follows_a_call_metered_without_completes_it(meter: Meter) -> None:
    meter.takes_all = True
    with step("plan") as plan:
        trace.get_current_span().set_attribute("gen_ai.response.id", "a")
        plan.check()
        tell(10)
    assert meter.told[-1][0] == {"gen_ai.response.id": "a", "gen_ai.usage.input_tokens": 10}
    assert meter.again == [False, True]


@pytest.mark.usefixtures("spans")
def test_a_call_is_not_settled_while_it_is_being_written(meter: Meter) -> None:
    with step("plan"):
        write(trace.get_current_span(), request__model="m", usage__input_tokens=10, usage__output_tokens=5).join()
        deadline = time.monotonic() + 10
        while not meter.told and time.monotonic() < deadline:
            time.sleep(0.005)
    assert [sorted(told) for told, _ in meter.told] == [
        ["gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"]
    ]


def test_what_is_no_call_and_comes_after_the_end_is_left_out(meter: Meter, spans: InMemorySpanExporter) -> None:
    with step("plan"):
        guard: Any = trace.get_current_span()
    guard.set_attribute("gen_ai.request.seed", 1)
    guard.set_status(StatusCode.OK)
    assert meter.told == [({"gen_ai.request.seed": 1}, False)]
    (span,) = spans.get_finished_spans()
    assert "gen_ai.request.seed" not in (span.attributes or {})
