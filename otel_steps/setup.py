"""Set-up: `configure()` and what undoes it; joins the providers, opens the store, starts delivery."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Literal

from . import attributes as attr
from .outlet import Closed, Outlet, close_outlet, open_outlet
from .providers import PROVIDERS, resource_of
from .runtime.state import Options, Runtime, runtime, swap
from .settings import checked as checked_settings
from .settings import checked_timeout, shared_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.trace import TracerProvider

    from .definitions import OnUnknown
    from .receipts.child_exit import ChildExit

EXIT_TIMEOUT_S = 5.0
_OPTIONS = ("unpriced", "unmetered", "transport_gate", "shared_unavailable")
_RESET_TIMEOUT_S = 1.0
_lock = threading.RLock()


def configure(
    *,
    service_name: str | None = None,
    tracer_provider: TracerProvider | None = None,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    store: str | os.PathLike[str] | None = None,
    durability: Literal["process", "power", "off"] = "process",
    deliver: bool = True,
    unpriced: OnUnknown = "stop",
    unmetered: OnUnknown = "allow",
    transport_gate: bool = True,
    shared: str | None = None,
    shared_unavailable: OnUnknown = "allow",
    propagate: Sequence[str] = (),
) -> None:
    """Set up metering, the journal and delivery. Safe to call twice; other settings replace the ones before.

    Joins `tracer_provider`, or the global SDK provider, or makes one that honours the standard OTEL_* variables.
    `endpoint`: base URL of an OTLP receiver (`http://localhost:4318`); receipts go there, and the spans of a provider
    made here. Without one, here and in OTEL_EXPORTER_OTLP_*, nothing leaves the machine. `headers`: sent along.
    `store`: folder of the journal (default: OTEL_STEPS_STORE, else by platform convention). `durability`: `process`
    survives a kill, `power` a power loss, `off` keeps no journal. `deliver=False` leaves delivery to another process.
    `unpriced`, `unmetered`: whether a call of unknown price, or without usage, breaks a dollar limit (`stop`) or counts
    as zero (`allow`). `transport_gate`: also refuse at the HTTP clients once a limit broke. `propagate`: hosts whose
    services (or Celery broker) are told the ids of the calling run and step, and nobody else: `api.internal`,
    `api.internal:8443`, `*.internal`.
    `shared`: URL of a Redis (default: OTEL_STEPS_SHARED); runs and personas of one name then share one budget over
    processes and hosts. While it cannot be asked, `shared_unavailable` says whether their model calls go on (`allow`).

    Raises DefinitionError that names the setting, the value and the remedy.
    """
    from .receipts.endpoint import resolve_endpoint

    settings = checked_settings(
        service_name,
        tracer_provider,
        endpoint,
        headers,
        store,
        durability,
        deliver,
        unpriced,
        unmetered,
        transport_gate,
        shared,
        shared_unavailable,
        propagate,
    )
    place = resolve_endpoint(endpoint, headers)
    address = shared_address(settings.shared)
    with _lock:
        rt = runtime()
        outlet: Outlet | None = rt.outlet
        if outlet is not None and outlet.settings == settings:
            return
        if outlet is not None:
            close_outlet(rt, EXIT_TIMEOUT_S)
        rt.set_options(
            unpriced=unpriced,
            unmetered=unmetered,
            transport_gate=transport_gate,
            shared_unavailable=settings.shared_unavailable,
        )
        _propagate(settings.propagate)
        if rt.in_memory:  # a test: what is said of metering holds, and nothing leaves the process
            if tracer_provider is not None:
                PROVIDERS.join(rt, tracer_provider)
            return
        provider = PROVIDERS.set_up(rt, tracer_provider, service_name, place, endpoint_given=endpoint is not None)
        rt.tracer_provider = tracer_provider
        resource = resource_of(provider, service_name)
        open_outlet(
            rt,
            settings,
            store=store,
            durability=durability,
            deliver=deliver,
            place=place,
            resource=resource,
            shared=address,
        )
        _at_exit()


def force_flush(timeout_s: float = 30.0) -> bool:
    """Try to deliver everything that waits, now. Returns the truth.

    True only if all that this process had waiting at the call was acknowledged by the collector (without an endpoint:
    is in the journal); False if a receipt was set aside or `timeout_s` seconds ran out. Spans of a provider that
    `configure` made are flushed too, within the same time.
    """
    deadline = time.monotonic() + checked_timeout(timeout_s)
    rt = runtime()
    outlet: Outlet | None = rt.outlet
    if rt.in_memory:
        return True
    if outlet is None:
        return rt.sink.flushed if isinstance(rt.sink, Closed) else not rt.log.peek()
    delivered = outlet.flush(max(deadline - time.monotonic(), 0.0))
    PROVIDERS.flush(max(deadline - time.monotonic(), 0.0))
    return delivered


def shutdown(timeout_s: float = EXIT_TIMEOUT_S) -> bool:
    """Deliver what can be delivered in `timeout_s` seconds, then stop delivery and close the journal.

    Safe to call twice. Returns what `force_flush` would have. What was not delivered stays in the journal for the next
    process.
    """
    return _shut_down(checked_timeout(timeout_s))


def reset() -> None:
    """Empty every store of this process: registry, hooks, log, options, prices; and undo `configure`. For tests."""
    with _lock:
        _undo()
        swap(Runtime())


def undo_configure() -> None:
    """Undo `configure`, as far as it can be: a provider that it made stays the global one, and exports nothing."""
    with _lock:
        _undo()
        defaults = Options()
        rt = runtime()
        rt.sink = rt.tracer_provider = rt.shared = None
        rt.set_options(**{name: getattr(defaults, name) for name in _OPTIONS})


def _undo() -> None:
    rt = runtime()
    _propagate(())
    close_outlet(rt, _RESET_TIMEOUT_S)
    PROVIDERS.end_export(_RESET_TIMEOUT_S)
    if rt.gate is not None:
        for owner in list(rt.broken):
            rt.gate.scope_left(owner)
    PROVIDERS.leave()


def _propagate(hosts: tuple[str, ...]) -> None:
    """Tell services of these hosts their caller; what does it is loaded where some are named."""
    module = sys.modules.get(f"{__package__}.telemetry.outgoing")
    if module is None and not hosts:
        return
    from .telemetry.outgoing import PROPAGATION

    PROPAGATION.set_hosts(hosts)


def _shut_down(timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    with _lock:
        if runtime().in_memory:
            return True
        delivered = close_outlet(runtime(), timeout_s)
        PROVIDERS.end_export(max(deadline - time.monotonic(), 0.0))
        return delivered


def set_price(
    model: str,
    *,
    input_usd_per_mtok: float,
    output_usd_per_mtok: float,
    cache_read_usd_per_mtok: float | None = None,
    cache_write_usd_per_mtok: float | None = None,
    provider: str | None = None,
) -> None:
    """A price of your own, ahead of the table: US dollars per million tokens.

    Cache prices default to the input price. With `provider` it holds for that provider only. Raises DefinitionError for
    anything but finite numbers >= 0 and a model's name.
    """
    from .telemetry.prices import prices

    prices().set_price(
        model,
        input_usd_per_mtok=input_usd_per_mtok,
        output_usd_per_mtok=output_usd_per_mtok,
        cache_read_usd_per_mtok=cache_read_usd_per_mtok,
        cache_write_usd_per_mtok=cache_write_usd_per_mtok,
        provider=provider,
    )


def first_use(provider: TracerProvider) -> None:
    """A step met a provider it had not seen: join it; and journal where the environment names a store."""
    with _lock:
        rt = runtime()
        PROVIDERS.join(rt, provider)
        if rt.outlet is None and not rt.in_memory and os.environ.get(attr.ENV_STORE):
            resource = resource_of(provider, None)
            open_outlet(rt, None, store=None, durability="process", deliver=False, place=None, resource=resource)
            _at_exit()


_child_exit: ChildExit | None = None


def _at_exit() -> None:
    global _child_exit  # noqa: PLW0603 - once per process
    if _child_exit is None:
        from .receipts.child_exit import ChildExit

        _child_exit = ChildExit(_exit)
        atexit.register(_exit)


def _exit() -> None:
    _shut_down(EXIT_TIMEOUT_S)
