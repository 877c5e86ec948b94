"""Totals and limits: charges, reservations and the limits they break. One lock; no clock, no I/O."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from ..bounds import nano_usd as nano_of
from ..breach import Breach
from ..usage import CALL_MAX
from .scope import PersonaScope, StepScope

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..breach import LimitName
    from ..usage import Usage
    from .scope import Scope
    from .shared_budgets import Ticket

# Re-entrant: the garbage collector may close a forgotten generator's step while this thread holds it.
LOCK = threading.RLock()


class Charge(NamedTuple):
    """What one charge came to: scopes that broke a limit by it, and closed steps whose receipts it amends."""

    broke: Sequence[Scope] = ()
    late: Sequence[StepScope] = ()


_NOTHING_TO_DO: Final = Charge()


def is_closed(scope: Scope) -> bool:
    """Whether `scope` has been left, maybe by another thread since the last look."""
    return scope.closed


def is_unpriced(usage: Usage) -> bool:
    """Whether `usage` was told, and nobody knows what it costs."""
    return usage.metered and (usage.cost_nano_usd is None or usage.unpriced)


def clean(usage: Usage) -> None:
    """Make `usage` chargeable: negative tokens are 0, an impossible cost is 0 and marked."""
    if not 0 <= usage.input_tokens <= CALL_MAX:
        usage.input_tokens = _within(usage.input_tokens)
    if not 0 <= usage.output_tokens <= CALL_MAX:
        usage.output_tokens = _within(usage.output_tokens)
    if not 0 <= usage.cache_read_tokens <= CALL_MAX:
        usage.cache_read_tokens = _within(usage.cache_read_tokens)
    if not 0 <= usage.cache_write_tokens <= CALL_MAX:
        usage.cache_write_tokens = _within(usage.cache_write_tokens)
    if not 0 <= usage.reasoning_tokens <= CALL_MAX:
        usage.reasoning_tokens = _within(usage.reasoning_tokens)
    nano = usage.cost_nano_usd
    if nano is not None and not 0 <= nano <= CALL_MAX:
        usage.cost_nano_usd, usage.invalid_cost = _within(nano), usage.invalid_cost or nano < 0


def _within(amount: int) -> int:
    return CALL_MAX if amount > CALL_MAX else max(amount, 0)


def charge(
    scope: Scope,
    usage: Usage,
    unmetered_stops: bool,
    window_totals: dict[Scope, tuple[int, int]],
    reservation: Reservation | None = None,
) -> Charge:
    """Add one call to `scope`, where it started, and to everything around it; find the limits it breaks.

    `usage.cost_nano_usd` None counts as zero and as an unpriced call. Closed scopes take the amounts too, but their
    limits stop nobody. `reservation` is settled in the same breath: between the two another call could take the room.
    """
    tokens_in, tokens_out = usage.input_tokens, usage.output_tokens
    nano = usage.cost_nano_usd or 0
    calls = 0 if usage.completes else 1
    if usage.elsewhere is not None:
        calls = usage.elsewhere
    step = scope.step
    late: list[StepScope] = []
    with LOCK:
        if reservation is not None:
            reservation.settle()
        if step is not None and usage.elsewhere is None:
            _charge_own(step, usage, nano)
        around: Scope | None = scope
        while around is not None:
            around.total_input += tokens_in
            around.total_output += tokens_out
            around.total_nano_usd += nano
            around.total_calls += calls
            if around.closed and isinstance(around, StepScope) and around.record is not None:
                late.append(around)
            around = around.parent
        # what is within its limits by its inclusive totals, which are never less than its own, is passed over at once;
        # but not where others count towards them too
        known = not (usage.cost_nano_usd is None or usage.unpriced or window_totals) and usage.metered
        broke: list[Scope] = []
        for limited in scope.limited:
            if limited.closed or (
                known
                and limited.shared is None
                and (limited.max_nano_usd is None or limited.total_nano_usd <= limited.max_nano_usd)
                and (limited.max_tokens is None or limited.total_input + limited.total_output <= limited.max_tokens)
            ):
                continue
            if _check(limited, step, usage, unmetered_stops, window_totals.get(limited)):
                broke.append(limited)
    return Charge(broke, late) if broke or late else _NOTHING_TO_DO


def _charge_own(step: StepScope, usage: Usage, nano: int) -> None:
    step.input_tokens += usage.input_tokens
    step.output_tokens += usage.output_tokens
    step.cost_nano_usd += nano
    if usage.completes:
        step.unmetered_calls = max(step.unmetered_calls - 1, 0)
    else:
        step.llm_calls += 1
    if usage.input_tokens > step.largest_input:  # noqa: PLR1730 - max() costs three times it
        step.largest_input = usage.input_tokens
    step.cache_read_tokens += usage.cache_read_tokens
    step.cache_write_tokens += usage.cache_write_tokens
    step.reasoning_tokens += usage.reasoning_tokens
    if usage.model:
        step.model = usage.model
    if usage.invalid_cost:
        step.invalid_costs += 1
    if usage.unconsulted:
        step.shared_unconsulted_calls += 1
    if not usage.metered:
        step.unmetered_calls += 1
    elif usage.cost_nano_usd is None:
        step.unpriced_calls += 1
    source = usage.price_source
    if source and source != step.price_source:
        step.price_source = source if step.price_source is None else "mixed"


def _check(
    scope: Scope, step: StepScope | None, usage: Usage, unmetered_stops: bool, windows: tuple[int, int] | None
) -> bool:
    """Whether the call just added breaks a limit of `scope` that had held before."""
    if not scope.inclusive and (step is not scope or usage.elsewhere is not None):
        return False  # its limit looks at its own calls only
    names: list[tuple[LimitName, float]] = []
    unpriced = unmetered = None
    if scope.max_tokens is not None and scope.spent_tokens() > scope.max_tokens:
        names.append(("max_tokens", scope.max_tokens))
    if scope.max_usd is not None and scope.max_nano_usd is not None:
        if scope.spent_nano_usd() > scope.max_nano_usd:
            names.append((scope.usd_limit_name, scope.max_usd))
        elif is_unpriced(usage) and scope.unpriced_stops:
            names.append((scope.usd_limit_name, scope.max_usd))
            unpriced = usage.model
        elif not usage.metered and unmetered_stops and not usage.awaited:
            names.append((scope.usd_limit_name, scope.max_usd))
            unmetered = usage.model
    if windows is not None and isinstance(scope, PersonaScope):
        names += over_windows(scope, windows)
        if is_unpriced(usage) and scope.unpriced_stops and not names:
            names += window_limits(scope)[:1]
            unpriced = usage.model if names else None
    names = in_order(scope, names)
    if not names:
        return False
    in_window = None if windows is None else {"daily_usd": windows[0], "hourly_usd": windows[1]}.get(names[0][0])
    return break_limits(scope, names, step, unpriced=unpriced, unmetered=unmetered, consumed_nano_usd=in_window)


def break_unmetered(scope: Scope, model: str) -> list[Scope]:
    """Break the dollar limits around `scope` for a call without usage; those scopes that were not broken by one yet."""
    with LOCK:
        return [
            limited
            for limited in in_force(scope)
            if limited.max_usd is not None
            and break_limits(limited, [(limited.usd_limit_name, limited.max_usd)], scope.step, unmetered=model)
        ]


def over_totals(scope: Scope, tokens: int, nano_usd: int) -> list[tuple[LimitName, float]]:
    """The limits of `scope` on its totals that these amounts pass, tokens first."""
    names: list[tuple[LimitName, float]] = []
    if scope.max_tokens is not None and tokens > scope.max_tokens:
        names.append(("max_tokens", scope.max_tokens))
    if scope.max_nano_usd is not None and scope.max_usd is not None and nano_usd > scope.max_nano_usd:
        names.append((scope.usd_limit_name, scope.max_usd))
    return names


def in_order(scope: Scope, names: list[tuple[LimitName, float]]) -> list[tuple[LimitName, float]]:
    """Limits in the order in which they count: tokens first, of a persona last."""
    if isinstance(scope, PersonaScope) and len(names) > 1 and names[0][0] == "max_tokens":
        return [*names[1:], names[0]]
    return names


def window_limits(scope: PersonaScope) -> list[tuple[LimitName, float]]:
    """The window limits that a persona has, day first."""
    budget = scope.budget
    if budget is None:
        return []
    limits: list[tuple[LimitName, float]] = []
    if budget.daily_usd is not None:
        limits.append(("daily_usd", budget.daily_usd))
    if budget.hourly_usd is not None:
        limits.append(("hourly_usd", budget.hourly_usd))
    return limits


def over_windows(scope: PersonaScope, totals: tuple[int, int]) -> list[tuple[LimitName, float]]:
    """The window limits that `totals` (nano-USD of this UTC day and hour) pass."""
    spent = {"daily_usd": totals[0], "hourly_usd": totals[1]}
    return [(name, limit) for name, limit in window_limits(scope) if spent[name] > nano_of(limit)]


def break_limits(
    scope: Scope,
    names: list[tuple[LimitName, float]],
    step: StepScope | None,
    *,
    unpriced: str | None = None,
    unmetered: str | None = None,
    consumed_nano_usd: int | None = None,
    projected: tuple[int | None, int | None] = (None, None),
    unavailable: bool = False,
) -> bool:
    """Note that limits of `scope` are broken; False where nothing new is. Called under LOCK."""
    known = scope.breached
    fresh = [named for named in names if named[0] not in known]
    if not fresh:
        return False
    limit, value = fresh[0]
    owner = scope if isinstance(scope, StepScope) else step
    breach = Breach(
        scope=scope.kind,
        name=scope.name,
        limit=limit,
        limit_value=value,
        consumed_tokens=scope.spent_tokens(),
        consumed_cost_nano_usd=scope.spent_nano_usd() if consumed_nano_usd is None else consumed_nano_usd,
        step=None if owner is None else owner.name,
        function=None if owner is None else owner.definition.function,
        persona=None if scope.persona is None else scope.persona.name,
        error_boundary=scope.error_boundary,
        also=tuple(name for name, _ in fresh),
        unpriced_model=unpriced,
        unmetered_model=unmetered,
        projected_tokens=projected[0],
        projected_cost_nano_usd=projected[1],
        shared_unavailable=unavailable,
    )
    if scope.breaches is None:
        scope.breaches = [breach]
    else:
        scope.breaches.append(breach)
    return True


class Reservation:
    """The worst case of one call in flight, held in each limited scope around it until it is settled."""

    __slots__ = ("nano_usd", "open", "scopes", "ticket", "tokens")

    def __init__(self, scopes: tuple[Scope, ...], tokens: int, nano_usd: int, ticket: Ticket | None = None) -> None:
        self.scopes: tuple[Scope, ...] = scopes
        self.tokens: int = tokens
        self.nano_usd: int = nano_usd
        self.open: bool = True
        self.ticket: Ticket | None = ticket
        """What the store that other processes count on knows of the call."""

    def settle(self) -> None:
        """Give the reserved room back; the real amounts are charged on their own. Safe to call twice."""
        with LOCK:
            if not self.open:
                return
            self.open = False
            for scope in self.scopes:
                scope.reserved_tokens -= self.tokens
                scope.reserved_nano_usd -= self.nano_usd


def reserve(scope: Scope, tokens: int, nano_usd: int) -> Reservation | Scope:
    """Hold room for a call's worst case in every limited scope around it, or return the outermost one that has none.

    That one is then broken: kind `terminal`, with the projected amounts. One that is broken already has no room.
    """
    tokens, nano_usd = _within(tokens), _within(nano_usd)
    with LOCK:
        scopes = tuple(in_force(scope))
        for limited in reversed(scopes):
            if limited.breaches:
                return limited
            in_tokens = limited.spent_tokens() + limited.reserved_tokens + tokens
            in_nano = limited.spent_nano_usd() + limited.reserved_nano_usd + nano_usd
            if names := over_totals(limited, in_tokens, in_nano):
                break_limits(limited, names, scope.step, projected=(in_tokens, in_nano))
                return limited
        for limited in scopes:
            limited.reserved_tokens += tokens
            limited.reserved_nano_usd += nano_usd
    return Reservation(scopes, tokens, nano_usd)


def in_force(scope: Scope) -> Iterator[Scope]:
    """The scopes whose limits a call in `scope` counts towards, innermost first."""
    for limited in scope.limited:
        if not limited.closed and (limited.inclusive or limited is scope.step):
            yield limited
