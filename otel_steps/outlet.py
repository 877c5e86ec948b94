"""Outlet: the store, its delivery and the budgets of one configuration, opened and closed together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import attributes as attr
from .runtime.windows import Windows

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from .receipts.delivery import Delivery
    from .receipts.endpoint import Endpoint
    from .receipts.store import Durability, Store
    from .record import CompletedStep
    from .runtime.state import Runtime
    from .shared.address import Address
    from .shared.budgets import RedisBudgets
    from .usage import Usage

WINDOWS_FILE = "budgets.sqlite3"
SHARED_CLOSE_S: Final = 1.0
"""How long the end of a configuration may wait to add to the shared budgets what they have missed."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """What one configuration has open."""

    settings: Any
    store: Store
    delivery: Delivery | None
    windows: Windows
    shared: RedisBudgets | None = None

    def flush(self, timeout_s: float) -> bool:
        """Whether all that waits now was acknowledged in time; without delivery: whether it is in the journal."""
        if self.delivery is not None:
            return self.delivery.flush(timeout_s)
        return self.store.is_durable()


class Closed:
    """What takes the place of the journal after `shutdown`: knows what was left, and what came too late."""

    def __init__(self, rt: Runtime, *, flushed: bool) -> None:
        self.flushed: bool = flushed
        """Whether nothing was left undelivered (or unwritten) when it closed, and nothing came since."""
        self._rt = rt

    def spent(self, receipt_id: str, usage: Usage, opened: tuple[CompletedStep, ...]) -> None:
        """Nobody takes calls in any more."""

    def completed(self, record: CompletedStep) -> None:
        """A step finished after `shutdown`: its receipt is in the in-memory log alone."""
        self.flushed = False
        self._rt.warnings.once(
            "closed",
            "step `%s` finished after shutdown(): its receipt is neither journalled nor delivered",
            record.name,
        )


def open_outlet(
    rt: Runtime,
    settings: Any,
    *,
    store: str | os.PathLike[str] | None,
    durability: Durability,
    deliver: bool,
    place: Endpoint | None,
    resource: Mapping[str, Any],
    shared: Address | None = None,
) -> Outlet:
    """Open the store (nothing is touched on disk before the first receipt) and start delivery where it has a place."""
    from .receipts.places import store_folder
    from .receipts.store import Store

    folder = None if durability == "off" else store_folder(store)
    opened = Store(
        folder,
        durability=durability,
        resource=resource,
        endpoint=None if place is None else place.identity,
        faults=rt.faults,
    )
    delivery = None
    if place is not None and deliver:
        from .receipts.delivery import Delivery
        from .receipts.sender import sender_for

        delivery = Delivery(opened, sender_for(place), timeout_s=place.timeout_s)
        opened.on_waiting = delivery.notify
        delivery.notify()  # a dead process may have left receipts for the same endpoint
    windows = Windows(None if folder is None else folder / WINDOWS_FILE, rt.warnings)
    outlet = Outlet(settings, opened, delivery, windows, None if shared is None else _shared(rt, shared))
    rt.sink = None if durability == "off" and delivery is None else opened
    rt.windows = windows
    rt.shared = outlet.shared
    rt.outlet = outlet
    HEALTH.watch(outlet)
    return outlet


def close_outlet(rt: Runtime, timeout_s: float) -> bool:
    """Deliver what can be delivered in time, then close all; True where nothing was left. Safe to call twice."""
    outlet: Outlet | None = rt.outlet
    if outlet is None:
        return rt.sink.flushed if isinstance(rt.sink, Closed) else True
    rt.outlet = None
    if outlet.shared is not None:
        outlet.shared.close(min(timeout_s, SHARED_CLOSE_S))  # it stays, and says of later calls that it is not asked
    flushed = outlet.flush(timeout_s) if outlet.delivery is None else outlet.delivery.shutdown(timeout_s)
    rt.sink = Closed(rt, flushed=flushed)
    outlet.store.close()
    outlet.windows.close()
    rt.windows = None
    HEALTH.forget(outlet)
    return flushed


def _shared(rt: Runtime, address: Address) -> RedisBudgets:
    from .shared.budgets import RedisBudgets
    from .shared.link import RedisLink

    budgets = RedisBudgets(address, RedisLink(address), rt.warnings)
    budgets.connect()
    return budgets


class Health:
    """The health metrics of delivery, read from the outlets of this process when somebody collects them."""

    def __init__(self) -> None:
        self._open: list[Outlet] = []
        self._before = dict.fromkeys(_COUNTED, 0)
        self._shown = False

    def watch(self, outlet: Outlet) -> None:
        """Count `outlet` in. The instruments are made once: the API cannot take one back."""
        self._open.append(outlet)
        if not self._shown:
            self._shown = True
            self._show()

    def forget(self, outlet: Outlet) -> None:
        """`outlet` is closed: keep its counts, which must not fall."""
        stats = outlet.store.stats()
        for name in _COUNTED:
            self._before[name] += getattr(stats, name)
        self._open.remove(outlet)

    def count(self, name: str) -> int:
        """How many receipts of this process were `delivered`, `set_aside`, `dropped`; or are `waiting`."""
        now: list[int] = [getattr(outlet.store.stats(), name) for outlet in list(self._open)]
        return self._before.get(name, 0) + sum(now)

    def _show(self) -> None:
        from opentelemetry import metrics

        def read(name: str) -> Callable[[Any], list[metrics.Observation]]:
            return lambda _: [metrics.Observation(self.count(name))]

        meter = metrics.get_meter(attr.SCOPE_NAME)
        meter.create_observable_gauge(
            attr.METRIC_RECEIPTS_WAITING, [read("waiting")], "{receipt}", "Receipts that wait to be acknowledged"
        )
        for name, (metric, description) in _COUNTED.items():
            meter.create_observable_counter(metric, [read(name)], "{receipt}", description)


_COUNTED: Final = {
    "delivered": (attr.METRIC_RECEIPTS_DELIVERED, "Receipts that a collector acknowledged"),
    "set_aside": (attr.METRIC_RECEIPTS_SET_ASIDE, "Receipts that a collector refused for good"),
    "dropped": (attr.METRIC_RECEIPTS_DROPPED, "Receipts that the store's or the memory's bound has cost"),
}

HEALTH: Final = Health()
"""The one of this process, as meters are the process's."""
