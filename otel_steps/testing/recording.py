"""`record_steps()`: what ran, in memory, in a fresh runtime with fixed ids and clock; `steps` is made of it."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..bounds import usd
from ..providers import PROVIDERS
from ..runtime import state
from ..runtime.context import forget
from ..runtime.meter import is_unpriced
from ..runtime.windows import Windows
from .clock import FixedClock
from .rendering import usd_text
from .span_recorder import span_recorder

if TYPE_CHECKING:
    from collections.abc import Generator

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

    from ..record import CompletedStep
    from ..runtime.parts import Recorder
    from ..runtime.state import Runtime
    from ..telemetry.pricing import PriceTable
    from ..usage import Usage


class Account:
    """What was charged and which steps finished, in memory; tells `outer`, too.

    Totals are of all that was charged to any step, persona or run, finished or not. The lock is re-entrant: the garbage
    collector may close a step while this thread holds it.
    """

    def __init__(self, outer: Recorder | None = None) -> None:
        self._outer = outer
        self._lock = threading.RLock()
        self._records: list[CompletedStep] = []
        self._places: dict[str, int] = {}
        self.total_input_tokens: int = 0
        self.total_output_tokens: int = 0
        self.total_cost_nano_usd: int = 0
        self.total_llm_calls: int = 0
        self.unpriced_calls: int = 0
        """Calls whose price nobody knows; they count as $0."""

    def charged(self, usage: Usage) -> None:
        """A model call was charged."""
        with self._lock:
            self.total_input_tokens += usage.input_tokens
            self.total_output_tokens += usage.output_tokens
            self.total_cost_nano_usd += usage.cost_nano_usd or 0
            self.total_llm_calls += not usage.completes if usage.elsewhere is None else usage.elsewhere
            self.unpriced_calls += is_unpriced(usage)
        if self._outer is not None:
            self._outer.charged(usage)

    def finished(self, record: CompletedStep) -> None:
        """A step finished, or was amended: the newest revision takes the place of the one before."""
        with self._lock:
            place = self._places.get(record.receipt_id)
            if record.revision > 1 and place is not None:
                self._records[place] = record
            else:  # ids begin anew with each recording, so that the first revision is never one seen before
                self._places[record.receipt_id] = len(self._records)
                self._records.append(record)
        if self._outer is not None:
            self._outer.finished(record)

    @property
    def completed(self) -> list[CompletedStep]:
        """The receipts of the finished steps in the order in which they ended, each in its newest revision."""
        with self._lock:
            return list(self._records)

    @property
    def total_tokens(self) -> int:
        """Input and output tokens of all calls."""
        return self.total_input_tokens + self.total_output_tokens

    @property
    def total_cost_usd(self) -> float:
        """US dollars of all calls, at the prices in force."""
        return usd(self.total_cost_nano_usd)

    def named(self, name: str) -> list[CompletedStep]:
        """The receipts of the steps of that name, in the order in which they ended."""
        return [record for record in self.completed if record.name == name]


class Steps(Account):
    """What ran while it was recorded: `completed` receipts, `spans`, totals; and the clock that steps look at."""

    def __init__(self, clock: FixedClock, provider: TracerProvider, outer: Recorder | None = None) -> None:
        super().__init__(outer)
        self.clock = clock
        self.tracer_provider = provider
        """Where the spans of steps go; for instrumentations that are told their provider."""
        self.kept: list[ReadableSpan] = []

    @property
    def spans(self) -> list[ReadableSpan]:
        """The finished spans, in the order in which they ended: of steps, and what went through the global provider."""
        return list(self.kept)

    def __repr__(self) -> str:
        names = ", ".join(record.name for record in self.completed) or "none"
        return f"<Steps: {names}; {self.total_tokens:,} tokens, {usd_text(self.total_cost_nano_usd)}>"


@contextmanager
def record_steps() -> Generator[Steps, None, None]:
    """Record what runs in the block, in a runtime of its own, in all threads and tasks of this process.

    Receipts stay in memory: nothing is journalled or delivered, whatever `configure()` is told. Ids count up and the
    clock ticks, so a receipt is the same in every run. Definitions, hooks, prices and options are those in force before
    the block; what the block changes of them is undone behind it.
    """
    recorder, clock, defaults = span_recorder(), FixedClock(), state.defaults
    steps = Steps(clock, recorder.provider, defaults.recorder)
    before = (defaults.clock, defaults.random_bits, defaults.recorder, defaults.tracer_provider, defaults.in_memory)
    ids = itertools.count(1)
    defaults.clock, defaults.random_bits = clock, lambda _bits: next(ids)
    defaults.recorder, defaults.tracer_provider, defaults.in_memory = steps, recorder.provider, True
    spans_before = recorder.begin(steps.kept)
    fresh = _fresh(state.runtime(), clock)
    old = state.swap(fresh)
    try:
        PROVIDERS.join(fresh, recorder.global_provider())
        yield steps
    finally:
        forget()  # what a failed test left open is nobody's current scope any more
        if fresh.gate is not None:
            for owner in list(fresh.broken):
                fresh.gate.scope_left(owner)
        state.swap(old)
        recorder.end(spans_before)
        (defaults.clock, defaults.random_bits, defaults.recorder, defaults.tracer_provider, defaults.in_memory) = before


@contextmanager
def account() -> Generator[Account, None, None]:
    """Count what runs in the block, in the runtime in force, which goes on as it does."""
    before = state.defaults.recorder
    counted = Account(before)
    state.defaults.recorder = state.runtime().recorder = counted
    try:
        yield counted
    finally:
        state.defaults.recorder = state.runtime().recorder = before


def _fresh(before: Runtime, clock: FixedClock) -> Runtime:
    made = state.Runtime()
    made.options = before.options
    made.registry = before.registry.copied()
    made.hooks = before.hooks.copied()
    prices: PriceTable | None = before.price_table
    made.price_table = None if prices is None else prices.copied()
    made.windows = Windows(None, made.warnings, clock=lambda: clock.now_ns / 1e9)
    return made
