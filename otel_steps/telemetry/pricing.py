"""PriceTable: what a model call costs, by the user's own prices first and genai-prices second."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ..bounds import shown
from ..errors import DefinitionError
from .pricing_names import canonical_provider, spellings, undated
from .pricing_rates import Rates, make_rates
from .pricing_table import TableEntry, find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..usage import Usage

SOURCE_REPORTED: Final = "reported"
SOURCE_SET: Final = "set_price"
SOURCE_TABLE: Final = "genai-prices"
CACHE_MAX: Final = 4096
"""Resolved names that are remembered; one more and the memory starts anew."""
_FAR: Final = 2**63 - 1
_MAX_USD_PER_MTOK: Final = 1e12


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What a name came to: its rates (None: the table has to be asked, or nobody knows a price) and while they hold."""

    rates: Rates | None
    source: str | None
    entry: TableEntry | None
    snapshot: object
    from_ns: int
    until_ns: int


class PriceTable:
    """Prices of one runtime. All methods may be called from any thread; no price is an error but the user's garbage."""

    def __init__(self) -> None:
        self._own: dict[tuple[str, str | None], Rates] = {}
        self._resolved: dict[tuple[str, str | None, str | None, str | None], _Resolved] = {}
        self._lock = threading.RLock()
        self._snapshot: Callable[[], object] = _no_snapshot

    def set_price(
        self,
        model: str,
        *,
        input_usd_per_mtok: float,
        output_usd_per_mtok: float,
        cache_read_usd_per_mtok: float | None = None,
        cache_write_usd_per_mtok: float | None = None,
        provider: str | None = None,
    ) -> None:
        """Give `model` a price ahead of the table, in USD per million tokens; a later one replaces an earlier one.

        With `provider` it holds for that provider only, and goes before one without. Cached tokens without a price of
        their own cost what input costs. The name also covers its dated releases (`gpt-4o` covers `gpt-4o-2024-08-06`,
        where that has no price of its own). Raises DefinitionError for garbage.
        """
        name = _name("model", model)
        holder = None if provider is None else canonical_provider(_name("provider", provider))
        plain = _amount("input_usd_per_mtok", input_usd_per_mtok)
        out = _amount("output_usd_per_mtok", output_usd_per_mtok)
        read, write = plain, plain
        if cache_read_usd_per_mtok is not None:
            read = _amount("cache_read_usd_per_mtok", cache_read_usd_per_mtok)
        if cache_write_usd_per_mtok is not None:
            write = _amount("cache_write_usd_per_mtok", cache_write_usd_per_mtok)
        rates = make_rates([(-1, (plain, read, write, write, out, out))])
        key = (name.lower(), holder)
        with self._lock:
            self._own = {**self._own, key: rates}
            self._resolved = {}

    def copied(self) -> PriceTable:
        """A table of its own with the prices that were set in this one."""
        made = PriceTable()
        made._own = self._own
        return made

    def clear(self) -> None:
        """Forget every price that was set, and everything remembered of the table."""
        with self._lock:
            self._own = {}
            self._resolved = {}

    def load_environment(self, environ: Mapping[str, str]) -> int:
        """Set the prices that `OTEL_STEPS_PRICES` holds; how many there were. Raises DefinitionError for garbage.

        All or nothing: garbage sets none. See `pricing_environment` for the form.
        """
        from .pricing_environment import prices_of

        prices = prices_of(environ)
        trial = PriceTable()
        for model, fields in prices:
            trial.set_price(model, **fields)
        with self._lock:
            self._own = {**self._own, **trial._own}
            self._resolved = {}
        return len(prices)

    def price(self, usage: Usage, at_ns: int | None = None) -> int | None:
        """Nano-USD of `usage` by its counts, or None where nobody knows the price; reported cost is not looked at.

        `at_ns` is when the call was made (nanoseconds since the epoch; default: now), for prices that change by date
        or hour. Half a nano-USD rounds to even.
        """
        return self._priced(usage, at_ns)[0]

    def apply(self, usage: Usage, at_ns: int | None = None) -> None:
        """Fill in `cost_nano_usd` and `price_source` of `usage`: a reported cost stays, else `price`, else None."""
        if usage.cost_nano_usd is not None:
            if usage.price_source is None:
                usage.price_source = SOURCE_REPORTED
            return
        cost, source = self._priced(usage, at_ns)
        if cost is not None:
            usage.cost_nano_usd = cost
            usage.price_source = source

    def worst_case(
        self,
        model: str,
        provider: str | None,
        input_tokens: int,
        output_cap: int,
        service_tier: str | None = None,
        at_ns: int | None = None,
    ) -> int | None:
        """Nano-USD that a call can cost at most, or None where no price is known.

        Every input token at the dearest of input, cache read and cache write; every output token at the dearer of
        output and reasoning; rounded up.
        """
        now = time.time_ns() if at_ns is None else at_ns
        found = self._find(model, provider, service_tier, None, now)
        if found.rates is not None:
            return found.rates.worst(input_tokens, output_cap)
        if found.entry is None:
            return None
        inputs, outputs = max(input_tokens, 0), max(output_cap, 0)
        alike = {"input_tokens": inputs, "output_tokens": outputs}
        costs = [
            _ask(found.entry, alike | extra, now)
            for extra in ({}, dict.fromkeys(("cache_write_tokens", "cache_write_1h_tokens"), inputs))
        ]
        return max((cost for cost in costs if cost is not None), default=None)

    def _priced(self, usage: Usage, at_ns: int | None) -> tuple[int | None, str | None]:
        now = time.time_ns() if at_ns is None else at_ns
        requested, hour, details = usage.request_model, usage.cache_write_1h_tokens, usage.details
        found = self._resolved.get((usage.model, usage.provider, usage.service_tier, requested))
        if found is None or not found.from_ns <= now < found.until_ns or found.snapshot is not self._snapshot():
            found = self._find(usage.model, usage.provider, usage.service_tier, requested, now)
        rates = found.rates
        if (rates is None or details) and found.entry is not None:
            cost = _ask(found.entry, _counts(usage, hour, details), now)
            if cost is not None:
                return cost, found.source
        if rates is None:
            return None, None
        cost = rates.cost(
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            hour,
            usage.reasoning_tokens,
        )
        return cost, found.source

    def _find(self, model: str, provider: str | None, tier: str | None, requested: str | None, now: int) -> _Resolved:
        cache = self._resolved
        key = (model, provider, tier, requested)
        found = cache.get(key)
        if found is not None and found.from_ns <= now < found.until_ns and found.snapshot is self._snapshot():
            return found
        found = self._resolve(model, provider, tier, requested, now)
        if len(cache) >= CACHE_MAX:
            cache.clear()
        cache[key] = found  # of a table that `set_price` has replaced meanwhile, this fills the old memory: nobody's
        return found

    def _resolve(
        self, model: str, provider: str | None, tier: str | None, requested: str | None, now: int
    ) -> _Resolved:
        names = [name for name in (model, requested) if name]
        own = self._own_rates(names, canonical_provider(provider))
        if own is not None:
            return _Resolved(own, SOURCE_SET, None, self._snapshot(), 0, _FAR)
        if self._snapshot is _no_snapshot:
            from genai_prices.data_snapshot import get_snapshot  # 200 ms, at the first model without a price of its own

            self._snapshot = get_snapshot
        snapshot = self._snapshot()
        for name in names:
            entry = find(name, provider, tier, now)
            if entry is not None:
                return _Resolved(entry.rates, SOURCE_TABLE, entry, snapshot, entry.from_ns, entry.until_ns)
        return _Resolved(None, None, None, snapshot, 0, _FAR)

    def _own_rates(self, names: list[str], provider: str | None) -> Rates | None:
        own = self._own
        if not own:
            return None
        written = [name.strip().lower() for name in names]
        loose = [text for name in names for text in spellings(name)]
        for name in dict.fromkeys((*written, *loose, *(undated(text) for text in loose))):
            for holder in (provider, None):
                rates = own.get((name, holder))
                if rates is not None:
                    return rates
        return None


