"""An agent for the tests of metrics, a program of its own: steps, receipts and the SDK's metrics, round after round.

In: `busy`, `waiting` or `refused`, and the Collector's URL; the rest by OTEL_* variables. `busy` is a service in good
order. `waiting` keeps its receipts in memory and cannot deliver them, so that its bound drops some. `refused` meets a
receiver that takes none, and a span processor that fails. Works until standard input ends; prints a line a round.
"""

from __future__ import annotations

import contextlib
import logging
import select
import sys
from typing import Literal

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import otel_steps
from otel_steps import StepBudgetExceeded, persona, record_llm_usage, step

BEYOND_MEMORY = 10_050
"""Receipts that the memory's bound of 10,000 does not hold."""
ROUND_S = 0.3
SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600]
"""As docs/how-to/metrics-and-alerts.md advises: the buckets that the receipts' histogram has."""

Boundary = Literal["fail", "escalate"]


class Failing(SpanProcessor):
    """A processor of the user's that fails: an internal fault for who ends the span."""

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("this processor always fails")


def work() -> None:
    """One round: what a service does, every kind of stop, and calls without a price or usage."""
    with persona(name="researcher"):
        with step("plan", max_usd=0.05):
            record_llm_usage("gpt-5-mini", 1200, 340, 0.02)
            with step("read", max_tokens=10_000):
                record_llm_usage("gpt-5-mini", 4000, 100, 0.03)
        with step("read on", max_tokens=100, error_boundary="continue"):
            record_llm_usage("gpt-5-mini", 90, 20, 0.001)
    with persona(name="writer"):
        boundaries: tuple[Boundary, ...] = ("fail", "escalate")
        for boundary in boundaries:
            with (
                contextlib.suppress(StepBudgetExceeded),
                step("draft", max_usd=0.05, max_tokens=50, error_boundary=boundary),
            ):
                record_llm_usage("claude-sonnet-4-5", 900, 300, 5.0)  # so that the day's budget is soon spent
        with step("translate"):
            record_llm_usage("home-grown-1", 100, 50)
    with step("listen"), trace.get_tracer("an.instrumentation").start_as_current_span("chat gpt-5-mini") as span:
        span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5-mini"})


def main() -> None:
    kind, collector = sys.argv[1:]
    logging.disable(logging.CRITICAL)  # each round would warn of what it is there to provoke
    if kind == "refused":
        tracer_provider = TracerProvider()
        tracer_provider.add_span_processor(Failing())
        trace.set_tracer_provider(tracer_provider)
    otel_steps.configure(durability="off" if kind == "waiting" else "process", unmetered="allow")
    if kind == "waiting":
        for _ in range(BEYOND_MEMORY):
            with step("plan"):
                pass
    # After that, so that no sample tells of a moment at which nothing waited.
    provider = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector}/v1/metrics"), export_interval_millis=500)],
        Resource.create(),
        views=[
            View(instrument_name="otel_steps.step.duration", aggregation=ExplicitBucketHistogramAggregation(SECONDS))
        ],
    )
    metrics.set_meter_provider(provider)
    while True:
        with contextlib.suppress(RuntimeError):  # the failing processor's, from the span that is not a step's
            work()
        print("round", flush=True)
        if select.select([sys.stdin], [], [], ROUND_S)[0]:
            break
    otel_steps.shutdown(2)
    provider.shutdown()


if __name__ == "__main__":
    main()
