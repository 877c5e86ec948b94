"""What kind of function something callable is, so that what wraps it can be of the same kind."""

from __future__ import annotations

import functools
import inspect
import sys
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DefinitionError
from .registry import function_id, function_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

Kind = Literal["function", "coroutine", "generator", "async_generator"]


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind of a function, method, partial, or callable object (by its `__call__`)."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not hasattr(inner, "__code__"):
        inner = type(inner).__call__  # an object that is called, or a class, which gives its instance
    if inspect.isasyncgenfunction(inner):
        return "async_generator"
    if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(function) or _is_awaited(inner):
        return "coroutine"
    return "generator" if inspect.isgeneratorfunction(inner) else "function"


def _is_awaited(function: Any) -> bool:
    """Whether it is a generator function that `types.coroutine` made awaitable."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def refuse_what_cannot_be_wrapped(function: Any) -> None:
    """Raise DefinitionError for classes, and for what is not callable."""
    if inspect.isclass(function) or not callable(function):
        raise DefinitionError(
            f"{function!r} cannot be decorated: decorate a function, method or callable object",
            field="function",
            value=function,
            remedy="a function, method or callable object",
        )


def dress(wrapper: Any, function: Callable[..., Any]) -> Any:
    """`wrapper` with the name, documentation and signature of `function`, which may be a partial or an object."""
    functools.update_wrapper(wrapper, function)
    if not hasattr(function, "__qualname__"):
        wrapper.__module__, _, wrapper.__qualname__ = function_id(function).partition(":")
        wrapper.__name__ = function_name(function)
    return wrapper


def unwatched(inner: AsyncGenerator[Any, Any]) -> Callable[[Any], Any]:
    """`inner.asend` for the first time, hidden from the event loop, which watches the wrapper.

    A loop that shuts down or collects garbage closes every generator it watches, all at once: the inner one from two
    sides, which is an error.
    """

    def first(value: Any) -> Any:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=None)
        try:
            return inner.asend(value)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    return first
