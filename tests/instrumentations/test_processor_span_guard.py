"""Emitters that write a call's usage and status onto the current span, which is ours: metered call by call."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

import otel_steps
from otel_steps import CompletedStep, StepBudgetExceeded, StepStop, drain_completed_steps, persona, run, step
from otel_steps.runtime import span_guard
from otel_steps.runtime.state import runtime
from tests.instrumentations.emitting import call

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.trace import Tracer


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter, tmp_path: Path) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel_steps.configure(tracer_provider=provider, store=tmp_path)
    return provider.get_tracer("emitter")


def tell(span: Any, tokens: int, response_id: str, *, failed: bool = False) -> None:
    """Write of one call, attribute by attribute, as litellm's callback does."""
    span.set_status(Status(StatusCode.ERROR if failed else StatusCode.OK))
    span.set_attribute("metadata.user", "u1")
    span.set_attribute("gen_ai.operation.name", "chat")
    span.set_attribute("gen_ai.request.model", "gpt-4o-mini")
    span.set_attribute("gen_ai.system", "openai")
    if not failed:
        span.set_attribute("gen_ai.response.id", response_id)
        span.set_attribute("gen_ai.response.model", "gpt-4o-mini")
        span.set_attribute("gen_ai.usage.total_tokens", tokens + 5)
        span.set_attribute("gen_ai.usage.output_tokens", 5)
        span.set_attribute("gen_ai.usage.input_tokens", tokens)
    span.set_attribute("gen_ai.output.messages", "[]")


def on_a_thread(*calls: tuple[int, str]) -> None:
    span = trace.get_current_span()
    thread = threading.Thread(target=lambda: [tell(span, tokens, name) for tokens, name in calls])
    thread.start()
    thread.join()


def test_each_call_is_metered_and_the_span_stays_ours(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with step("plan"):
        on_a_thread((10, "chatcmpl-aaaaaaaa1"), (20, "chatcmpl-aaaaaaaa2"))
        tell(trace.get_current_span(), 30, "chatcmpl-aaaaaaaa3")
        trace.get_current_span().update_name("litellm_request")
        trace.get_current_span().end()
        trace.get_current_span().set_attribute("user.id", "u1")
        trace.get_current_span().add_event("noted")
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.output_tokens) == (3, 60, 15)
    assert record.cost_nano_usd == 60 * 150 + 15 * 600
    (span,) = exporter.get_finished_spans()
    assert CompletedStep.from_span(span) == record
    assert (span.name, span.status.status_code) == ("plan", StatusCode.OK)
    attributes = dict(span.attributes or {})
    assert (attributes["user.id"], attributes["metadata.user"]) == ("u1", "u1")
    assert not [key for key in attributes if key.startswith(("gen_ai.usage", "gen_ai.request", "gen_ai.response"))]
    assert [event.name for event in span.events] == ["noted"]


def test_the_status_of_a_failed_step_is_not_overwritten(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError), step("plan"):
        tell(trace.get_current_span(), 10, "chatcmpl-aaaaaaaa1")
        raise ValueError("no")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR


def test_a_limit_that_such_a_call_breaks_refuses_the_next_one_and_leaves_by_the_boundary(tracer: Tracer) -> None:
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=12) as active:
        on_a_thread((10, "chatcmpl-aaaaaaaa1"))
        with pytest.raises(StepStop), call(tracer):
            pytest.fail("sent")
        with pytest.raises(StepStop):
            active.check()

    @step(max_tokens=12, error_boundary="continue", fallback="less")
    def last() -> str:
        on_a_thread((10, "chatcmpl-aaaaaaaa2"))
        return "whole"

    assert last() == "less"


def test_a_limit_is_seen_to_be_broken_without_anybody_asking(tracer: Tracer) -> None:
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=12) as active:
        on_a_thread((10, "chatcmpl-aaaaaaaa1"))
        deadline = time.monotonic() + 5
        while not active.breached and time.monotonic() < deadline:
            time.sleep(0.005)
        assert active.breached == ("max_tokens",)


def test_what_is_told_after_the_step_amends_its_receipt(tracer: Tracer) -> None:
    with run("all", max_tokens=1000) as running:
        with step("plan"):
            span = trace.get_current_span()
        tell(span, 10, "chatcmpl-aaaaaaaa1")
        running.check()
        assert running.totals.input_tokens == 10
    assert [(record.revision, record.input_tokens) for record in drain_completed_steps()] == [(1, 0), (2, 10)]


