"""Waking an owner: a stop that dies on another task must not leave the scope that owns it waiting for ever."""

from __future__ import annotations

import sys
import threading
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from .scope import WAKE_NOT, WAKE_SOON, WOKEN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from .home import Home
    from .scope import Scope

_WHY: Final = "a limit broke on another task"
"""What the cancellation that wakes says of itself: others on the same task are told apart by it."""
_CHAIN_MAX: Final = 64


def see_it_wakes(owner: Scope, home: Home, after_s: float) -> None:
    """Have the owner's task cancelled `after_s` seconds later, if this stop is raised elsewhere than on it.

    Where the owner was entered before a loop ran (`with step(...): asyncio.run(...)`), the loop runs inside it, and all
    tasks of that loop are cancelled. A thread that waits cannot be woken.
    """
    module = sys.modules.get("asyncio")
    if module is None:
        return
    task: asyncio.Task[Any] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    try:
        loop = module.get_running_loop()
        task = module.current_task()
    except RuntimeError:  # no event loop in this thread
        pass
    if isinstance(home, int):
        if loop is None or home != threading.get_ident() or len(module.all_tasks(loop)) == 1:
            return
        home_loop = loop
    else:
        home_loop = home[0]
        if task is home[1]:
            return

    def wake() -> None:
        if owner.closed or owner.wake == WOKEN:
            return
        if owner.parked is not None:  # a generator between two items: its task waits for something else
            home_loop.call_later(after_s, wake)
            return
        owner.wake = WOKEN
        now = owner.home
        if isinstance(now, tuple):
            owner.cancels_before = now[1].cancelling()
        for waiting in (now[1],) if isinstance(now, tuple) else module.all_tasks(home_loop):
            waiting.cancel(_WHY)

    owner.wake = WAKE_SOON
    try:
        home_loop.call_soon_threadsafe(home_loop.call_later, after_s, wake)
    except RuntimeError:  # the owner's loop is closed: nobody waits in it
        return


def woken_around(scope: Scope) -> Scope | None:
    """The innermost open scope around `scope` (itself included) whose task was cancelled to wake it, or None."""
    return next((around for around in scope.limited if around.wake == WOKEN and not around.closed), None)


def settle(owner: Scope, error: BaseException | None = None) -> bool:
    """Take back the cancellation that woke `owner`; whether `error` is that one, and none from outside came as well.

    The task's own count cannot tell: before Python 3.13 a TaskGroup that failed leaves it raised for good.
    """
    owner.wake = WAKE_NOT
    if not isinstance(owner.home, tuple):
        return True
    if owner.home[1].uncancel() > owner.cancels_before:
        return False
    return owner.cancels_before == 0 or (error is not None and _is_the_one(error))


def _is_the_one(error: BaseException) -> bool:
    """Whether the cancellation says that it woke its task, and none that does not say so came before it."""
    from asyncio import CancelledError

    chain = islice(_with_contexts(error), _CHAIN_MAX)
    return not any(isinstance(one, CancelledError) and _WHY not in one.args for one in chain)


def _with_contexts(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__context__
