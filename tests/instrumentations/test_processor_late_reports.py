"""Streams that are told of twice, as logfire does: the request, and once the stream was read a log with the usage."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider

import otel_steps
from otel_steps import StepBudgetExceeded, StepStop, drain_completed_steps, record_llm_usage, run, step
from otel_steps.runtime.state import runtime
from otel_steps.telemetry import awaited
from tests.instrumentations.emitting import call, usage

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer


@pytest.fixture
def tracer(tmp_path: Path) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    otel_steps.configure(tracer_provider=provider, store=tmp_path, unmetered="stop")
    return provider.get_tracer("logfire.openai")


ASKED: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o-mini",
    "request_data": json.dumps({"model": "gpt-4o-mini"}),
}


def request(tracer: Tracer) -> None:
    """The stream is opened."""
    with tracer.start_as_current_span("Chat Completion with 'gpt-4o-mini'", attributes=ASKED) as span:
        span.set_attribute("logfire.span_type", "span")


def was_read(tracer: Tracer, tokens: int = 10, *, told: bool = True, around: Context | None = None) -> None:
    """The stream was read to its end, or broken off."""
    more = usage(tokens, output=5) if told else {}
    log = {**ASKED, "logfire.span_type": "log", "duration": 0.01, **more}
    tracer.start_span("streaming response from 'gpt-4o-mini'", context=around, attributes=log).end()


def test_a_stream_that_is_being_read_is_not_judged(tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
    with step("plan", max_usd=1.0) as plan:
        for n in range(3):
            request(tracer)
            assert not plan.breached
            assert plan.llm_calls == n + 1
            with call(tracer, 1):
                pass  # asked while the stream is read
            was_read(tracer)
            plan.check()
            assert runtime().told_calls == {}
            plan.check()
            break
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.unmetered_calls, record.status) == (2, 11, 0, "completed")
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


def test_a_stream_broken_off_is_judged_when_that_is_told(tracer: Tracer) -> None:
    with pytest.raises(StepBudgetExceeded) as stopped, step("plan", max_usd=1.0):
        request(tracer)
        was_read(tracer, told=False)
        with pytest.raises(StepStop), call(tracer):
            pytest.fail("sent")
    assert "ended without usage" in str(stopped.value)
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.unmetered_calls, record.breached) == (1, 1, ("max_usd",))


def test_a_stream_that_nobody_reads_is_judged_at_the_step_s_exit(
    tracer: Tracer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StepBudgetExceeded) as stopped, run("all", max_usd=5.0), step("plan", max_usd=1.0):
        request(tracer)
        with step("inner"):
            pass  # another step's exit is not its
        assert not runtime().broken
    assert stopped.value.scope == "run"
    assert "ended without usage" in caplog.text


def test_read_after_its_step_it_amends_the_receipt(tracer: Tracer) -> None:
    otel_steps.configure(tracer_provider=runtime().tracer_provider, durability="off", unmetered="allow")
    with run("all"):
        with step("plan", max_usd=1.0):
            request(tracer)
            around = get_current()
        was_read(tracer, around=around)
    first, last = drain_completed_steps()
    assert (first.unmetered_calls, last.unmetered_calls, last.input_tokens) == (1, 0, 10)


def test_a_stream_is_not_waited_for_without_end(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaited, "AWAIT_MAX_S", 0.0)
    with pytest.raises(StepBudgetExceeded), step("plan", max_usd=1.0) as plan:
        request(tracer)
        plan.check()
        pytest.fail("not judged")


def test_more_streams_than_are_waited_for_are_judged_the_oldest_first(
    tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(awaited, "AWAITED_MAX", 3)
    with pytest.raises(StepBudgetExceeded), step("plan", max_usd=1.0) as plan:
        for _ in range(3):
            request(tracer)
        plan.check()
        request(tracer)
        plan.check()
        pytest.fail("not judged")


def test_usage_by_hand_ends_the_wait_too(tracer: Tracer) -> None:
    told = usage(10, output=5)
    with step("plan", max_usd=1.0):
        with tracer.start_as_current_span("chat", attributes=ASKED) as span:
            span.set_attributes({"logfire.span_type": "span", "gen_ai.response.id": told["gen_ai.response.id"]})
        record_llm_usage("gpt-4o-mini", 10, 5, response_id=told["gen_ai.response.id"])
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.unmetered_calls, record.status) == (1, 10, 0, "completed")


def test_a_request_that_is_no_stream_is_judged_at_once(tracer: Tracer) -> None:
    asked = {**ASKED, "gen_ai.output.messages": "[]", "logfire.span_type": "span"}
    with pytest.raises(StepBudgetExceeded), step("plan", max_usd=1.0) as plan:
        tracer.start_span("Chat Completion", attributes=asked).end()
        assert plan.breached == ("max_usd",)