def _no_snapshot() -> object:
    return None


def _ask(entry: TableEntry, counts: dict[str, int], now: int) -> int | None:
    try:
        return entry.ask(counts, now)
    except ValueError:
        return None  # counts that contradict each other: the integers price them as far as they go


def _counts(usage: Usage, hour: int, details: dict[str, int] | None) -> dict[str, int]:
    reads, writes = max(usage.cache_read_tokens, 0), max(usage.cache_write_tokens, 0)
    outputs = max(usage.output_tokens, 0)
    return {
        "input_tokens": max(usage.input_tokens, reads + writes),
        "output_tokens": outputs,
        "cache_read_tokens": reads,
        "cache_write_tokens": writes,
        "cache_write_1h_tokens": min(max(hour, 0), writes),
        "output_reasoning_tokens": min(max(usage.reasoning_tokens, 0), outputs),
        **(details or {}),
    }


def _name(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _garbage(field, value, f"the {field}'s name as a non-empty string")
    return value.strip()


def _amount(field: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        raise _garbage(field, value, "US dollars per million tokens as a number")
    amount = Decimal(repr(value)) if isinstance(value, float) and math.isfinite(value) else Decimal(value)
    if not amount.is_finite() or amount < 0 or amount > _MAX_USD_PER_MTOK:
        raise _garbage(field, value, "a finite number of US dollars per million tokens, 0 or more")
    return amount.quantize(Decimal("1e-18")).normalize()


def _garbage(field: str, value: object, remedy: str) -> DefinitionError:
    return DefinitionError(
        f"{field}={shown(value)} cannot be a price's {field}: write {remedy}", field=field, value=value, remedy=remedy
    )
