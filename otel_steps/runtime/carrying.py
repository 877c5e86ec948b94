"""`carry`: a function of any kind, run with the scopes that were current when it was bound."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..checks import mistake
from .context import restore_active_context, seen
from .kinds import kind_of
from .remote import Under, caller_here, caller_of
from .scope import SUSPENDED
from .state import runtime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType

    from .context import ActiveContext
    from .remote import Caller

P = ParamSpec("P")
R = TypeVar("R")


class _Visit:
    """`with _Visit(snapshot):` has the scopes of the snapshot current, and puts back what was."""

    __slots__ = ("_before", "_snapshot")

    def __init__(self, snapshot: ActiveContext) -> None:
        self._snapshot = snapshot

    def __enter__(self) -> None:
        self._before = seen()
        restore_active_context(self._snapshot)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        restore_active_context(self._before)


class _Body:
    """A generator's body between two items: what it had current when it yielded is current again when it goes on."""

    __slots__ = ("_snapshot",)

    def __init__(self, snapshot: ActiveContext) -> None:
        self._snapshot = snapshot

    def __call__(self, resume: Callable[..., Any], value: Any) -> Any:
        before = seen()
        restore_active_context(self._snapshot)
        try:
            return resume(value)
        finally:
            self._snapshot = seen()
            restore_active_context(before)

    async def wait(self, resume: Callable[..., Any], value: Any) -> Any:
        before = seen()
        restore_active_context(self._snapshot)
        try:
            return await resume(value)
        finally:
            self._snapshot = seen()
            restore_active_context(before)


def carry(function: Callable[P, R], /) -> Callable[P, R]:
    """`function` bound to the scopes current now, for a pool of threads or processes: `pool.submit(carry(work), item)`.

    Coroutine functions, generators and async generators are bound too: the scopes are current while their body runs.
    Raises DefinitionError for what is not callable.
    In another process the scopes themselves are not there: the steps of a plain function hang under the one that was
    current, by `parent_receipt_id`, `run_id` and trace, and spend on their own. It can be pickled where `function` can.
    """
    if not callable(function):
        raise mistake("function", function, "a function, method or callable object")
    carried: Callable[P, R] = functools.wraps(function)(_AROUND[kind_of(function)](function, seen()))
    return carried


def _closing(close: Callable[[], Any]) -> Callable[[Any], Any]:
    def resume(value: Any) -> Any:  # noqa: ARG001 - the shape of send and throw
        return close()

    return resume


class _Carried:
    """A plain function with its scopes; in another process, pickled or forked into it, with what they are called.

    Its dict holds the function's name and words.
    """

    __slots__ = ("__dict__", "_caller", "_function", "_process", "_snapshot")

    def __init__(self, function: Callable[..., Any], snapshot: ActiveContext) -> None:
        self._function = function
        self._snapshot = snapshot
        self._caller = _caller(snapshot)
        self._process = os.getpid()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if os.getpid() != self._process:
            return _Arrived(self._function, self._caller)(*args, **kwargs)
        with _Visit(self._snapshot):
            return self._function(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Arrived, (self._function, self._caller)


class _Arrived:
    """A carried function in the process that it was sent to."""

    def __init__(self, function: Callable[..., Any], caller: Caller | None) -> None:
        self._function = function
        self._caller = caller

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with Under(self._caller):
            return self._function(*args, **kwargs)


def _caller(snapshot: ActiveContext) -> Caller | None:
    """What steps in another process hang under."""
    scope = snapshot.scope
    if scope is None:
        return caller_here(runtime())
    return None if scope is SUSPENDED else caller_of(scope, snapshot.otel)


def _coroutine(function: Callable[..., Any], snapshot: ActiveContext) -> Callable[..., Any]:
    async def carried(*args: Any, **kwargs: Any) -> Any:
        with _Visit(snapshot):
            return await function(*args, **kwargs)

    return carried


def _generator(function: Callable[..., Any], snapshot: ActiveContext) -> Callable[..., Any]:
    def carried(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        body = _Body(snapshot)
        inner = function(*args, **kwargs)
        resume, value = inner.send, None
        while True:
            try:
                item = body(resume, value)
            except StopIteration as done:
                return done.value
            try:
                resume, value = inner.send, (yield item)
            except GeneratorExit:
                body(_closing(inner.close), None)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in from outside: the body's to handle
                resume, value = inner.throw, error

    return carried


def _async_generator(function: Callable[..., Any], snapshot: ActiveContext) -> Callable[..., Any]:
    async def carried(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        body = _Body(snapshot)
        inner = function(*args, **kwargs)
        resume, value = inner.asend, None
        while True:
            try:
                item = await body.wait(resume, value)
            except StopAsyncIteration:
                return
            try:
                resume, value = inner.asend, (yield item)
            except GeneratorExit:
                await body.wait(_closing(inner.aclose), None)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in from outside: the body's to handle
                resume, value = inner.athrow, error

    return carried


_AROUND: dict[str, Callable[[Callable[..., Any], ActiveContext], Callable[..., Any]]] = {
    "function": _Carried,
    "coroutine": _coroutine,
    "generator": _generator,
    "async_generator": _async_generator,
}
