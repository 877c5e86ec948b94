"""What is left under the limits around a scope, and how much of its own limits a scope has used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bounds import nano_usd, usd
from . import meter
from .scope import PersonaScope

if TYPE_CHECKING:
    from .scope import Scope


def remaining_tokens(scope: Scope) -> int | None:
    """Tokens left under the tightest limit in force around `scope` (>= 0), or None where there is none."""
    with meter.LOCK:
        left = [
            limited.max_tokens - _taken(limited)[0]
            for limited in meter.in_force(scope)
            if limited.max_tokens is not None
        ]
    return max(min(left), 0) if left else None


def remaining_usd(scope: Scope) -> float | None:
    """US dollars left under the tightest limit in force around `scope` (>= 0), or None where there is none.

    A persona's day and hour count too; their totals are read from the store, outside the lock.
    """
    with meter.LOCK:
        in_force = tuple(meter.in_force(scope))
        left = [limited.max_nano_usd - _taken(limited)[1] for limited in in_force if limited.max_nano_usd is not None]
    for limited in in_force:
        if (
            isinstance(limited, PersonaScope)
            and limited.windows is not None
            and (limits := meter.window_limits(limited))
        ):
            day, hour = limited.windows.totals(limited.name)
            told = None if limited.shared is None else limited.shared.windows
            if told is not None:
                day, hour = max(day, told.spent[0] + told.held[0]), max(hour, told.spent[1] + told.held[1])
            left += [nano_usd(value) - (day if name == "daily_usd" else hour) for name, value in limits]
    return usd(max(min(left), 0)) if left else None


def _taken(scope: Scope) -> tuple[int, int]:
    """Tokens and nano-USD that are spent or held: here, or where all processes together have taken more, by them."""
    tokens, nano = scope.spent_tokens() + scope.reserved_tokens, scope.spent_nano_usd() + scope.reserved_nano_usd
    shared = scope.shared
    if shared is None:
        return tokens, nano
    return max(tokens, shared.tokens + shared.held[0]), max(nano, shared.nano_usd + shared.held[1])


def percent_used(scope: Scope) -> float:
    """100 times the largest share consumed over the limits of `scope`; a zero limit is at 100 from the first spend."""
    shares = [0.0]
    if scope.max_tokens is not None:
        shares.append(100.0 * scope.spent_tokens() / scope.max_tokens)
    if scope.max_nano_usd is not None:
        spent = scope.spent_nano_usd()
        if scope.max_nano_usd:
            shares.append(100.0 * spent / scope.max_nano_usd)
        elif spent:
            shares.append(100.0)
    return max(shares)
