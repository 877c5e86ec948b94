"""Limits that other processes count on too: looked at before a call, held for it, charged behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..bounds import nano_usd as nano_of
from . import meter
from .lifecycle import limit_broke
from .scope import PersonaScope, RunScope
from .shared_budgets import Account, Answer, SharedView, Ticket
from .stops import stop_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..breach import LimitName
    from ..usage import Usage
    from .meter import Reservation
    from .scope import Scope
    from .shared_budgets import Balance, Limits, Pair, SharedBudgets
    from .state import Runtime

    Shared = RunScope | PersonaScope

_WINDOW: Final = {"daily_usd": 0, "hourly_usd": 1}


def refresh(runtime: Runtime, scope: Scope) -> None:
    """Ask for the shared totals around `scope`, so that what is left there is what all processes have left."""
    accounts = _limits(_around(scope))
    if runtime.shared is not None and accounts:
        _note(scope, runtime.shared.read(tuple(accounts)))


def admit(runtime: Runtime, shared: SharedBudgets, scope: Scope) -> Reservation | None:
    """Look at the shared totals before a call is sent; what is returned goes with the call, where there is anything.

    Raises StepStop, kind `terminal`, where all processes together have passed a limit around `scope`, or where the
    totals cannot be had and `shared_unavailable` says stop.
    """
    accounts = _limits(_around(scope))
    if not accounts:
        return None
    answer = shared.read(tuple(accounts))
    _note(scope, answer)
    if answer.consulted:
        _stop_if_passed(runtime, scope)
        return None
    _stop_if_unavailable(runtime, scope)
    return meter.Reservation((), 0, 0, ticket=Ticket(tuple(accounts), None, consulted=False))


def hold(runtime: Runtime, shared: SharedBudgets, scope: Scope, held: Reservation) -> None:
    """Hold the room that `held` has here in the shared accounts too; it is given back here where there is none there.

    Raises StepStop as `admit` does, with the amounts that the call would have brought the account to.
    """
    limits = _limits(_around(scope))
    if not limits:
        return
    amounts = _amounts(limits, held.tokens, held.nano_usd)
    answer = shared.hold(amounts, limits)
    _note(scope, answer)
    held.ticket = Ticket(tuple(limits), answer.hold, consulted=answer.consulted)
    try:
        if answer.refused:
            _refuse(runtime, scope, answer, amounts)
        if not answer.consulted:
            _stop_if_unavailable(runtime, scope)
    except BaseException:  # raised on: the call is not sent, so nothing may stay held for it
        release(runtime, held)
        raise


def charge(
    runtime: Runtime,
    shared: SharedBudgets,
    scope: Scope,
    usage: Usage,
    reservation: Reservation | None,
    windows: dict[Scope, Pair],
    *,
    by_hand: bool,
) -> None:
    """Add a call to the shared accounts around `scope`, closed scopes' too; `windows` become what all have spent.

    Where the store is not reached the call is marked, and the local meter goes on with what was known.
    """
    accounts = _limits(_shared_scopes(scope))
    if not accounts:
        return
    tokens, nano_usd = usage.input_tokens + usage.output_tokens, usage.cost_nano_usd or 0
    ticket = None if reservation is None else reservation.ticket
    answer = shared.charge(_amounts(accounts, tokens, nano_usd), None if ticket is None else ticket.hold)
    if ticket is not None:
        ticket.hold = None
    usage.unconsulted = not answer.consulted or (ticket is not None and not ticket.consulted)
    _note(scope, answer, (tokens, nano_usd))
    for limited in list(windows):
        told = None if limited.shared is None else limited.shared.windows
        if told is not None:
            day, hour = windows[limited]
            windows[limited] = max(day, told.spent[0]), max(hour, told.spent[1])
    if by_hand and not answer.consulted and runtime.options.shared_unavailable == "stop":
        _break_unavailable(runtime, scope)


def release(runtime: Runtime, held: Reservation) -> None:
    """Give back what is held for a call that was not charged, here and in the shared accounts. Safe to call twice."""
    held.settle()
    ticket = held.ticket
    if ticket is not None and ticket.hold is not None and runtime.shared is not None:
        given_back, ticket.hold = ticket.hold, None
        runtime.shared.release(given_back, ticket.accounts)


def _shared_scopes(scope: Scope) -> Iterator[Shared]:
    """The runs and personas with limits around, outermost first."""
    return (limited for limited in reversed(scope.limited) if isinstance(limited, RunScope | PersonaScope))


def _around(scope: Scope) -> tuple[Shared, ...]:
    return tuple(limited for limited in _shared_scopes(scope) if not limited.closed)


def _limits(scopes: Iterable[Shared]) -> dict[Account, Limits]:
    """The accounts that calls in `scopes` count on, each once, with the narrowest limits that are named for it."""
    found: dict[Account, Limits] = {}
    for scope in scopes:
        for account, limits in _accounts(scope):
            known = found.get(account, (None, None))
            found[account] = _narrower(known[0], limits[0]), _narrower(known[1], limits[1])
    return found


def _accounts(scope: Shared) -> Iterator[tuple[Account, Limits]]:
    totals, windows = _own(scope)
    if totals is not None:
        yield totals, (scope.max_tokens, scope.max_nano_usd)
    if windows is not None and isinstance(scope, PersonaScope):
        named = dict(meter.window_limits(scope))
        day, hour = named.get("daily_usd"), named.get("hourly_usd")
        yield windows, (None if day is None else nano_of(day), None if hour is None else nano_of(hour))


def _own(scope: Shared) -> tuple[Account | None, Account | None]:
    """The account of the scope's totals and that of its windows, where it has such limits."""
    has_totals = scope.max_tokens is not None or scope.max_nano_usd is not None
    totals = Account("run" if isinstance(scope, RunScope) else "persona", scope.name) if has_totals else None
    if isinstance(scope, PersonaScope) and meter.window_limits(scope):
        return totals, Account("window", scope.name)
    return totals, None


