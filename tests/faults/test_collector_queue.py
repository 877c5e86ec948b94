"""An agent, a real Collector with its queue on disk, and a backend with troubles: nothing is lost between the ends.

`OTEL_STEPS_COLLECTOR_SECONDS` sets how long that goes on (default 60, over both protocols).
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import otel_steps
from otel_steps.record import CompletedStep, record_attributes
from tests.collector.servers import CollectorServer, collector
from tests.faults.plays import COLLECTOR_OK, OK, Play
from tests.faults.receiver import Receiver, attributes, http_receiver, wait_until

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

SECONDS = float(os.environ.get("OTEL_STEPS_COLLECTOR_SECONDS", "60"))
STEPS_PER_S = 100
TROUBLES = (
    # what the Collector sends again; of any other refusal it lets the records go, which is its word against ours
    Play("503", status=503),
    Play("429", status=429, headers=(("Retry-After", "0"),)),
    Play("502", status=502),
    Play("close", how="close"),
    Play("reset", how="reset"),
    Play("hang", how="hang"),
    Play("ack lost", how="close", taken=True),
    Play("slow", how="slow", taken=True, counts=True),
)


class Backend:
    """Well for a while, then in trouble for a while."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._until = 0.0
        self._ill = False
        self.clear = False

    def __call__(self, records: list[LogRecord]) -> Play:
        if time.monotonic() > self._until:
            self._ill = not self._ill
            self._until = time.monotonic() + self._random.uniform(0.2, 2)
        if self.clear or not self._ill:
            return self._random.choice((OK, COLLECTOR_OK))
        return self._random.choice(TROUBLES)


class Agent(threading.Thread):
    """Steps, about a hundred a second, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(name="agent")
        self.records: list[CompletedStep] = []
        self.ended = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ended.wait(1 / STEPS_PER_S):
            number += 1
            with otel_steps.step("outer"):
                with otel_steps.step("inner", max_usd=1.0):
                    otel_steps.record_llm_usage("m", number, 1, 0.001)
            self.records += otel_steps.drain_completed_steps()


def trouble(server: CollectorServer, rng: random.Random) -> None:
    """Take the Collector away for a moment, in one of the ways it can go."""
    match rng.choice(("kill", "kill", "terminate", "stop", "down for long")):
        case "kill":
            server.kill()
        case "terminate":
            server.terminate()
        case "stop":
            server.signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.5, 2.5))
            server.signal(signal.SIGCONT)
        case _:
            server.kill()
            time.sleep(3)
    if not server.running:
        time.sleep(rng.uniform(0, 0.5))
        server.start()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_nothing_is_lost_while_the_collector_and_its_backend_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    rng = random.Random(protocol)
    backend = Backend(rng)
    config = Path(__file__).with_name("queue.yaml")
    with http_receiver(backend) as receiver:
        environment = {"BACKEND": receiver.url, "QUEUE": str(tmp_path / "queue")}
        with collector(tmp_path, config, environment) as server:
            endpoint = server.grpc_endpoint if protocol == "grpc" else server.http_endpoint
            otel_steps.configure(endpoint=endpoint, store=tmp_path / "store", service_name="agent")
            agent = Agent()
            agent.start()
            deadline = time.monotonic() + SECONDS / 2
            troubles = 0
            try:
                while time.monotonic() < deadline or not enough(receiver, deadline + SECONDS):
                    time.sleep(rng.uniform(0, 2))
                    trouble(server, rng)
                    troubles += 1
            finally:
                agent.ended.set()
                agent.join()
            assert troubles >= SECONDS / 20
            assert enough(receiver)
            backend.clear = True
            assert otel_steps.force_flush(60)
            expected = {(record.receipt_id, record.revision): record for record in agent.records}
            assert len(expected) == len(agent.records) > SECONDS
            wait_until(lambda: len(receiver.taken) >= len(expected), 60)
    assert otel_steps.shutdown(1)
    assert arrived(receiver) == {key: record_attributes(record) for key, record in expected.items()}


def enough(receiver: Receiver, until: float = float("inf")) -> bool:
    """Whether the backend has had its share of troubles, or it is later than `until`."""
    return sum(receiver.plays[play.name] for play in TROUBLES) >= SECONDS / 20 or time.monotonic() > until


def arrived(receiver: Receiver) -> dict[tuple[str, int], dict[str, Any]]:
    """What the backend keeps, duplicates removed; those are the same in every field."""
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    for request in receiver.requests:
        for resource_logs in request.resource_logs:
            for scope_logs in resource_logs.scope_logs:
                for record in scope_logs.log_records:
                    found = attributes(record)
                    key = found["otel_steps.receipt_id"], found["otel_steps.revision"]
                    if found["otel_steps.receipt_id"] in receiver.taken:
                        assert kept.setdefault(key, found) == found
    return kept
