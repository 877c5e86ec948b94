"""Threads that a program starts without a word about context: the scopes of who starts them hold in them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import wrapt

from ..errors import StepStop
from ..runtime.carrying import carry
from ..runtime.context import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor


class ThreadScopes:
    """While in force, threads and thread pools run their work in the scopes that were current where it was given them.

    A program that is not edited cannot say `carry`; its limits hold on its threads all the same. A thread that dies of
    a stop dies quietly: the scope that owns the limit tells it.
    """

    def __init__(self) -> None:
        self._in_force = False
        # the thread that a pool starts for a piece of work serves others after it: it keeps nobody's scopes
        self._in_submit = threading.local()
        self._pools: WeakSet[Executor] = WeakSet()

    def hold(self) -> None:
        """From now on; once."""
        self._in_force = True
        wrapt.wrap_function_wrapper(threading.Thread, "start", self._start)
        wrapt.wrap_function_wrapper(ThreadPoolExecutor, "submit", self._submit)
        wrapt.when_imported("concurrent.futures.process")(self._watch_processes)
        before = threading.excepthook

        def quiet(arguments: threading.ExceptHookArgs) -> None:
            if not issubclass(arguments.exc_type, StepStop):
                before(arguments)

        threading.excepthook = quiet

    def let_go(self) -> None:
        """Threads are started as ever; what was put around them stays, and does nothing."""
        self._in_force = False

    def end_pools(self) -> None:
        """Tell the pools that nothing more comes, as the interpreter does at its end; what they were given is done.

        Their threads wait for work until they are told, so that nobody could wait for them before.
        """
        for pool in list(self._pools):
            pool.shutdown(wait=False)

    def _start(self, start: Callable[..., Any], thread: threading.Thread, args: Any, kwargs: Any) -> Any:
        if self._in_force and current_scope() is not None and not getattr(self._in_submit, "now", False):
            thread.run = carry(thread.run)  # type: ignore[method-assign] # an instance's own `run` is what a thread calls
        return start(*args, **kwargs)

    def _submit(self, submit: Callable[..., Any], pool: ThreadPoolExecutor, args: Any, kwargs: Any) -> Any:
        if not self._in_force:
            return submit(*args, **kwargs)
        self._pools.add(pool)
        self._in_submit.now = True
        try:
            if args and current_scope() is not None:
                args = (carry(args[0]), *args[1:])
            return submit(*args, **kwargs)
        finally:
            self._in_submit.now = False

    def _watch_processes(self, module: Any) -> None:
        """A pool of processes has a thread of its own, which waits in the same way."""

        def submit(submit: Callable[..., Any], pool: Executor, args: Any, kwargs: Any) -> Any:
            if self._in_force:
                self._pools.add(pool)
            return submit(*args, **kwargs)

        wrapt.wrap_function_wrapper(module.ProcessPoolExecutor, "submit", submit)
