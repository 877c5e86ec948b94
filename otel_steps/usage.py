"""Usage: what one model call consumed, as every reader of it passes it on; and how amounts told by hand are read."""

from __future__ import annotations

import math
import operator
from typing import Any, ClassVar, Final, SupportsFloat, SupportsIndex

from .bounds import NANO_PER_USD, shown
from .errors import DefinitionError

CALL_MAX: Final = 10**30
"""More tokens or nano-USD than one call can mean; beyond it an amount counts as this, so that any total can be told."""


class Usage:
    """What one model call consumed.

    `input_tokens` include cached ones and `output_tokens` include reasoning. `cost_nano_usd` is None where nobody
    has priced the call yet; `price_source` then says who did (`reported`, `set_price`, `genai-prices`).
    """

    __slots__ = (
        "awaited",
        "cache_read_tokens",
        "cache_write_1h_tokens",
        "cache_write_tokens",
        "completes",
        "cost_nano_usd",
        "details",
        "elsewhere",
        "ended_ns",
        "input_tokens",
        "invalid_cost",
        "metered",
        "model",
        "output_tokens",
        "price_source",
        "provider",
        "reasoning_tokens",
        "request_model",
        "response_id",
        "service_tier",
        "unconsulted",
        "unpriced",
    )

    def __init__(
        self,
        model: str = "",
        input_tokens: int = 0,
        output_tokens: int = 0,
        cost_nano_usd: int | None = None,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        provider: str | None = None,
        response_id: str | None = None,
        service_tier: str | None = None,
        *,
        request_model: str | None = None,
        cache_write_1h_tokens: int = 0,
        price_source: str | None = None,
        details: dict[str, int] | None = None,
        invalid_cost: bool = False,
        metered: bool = True,
        awaited: bool = False,
        completes: bool = False,
        elsewhere: int | None = None,
        unpriced: bool = False,
        unconsulted: bool = False,
        ended_ns: int | None = None,
    ) -> None:
        self.model: str = model
        self.input_tokens: int = input_tokens
        self.output_tokens: int = output_tokens
        self.cost_nano_usd: int | None = cost_nano_usd
        self.cache_read_tokens: int = cache_read_tokens
        self.cache_write_tokens: int = cache_write_tokens
        self.reasoning_tokens: int = reasoning_tokens
        self.provider: str | None = provider
        self.response_id: str | None = response_id
        self.service_tier: str | None = service_tier
        self.price_source: str | None = price_source
        self.request_model: str | None = request_model
        """The model that was asked for, where another name answered."""
        self.cache_write_1h_tokens: int = cache_write_1h_tokens
        """Those of `cache_write_tokens` that are kept for an hour."""
        self.details: dict[str, int] | None = details
        """Tokens of other kinds (audio), by genai-prices' names; part of input and output."""
        self.invalid_cost: bool = invalid_cost
        self.metered: bool = metered
        """False for a model call that ended without telling its usage."""
        self.awaited: bool = awaited
        """True where its usage is told of later, and it is not judged as unmetered before."""
        self.completes: bool = completes
        """True where this is the usage of a call that was counted before without any."""
        self.elsewhere: int | None = elsewhere
        """How many calls these totals are of, where they came back from steps in another process; None: one call."""
        self.unpriced: bool = unpriced
        """True where totals from elsewhere hold calls of unknown price, which count as zero in them."""
        self.unconsulted: bool = unconsulted
        """True where the budget that other processes share could not be asked for this call."""
        self.ended_ns: int | None = ended_ns
        """When the call ended (nanoseconds since the epoch), for prices that change with time; None: now."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__: ClassVar[None]  # type: ignore[assignment] # it changes on its way

    def __repr__(self) -> str:
        return f"Usage({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def count(field: str, value: Any) -> int:
    """A number of tokens as int, a fraction cut off. Raises DefinitionError for anything but a finite number."""
    if type(value) is int:
        return value
    if _is_number(value):
        try:
            return operator.index(value) if isinstance(value, SupportsIndex) else math.trunc(value)
        except (TypeError, ValueError, OverflowError, ArithmeticError):
            pass  # NaN, infinite: said below
    raise _wrong(field, value, "a finite number of tokens")


def cost_to_nano(field: str, value: Any) -> int | None:
    """Integer nano-USD of a cost in US dollars, to the nearest; None where it is NaN, infinite or negative.

    Takes int, float, Decimal, Fraction and what converts to float (numpy). Raises DefinitionError for anything else.
    """
    if type(value) is float and 0.0 <= value < 1e15:
        return round(value * NANO_PER_USD)
    if not _is_number(value):
        raise _wrong(field, value, "US dollars as a number, or None to have the call priced")
    from decimal import Decimal  # both are loaded for what is no plain float: hardly ever
    from fractions import Fraction

    try:
        amount = value if isinstance(value, float | int | Decimal | Fraction) else float(value)
        if isinstance(amount, float) and amount < 1e15:
            return round(amount * NANO_PER_USD) if amount >= 0 else None
        if isinstance(amount, Decimal) and amount.is_finite() and amount > CALL_MAX:
            return CALL_MAX  # before its digits are written out: a Decimal can name more of them than memory holds
        exact = Fraction(amount)
    except (TypeError, ValueError, OverflowError, ArithmeticError):
        return None
    return min(round(exact * NANO_PER_USD), CALL_MAX) if exact >= 0 else None


def text(field: str, value: Any) -> str | None:
    """A name or id; empty is none. Raises DefinitionError for anything but text or None."""
    if value is None or isinstance(value, str):
        return value or None
    raise _wrong(field, value, "text, or None")


def _is_number(value: object) -> bool:
    return isinstance(value, SupportsFloat | SupportsIndex) and not isinstance(value, bool)


def _wrong(field: str, value: object, remedy: str) -> DefinitionError:
    message = f"{field}={shown(value)} is not valid: give {remedy}"
    return DefinitionError(message, field=field, value=value, remedy=remedy)
