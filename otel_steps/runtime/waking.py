"""Waking an owner: a stop that dies on another task must not leave the scope that owns it waiting for ever."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from .scope import WAKE_NOT, WAKE_SOON, WOKEN

if TYPE_CHECKING:
    import asyncio

    from .home import Home
    from .scope import Scope


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
        for waiting in (now[1],) if isinstance(now, tuple) else module.all_tasks(home_loop):
            waiting.cancel()

    owner.wake = WAKE_SOON
    try:
        home_loop.call_soon_threadsafe(home_loop.call_later, after_s, wake)
    except RuntimeError:  # the owner's loop is closed: nobody waits in it
        return


def woken_around(scope: Scope) -> Scope | None:
    """The innermost open scope around `scope` (itself included) whose task was cancelled to wake it, or None."""
    return next((around for around in scope.limited if around.wake == WOKEN and not around.closed), None)


def settle(owner: Scope) -> int:
    """Take back the cancellation that woke `owner`; returns how many are left on its task, 0 where they were ours."""
    owner.wake = WAKE_NOT
    return owner.home[1].uncancel() if isinstance(owner.home, tuple) else 0
