"""Cases of many receipts: CPU to deliver one, beside the SDK's log pipeline; CPU of a report over a million."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from otel_steps.receipts.places import Limits
from otel_steps.receipts.store import Store

from . import measure
from .delivery import collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_steps import CompletedStep

    from .measure import Figure

TURNS = 5
RECEIPTS = 5_000
BATCH = 512
"""Receipts of a request, in both pipelines: what they take by default."""
MILLION = 1_000_000
SAMPLE = 100_000


def cpu_of_delivery() -> Iterator[Figure]:
    """From a finished record to its acknowledgement, both sides in a process each, in turn; user and system time."""
    with collector("well") as url:
        pairs = [(_deliver("ours", url), _deliver("sdk", url)) for _ in range(TURNS)]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    note = f"{mine:.1f} us beside {other:.1f} us; ours with the journal"
    values = [ours / sdk for ours, sdk in pairs]
    yield measure.of_values("CPU to deliver a receipt, beside the SDK's logs", values, "x", 0.40, note)


def _deliver(side: str, url: str) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.receipts", side, url]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def report(receipts: int = SAMPLE) -> Iterator[Figure]:
    """CPU seconds of the whole command `otel-steps report` over a million receipts, from fewer where fewer are made."""
    with tempfile.TemporaryDirectory(prefix="otel-steps-bench-") as folder:
        empty, full = Path(folder, "empty"), Path(folder, "full")
        _fill(empty, 1)
        _fill(full, receipts)
        values: list[float] = []
        for _ in range(3):
            start = _report_s(empty)
            values.append(start + (_report_s(full) - start) * MILLION / receipts)
    note = f"CPU of the command, from {receipts:,} of 50 steps"
    yield measure.of_values("a report over a million receipts", values, "s", 5.0, note)


def _report_s(folder: Path) -> float:
    command = [
        sys.executable,
        "-c",
        "from otel_steps.cli import main; main()",
        "report",
        "--json",
        "--store",
        str(folder),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _fill(folder: Path, receipts: int) -> None:
    one = a_record()
    kinds = [
        msgspec.structs.replace(
            one, name=f"step-{kind % 50}", cost_nano_usd=kind * 1000, total_cost_nano_usd=kind * 1000
        )
        for kind in range(1000)
    ]
    store = Store(folder, limits=Limits(max_bytes=8 << 30))
    for number in range(receipts):
        store.completed(kinds[number % len(kinds)])
    store.close()


def a_record() -> CompletedStep:
    """A receipt of a step with a limit and a metered call."""
    import otel_steps
    from otel_steps import persona, record_llm_usage, step

    from .world import configured

    with configured(), persona("researcher"):
        with step("plan", model="gpt-4o-mini", max_tokens=10_000, max_usd=1.0):
            record_llm_usage("gpt-4o-mini-2024-07-18", 10, 5)
        return otel_steps.drain_completed_steps()[-1]


def _ours(record: CompletedStep, url: str) -> None:
    from otel_steps.receipts.delivery import Delivery
    from otel_steps.receipts.endpoint import resolve_endpoint
    from otel_steps.receipts.sender import sender_for

    place = resolve_endpoint(url)
    assert place is not None
    with tempfile.TemporaryDirectory(prefix="otel-steps-bench-") as folder:
        store = Store(Path(folder), resource={"service.name": "bench"}, endpoint=place.identity)
        delivery = Delivery(store, sender_for(place))
        _timed(lambda: store.completed(record), lambda: delivery.flush(60))
        assert delivery.delivered == RECEIPTS
        store.close()


def _sdk(record: CompletedStep, url: str) -> None:
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    from otel_steps.record import record_attributes

    provider = LoggerProvider(Resource.create({"service.name": "bench"}))
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs")))
    logger = provider.get_logger("otel_steps")

    def emit() -> None:
        logger.emit(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body=record.name,
            attributes=record_attributes(record),
            event_name="otel_steps.receipt",
        )

    _timed(emit, lambda: provider.force_flush(60_000))
    provider.shutdown()


def _timed(give: Callable[[], object], flush: Callable[[], bool]) -> None:
    for _ in range(BATCH):
        give()
    assert flush()
    started = time.process_time_ns()
    for number in range(RECEIPTS - BATCH):
        give()
        if number % BATCH == BATCH - 1:  # as they come, or the SDK's queue would drop what is too many
            assert flush()
    assert flush()
    print((time.process_time_ns() - started) / (RECEIPTS - BATCH) / 1000)


if __name__ == "__main__":
    {"ours": _ours, "sdk": _sdk}[sys.argv[1]](a_record(), sys.argv[2])
    sys.stdout.flush()
    os._exit(0)
