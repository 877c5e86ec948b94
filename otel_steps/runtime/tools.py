"""`tool`: the guard that holds a tool to the current policy, and notes on the receipt what was called and denied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from opentelemetry import trace

from .. import attributes as attr
from ..bounds import name_text
from ..checks import checked_level, checked_name
from ..errors import ToolDenied
from .capabilities import capability_requirements
from .context import current_scope
from .kinds import dress, kind_of, refuse_what_cannot_be_wrapped, unwatched
from .registry import function_name, is_method_descriptor
from .spans import add_event
from .state import runtime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence

    from ..definitions import SideEffectLevel
    from .registry import Decorated
    from .scope import Scope

F = TypeVar("F", bound="Decorated")

NOTED_MAX: Final = 256
"""How many tool calls, and how many denials, one receipt names."""


@overload
def tool(function: F, /) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    side_effect_level: SideEffectLevel | None = None,
    capabilities: Sequence[str] | Mapping[str, Sequence[str]] = (),
) -> Callable[[F], F]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    side_effect_level: str | None = None,
    capabilities: Sequence[str] | Mapping[str, Sequence[str]] = (),
) -> Any:
    """Guard a tool: `@tool` or `@tool(name=, side_effect_level=, capabilities=)`, on any kind of function.

    At each call the current policy is asked; where it does not allow the tool, ToolDenied is raised before the body
    runs. `side_effect_level`: the tool's own level (none < read_only < workspace_write < process_exec < network).
    `capabilities`: what it needs, as `"capability"` or `"capability.operation"`. Raises DefinitionError for a value
    that cannot be meant.
    """
    if name is not None:
        checked_name("name", name)
    checked_level("side_effect_level", side_effect_level)
    needs = capability_requirements(capabilities)

    def decorate(target: Any) -> Any:
        return _guard(target, name or function_name(target), side_effect_level, needs)

    return decorate if function is None else decorate(function)


def allow_or_deny(
    scope: Scope | None,
    name: str,
    side_effect_level: str | None = None,
    capabilities: tuple[str, ...] = (),
    *,
    noted: bool = False,
) -> None:
    """Ask the policy of `scope` about a tool and note the answer on the receipt. Raises ToolDenied.

    `noted`: the call is on the receipt already, from the framework's own span around it.
    """
    if scope is None:
        return
    policy, step = scope.policy, scope.step
    reason = (
        None
        if policy is None
        else policy.check_tool(name, side_effect_level=side_effect_level, capabilities=capabilities)
    )
    if reason is None:
        if step is not None and not noted:
            step.tools_called = _noted(step.tools_called, name)
        return
    if step is not None:
        step.tools_denied = _noted(step.tools_denied, name)
    add_event(scope, attr.EVENT_TOOL_DENIED, {attr.GEN_AI_TOOL_NAME: name_text(name), "reason": reason})
    raise ToolDenied(name, reason, step=None if step is None else step.name)


def _noted(names: list[str] | None, name: str) -> list[str]:
    if names is None:
        return [name_text(name)]
    if len(names) < NOTED_MAX:
        names.append(name_text(name))
    return names


def _guard(function: Any, name: str, level: str | None, capabilities: tuple[str, ...]) -> Any:
    if is_method_descriptor(function):
        return type(function)(_guard(function.__func__, name, level, capabilities))
    refuse_what_cannot_be_wrapped(function)

    def check() -> None:
        scope = current_scope()
        if scope is None:
            return
        spans = runtime().tool_spans
        noted = bool(spans) and spans.get(trace.get_current_span().get_span_context().span_id) == name
        allow_or_deny(scope, name, level, capabilities, noted=noted)

    return dress(_AROUND[kind_of(function)](function, check), function)


def _around_function(function: Callable[..., Any], check: Callable[[], None]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        check()
        return function(*args, **kwargs)

    return call


def _around_coroutine(function: Callable[..., Any], check: Callable[[], None]) -> Callable[..., Any]:
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        check()
        return await function(*args, **kwargs)

    return coroutine


def _around_generator(function: Callable[..., Any], check: Callable[[], None]) -> Callable[..., Any]:
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        check()
        inner: Generator[Any, Any, Any] = function(*args, **kwargs)
        return (yield from inner)

    return generator


def _around_async_generator(function: Callable[..., Any], check: Callable[[], None]) -> Callable[..., Any]:
    async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        check()
        inner = function(*args, **kwargs)
        resume, value = unwatched(inner), None
        while True:
            try:
                item = await resume(value)
            except StopAsyncIteration:
                return
            try:
                value = yield item
                resume = inner.asend
            except GeneratorExit:
                await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in from outside: the body's to handle
                resume, value = inner.athrow, error

    return async_generator


_AROUND: dict[str, Callable[[Callable[..., Any], Callable[[], None]], Callable[..., Any]]] = {
    "function": _around_function,
    "coroutine": _around_coroutine,
    "generator": _around_generator,
    "async_generator": _around_async_generator,
}
