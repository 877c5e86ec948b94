"""What the end of a scope comes to: its status, and what its caller gets instead of what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import StepBudgetExceeded, StepEscalated, StepStop
from .scope import WOKEN
from .span_guard import settle_told
from .stops import as_group, broken_owner, stop_for, stop_in_chain, stop_in_group
from .waking import settle, woken_around

if TYPE_CHECKING:
    from .scope import Scope
    from .state import Runtime


class Verdict(NamedTuple):
    """How a scope ends.

    `error` replaces what came out; `skip` means that the fallback is the value; neither means that the exception (if
    there was one) goes on unchanged.
    """

    status: str
    text: str | None = None
    error: BaseException | None = None
    error_type: str | None = None
    skip: bool = False
    stopped: StepBudgetExceeded | None = None


_COMPLETED = Verdict("completed")
_CHAIN_MAX = 64


def judge_return(runtime: Runtime, scope: Scope, result: Any) -> Verdict:
    """The body returned. A step that broke its limit never returns as if nothing had happened."""
    if runtime.told_calls:
        settle_told(runtime, scope, leaving=True)
    if not scope.breaches:
        return _COMPLETED
    owner = broken_owner(scope)
    if owner is not None and owner is not scope:
        stop = stop_for(runtime, owner)
        return Verdict("failed", stop.message, error=stop, error_type="StepStop")
    return _own_stop(scope, scope.breaches[0], result)


def judge_raise(scope: Scope, error: BaseException) -> Verdict:
    """The body raised `error`."""
    if isinstance(error, StepStop):
        return _judge_stop(scope, error, None)
    group = as_group(error)
    if group is not None:
        stop, rest = stop_in_group(group, scope)
        if stop is not None:
            return _judge_stop(scope, stop, rest)
    if isinstance(error, Exception):
        wrapped = stop_in_chain(error, scope)
        if wrapped is not None:
            return _own_stop(scope, wrapped.breach, None)
        if scope.wake == WOKEN and scope.breaches and _has_cancellation_behind(error):
            return _own_stop(scope, scope.breaches[0], None)
        return Verdict("failed", _text(error), error_type=type(error).__qualname__)
    return _judge_cancelled(scope, error)


def _judge_stop(scope: Scope, stop: StepStop, rest: BaseException | None) -> Verdict:
    """A stop came out, alone or in a group whose other errors are `rest`."""
    if stop.owner is not scope and _encloses(stop.owner, scope):
        return Verdict("failed", stop.message, error_type="StepStop")
    if rest is not None:
        return Verdict("failed", _text(rest), error=rest, error_type=type(rest).__qualname__)
    if stop.owner is scope:
        return _own_stop(scope, stop.breach, None)
    if scope.breaches:
        return _own_stop(scope, scope.breaches[0], None)
    # Its owner has been left already, or is on another branch (a task that outlived it): nobody further out turns it
    # into an ordinary error, so it becomes one here.
    stray = StepBudgetExceeded(stop.breach, result=stop.result)
    return Verdict("failed", stop.message, error=stray, error_type="StepBudgetExceeded")


def _judge_cancelled(scope: Scope, error: BaseException) -> Verdict:
    """A BaseException that is no stop: cancellation from outside, unless a scope around was woken by it."""
    woken = woken_around(scope)
    if woken is not None and woken.breaches and _is_cancellation(error):
        if woken is not scope:
            return Verdict("failed", woken.breaches[0].message, error_type="StepStop")
        ours = settle(scope, error)
        outer = woken_around(scope)
        if outer is not None and outer.breaches and outer.home == scope.home:
            return Verdict("failed", outer.breaches[0].message, error_type="StepStop")
        if ours:
            return _own_stop(scope, woken.breaches[0], None)
    return Verdict("cancelled", _text(error), error_type=type(error).__qualname__)


def _is_cancellation(error: BaseException) -> bool:
    import asyncio  # loaded already: only where a loop ran was a scope woken

    group = as_group(error)
    if group is not None:
        return group.split(asyncio.CancelledError)[1] is None
    return isinstance(error, asyncio.CancelledError)


def _has_cancellation_behind(error: BaseException) -> bool:
    """Whether a client turned the cancellation that woke the scope into an error of its own."""
    behind = error.__cause__ or error.__context__
    for _ in range(_CHAIN_MAX):
        if behind is None or _is_cancellation(behind):
            return behind is not None
        behind = behind.__cause__ or behind.__context__
    return False


def _own_stop(scope: Scope, breach: Any, result: Any) -> Verdict:
    boundary = scope.error_boundary
    if boundary == "continue":
        stopped = StepBudgetExceeded(breach, result=result)
        return Verdict("skipped", skip=True, stopped=stopped)
    if boundary == "escalate":
        escalated = StepEscalated(breach, result=result)
        return Verdict("escalated", breach.message, error=escalated, error_type="StepEscalated", stopped=escalated)
    exceeded = StepBudgetExceeded(breach, result=result)
    return Verdict("failed", breach.message, error=exceeded, error_type="StepBudgetExceeded", stopped=exceeded)


def _encloses(owner: Any, scope: Scope) -> bool:
    """Whether `owner` is an open scope strictly around `scope`."""
    around = scope.parent
    while around is not None:
        if around is owner:
            return not around.closed
        around = around.parent
    return False


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception whose own text fails still has a name
        text = ""
    name = type(error).__name__
    return f"{name}: {text}" if text else name
