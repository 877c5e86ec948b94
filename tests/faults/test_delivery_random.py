"""Ten thousand receipts through a receiver with every answer at random: none lost, none bent, none twice unasked."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_steps.receipts.answers import Answer, Wait
from otel_steps.record import CompletedStep, record_attributes
from tests.faults.deliveries import delivering, endpoint_of
from tests.faults.memory_queue import MemoryQueue, receipt
from tests.faults.plays import (
    GRPC_NO_ANSWERS,
    GRPC_REFUSED,
    GRPC_SET_UP,
    NO_ANSWERS,
    OK,
    PARTIAL,
    REFUSED,
    SET_UP,
    SUCCESSES,
    Play,
)
from tests.faults.receiver import attributes, grpc_receiver, http_receiver, records_of, wait_until

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    from otel_steps.receipts.sender import Sender

COUNT = 10_000
SLOW = {"hang", "slow", "drip", "endless"}


class Weather:
    """Picks a play for each request from a seed; remembers which receipts it refused alone, or partly."""

    def __init__(self, seed: int, *, grpc: bool) -> None:
        self.random = random.Random(seed)
        troubles = GRPC_NO_ANSWERS + GRPC_SET_UP if grpc else NO_ANSWERS + SET_UP
        self.quick = [play for play in troubles if play.how not in SLOW]
        self.slow = [play for play in troubles if play.how in SLOW]
        self.refused = GRPC_REFUSED if grpc else REFUSED
        self.successes = (OK,) if grpc else SUCCESSES
        self.clear = False
        self.refused_alone: set[str] = set()
        self.partly_refused: set[str] = set()

    def __call__(self, records: list[LogRecord]) -> Play:
        found = [attributes(record) for record in records]
        chance = self.random.random()
        if not self.clear and chance < 0.02:
            return self.random.choice(self.slow)
        if not self.clear and chance < 0.30:
            return self.random.choice(self.quick)
        poisoned = [attrs for attrs in found if attrs["otel_steps.name"] == "poison"]
        size = sum(record.ByteSize() for record in records)
        if poisoned or size > 60_000:
            if len(found) == 1:
                self.refused_alone.add(found[0]["otel_steps.receipt_id"])
            return self.random.choice(self.refused)
        if chance > 0.985:
            self.partly_refused.update(attrs["otel_steps.receipt_id"] for attrs in found)
            return PARTIAL
        return self.random.choice(self.successes)


class Watched:
    """A sender that remembers whose answer did not come in time: a good one may have been lost there."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.late: Counter[str] = Counter()

    def send(self, data: bytes, timeout_s: float) -> Answer:
        began = time.monotonic()
        answer = self.sender.send(data, timeout_s)
        if isinstance(answer, Wait) and time.monotonic() - began >= timeout_s * 0.9:
            sent = records_of(ExportLogsServiceRequest.FromString(data))
            self.late.update(attributes(record)["otel_steps.receipt_id"] for record in sent)
        return answer

    def close(self) -> None:
        self.sender.close()

    def forget(self) -> None:
        self.sender.forget()


def some_receipt(number: int, rng: random.Random) -> CompletedStep:
    return receipt(
        number,
        name="poison" if rng.random() < 0.002 else rng.choice(("plan", "code", "prüfen", "検証")),
        error="x" * rng.choice((0, 0, 0, 0, 0, 0, 0, 10, 200, 4096)) or None,
        status=rng.choice(("completed", "failed", "skipped")),
        tools_called=("t" * 150_000,) if rng.random() < 0.0005 else ("read",) * rng.randrange(3),
        revision=1,
    )


@pytest.mark.parametrize(("protocol", "seed"), [("http", 1), ("grpc", 3)])
def test_ten_thousand_receipts_survive_every_answer(protocol: str, seed: int) -> None:
    weather = Weather(seed, grpc=protocol == "grpc")
    rng = random.Random(seed)
    records = [some_receipt(number, rng) for number in range(COUNT)]
    queue = MemoryQueue()
    receivers = {"http": http_receiver, "grpc": grpc_receiver}
    watched: list[Watched] = []

    def watch(sender: Sender) -> Sender:
        watched.append(Watched(sender))
        return watched[0]

    with receivers[protocol](weather) as receiver:
        endpoint = endpoint_of(receiver.url, grpc=protocol == "grpc")
        with delivering(queue, endpoint, timeout_s=0.3, watch=watch) as delivery:

            def write() -> None:
                for record in records:
                    queue.append(record)
                    delivery.notify()

            writers = threading.Thread(target=write)
            writers.start()
            writers.join()
            wait_until(lambda: queue.waiting() < COUNT // 20, 90)
            weather.clear = True
            wait_until(lambda: queue.waiting() == 0, 60)
            assert delivery.delivered + delivery.set_aside == COUNT
            assert delivery.internal_errors == 0

    expected = {record.receipt_id: record for record in records}
    aside = {kind: {i for i, (of, _) in queue.aside.items() if of == kind} for kind in ("refused", "partly_refused")}
    assert set(queue.acknowledged) | set(queue.aside) == set(expected), "none is lost"
    assert len(queue.acknowledged) + len(queue.aside) == COUNT, "each is settled once"
    assert set(queue.acknowledged) <= set(receiver.taken), "what counts as delivered was taken"
    assert aside["refused"] == weather.refused_alone
    late = watched[0].late
    assert aside["partly_refused"] <= weather.partly_refused
    assert weather.partly_refused - aside["partly_refused"] <= set(late), "one that was told so is not sent again"
    assert all(reason for _, reason in queue.aside.values())
    for receipt_id, count in receiver.taken.items():
        lost = receiver.may_come_again[receipt_id]
        assert lost <= count <= lost + late[receipt_id] + 1, "twice only where an acknowledgement was lost"
        assert receiver.shapes[receipt_id] == record_attributes(expected[receipt_id])
    assert len(receiver.plays) > 15, "the weather was bad"
