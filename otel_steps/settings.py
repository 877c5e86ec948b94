"""Settings: what `configure` was told, checked one by one; a mistake names the setting, the value and the remedy."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import attributes as attr
from .checks import checked_choice, checked_flag, mistake

if TYPE_CHECKING:
    from .shared.address import Address


@dataclass(frozen=True, slots=True)
class Settings:
    """What `configure` was told; the same again changes nothing."""

    service_name: str | None
    tracer_provider: Any
    endpoint: str | None
    headers: tuple[tuple[str, str], ...] | None
    store: str | None
    durability: str
    deliver: bool
    unpriced: str
    unmetered: str
    transport_gate: bool
    shared: str | None
    shared_unavailable: str
    propagate: tuple[str, ...]


def checked(
    service_name: Any,
    tracer_provider: Any,
    endpoint: Any,
    headers: Any,
    store: Any,
    durability: Any,
    deliver: Any,
    unpriced: Any,
    unmetered: Any,
    transport_gate: Any,
    shared: Any,
    shared_unavailable: Any,
    propagate: Any,
) -> Settings:
    """The settings in force: what was given, checked, or what the environment says. Raises DefinitionError."""
    if service_name is not None and (not isinstance(service_name, str) or not service_name):
        raise mistake("service_name", service_name, "a non-empty string, or None")
    if tracer_provider is not None and not hasattr(tracer_provider, "get_tracer"):
        raise mistake("tracer_provider", tracer_provider, "an OpenTelemetry TracerProvider, or None")
    return Settings(
        service_name=service_name,
        tracer_provider=tracer_provider,
        endpoint=endpoint,
        headers=_pairs(headers),
        store=_folder(store),
        durability=checked_choice("durability", durability, ("process", "power", "off")),
        deliver=checked_flag("deliver", deliver),
        unpriced=checked_choice("unpriced", unpriced, ("stop", "allow")),
        unmetered=checked_choice("unmetered", unmetered, ("stop", "allow")),
        transport_gate=checked_flag("transport_gate", transport_gate),
        shared=os.environ.get(attr.ENV_SHARED, "").strip() or None if shared is None else shared,
        shared_unavailable=_unavailable(shared, shared_unavailable),
        propagate=_hosts(propagate),
    )


def _hosts(propagate: Any) -> tuple[str, ...]:
    if not propagate and isinstance(propagate, tuple | list):
        return ()
    from .telemetry.hosts import checked_hosts

    return checked_hosts(propagate)


def _unavailable(shared: Any, given: Any) -> str:
    told = os.environ.get(attr.ENV_SHARED_UNAVAILABLE, "").strip() if shared is None else ""
    if told:
        return checked_choice(attr.ENV_SHARED_UNAVAILABLE, told, ("stop", "allow"))
    return checked_choice("shared_unavailable", given, ("stop", "allow"))


def shared_address(url: str | None) -> Address | None:
    """Where budgets are shared, by its URL. Raises DefinitionError, also where its client is not installed."""
    if url is None:
        return None
    from .shared.address import check_client, read_address

    address = read_address(url)
    check_client(address)
    return address


def _folder(store: Any) -> str | None:
    if store is None:
        return None
    named: Any = os.fspath  # of anything, not of paths alone
    try:
        text = named(store)
    except TypeError:
        text = ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise mistake("store", store, "the path of a folder, or None")
    return text


def _pairs(headers: Any) -> tuple[tuple[str, str], ...] | None:
    if headers is None:
        return None
    try:
        return tuple(sorted(headers.items()))
    except (AttributeError, TypeError):
        raise mistake("headers", type(headers).__name__, 'a mapping such as {"authorization": "..."}') from None


def checked_timeout(timeout_s: Any) -> float:
    """Seconds to wait. Raises DefinitionError."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 <= timeout_s < float("inf"):
        raise mistake("timeout_s", timeout_s, "a finite number >= 0 (seconds)")
    return float(min(timeout_s, threading.TIMEOUT_MAX))
