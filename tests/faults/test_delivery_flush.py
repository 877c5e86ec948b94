"""Flush tells the truth in time; the thread starts late, idles quietly, survives faults of ours, and ends."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
import timeit
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.context import get_current, get_value

from otel_steps.receipts.answers import Answer, Delivered, RefusedRecord, Wait
from otel_steps.receipts.delivery import Delivery, Pace
from tests.faults.deliveries import QUICK, delivering, endpoint_of
from tests.faults.memory_queue import MemoryQueue, receipt
from tests.faults.plays import OK, Play
from tests.faults.receiver import grpc_receiver, http_receiver, wait_until

if TYPE_CHECKING:
    from otel_steps.receipts.queue import Batch

HANG = Play("hang", how="hang")
DOWN = Play("503", status=503)
PATIENT = Pace(linger_s=0.01, first_backoff_s=1000, max_backoff_s=1000)


class Recorder:
    """A sender that answers from a list, then Delivered, and notes what was around each request."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[float] = []
        self.threads: set[str] = set()
        self.contexts: list[Any] = []
        self.closed = 0

    def send(self, data: bytes, timeout_s: float) -> Answer:
        self.sent.append(time.monotonic())
        self.threads.add(threading.current_thread().name)
        self.contexts.append(get_current())
        return self.answers.pop(0) if self.answers else Delivered()

    def close(self) -> None:
        self.closed += 1

    def forget(self) -> None:
        self.closed += 1


def test_flush_returns_in_time_though_the_receiver_hangs() -> None:
    queue = MemoryQueue(receipt(0))
    with http_receiver(lambda records: HANG) as receiver:
        with delivering(queue, endpoint_of(receiver.url), timeout_s=1.5) as delivery:
            for _ in range(3):
                begun = time.monotonic()
                assert not delivery.flush(0.2)
                assert time.monotonic() - begun < 0.3
            assert queue.waiting() == 1


def test_flush_tries_at_once_during_back_off() -> None:
    queue = MemoryQueue(receipt(0))
    plays = [DOWN]
    with http_receiver(lambda records: plays.pop() if plays else OK) as receiver:
        with delivering(queue, endpoint_of(receiver.url), pace=PATIENT) as delivery:
            delivery.notify()
            wait_until(lambda: len(receiver.requests) == 1)
            time.sleep(0.05)  # the worker is in a back-off of minutes
            begun = time.monotonic()
            assert delivery.flush(5)
            assert time.monotonic() - begun < 1
            assert queue.waiting() == 0


def test_flush_does_not_wait_for_an_attempt_that_would_come_too_late() -> None:
    queue = MemoryQueue(receipt(0))
    with http_receiver(lambda records: DOWN) as receiver:
        with delivering(queue, endpoint_of(receiver.url), pace=PATIENT) as delivery:
            begun = time.monotonic()
            assert not delivery.flush(5)
            assert time.monotonic() - begun < 1


def test_flush_tries_again_while_it_has_time() -> None:
    queue = MemoryQueue(receipt(0))
    plays = [DOWN, DOWN, DOWN]
    with http_receiver(lambda records: plays.pop() if plays else OK) as receiver:
        with delivering(queue, endpoint_of(receiver.url)) as delivery:
            assert delivery.flush(5)
            assert len(receiver.requests) == 4


def test_flush_is_true_where_nothing_waits() -> None:
    with delivering(MemoryQueue(), endpoint_of("http://127.0.0.1:1")) as delivery:
        assert delivery.flush(1)


def test_flush_ends_though_receipts_keep_coming() -> None:
    queue = MemoryQueue(*(receipt(i) for i in range(100)))
    stop = threading.Event()
    with http_receiver() as receiver, delivering(queue, endpoint_of(receiver.url)) as delivery:

        def write() -> None:
            number = 100
            while not stop.is_set():
                queue.append(receipt(number))
                delivery.notify()
                number += 1
                time.sleep(0.0005)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(5):
                assert delivery.flush(5)
        finally:
            stop.set()
            writer.join()
        assert delivery.flush(5)
        assert set(receiver.taken.values()) == {1}


