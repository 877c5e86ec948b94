"""Metrics of finished steps, through the OpenTelemetry metrics API; of no higher cardinality than a step's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .. import attributes as attr

if TYPE_CHECKING:
    from ..record import CompletedStep

_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Where the buckets of durations end, in seconds: the SDK's own start at 5."""


class StepMetrics:
    """Instruments made at the first finished step, from the meter provider in force then."""

    def __init__(self) -> None:
        self._instruments: tuple[Any, ...] | None = None
        self._dropped = 0

    def step_completed(self, record: CompletedStep, duration_s: float, log_dropped: int) -> None:
        """Record a finished step's own cost, tokens, duration (seconds) and stop, and how many the log has dropped."""
        if self._instruments is None:
            self._instruments = _instruments()
        cost, tokens, stops, duration, dropped, unconsulted = self._instruments
        dimensions = _dimensions(record)
        if record.cost_nano_usd:
            cost.add(record.cost_usd, dimensions)
        if record.input_tokens:
            tokens.add(record.input_tokens, {**dimensions, attr.TOKEN_TYPE: "input"})
        if record.output_tokens:
            tokens.add(record.output_tokens, {**dimensions, attr.TOKEN_TYPE: "output"})
        if record.breached:
            stops.add(1, dimensions)
        if record.shared_unconsulted_calls:
            unconsulted.add(record.shared_unconsulted_calls, dimensions)
        duration.record(duration_s, dimensions)
        if log_dropped > self._dropped:
            more, self._dropped = log_dropped - self._dropped, log_dropped
            dropped.add(more)

    def step_amended(self, before: CompletedStep, after: CompletedStep) -> None:
        """Add what usage that arrived after the step closed brought to its own cost and tokens."""
        if self._instruments is None:
            self._instruments = _instruments()
        cost, tokens, *_, unconsulted = self._instruments
        dimensions = _dimensions(after)
        if after.cost_nano_usd > before.cost_nano_usd:
            cost.add(after.cost_usd - before.cost_usd, dimensions)
        if after.input_tokens > before.input_tokens:
            tokens.add(after.input_tokens - before.input_tokens, {**dimensions, attr.TOKEN_TYPE: "input"})
        if after.output_tokens > before.output_tokens:
            tokens.add(after.output_tokens - before.output_tokens, {**dimensions, attr.TOKEN_TYPE: "output"})
        if after.shared_unconsulted_calls > before.shared_unconsulted_calls:
            unconsulted.add(after.shared_unconsulted_calls - before.shared_unconsulted_calls, dimensions)


def _dimensions(record: CompletedStep) -> dict[str, Any]:
    dimensions: dict[str, Any] = {"name": record.name, "status": record.status}
    if record.persona is not None:
        dimensions["persona"] = record.persona
    if record.model is not None:
        dimensions["model"] = record.model
    return dimensions


def _instruments() -> tuple[Any, ...]:
    from opentelemetry import metrics

    meter = metrics.get_meter(attr.SCOPE_NAME)
    return (
        meter.create_counter(attr.METRIC_STEP_COST, "USD", "Own cost of finished steps"),
        meter.create_counter(attr.METRIC_STEP_TOKENS, "{token}", "Own tokens of finished steps"),
        meter.create_counter(attr.METRIC_STEP_STOPS, "{stop}", "Finished steps that broke a limit"),
        meter.create_histogram(
            attr.METRIC_STEP_DURATION,
            "s",
            "Duration of finished steps",
            explicit_bucket_boundaries_advisory=_BUCKETS_S,
        ),
        meter.create_counter(attr.METRIC_LOG_DROPPED, "{receipt}", "Receipts dropped from the in-memory log"),
        meter.create_counter(attr.METRIC_SHARED_UNCONSULTED, "{call}", "Calls not checked against a shared budget"),
    )
