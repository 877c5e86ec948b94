"""Cases of size: memory, many open steps, deep nesting, many calls, the import, the journal under a busy thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import otel_steps
from otel_steps import step

from . import measure
from .world import START, configured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Figure


def memory() -> Iterator[Figure]:
    """Bytes of an open step beyond an open bare span, and of a receipt in memory (Python's own allocations)."""
    with configured() as world:
        blocks = [step("open", max_tokens=10_000, max_usd=1.0) for _ in range(2000)]
        places = [contextvars.copy_context() for _ in blocks]  # each beside the others, as in tasks
        with step("warm"):
            pass
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        spans = [world.bare.start_span("open", attributes=START) for _ in blocks]
        bare = (tracemalloc.get_traced_memory()[0] - before) / len(blocks)
        for span in spans:
            span.end()
        before = tracemalloc.get_traced_memory()[0]
        for place, block in zip(places, blocks, strict=True):
            place.run(block.__enter__)
        held = (tracemalloc.get_traced_memory()[0] - before) / len(blocks)
        tracemalloc.stop()
        for place, block in zip(places, blocks, strict=True):
            place.run(block.__exit__, None, None, None)
        note = f"{held:.0f} B with its span; a bare span {bare:.0f} B"
        yield measure.of_values("memory of an open step, beyond its span", [held - bare], "B", 2048, note)

        @step("plan", model="gpt-4o-mini", max_tokens=10_000, max_usd=1.0)
        def ours() -> None:
            otel_steps.record_llm_usage("gpt-4o-mini", 10, 5)

        for _ in range(1000):
            ours()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            ours()
        records = otel_steps.drain_completed_steps()[-1000:]
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        records.clear()
        gc.collect()
        held = (held - tracemalloc.get_traced_memory()[0]) / 1000
        tracemalloc.stop()
        yield measure.of_values("memory of a waiting receipt", [held], "B", 1024)


def many_open() -> Iterator[Figure]:
    """The cost of a step among 10,000 open ones, of a step nested 100 deep, of a call in a step of 100,000."""
    with configured() as world:

        async def tasks(count: int) -> float:
            gate = asyncio.Event()

            async def one() -> None:
                async with step("open", max_tokens=10_000):
                    await gate.wait()

            started = time.perf_counter()
            running = [asyncio.create_task(one()) for _ in range(count)]
            await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*running)
            return (time.perf_counter() - started) / count * 1e6

        few = [asyncio.run(tasks(10)) for _ in range(50)]
        many = [asyncio.run(tasks(10_000)) for _ in range(5)]
        yield measure.of_values("10,000 open steps, each beside 10", [m / sorted(few)[25] for m in many], "x", 1.3)

        def nested(depth: int) -> float:
            with contextlib.ExitStack() as stack:
                for _ in range(depth):
                    stack.enter_context(step("level", max_tokens=10**9))
                started = time.perf_counter()
                for _ in range(200):
                    world.call(world.emitter)
                return (time.perf_counter() - started) / 200 * 1e6

        pairs = [(nested(10), nested(100)) for _ in range(15)]
        yield measure.of_values("a call nested 100 deep, beside 10", [deep / flat for flat, deep in pairs], "x", 1.3)

        with step("long", max_tokens=10**12, max_usd=1e9):
            first = [measure.per_call_us(lambda: world.call(world.emitter), 500) for _ in range(10)]
            for _ in range(95_000):
                world.call(world.emitter)
            last = [measure.per_call_us(lambda: world.call(world.emitter), 500) for _ in range(10)]
        ratios = [late / early for early, late in zip(first, last, strict=True)]
        yield measure.of_values("the 100,000th call, beside the first", ratios, "x", 1.3)


def import_time() -> Iterator[Figure]:
    """Milliseconds of `import otel_steps` beyond `import opentelemetry.trace`, compiled as installed packages are."""
    code = (
        "import time, opentelemetry.trace; started = time.process_time(); import otel_steps; "
        "print((time.process_time() - started) * 1e3)"
    )
    with tempfile.TemporaryDirectory(prefix="otel-steps-bench-") as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        command = [sys.executable, "-c", code]
        values = [
            float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
            for _ in range(16)
        ]
    # the first one compiled
    yield measure.of_values("import otel_steps beyond the API", values[1:], "ms", 15.0, "CPU time")


def journal() -> Iterator[Figure]:
    """The 99th percentile of one append while a second thread is busy."""
    from otel_steps.receipts.store import Store

    with configured(), step("one"):
        pass
    with configured():
        with step("one"):
            pass
        record = otel_steps.peek_completed_steps()[0]
    with tempfile.TemporaryDirectory(prefix="otel-steps-bench-") as folder:
        store, stop = Store(Path(folder)), threading.Event()

        def busy() -> None:
            while not stop.wait(0.0):
                sum(range(50))

        thread = threading.Thread(target=busy, daemon=True)
        interval = sys.getswitchinterval()
        store.completed(record)
        thread.start()
        values: list[float] = []
        try:
            for _ in range(9):
                took: list[int] = []
                for _ in range(3000):
                    started = time.thread_time_ns()
                    store.completed(record)
                    took.append(time.thread_time_ns() - started)
                values.append(sorted(took)[int(len(took) * 0.99)] / 1000)
        finally:
            stop.set()
            thread.join()
            sys.setswitchinterval(interval)
            store.close()
        yield measure.of_values(
            "journal append, p99, a second thread busy", values, "us", 30.0, "CPU time of the append"
        )


def million() -> Iterator[Figure]:
    """Seconds to read a million receipts back, measured on 200,000."""
    from otel_steps.receipts.reader import read_receipts
    from otel_steps.receipts.store import Store

    with configured():
        with step("one"):
            pass
        record = otel_steps.peek_completed_steps()[0]
    with tempfile.TemporaryDirectory(prefix="otel-steps-bench-") as folder:
        store = Store(Path(folder))
        for _ in range(200_000):
            store.completed(record)
        store.close()
        started = time.perf_counter()
        count = sum(1 for _ in read_receipts(Path(folder)))
        took = (time.perf_counter() - started) * 1_000_000 / count
        yield measure.of_values("a million receipts read back", [took], "s", 5.0, f"from {count:,}")
