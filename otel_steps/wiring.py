"""Plugs what lies to the right of the runtime into it, each loaded on first use; imported by the facade alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .attributes import ENV_STORE
from .runtime import spans, state

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from .runtime.scope import Scope
    from .usage import Usage


def _price(usage: Usage) -> None:
    """Price the first call, and leave the next ones to the table that is loaded now."""
    from .telemetry.prices import price

    current: Any = state.runtime()
    for holder in (state.defaults, current):
        if holder.pricer is _price:
            holder.pricer = price
    price(usage)


def _provider_changed(provider: TracerProvider) -> None:
    if not hasattr(provider, "add_span_processor") and not os.environ.get(ENV_STORE):
        return  # neither spans to meter nor a journal: set-up need not be loaded
    from .setup import first_use

    first_use(provider)


def _seen_response(scope: Scope, usage: Usage) -> bool:
    from .telemetry.calls import seen_by_hand

    return seen_by_hand(scope, usage)


def _meter_told(scope: Scope, attributes: dict[str, Any], failed: bool, again: bool = False) -> bool:
    from .telemetry.calls import charge_told

    return charge_told(scope, attributes, failed=failed, again=again)


class _TransportGate:
    """The gate at the HTTP clients, loaded when the first limit breaks."""

    def limit_broke(self, owner: Scope) -> None:
        from .telemetry.transport_gate import GATE

        GATE.limit_broke(owner)

    def scope_left(self, owner: Scope) -> None:
        from .telemetry.transport_gate import GATE

        GATE.scope_left(owner)


def plug_in() -> None:
    """Connect set-up, prices and duplicates to the runtime."""
    state.defaults.pricer = _price
    state.defaults.seen_responses = _seen_response
    state.defaults.meter_told = _meter_told
    spans.tracers.provider_changed = _provider_changed
    gate = state.defaults.gate = _TransportGate()
    current: Any = state.runtime()
    current.pricer, current.seen_responses, current.gate = _price, _seen_response, gate
    current.meter_told = _meter_told