def test_flush_is_false_where_the_queue_lost_what_waited() -> None:
    class Lossy(MemoryQueue):
        def take(self, max_records: int, max_bytes: int) -> Batch | None:
            self.records.clear()
            return None

    with delivering(Lossy(receipt(0)), endpoint_of("http://127.0.0.1:1")) as delivery:
        assert not delivery.flush(1)


def test_flush_is_false_where_what_was_under_way_when_it_was_asked_is_refused() -> None:
    under_way, go_on = threading.Event(), threading.Event()

    class Slow(Recorder):
        def send(self, data: bytes, timeout_s: float) -> Answer:
            under_way.set()
            go_on.wait(10)
            return super().send(data, timeout_s)

    queue = MemoryQueue(receipt(0))
    delivery = Delivery(queue, Slow(RefusedRecord("too large")), pace=QUICK)
    delivery.notify()
    assert under_way.wait(10)
    threading.Timer(0.05, go_on.set).start()
    assert not delivery.flush(10)
    assert delivery.flush(10)
    delivery.shutdown(10)
    assert queue.aside


def test_many_flush_at_once() -> None:
    queue = MemoryQueue(*(receipt(i) for i in range(1000)))
    answers: list[bool] = []
    with http_receiver() as receiver, delivering(queue, endpoint_of(receiver.url)) as delivery:
        threads = [threading.Thread(target=lambda: answers.append(delivery.flush(5))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True] * 8
        assert len(receiver.taken) == 1000


def test_a_flush_after_the_end_tells_whether_something_still_waits() -> None:
    queue = MemoryQueue()
    delivery = Delivery(queue, Recorder(), pace=QUICK)
    assert delivery.shutdown(1)
    assert delivery.flush(1)
    queue.append(receipt(0))
    delivery.notify()
    assert not delivery.flush(1)
    assert queue.waiting() == 1


def test_the_thread_starts_with_the_first_receipt_and_ends_with_shutdown() -> None:
    def workers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "otel-steps-delivery"]

    queue = MemoryQueue()
    sender = Recorder()
    delivery = Delivery(queue, sender, pace=QUICK)
    assert not workers()
    queue.append(receipt(0))
    delivery.notify()
    wait_until(lambda: delivery.delivered == 1)
    assert [thread.daemon for thread in workers()] == [True]
    assert delivery.shutdown(1)
    assert not workers()
    assert sender.closed == 1
    assert sender.threads == {"otel-steps-delivery"}


def test_shutdown_gives_up_at_a_mistake_of_set_up() -> None:
    queue = MemoryQueue(receipt(0))
    with http_receiver(lambda records: Play("401", status=401)) as receiver:
        with delivering(queue, endpoint_of(receiver.url)) as delivery:
            begun = time.monotonic()
            assert not delivery.shutdown(5)
            assert time.monotonic() - begun < 1
    assert queue.waiting() == 1


def test_shutdown_is_bounded_though_the_receiver_hangs() -> None:
    queue = MemoryQueue(receipt(0))
    with http_receiver(lambda records: HANG) as receiver:
        with delivering(queue, endpoint_of(receiver.url), timeout_s=1.5) as delivery:
            begun = time.monotonic()
            assert not delivery.shutdown(0.2)
            assert time.monotonic() - begun < 0.3


def test_receipts_that_come_together_travel_together() -> None:
    queue = MemoryQueue()
    sender = Recorder()
    delivery = Delivery(queue, sender, pace=Pace(linger_s=0.3))
    delivery.notify()
    wait_until(lambda: queue.takes > 0)  # its thread has found nothing and waits for news
    for number in range(300):
        queue.append(receipt(number))
        delivery.notify()
    wait_until(lambda: queue.waiting() == 0)
    assert len(sender.sent) == 1
    delivery.shutdown(1)


