"""`configure`, `force_flush`, `shutdown` and `reset` within one process, with providers of the test's own."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

import otel_steps
from otel_steps import DefinitionError, configure, force_flush, record_llm_usage, reset, shutdown, step
from otel_steps.providers import Providers
from otel_steps.runtime.state import runtime
from otel_steps.telemetry import self_test
from tests.instrumentations.emitting import call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def provider(name: str = "here") -> TracerProvider:
    return TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)


def receipts(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "receipt"]


@pytest.fixture
def hanging() -> Iterator[str]:
    """A collector that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_step_is_in_the_journal_before_its_caller_has_the_result(tmp_path: Path) -> None:
    configure(tracer_provider=provider(), store=tmp_path)
    with step("plan"):
        pass
    assert [receipt["name"] for receipt in receipts(tmp_path)] == ["plan"]
    assert force_flush() is True


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    joined = provider()
    configure(tracer_provider=joined, store=tmp_path)
    outlet = runtime().outlet
    configure(tracer_provider=joined, store=str(tmp_path))
    assert runtime().outlet is outlet
    with step("plan"), call(joined.get_tracer("emitter"), 7):
        pass
    (record,) = otel_steps.drain_completed_steps()
    assert (record.input_tokens, record.duplicates_discarded) == (7, 0)


def test_other_settings_replace_the_ones_before(tmp_path: Path) -> None:
    first, second = provider("first"), provider("second")
    configure(tracer_provider=first, store=tmp_path / "a")
    with step("one"):
        pass
    configure(tracer_provider=second, store=tmp_path / "b", unpriced="allow")
    with step("two", max_usd=0.1):
        record_llm_usage("a model that nobody sells", 10, 10)
    assert [receipt["name"] for receipt in receipts(tmp_path / "a")] == ["one"]
    assert [receipt["name"] for receipt in receipts(tmp_path / "b")] == ["two"]


def test_before_any_set_up_spans_of_the_provider_in_force_are_metered() -> None:
    joined = provider()
    runtime().tracer_provider = joined
    with step("lazy"), call(joined.get_tracer("emitter"), 7):
        pass
    other = runtime().tracer_provider = provider()
    with step("changed"), call(other.get_tracer("emitter"), 8):
        pass
    assert [record.input_tokens for record in otel_steps.drain_completed_steps()] == [7, 8]


def test_there_is_a_journal_before_set_up_only_where_the_environment_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with step("plan"):
        pass
    assert runtime().outlet is None
    reset()
    monkeypatch.setenv("OTEL_STEPS_STORE", str(tmp_path / "store"))
    runtime().tracer_provider = provider()
    with step("plan"):
        pass
    assert [receipt["name"] for receipt in receipts(tmp_path / "store")] == ["plan"]


def test_without_a_journal_a_flush_says_so() -> None:
    assert force_flush() is True
    with step("plan"):
        pass
    assert force_flush() is False


def test_a_shut_down_process_goes_on_and_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(tracer_provider=provider(), store=tmp_path)
    with step("plan"):
        pass
    assert shutdown() is True
    assert shutdown() is True
    assert force_flush() is True
    with caplog.at_level(logging.WARNING, "otel_steps"):
        for _ in range(3):
            with step("late"):
                record_llm_usage("M", 1, 1, 0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "step `late` finished after shutdown(): its receipt is neither journalled nor delivered"
    ]
    assert force_flush() is False
    assert shutdown() is False
    configure(tracer_provider=provider(), store=tmp_path)
    with step("again"):
        pass
    assert force_flush() is True


def test_a_collector_that_hangs_holds_nobody_up(tmp_path: Path, hanging: str) -> None:
    configure(tracer_provider=provider(), store=tmp_path, endpoint=hanging)
    began = time.monotonic()
    for _ in range(20):
        with step("plan"):
            pass
    assert time.monotonic() - began < 2
    began = time.monotonic()
    assert force_flush(0.3) is False
    assert shutdown(0.3) is False
    assert time.monotonic() - began < 3
    assert len(receipts(tmp_path)) == 20


def test_reset_undoes_everything(tmp_path: Path, hanging: str) -> None:
    joined = provider()
    sampled = vars(joined.sampler).copy()
    configure(tracer_provider=joined, store=tmp_path, endpoint=hanging, unpriced="allow", transport_gate=False)
    assert vars(joined.sampler) != sampled
    threads = threading.active_count()
    reset()
    assert vars(joined.sampler) == sampled
    assert runtime().outlet is None
    assert runtime().sink is None
    assert runtime().tracer_provider is None
    assert runtime().options.transport_gate is True
    assert runtime().options.unpriced == "stop"
    assert threading.active_count() <= threads


@pytest.mark.parametrize(
    "wrong",
    [
        {"service_name": ""},
        {"service_name": 3},
        {"tracer_provider": object()},
        {"endpoint": "localhost:4318"},
        {"endpoint": ""},
        {"headers": {"a b": "c"}, "endpoint": "http://localhost:4318"},
        {"headers": "authorization", "endpoint": "http://localhost:4318"},
        {"headers": [("a", "b")], "endpoint": "http://localhost:4318"},
        {"headers": {1: "c"}, "endpoint": "http://localhost:4318"},
        {"store": ""},
        {"store": b"folder"},
        {"store": "a\0b"},
        {"store": 3},
        {"durability": "always"},
        {"deliver": 1},
        {"unpriced": "maybe"},
        {"unmetered": None},
        {"transport_gate": "yes"},
        {"propagate": "host"},
        {"shared": "localhost:6379"},
        {"shared": 6379},
        {"shared_unavailable": "maybe"},
    ],
)
def test_a_mistake_is_told_and_changes_nothing(wrong: dict[str, Any], tmp_path: Path) -> None:
    configure(tracer_provider=provider(), store=tmp_path)
    outlet, options = runtime().outlet, runtime().options
    with pytest.raises(DefinitionError):
        configure(**wrong)
    assert runtime().outlet is outlet
    assert runtime().options == options


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "1", True, None])
def test_a_timeout_is_a_number_of_seconds(wrong: Any) -> None:
    for finish in (force_flush, shutdown):
        with pytest.raises(DefinitionError):
            finish(wrong)


def test_a_timeout_longer_than_any_clock_holds_is_the_longest(tmp_path: Path) -> None:
    configure(tracer_provider=provider(), store=tmp_path)
    for longest in (1e300, 10**400):
        assert force_flush(longest)


def test_receipts_carry_the_providers_resource_and_the_given_name(tmp_path: Path) -> None:
    configure(tracer_provider=provider("here"), store=tmp_path, service_name="given")
    assert runtime().outlet.settings.service_name == "given"


def test_an_sdk_that_keeps_what_a_processor_raises_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert self_test.swallowed_by_sdk() == []
    monkeypatch.setattr(self_test, "swallowed_by_sdk", lambda: ["stops", "denials"])
    providers = Providers()
    with caplog.at_level(logging.WARNING, "otel_steps"):
        for _ in range(3):
            providers.join(runtime(), provider())
    assert ["stops and denials" in record.getMessage() for record in caplog.records] == [True]
    providers.leave()


def test_a_provider_that_cannot_be_joined_costs_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        __slots__ = ()

        def get_tracer(self, *_: Any, **__: Any) -> Any:
            return provider().get_tracer("x")

        def add_span_processor(self, _: Any) -> None:
            raise LookupError("no room")

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    configure(tracer_provider=Odd(), durability="off")  # type: ignore[arg-type]
    with step("plan"):
        pass
    assert [record.name for record in otel_steps.drain_completed_steps()] == ["plan"]
    assert runtime().faults.count >= 1
