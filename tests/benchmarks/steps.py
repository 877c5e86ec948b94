"""Cases of the step's path: decorator, model calls, async, generators, nothing configured, other people's spans."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import otel_steps
from otel_steps import step

from . import measure
from .world import configured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .measure import Figure


def step_by_decorator() -> Iterator[Figure]:
    """A whole step: span, persona, limits, meter, record, journal line on disk."""
    with configured() as world, otel_steps.persona("researcher"):

        @step("plan", model="gpt-4o-mini", max_tokens=10_000, max_usd=1.0)
        def ours() -> None:
            pass

        yield measure.ratio("a step by decorator", ours, world.base_step, 1.00)

        @step("plan", model="gpt-4o-mini", max_tokens=10_000, max_usd=1.0)
        def with_calls() -> None:
            world.call(world.emitter)
            world.call(world.emitter)
            world.call(world.emitter)

        yield measure.ratio("a step with 3 model calls", with_calls, world.base_step_with_calls, 1.05, calls=200)
        with step("open", max_tokens=10**9, max_usd=1e6):
            yield measure.difference(
                "our processor, one model call", lambda: world.call(world.emitter), lambda: world.call(world.bare), 6.0
            )


def pricing() -> Iterator[Figure]:
    """The price of one call from the resolved table."""
    from otel_steps.telemetry.pricing import PriceTable
    from otel_steps.usage import Usage

    table, usage = (
        PriceTable(),
        Usage(model="gpt-4o-mini-2024-07-18", provider="openai", input_tokens=10, output_tokens=5),
    )
    yield measure.absolute("of that, its price", lambda: table.price(usage, 1_700_000_000_000_000_000), 0.5, calls=5000)


def async_and_generators() -> Iterator[Figure]:
    """An async step beside an async bare span; a generator's resume."""
    with configured() as world, otel_steps.persona("researcher"):

        @step("plan", model="gpt-4o-mini", max_tokens=10_000, max_usd=1.0)
        async def ours() -> None:
            pass

        async def base() -> None:
            with world.bare.start_as_current_span("plan", attributes={"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}) as span:
                for index in range(7):
                    span.set_attribute(str(index), index)

        loop = asyncio.new_event_loop()

        async def many(work: object, count: int = 100) -> None:
            for _ in range(count):
                await work()  # type: ignore[operator]

        yield measure.ratio(
            "an async step",
            lambda: loop.run_until_complete(many(ours)),
            lambda: loop.run_until_complete(many(base)),
            1.05,
            calls=4,
        )
        loop.close()

        @step("stream", max_tokens=10_000)
        def stepped() -> Iterator[int]:
            yield from range(1000)

        def bare() -> Iterator[int]:
            yield from range(1000)

        yield measure.difference(
            "a generator step, each resume", lambda: list(stepped()), lambda: list(bare()), 2.0, each=1000, calls=4
        )


def nothing_configured() -> Iterator[Figure]:
    """A decorated function without limits where nobody has configured anything, beside the bare span."""
    otel_steps.reset()
    from .world import World

    world = World()

    @step
    def ours() -> None:
        pass

    yield measure.ratio("nothing configured, no limits", ours, world.base_step, 0.5)


def nobodys_span() -> Iterator[Figure]:
    """A web span passing our processor: outside every step, and inside one."""
    with configured() as world:
        web = {"http.request.method": "GET", "url.full": "http://localhost/"}

        def through() -> None:
            world.emitter.start_span("GET", attributes=web).end()

        def bare() -> None:
            world.bare.start_span("GET", attributes=web).end()

        yield measure.difference("a span that is nobody's business", through, bare, 0.5, calls=2000)
        with step("open", max_tokens=10_000):
            yield measure.difference("the same inside a step", through, bare, 0.5, calls=2000)


def without_sdk() -> Iterator[Figure]:
    """A step with hand-reported usage where the SDK cannot be imported."""
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('opentelemetry.sdk'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import otel_steps, time\n"
        "@otel_steps.step(max_usd=1.0)\n"
        "def ours():\n"
        "    otel_steps.record_llm_usage('m', 10, 5, 0.001)\n"
        "def many(n):\n"
        "    started = time.perf_counter()\n"
        "    for _ in range(n):\n"
        "        ours()\n"
        "    return (time.perf_counter() - started) / n * 1e6\n"
        "many(2000)\n"
        "print(*(many(2000) for _ in range(15)))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    yield measure.of_values("a step without the SDK", [float(value) for value in told.stdout.split()], "us", 10.0)
