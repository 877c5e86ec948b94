"""Steps in a real Celery worker, with a real Redis as its broker, hang under the step that sent the task."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor

from otel_steps import StepBudgetExceeded, configure, drain_completed_steps, propagation, run, step
from otel_steps.runtime.state import runtime
from tests.fleet.propagation_world import ROOT
from tests.fleet.redis_servers import redis_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

TIMEOUT_S = 60


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of our own."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    client = redis.Redis(port=port)
    until = time.monotonic() + TIMEOUT_S
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            assert time.monotonic() < until
            time.sleep(0.05)
    client.close()
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module", params=["no OpenTelemetry", "before", "after"])
def worker(request: pytest.FixtureRequest, broker: str) -> Iterator[Any]:
    """The tasks, with a worker that does them; with OpenTelemetry's instrumentation before or after ours, or not."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    told = {"BROKER": broker, "IS_WORKER": "1", "WITH_OTEL": request.param, "PYTHONPATH": str(ROOT)}
    command = ["-m", "celery", "-A", "tests.fleet.propagation_tasks", "worker", "-c", "1", "-l", "warning"]
    process = subprocess.Popen(
        [sys.executable, *command, "--without-gossip", "--without-mingle", "--without-heartbeat"],
        env=kept | told,
        cwd=ROOT,
        start_new_session=True,
    )
    os.environ["BROKER"] = broker
    tasks = importlib.import_module("tests.fleet.propagation_tasks")
    yield tasks
    tasks.app.close()
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)
    del os.environ["BROKER"]


@pytest.fixture
def named(spans: InMemorySpanExporter) -> None:
    """The broker's host is named here."""
    configure(durability="off", deliver=False, propagate=["127.0.0.1"], tracer_provider=runtime().tracer_provider)


def test_a_task_hangs_under_the_step_that_sent_it_and_its_cost_comes_back(worker: Any, named: None) -> None:
    with run("all") as whole, step("send") as sending:
        (receipt,) = worker.summarize.delay(10).get(timeout=TIMEOUT_S)
        for _ in range(2):
            propagation.absorb([receipt])
        span = trace.get_current_span().get_span_context()
    assert (receipt["parent_receipt_id"], receipt["run_id"]) == (sending.receipt_id, whole.run_id)
    assert receipt["trace_id"] == f"{span.trace_id:032x}"
    (sent,) = drain_completed_steps()
    assert (sent.llm_calls, sent.total_llm_calls, sent.total_cost_nano_usd) == (0, 1, 10_000_000)


def test_a_task_that_comes_back_too_dear_stops_the_step(worker: Any, named: None) -> None:
    with pytest.raises(StepBudgetExceeded, match="max_usd"), step("send", max_usd=0.005):
        propagation.absorb(worker.summarize.delay(10).get(timeout=TIMEOUT_S))
        raise AssertionError("the step goes on")


def test_one_task_does_not_hang_under_the_step_of_another(worker: Any, named: None) -> None:
    with step("send"):
        worker.summarize.delay(10).get(timeout=TIMEOUT_S)
    assert worker.summarize.delay(10).get(timeout=TIMEOUT_S) == []  # nobody called


def test_a_task_that_is_sent_by_a_task_hangs_under_the_first_step(worker: Any, named: None) -> None:
    chain = worker.outer.si(5) | worker.summarize.si(10)
    with step("send") as sending:
        (receipt,) = chain.delay().get(timeout=TIMEOUT_S)
    assert receipt["parent_receipt_id"] == sending.receipt_id


def test_a_task_that_is_tried_again_hangs_under_the_same_step(worker: Any, named: None) -> None:
    with step("send") as sending:
        (receipt,) = worker.again.delay(10).get(timeout=TIMEOUT_S)
    assert receipt["parent_receipt_id"] == sending.receipt_id


@pytest.fixture(params=[False, True])
def sender(request: pytest.FixtureRequest, named: None) -> Iterator[None]:
    """This process with and without OpenTelemetry's instrumentation of Celery."""
    if request.param:
        CeleryInstrumentor().instrument(tracer_provider=runtime().tracer_provider)
    yield
    if request.param:
        CeleryInstrumentor().uninstrument()


def test_other_baggage_stays_beside_the_entry(worker: Any, sender: None) -> None:
    before = context.get_current()
    context.attach(baggage.set_baggage("tenant", "7"))
    try:
        with step("send") as sending:
            (receipt,) = worker.summarize.delay(10).get(timeout=TIMEOUT_S)
            assert baggage.get_all() == {"tenant": "7"}
    finally:
        context.attach(before)
    assert receipt["parent_receipt_id"] == sending.receipt_id


def test_a_broker_that_is_not_named_is_told_nothing(worker: Any) -> None:
    configure(durability="off", deliver=False, propagate=["named.example"])
    with step("send"):
        assert worker.summarize.delay(10).get(timeout=TIMEOUT_S) == []
