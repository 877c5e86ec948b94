"""What the spans of scopes carry: bounded and valid, whatever names, errors and totals there were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_steps import StepBudgetExceeded, StepStop, drain_completed_steps, persona, record_llm_usage, run, step
from otel_steps.runtime.spans import tracers
from otel_steps.runtime.state import runtime
from tests.instrumentations.emitting import call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

ODD = "bad \ud800 name " + "x" * 5000


def texts(span: ReadableSpan) -> list[str]:
    found: list[Any] = [span.name, span.status.description or ""]
    for attributes in (span.attributes, *(event.attributes for event in span.events)):
        found += (attributes or {}).values()
    return [text for text in found if isinstance(text, str)]


def test_spans_of_personas_and_runs_are_bounded_like_receipts(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError), run(ODD), persona(ODD), step(ODD):
        record_llm_usage(ODD, 2**70, 2**70, 1e15)
        raise ValueError(ODD)
    finished = spans.get_finished_spans()
    assert [span.status.status_code.name for span in finished] == ["ERROR"] * 3
    for span in finished:
        for text in texts(span):
            assert len(text.encode()) <= 4096
        assert span.status.description is not None
        assert len(span.status.description) <= 256
        numbers = [value for value in (span.attributes or {}).values() if isinstance(value, int)]
        assert max(numbers) == 2**63 - 1


def test_the_event_of_a_broken_limit_is_bounded_too(spans: InMemorySpanExporter) -> None:
    with pytest.raises(StepBudgetExceeded), step(ODD, max_tokens=1):
        record_llm_usage("m", 5, 5, 0.0)
    (span,) = spans.get_finished_spans()
    assert [event.name for event in span.events] == ["otel_steps.budget.exceeded"]
    assert all(len(text.encode()) <= 4096 for text in texts(span))


def test_scopes_whose_spans_the_sampler_drops_work_all_the_same(spans: InMemorySpanExporter) -> None:
    runtime().tracer_provider = TracerProvider(sampler=ALWAYS_OFF)
    with pytest.raises(StepBudgetExceeded), run("r", max_tokens=1), persona("p"), step("s"):
        record_llm_usage("m", 5, 5, 0.0)
    assert spans.get_finished_spans() == ()
    assert [record.status for record in drain_completed_steps()] == ["failed"]


def test_spans_need_nobody_who_watches_for_providers(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracers, "provider_changed", None)
    tracers.forget()
    with step("s"):
        pass
    assert [span.name for span in spans.get_finished_spans()] == ["s"]


def test_a_stop_is_no_error_of_a_step_that_continues(spans: InMemorySpanExporter) -> None:
    with step("s", max_tokens=1, error_boundary="continue"), pytest.raises(StepStop):
        record_llm_usage("m", 5, 5, 0.0)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code.name == "UNSET"


class Before:
    """A provider that stands before another one, which is changed behind it, as logfire does."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider

    def get_tracer(self, *given: Any, **named: Any) -> Any:
        return self.provider.get_tracer(*given, **named)

    def add_span_processor(self, processor: Any) -> None:
        self.provider.add_span_processor(processor)


def test_a_provider_that_was_changed_behind_another_is_joined_by_the_next_step() -> None:
    standing = Before(TracerProvider(shutdown_on_exit=False))
    runtime().tracer_provider = standing
    for _ in range(2):
        with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=5), call(standing.get_tracer("emitter"), 10):
            pass
        standing.provider = TracerProvider(shutdown_on_exit=False)
    assert [record.llm_calls for record in drain_completed_steps()] == [1, 1]
