"""Other people's span processors: failing before ours, or all called at once from a pool of threads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanProcessor, TracerProvider

import otel_steps
from otel_steps import StepBudgetExceeded, StepStop, drain_completed_steps, run, step
from otel_steps.runtime.state import runtime
from tests.instrumentations.emitting import call, mute_call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer


class Failing(SpanProcessor):
    """Fails at the end of every span of an emitter."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.instrumentation_scope is not None and span.instrumentation_scope.name == "emitter":
            raise ValueError("an exporter of somebody else's")


@pytest.fixture
def behind(tmp_path: Path) -> Tracer:
    """A tracer whose provider had a failing processor before ours came."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Failing())
    otel_steps.configure(tracer_provider=provider, store=tmp_path)
    return provider.get_tracer("emitter")


def failing(tracer: Tracer, tokens: int, **more: Any) -> None:
    """A call whose end fails in the processor before ours."""
    with pytest.raises(ValueError, match="somebody"), call(tracer, tokens, **more):
        pass


def test_a_call_whose_end_a_failing_processor_hides_is_counted_whole(behind: Tracer) -> None:
    with step("plan") as plan:
        failing(behind, 10, output=5)
        failing(behind, 20, output=5)
        plan.check()
        assert plan.llm_calls == 2
        failing(behind, 30, output=5)
        with pytest.raises(ValueError), behind.start_as_current_span("parse"):
            pass
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.output_tokens, record.unmetered_calls) == (3, 60, 15, 0)
    assert (runtime().told_calls, runtime().live_spans) == ({}, {})


def test_a_limit_holds_there_too(behind: Tracer) -> None:
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=12) as plan:
        failing(behind, 20)
        with pytest.raises(StepStop), call(behind, 10):
            pytest.fail("sent")
        assert plan.llm_calls == 1


def test_its_end_after_everything_has_closed_leaves_nothing_behind(behind: Tracer) -> None:
    with run("all"), step("plan"):
        span = behind.start_span("chat")
    with pytest.raises(ValueError):
        span.end()
    assert runtime().told_calls == {}


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[Tracer]:
    """A tracer whose provider calls all its processors at once, on threads of its own."""
    at_once = ConcurrentMultiSpanProcessor(3)
    provider = TracerProvider(active_span_processor=at_once, shutdown_on_exit=False)
    provider.add_span_processor(Failing())
    otel_steps.configure(tracer_provider=provider, store=tmp_path)
    yield provider.get_tracer("pooled")
    provider.shutdown()


def test_calls_are_counted_and_refused_from_a_pool_of_threads(pooled: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StepBudgetExceeded), run("all", max_tokens=1000), step("plan", max_tokens=25) as plan:
        with call(pooled, 10):
            pass
        with pooled.start_as_current_span("tool"), mute_call(pooled, 10):
            pass
        with call(pooled, 10):
            pass
        assert plan.llm_calls == 3
        for refused in (call, mute_call):
            with pytest.raises(StepStop), refused(pooled, 10):
                pytest.fail("sent")
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens) == (3, 30)
    assert not [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