def test_what_lay_there_is_not_lingered_over() -> None:
    old = {"ended_at": "2024-01-01T00:00:00.000000000Z"}
    queue = MemoryQueue(*(receipt(i, **old) for i in range(100)))
    sender = Recorder()
    delivery = Delivery(queue, sender, pace=Pace(max_records=512, linger_s=0.05))
    queue.take = lambda most, size, take=queue.take: take(1, size)  # type: ignore[method-assign, misc]
    delivery.notify()
    wait_until(lambda: queue.waiting() == 0, 3)
    assert len(sender.sent) == 100
    delivery.shutdown(1)


def test_an_idle_thread_looks_at_the_queue_at_its_leisure() -> None:
    queue = MemoryQueue(receipt(0))
    delivery = Delivery(queue, Recorder(), pace=Pace(linger_s=0.01, poll_s=0.1))
    delivery.notify()
    wait_until(lambda: delivery.delivered == 1)
    takes = queue.takes
    queue.append(receipt(1))  # by another process, say: nobody notifies
    wait_until(lambda: delivery.delivered == 2, 1)
    assert queue.takes - takes <= 8
    delivery.shutdown(1)


def test_notify_costs_next_to_nothing_where_the_thread_knows() -> None:
    delivery = Delivery(MemoryQueue(), Recorder(), pace=Pace(linger_s=30))
    delivery.notify()
    cost_s = min(timeit.repeat(delivery.notify, number=10_000, repeat=20)) / 10_000
    assert cost_s < 0.3e-6
    delivery.shutdown(1)


def test_no_receipt_is_forgotten_between_the_look_and_the_sleep() -> None:
    queue = MemoryQueue()
    delivery = Delivery(queue, Recorder(), pace=Pace(linger_s=0.0, poll_s=1000))
    for number in range(2000):
        queue.append(receipt(number))
        delivery.notify()
        if number % 7 == 0:
            wait_until(lambda: queue.waiting() == 0, 2)
    wait_until(lambda: delivery.delivered == 2000, 2)
    delivery.shutdown(1)


def test_back_off_grows_and_starts_anew_after_success() -> None:
    queue = MemoryQueue(receipt(0))
    sender = Recorder(*[Wait("down")] * 8)
    delivery = Delivery(queue, sender, pace=Pace(linger_s=0, first_backoff_s=0.02, max_backoff_s=0.2))
    delivery.notify()
    wait_until(lambda: delivery.delivered == 1, 5)
    gaps = [after - before for before, after in zip(sender.sent, sender.sent[1:], strict=False)]
    assert all(0.01 < gap < 0.4 for gap in gaps)
    assert sum(gaps[4:]) > sum(gaps[:2])
    delivery.shutdown(1)


def test_a_fault_of_the_queue_is_survived_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(MemoryQueue):
        def take(self, max_records: int, max_bytes: int) -> Batch | None:
            if self.takes < 3:
                self.takes += 1
                raise OSError("disk on fire")
            return super().take(max_records, max_bytes)

    queue = Faulty(receipt(0))
    delivery = Delivery(queue, Recorder(), pace=QUICK)
    assert delivery.flush(5)
    assert delivery.internal_errors == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "disk on fire" in caplog.text
    delivery.shutdown(1)


def test_a_receipt_that_cannot_be_told_in_otlp_is_set_aside_alone() -> None:
    queue = MemoryQueue(receipt(0), receipt(1, trace_id="not hex"), receipt(2))
    delivery = Delivery(queue, Recorder(), pace=QUICK)
    assert not delivery.flush(5)
    assert len(queue.acknowledged) == 2
    assert queue.aside[f"{1:032x}"][0] == "refused"
    delivery.shutdown(1)


def test_without_a_thread_to_be_had_flush_delivers_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    queue = MemoryQueue(*(receipt(i) for i in range(1000)))
    sender = Recorder(Wait("down"))
    delivery = Delivery(queue, sender, pace=QUICK)
    delivery.notify()
    before = get_current()
    assert delivery.flush(5)
    assert get_current() == before
    assert delivery.delivered == 1000
    assert sender.closed
    assert delivery.shutdown(1)


