"""Runtime: everything the process knows beyond the open scopes; one object that `reset()` swaps whole."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .faults import Faults, Warnings
from .hooks import HookTable
from .log import CompletedLog
from .metrics import StepMetrics
from .registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..record import CompletedStep
    from ..usage import Usage
    from .scope import Scope
    from .shared_budgets import SharedBudgets
    from .sink import ReceiptSink
    from .windows import Windows


class Pricer(Protocol):
    """Prices a call: sets `usage.cost_nano_usd` and `usage.price_source` where the price is known. Never raises."""

    def __call__(self, usage: Usage) -> None:
        """Price `usage` in place."""
        ...


class ResponseCheck(Protocol):
    """Whether a call reported by hand has been told before, by its response id."""

    def __call__(self, scope: Scope, usage: Usage) -> bool:
        """Whether it repeats a call that was counted under `scope`."""
        ...


class ToldCall(Protocol):
    """A model call of which not all has been told: written onto a span of ours, or to be told of later."""

    def due(self, leaving: Scope | None) -> bool:
        """Whether it is to be settled at a gate; `leaving` is the scope that is being left there."""
        ...

    def wait(self, until: float) -> None:
        """Wait while another thread writes of it, at most until then (monotonic seconds)."""
        ...

    def settle(self) -> None:
        """Meter it now, as far as it was told."""
        ...


class TellsCall(Protocol):
    """Meters a model call that somebody told by writing onto a span of ours; False where the attributes tell none."""

    def __call__(self, scope: Scope, attributes: dict[str, Any], failed: bool, again: bool = False) -> bool:
        """Meter the call under `scope`; whether there was one. `again`: it was metered before, without usage."""
        ...


class TransportGate(Protocol):
    """Refuses model calls at the HTTP clients while a limit is broken."""

    def limit_broke(self, owner: Scope) -> None:
        """`owner` has broken a limit and is still open."""
        ...

    def scope_left(self, owner: Scope) -> None:
        """`owner`, which had broken a limit, is closed."""
        ...


class Recorder(Protocol):
    """Told of every charge and every receipt, beside the journal: what tests look at. Never raises."""

    def charged(self, usage: Usage) -> None:
        """A model call was charged to some scope; outside every lock."""
        ...

    def finished(self, record: CompletedStep) -> None:
        """A step finished, or the receipt of a closed one was amended."""
        ...


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
