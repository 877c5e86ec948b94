"""Runtime: everything the process knows beyond the open scopes; one object that `reset()` swaps whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .faults import Faults, Warnings
from .hooks import HookTable
from .log import CompletedLog
from .metrics import StepMetrics
from .registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from .parts import Pricer, ReceiptSink, Recorder, ResponseCheck, TellsCall, ToldCall, TransportGate
    from .scope import Scope
    from .shared_budgets import SharedBudgets
    from .windows import Windows


class Options(NamedTuple):
    """What `configure()` decides for the runtime."""

    unpriced: str = "stop"
    unmetered: str = "allow"
    transport_gate: bool = True
    wake_after_s: float = 2.0
    shared_unavailable: str = "allow"


class Defaults:
    """What a fresh runtime starts with; filled in by the facade and by tests, of which the runtime knows nothing."""

    def __init__(self) -> None:
        self.pricer: Pricer | None = None
        self.seen_responses: ResponseCheck | None = None
        self.gate: TransportGate | None = None
        self.meter_told: TellsCall | None = None
        self.clock: Callable[[], int] = time.time_ns
        """Nanoseconds since the epoch: when scopes start and end."""
        self.random_bits: Callable[[int], int] = _random_bits
        """What makes the ids of receipts and runs unique."""
        self.recorder: Recorder | None = None
        self.tracer_provider: Any = None
        self.in_memory: bool = False
        """True: set-up opens neither journal nor delivery, whatever it is told."""


def _random_bits(count: int) -> int:
    """What stands for `random.getrandbits` until the first id: its module loads hashlib, and the import stays light."""
    from random import getrandbits

    for holder in (defaults, _runtime):
        if holder.random_bits is _random_bits:
            holder.random_bits = getrandbits
    return getrandbits(count)


defaults: Defaults = Defaults()


class Runtime:
    """The one runtime: options, registry, hooks, the log, and the parts that set-up plugs in."""

    def __init__(self) -> None:
        self.options: Options = Options()
        self.registry: Registry = Registry()
        self.hooks: HookTable = HookTable()
        self.log: CompletedLog = CompletedLog()
        self.faults: Faults = Faults()
        self.warnings: Warnings = Warnings()
        self.paused: dict[str, str | None] = {}
        self.span_scopes: dict[int, Scope] = {}
        self.tool_spans: dict[int, str] = {}
        self.live_spans: dict[int, Any] = {}
        self.learnt_spans: dict[tuple[str, str, Any], None] = {}
        self.told_calls: dict[ToldCall, Scope] = {}
        self.broken: dict[Scope, None] = {}
        self.metrics: StepMetrics = StepMetrics()
        self.sink: ReceiptSink | None = None
        self.pricer: Pricer | None = defaults.pricer
        self.gate: TransportGate | None = defaults.gate
        self.meter_told: TellsCall | None = defaults.meter_told
        self.seen_responses: ResponseCheck | None = defaults.seen_responses
        self.windows: Windows | None = None
        self.shared: SharedBudgets | None = None
        self.clock: Callable[[], int] = defaults.clock
        self.random_bits: Callable[[int], int] = defaults.random_bits
        self.recorder: Recorder | None = defaults.recorder
        self.tracer_provider: Any = defaults.tracer_provider
        self.in_memory: bool = defaults.in_memory
        self.price_table: Any = None
        self.outlet: Any = None
        self.returned: dict[str, Any] = {}
        """What receipts of steps elsewhere have been charged here, so that each is charged once."""

    def set_options(self, **changes: Any) -> None:
        """Swap the options for changed ones."""
        self.options = self.options._replace(**changes)


_runtime = Runtime()


def runtime() -> Runtime:
    """The runtime in force."""
    return _runtime


def swap(new: Runtime) -> Runtime:
    """Put `new` in force; returns the one before."""
    global _runtime
    old, _runtime = _runtime, new
    return old
