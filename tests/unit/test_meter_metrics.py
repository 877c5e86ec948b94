"""Metrics of finished steps, read from the SDK: names, units, dimensions and sums."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_steps import StepBudgetExceeded, carry, persona, record_llm_usage, run, step
from otel_steps.runtime.log import CompletedLog
from otel_steps.runtime.shared_budgets import Answer
from otel_steps.runtime.state import runtime


class Reader:
    """The finished metrics, as points by instrument name."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        data = self._reader.get_metrics_data()
        found: list[tuple[dict[str, Any], Any]] = []
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                assert scope.scope.name == "otel_steps"
                for metric in scope.metrics:
                    if metric.name == name:
                        found += [(dict(point.attributes or {}), point) for point in metric.data.data_points]
                        found[-1][0]["unit"] = metric.unit
        return found


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Reader()
    monkeypatch.setattr(metrics, "get_meter", made.provider.get_meter)
    yield made
    made.provider.shutdown()


def test_cost_tokens_stops_and_duration_of_finished_steps(reader: Reader) -> None:
    with persona("worker"):
        for _ in range(2):
            with step("plan"):
                record_llm_usage("M", 10, 5, 0.25)
    with pytest.raises(StepBudgetExceeded), step("outer", max_tokens=10):
        with step("inner"):
            record_llm_usage("M", 100, 0, 0.0)
    plan = {"name": "plan", "persona": "worker", "model": "M", "status": "completed"}
    ((dimensions, cost),) = reader.points("otel_steps.step.cost")
    assert (dimensions, cost.value) == ({**plan, "unit": "USD"}, 0.5)
    tokens = {
        (d["name"], d["otel_steps.token.type"], d.get("persona")): point.value
        for d, point in reader.points("otel_steps.step.tokens")
    }
    assert tokens == {("plan", "input", "worker"): 20, ("plan", "output", "worker"): 10, ("inner", "input", None): 100}
    ((dimensions, stops),) = reader.points("otel_steps.step.stops")
    assert (dimensions, stops.value) == ({"name": "outer", "status": "failed", "unit": "{stop}"}, 1)
    durations = {d["name"]: point for d, point in reader.points("otel_steps.step.duration")}
    assert {name: point.count for name, point in durations.items()} == {"plan": 2, "inner": 1, "outer": 1}
    assert 0 <= durations["plan"].sum < 60


def test_dimensions_are_of_low_cardinality(reader: Reader) -> None:
    for _ in range(50):
        with step("plan"):
            record_llm_usage("M", 1, 1, 0.1, response_id=None)
    for name in ("cost", "tokens", "duration"):
        for dimensions, _ in reader.points(f"otel_steps.step.{name}"):
            assert set(dimensions) <= {"name", "persona", "model", "status", "otel_steps.token.type", "unit"}


def test_late_usage_is_added_to_the_sums(reader: Reader) -> None:
    with step("plan"):
        record_llm_usage("M", 10, 0, 0.25)
        late = carry(record_llm_usage)
    late("M", 5, 2, 0.5)
    ((_, cost),) = reader.points("otel_steps.step.cost")
    assert cost.value == 0.75
    assert sum(point.value for _, point in reader.points("otel_steps.step.tokens")) == 17
    ((_, duration),) = reader.points("otel_steps.step.duration")
    assert duration.count == 1


def test_what_the_log_dropped_is_counted(reader: Reader) -> None:
    runtime().log = CompletedLog(3)
    for _ in range(5):
        with step("plan"):
            pass
    ((_, dropped),) = reader.points("otel_steps.log.dropped")
    assert dropped.value == 2


def test_internal_errors_are_counted(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with caplog.at_level(logging.ERROR, "otel_steps"):
        for _ in range(3):
            runtime().faults.report("a test", ValueError("mine"))
    ((_, errors),) = reader.points("otel_steps.internal_errors")
    assert (errors.value, len(caplog.records)) == (3, 1)


def test_calls_without_the_shared_budget_are_counted(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        """A store that nobody reaches."""

        def charge(self, amounts: object, hold: str | None) -> Answer:
            return Answer(False, 1)

    monkeypatch.setattr(runtime(), "shared", Away())
    with run("nightly", max_usd=9), step("plan"):
        record_llm_usage("M", 1, 1, 0.1)
        late = carry(record_llm_usage)
    late("M", 1, 1, 0.1)
    ((dimensions, calls),) = reader.points("otel_steps.shared.unconsulted")
    assert (dimensions["name"], dimensions["unit"], calls.value) == ("plan", "{call}", 2)
