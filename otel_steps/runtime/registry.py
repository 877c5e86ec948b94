"""The registry: definitions by function, looked up at each entry, so that registering again changes the next call."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeGuard, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..checks import mistake

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..definitions import StepDefinition
    from ..persona_definitions import PersonaDefinition

    Decorated = Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]
    """What can be decorated: anything callable, and a method in either order of decorators."""

D = TypeVar("D")

STEP_MARK: Final = "__otel_steps_step__"
"""Attribute of a decorated function that holds the plan of its step; `functools.wraps` carries it outwards."""
PERSONA_MARK: Final = "__otel_steps_persona__"
"""The same for a persona."""


class Definitions(Generic[D]):
    """What was registered, ahead of what was written at the decorator; by plan where the function itself was given.

    Two functions made by one factory share their `module:qualname`, so a name alone would mix them up.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, D] = {}
        self._by_plan: WeakKeyDictionary[Any, D] = WeakKeyDictionary()
        self.any: bool = False

    def put(self, name: str, plan: Any, definition: D) -> None:
        """Register for one decorated function, or (plan None) for every function of that name."""
        if plan is None:
            for known in [known for known in self._by_plan if known.function == name]:
                del self._by_plan[known]
            self._by_name = {**self._by_name, name: definition}
        else:
            self._by_plan[plan] = definition
        self.any = True

    def copied(self) -> Definitions[D]:
        """Definitions of their own, the same so far."""
        made: Definitions[D] = Definitions()
        made._by_name, made._by_plan, made.any = self._by_name, WeakKeyDictionary(self._by_plan), self.any
        return made

    def get(self, name: str | None, plan: Any) -> D | None:
        """What is registered for a decorated function, or (plan None) for a name."""
        found = None if plan is None else self._by_plan.get(plan)
        return found if found is not None or name is None else self._by_name.get(name)


class Registry:
    """Definitions registered by hand or from metadata."""

    decorated: ClassVar[WeakValueDictionary[str, Any]] = WeakValueDictionary()
    """The latest step decorated under each name: a fact about the code, which no `reset()` undoes."""

    def __init__(self) -> None:
        self.steps: Definitions[StepDefinition] = Definitions()
        self.personas: Definitions[PersonaDefinition] = Definitions()

    def copied(self) -> Registry:
        """A registry of its own, the same so far."""
        made = Registry()
        made.steps, made.personas = self.steps.copied(), self.personas.copied()
        return made

    def step(self, function: Decorated | str) -> StepDefinition | None:
        """The definition in force for `function`, or None where it is not tracked."""
        name = function_id(function)
        plan = self.decorated.get(name) if isinstance(function, str) else plan_of(function, STEP_MARK)
        found = self.steps.get(name, plan)
        return found if found is not None or plan is None else plan.definition


def plan_of(function: Any, mark: str) -> Any:
    """The plan a function was decorated with, seen through methods, partials and other decorators; or None."""
    return getattr(_innermost(function), mark, None)


def function_id(function: Decorated | str) -> str:
    """`module:qualname` of a function, method, partial or callable object; text is taken as it is.

    Raises DefinitionError for anything else.
    """
    if isinstance(function, str):
        if not function:
            raise mistake("function", function, "a function, or its module:qualname")
        return function
    inner = _innermost(function)
    if not callable(inner):
        raise mistake("function", function, "a function, or its module:qualname")
    if not hasattr(inner, "__qualname__"):
        inner = type(inner)
    return f"{inner.__module__}:{inner.__qualname__}"


def function_name(function: Decorated) -> str:
    """The bare name of a function, partial or callable object."""
    return function_id(function).rpartition(":")[2].rpartition(".")[2]


def is_method_descriptor(value: object) -> TypeGuard[Any]:
    """Whether `value` is a classmethod or staticmethod that is not bound yet."""
    return isinstance(value, classmethod | staticmethod)


def _innermost(function: Any) -> Any:
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif is_method_descriptor(function):
            function = function.__func__
        else:
            return function