def _narrower(known: int | None, other: int | None) -> int | None:
    return other if known is None else known if other is None else min(known, other)


def _amounts(accounts: Iterable[Account], tokens: int, nano_usd: int) -> dict[Account, Pair]:
    return {account: (nano_usd, nano_usd) if account.kind == "window" else (tokens, nano_usd) for account in accounts}


def _note(scope: Scope, answer: Answer, charged: Pair | None = None) -> None:
    """Let each scope around know what the store said, or that it missed a charge."""
    with meter.LOCK:
        for limited in _shared_scopes(scope):
            view = limited.shared
            if view is None:
                view = limited.shared = SharedView()
            if answer.consulted:
                totals, windows = _own(limited)
                view.told(answer.number, _of(answer, totals), _of(answer, windows))
            else:
                view.missed(answer.number, charged or (0, 0))


def _of(answer: Answer, account: Account | None) -> Balance | None:
    return None if account is None else answer.balances.get(account)


def _stop_if_passed(runtime: Runtime, scope: Scope) -> None:
    with meter.LOCK:
        broke = [limited for limited in _around(scope) if _passed(limited, scope)]
    for limited in broke:
        limit_broke(runtime, limited)
    if broke:
        raise stop_for(runtime, broke[0])


def _passed(limited: Shared, scope: Scope) -> bool:
    tokens, nano_usd = limited.spent_tokens(), limited.spent_nano_usd()
    names = meter.over_totals(limited, tokens, nano_usd)
    told = None if limited.shared is None else limited.shared.windows
    if told is not None and isinstance(limited, PersonaScope):
        names = meter.in_order(limited, names + meter.over_windows(limited, told.spent))
        if names and names[0][0] in _WINDOW:
            nano_usd = told.spent[_WINDOW[names[0][0]]]
    return bool(names) and meter.break_limits(
        limited, names, scope.step, consumed_nano_usd=nano_usd, projected=(tokens, nano_usd)
    )


def _refuse(runtime: Runtime, scope: Scope, answer: Answer, amounts: dict[Account, Pair]) -> None:
    """Break the outermost scope whose shared account has no room for the call."""
    for limited in _around(scope):
        with meter.LOCK:
            refused = _has_no_room(limited, scope, answer, amounts)
        if refused:
            limit_broke(runtime, limited)
        if refused or limited.breaches:
            raise stop_for(runtime, limited)


def _has_no_room(limited: Shared, scope: Scope, answer: Answer, amounts: dict[Account, Pair]) -> bool:
    names: list[tuple[LimitName, float]] = []
    projected = tokens, nano_usd = limited.spent_tokens(), limited.spent_nano_usd()
    totals, windows = _own(limited)
    if totals is not None and (balance := _of(answer, totals)) is not None:
        projected = _with_call(balance, amounts[totals])
        names = meter.over_totals(limited, *projected)
    if windows is not None and not names and isinstance(limited, PersonaScope):
        balance = _of(answer, windows)
        in_windows = (0, 0) if balance is None else _with_call(balance, amounts[windows])
        names = meter.over_windows(limited, in_windows)
        if names and balance is not None:
            which = _WINDOW[names[0][0]]
            nano_usd, projected = balance.spent[which], (tokens, in_windows[which])
    return bool(names) and meter.break_limits(
        limited, names, scope.step, consumed_nano_usd=nano_usd, projected=projected
    )


def _with_call(balance: Balance, amounts: Pair) -> Pair:
    first, second = (sum(column) for column in zip(balance.spent, balance.held, amounts, strict=True))
    return first, second


def _stop_if_unavailable(runtime: Runtime, scope: Scope) -> None:
    if runtime.options.shared_unavailable == "stop":
        owner = _break_unavailable(runtime, scope)
        if owner is not None:
            raise stop_for(runtime, owner)


def _break_unavailable(runtime: Runtime, scope: Scope) -> Scope | None:
    """Break the outermost shared scope that is open: it cannot be held to its limit."""
    owner = next(iter(_around(scope)), None)
    if owner is None:
        return None
    names: list[tuple[LimitName, float]] = []
    if owner.max_usd is not None:
        names.append((owner.usd_limit_name, owner.max_usd))
    if isinstance(owner, PersonaScope):
        names += meter.window_limits(owner)
    if owner.max_tokens is not None:
        names.append(("max_tokens", owner.max_tokens))
    with meter.LOCK:
        spent = owner.spent_tokens(), owner.spent_nano_usd()
        broke = meter.break_limits(owner, names[:1], scope.step, projected=spent, unavailable=True)
    if broke:
        limit_broke(runtime, owner)
    return owner