def test_requests_stand_outside_every_step_and_instrumentation() -> None:
    from opentelemetry import trace
    from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled
    from opentelemetry.sdk.trace import TracerProvider

    class Asking(Recorder):
        def send(self, data: bytes, timeout_s: float) -> Answer:
            assert not is_instrumentation_enabled()
            assert not is_http_instrumentation_enabled()
            return super().send(data, timeout_s)

    queue = MemoryQueue(receipt(0))
    sender = Asking()
    delivery = Delivery(queue, sender, pace=QUICK)
    with TracerProvider().get_tracer("t").start_as_current_span("a step"):
        delivery.notify()
        assert delivery.flush(5)
    assert delivery.internal_errors == 0
    assert not trace.get_current_span(sender.contexts[0]).get_span_context().is_valid
    assert get_value("suppress_instrumentation", sender.contexts[0])
    delivery.shutdown(1)


def test_a_delivery_nobody_holds_goes_away() -> None:
    import gc
    import weakref

    delivery = Delivery(MemoryQueue(), Recorder(), pace=QUICK)
    ref = weakref.ref(delivery)
    del delivery
    gc.collect()
    assert ref() is None


PROLOGUE = """
import atexit, os, sys, threading, time, logging
from tests.faults.deliveries import QUICK, endpoint_of
from tests.faults.memory_queue import MemoryQueue, receipt
from otel_steps.receipts.delivery import Delivery, Pace
from otel_steps.receipts.sender import sender_for
url, protocol = sys.argv[1:]
queue = MemoryQueue()
endpoint = endpoint_of(url, grpc=protocol == "grpc")
delivery = Delivery(queue, sender_for(endpoint), timeout_s=3, pace=Pace(linger_s=5))
"""


def run(script: str, url: str, protocol: str = "http") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROLOGUE + textwrap.dedent(script), url, protocol],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_short_script_delivers_at_its_end(protocol: str) -> None:
    receivers = {"http": http_receiver, "grpc": grpc_receiver}
    script = """
        atexit.register(delivery.shutdown, 5)
        for number in range(10):
            queue.append(receipt(number))
            delivery.notify()
    """
    with receivers[protocol]() as receiver:
        done = run(script, receiver.url, protocol)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert len(receiver.taken) == 10


def test_a_script_whose_first_notice_is_its_end_delivers_too() -> None:
    script = """
        atexit.register(delivery.shutdown, 5)
        queue.append(receipt(1))
    """
    with http_receiver() as receiver:
        done = run(script, receiver.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert len(receiver.taken) == 1


def test_the_end_of_a_process_is_bounded_though_the_receiver_hangs() -> None:
    script = """
        begun = time.monotonic()
        atexit.register(lambda: print(time.monotonic() - begun < 1.5))
        atexit.register(delivery.shutdown, 1)
        queue.append(receipt(1))
        delivery.notify()
    """
    with http_receiver(lambda records: HANG) as receiver:
        done = run(script, receiver.url)
        assert (done.returncode, done.stdout) == (0, "True\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("moment", ["idle", "in a request"])
def test_a_forked_child_delivers_its_own_over_its_own_connection(moment: str) -> None:
    script = f"""
        in_request = {moment!r} == "in a request"
        queue.append(receipt(0, name="slow" if in_request else "plan"))
        if in_request:
            threading.Thread(target=delivery.flush, args=(5,)).start()
            time.sleep(0.3)
        else:
            assert delivery.flush(5)
        child = os.fork()
        if child == 0:
            queue.lock = threading.Lock()
            queue.records.clear()
            queue.first = 0
            assert delivery.delivered == 0
            for number in range(1, 6):
                queue.append(receipt(number))
                delivery.notify()
            os._exit(0 if delivery.shutdown(5) and delivery.delivered == 5 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        queue.append(receipt(6))
        assert delivery.shutdown(5)
        assert delivery.delivered == 2
    """

    def play(records: list[Any]) -> Play:
        names = {item.value.string_value for record in records for item in record.attributes}
        return Play("slow", how="slow", taken=True, counts=True) if "slow" in names else OK

    with http_receiver(play) as receiver:
        done = run(script, receiver.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(int(i, 16) for i in receiver.taken) == list(range(7))
        assert set(receiver.taken.values()) == {1}
