"""The form a scope takes around each kind of function; of the same kind, with its name, signature and laziness."""

from __future__ import annotations

import inspect
import weakref
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from .asking import drive, drive_async
from .boundary import Verdict, judge_raise, judge_return
from .context import activate, deactivate
from .generators import around_async_generator, around_generator
from .kinds import dress, kind_of, refuse_what_cannot_be_wrapped
from .leaving import end, end_async, fallback_value, post_step
from .lifecycle import close
from .registry import is_method_descriptor
from .state import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from .kinds import Kind
    from .plan import Plan
    from .scope import Scope
    from .state import Runtime


def wrap(function: Any, plan: Plan, mark: str | None = None) -> Any:
    """`function` inside the scope of `plan`, which it carries as its attribute `mark`.

    Raises DefinitionError for classes and for what is not callable.
    """
    if is_method_descriptor(function):
        return type(function)(wrap(function.__func__, plan, mark))
    refuse_what_cannot_be_wrapped(function)
    wrapper = dress(_AROUND[kind_of(function)](function, plan), function)
    if mark is not None:
        setattr(wrapper, mark, plan)
    return wrapper


def _around_function(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    goes_on = _ALSO.get(kind_of(inspect.unwrap(function)), _COROUTINE)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        rt = runtime()
        admission = plan.admission(rt)
        if admission is None:
            scope = plan.open(rt)
        else:
            scope, args, kwargs = drive(admission(args, kwargs))
        place = activate(scope)
        try:
            result = function(*args, **kwargs)
            if type(result) in goes_on:
                deactivate(scope, place)
                return _going_on(rt, scope, result, plan, args, kwargs)
            if rt.hooks.any("PostStep"):
                result = drive(post_step(rt, scope, result, args, kwargs))
        except BaseException as error:  # stops and cancellations too: the boundary says what becomes of them
            verdict = judge_raise(scope, error)
            end(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error from error
            if not verdict.skip:
                raise
        else:
            verdict = judge_return(rt, scope, result)
            end(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error
            if not verdict.skip:
                return result
        return fallback_value(plan.fallback, verdict.stopped)

    return wrapper


def _around_coroutine(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        rt = runtime()
        admission = plan.admission(rt)
        if admission is None:
            scope = plan.open(rt)
        else:
            scope, args, kwargs = await drive_async(admission(args, kwargs))
        place = activate(scope)
        try:
            result = await function(*args, **kwargs)
            if rt.hooks.any("PostStep"):
                result = await drive_async(post_step(rt, scope, result, args, kwargs))
        except BaseException as error:  # stops and cancellations too: the boundary says what becomes of them
            verdict = judge_raise(scope, error)
            await end_async(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error from error
            if not verdict.skip:
                raise
        else:
            verdict = judge_return(rt, scope, result)
            await end_async(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error
            if not verdict.skip:
                return result
        value = fallback_value(plan.fallback, verdict.stopped)
        return await value if inspect.isawaitable(value) else value

    return wrapper


class _Opened:
    """The plan of a scope that is open already."""

    __slots__ = ("_entered", "_result", "_scope", "fallback", "function")

    def __init__(self, scope: Scope, plan: Plan, result: Any) -> None:
        self._scope = scope
        self._result = result
        self._entered = False
        self.fallback = plan.fallback
        self.function = plan.function

    def admission(self, rt: Runtime) -> None:
        """Those who have a say were asked."""

    def open(self, rt: Runtime) -> Scope:  # noqa: ARG002 - the shape of every plan
        """The scope, which is re-entered."""
        self._entered = True
        return self._scope

    def dropped(self, rt: Runtime) -> None:
        """Nobody has the coroutine or generator any more: one that was never begun ends its scope all the same."""
        if not self._entered:
            if not isinstance(self._result, AsyncGeneratorType):
                self._result.close()
            close(rt, self._scope, Verdict("cancelled", "never begun"))


def _going_on(rt: Runtime, scope: Scope, result: Any, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a plain function gave to be awaited or iterated, inside its scope, which then ends with it.

    What decorates a coroutine function or a generator is often such a plain function.
    """
    opened = _Opened(scope, plan, result)
    rest = _GOES_ON[type(result)](lambda *_, **__: result, opened)(*args, **kwargs)
    rest.__name__, rest.__qualname__ = result.__name__, result.__qualname__
    weakref.finalize(rest, opened.dropped, rt).atexit = False
    return rest


_GOES_ON: dict[type, Callable[[Callable[..., Any], Plan], Callable[..., Any]]] = {
    CoroutineType: _around_coroutine,
    GeneratorType: around_generator,
    AsyncGeneratorType: around_async_generator,
}
_COROUTINE = (CoroutineType,)
_ALSO: dict[Kind, tuple[type, ...]] = {
    "generator": (CoroutineType, GeneratorType),
    "async_generator": (CoroutineType, AsyncGeneratorType),
}
"""What else goes on, by the kind of what a plain function is wrapped around: others give generators as values."""
_AROUND: dict[str, Callable[[Callable[..., Any], Plan], Callable[..., Any]]] = {
    "function": _around_function,
    "coroutine": _around_coroutine,
    "generator": around_generator,
    "async_generator": around_async_generator,
}