def test_a_call_that_a_span_tells_of_too_is_counted_once(tracer: Tracer) -> None:
    with step("plan"):
        span = trace.get_current_span()
        with call(tracer, 10, output=5, response_id="chatcmpl-aaaaaaaa1"):
            pass
        tell(span, 10, "chatcmpl-aaaaaaaa1")
        tell(span, 20, "chatcmpl-aaaaaaaa2")
        with call(tracer, 20, output=5, response_id="chatcmpl-aaaaaaaa2"):
            pass
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.duplicates_discarded) == (2, 30, 2)


def test_a_failed_call_counts_without_usage(tracer: Tracer) -> None:
    with step("plan"):
        tell(trace.get_current_span(), 0, "", failed=True)
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.unmetered_calls) == (1, 0, 0)


def test_attributes_that_tell_of_no_call_reach_the_span_after_all(
    tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with step("plan"):
        trace.get_current_span().set_attributes({"llm.vendor": "mine", "gen_ai.conversation.id": "c1"})
    (span,) = exporter.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert (attributes["llm.vendor"], attributes["gen_ai.conversation.id"]) == ("mine", "c1")
    assert runtime().told_calls == {}


def test_usage_written_onto_a_persona_is_charged_to_it(tracer: Tracer) -> None:
    @persona(max_tokens=12)
    def agent() -> None:
        tell(trace.get_current_span(), 10, "chatcmpl-aaaaaaaa1")

    with pytest.raises(StepBudgetExceeded) as stopped:
        agent()
    assert stopped.value.scope == "persona"


def test_the_guard_reads_like_the_span_it_stands_for(tracer: Tracer) -> None:
    with step("plan"):
        span: Any = trace.get_current_span()
        assert span.is_recording()
        assert span.name == "plan"
        assert span.attributes["otel_steps.name"] == "plan"
        with tracer.start_as_current_span("child") as child:
            parent: Any = child
            assert parent.parent.span_id == span.get_span_context().span_id


def half(span: Any) -> None:
    span.set_status(Status(StatusCode.OK))
    span.set_attribute("gen_ai.operation.name", "chat")
    span.set_attribute("gen_ai.request.model", "gpt-4o-mini")


def other_half(span: Any, tokens: int) -> None:
    span.set_attribute("gen_ai.response.model", "gpt-4o-mini")
    span.set_attribute("gen_ai.usage.output_tokens", 5)
    span.set_attribute("gen_ai.usage.input_tokens", tokens)
    span.set_attribute("gen_ai.output.messages", "[]")


def test_the_exit_of_a_step_waits_for_a_call_that_is_half_written(tracer: Tracer) -> None:
    del tracer
    begun, may_end = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def write(span: Any) -> None:
        half(span)
        begun.set()
        may_end.wait(5)
        other_half(span, 10)

    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=12):
        threads.append(threading.Thread(target=write, args=(trace.get_current_span(),)))
        threads[0].start()
        begun.wait(5)
        threading.Timer(0.005, may_end.set).start()
    threads[0].join()
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.unmetered_calls, record.revision) == (1, 10, 0, 1)


def test_a_call_that_was_cut_in_two_is_one_call(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    del tracer
    monkeypatch.setattr(span_guard, "WAIT_MAX_S", 0.0)
    monkeypatch.setattr(span_guard, "SETTLE_AFTER_S", 60.0)
    begun, may_end = threading.Event(), threading.Event()

    def write(span: Any) -> None:
        half(span)
        begun.set()
        may_end.wait(5)
        other_half(span, 10)
        tell(span, 20, "chatcmpl-aaaaaaaa2")  # and the next, whole
        half(span)  # and one without usage
        span.set_status(StatusCode.OK)

    with run("all") as running:
        with step("plan"):
            thread = threading.Thread(target=write, args=(trace.get_current_span(),))
            thread.start()
            begun.wait(5)
        may_end.set()
        thread.join()
        assert (running.totals.llm_calls, running.totals.input_tokens) == (3, 30)
    first, *_, last = drain_completed_steps()
    assert (first.llm_calls, first.unmetered_calls) == (1, 1)
    assert (last.llm_calls, last.unmetered_calls, last.output_tokens) == (3, 1, 10)


def test_a_report_that_is_being_written_while_its_step_leaves_is_one_call(tracer: Tracer) -> None:
    del tracer
    for _ in range(50):
        with run("all") as running:
            with step("plan"):
                span = trace.get_current_span()
                thread = threading.Thread(target=tell, args=(span, 10, "chatcmpl-aaaaaaaa1"))
                thread.start()
            thread.join()
            running.check()
        assert (running.totals.llm_calls, running.totals.input_tokens) == (1, 10)
        last = drain_completed_steps()[-1]
        assert (last.llm_calls, last.unmetered_calls) == (1, 0)
