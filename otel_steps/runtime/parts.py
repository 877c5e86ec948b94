"""The parts that set-up plugs into the runtime, by what the runtime asks of them; for type checkers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..record import CompletedStep
    from ..usage import Usage
    from .scope import Scope


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


class ReceiptSink(Protocol):
    """Told of each charge and each finished step, on the caller's thread, outside every lock; never raises."""

    def spent(self, receipt_id: str, usage: Usage, opened: tuple[CompletedStep, ...]) -> None:
        """A model call was charged to the open step `receipt_id`.

        `opened` are the steps around the call (outermost first) of which this sink has not heard yet: their facts with
        status `interrupted` and totals from before this call. The inclusive totals of a step are its own and those of
        the steps whose `parent_receipt_id` leads to it, so one line per call is enough to rebuild them all.
        """
        ...

    def completed(self, record: CompletedStep) -> None:
        """A step finished (or a closed one was amended); durable when this returns."""
        ...
