"""Other people's span processors: all called at once from a pool of threads, one of them failing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor, SpanProcessor, TracerProvider

import otel_steps
from otel_steps import StepBudgetExceeded, StepStop, drain_completed_steps, run, step
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
