"""The public functions of the registry, the hooks and the log."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..checks import mistake
from ..definitions import StepDefinition
from ..persona_definitions import PersonaDefinition
from .registry import PERSONA_MARK, STEP_MARK, function_id, plan_of
from .state import runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..record import CompletedStep
    from .hooks import Handler

H = TypeVar("H", bound="Callable[..., Any]")


def register_step(function: Callable[..., Any] | str, definition: StepDefinition) -> None:
    """Register `definition` for a decorated function or its `module:qualname`, from its next call on.

    Replaces what was registered or decorated; steps in flight keep theirs. Raises DefinitionError for a wrong type.
    """
    given: Any = definition
    if not isinstance(given, StepDefinition):
        raise mistake("definition", definition, "a StepDefinition(...)")
    known = function_id(function)
    runtime().registry.steps.put(known, plan_of(function, STEP_MARK), replace(definition, function=known))


def register_persona(function: Callable[..., Any] | str, definition: PersonaDefinition) -> None:
    """Register `definition` for a decorated persona or its `module:qualname`, from its next activation on."""
    given: Any = definition
    if not isinstance(given, PersonaDefinition):
        raise mistake("definition", definition, "a PersonaDefinition(...)")
    runtime().registry.personas.put(function_id(function), plan_of(function, PERSONA_MARK), definition)


def register_step_from_dict(function: Callable[..., Any] | str, metadata: Mapping[str, Any]) -> StepDefinition:
    """Register a step from dynamic metadata (a file, another runtime); returns the definition read from it.

    Limits that are none are ignored with a warning that names the field; one that truncates to 0 is a DefinitionError,
    and nothing is registered.
    """
    from ..metadata import step_from_dict

    known = function_id(function)
    definition = step_from_dict(known, metadata)
    runtime().registry.steps.put(known, plan_of(function, STEP_MARK), definition)
    return definition


def register_persona_from_dict(function: Callable[..., Any] | str, metadata: Mapping[str, Any]) -> PersonaDefinition:
    """Register a persona from dynamic metadata; returns the definition read from it.

    Raises DefinitionError that names the function, the field and the fault, and registers nothing.
    """
    from ..metadata import persona_from_dict

    known = function_id(function)
    definition = persona_from_dict(known, metadata)
    runtime().registry.personas.put(known, plan_of(function, PERSONA_MARK), definition)
    return definition


def step_definition_for_function(function: Callable[..., Any] | str) -> StepDefinition | None:
    """The definition that the next call of `function` uses, or None where it is no step."""
    return runtime().registry.step(function)


def is_tracked_function(function: Callable[..., Any] | str) -> bool:
    """Whether `function` (or its `module:qualname`) is a step."""
    return runtime().registry.step(function) is not None


def hook(
    event: str, *, persona: str = "*", step: str | None = None, threshold_pct: float | None = None
) -> Callable[[H], H]:
    """Decorator: register a handler of `event` for a persona glob and optionally one step.

    Events: PreStep, PostStep, OnBudgetThreshold (also `"OnBudgetThreshold(80)"`), OnApprovalRequested,
    OnHandoffEmitted, OnPersonaPaused, OnPersonaResumed. The handler gets one mapping (`HookEvent`). Raises
    DefinitionError for an unknown event or a bad threshold.
    """

    def register(handler: H) -> H:
        runtime().hooks.add(persona, step, event, handler, threshold_pct)
        return handler

    return register


def register_persona_hook(pattern: str, event: str, handler: Handler, *, threshold_pct: float | None = None) -> None:
    """Register `handler` for `event` of the personas that match the glob `pattern` ("" is no persona)."""
    runtime().hooks.add(pattern, None, event, handler, threshold_pct)


def register_step_hook(
    pattern: str, step_name: str, event: str, handler: Handler, *, threshold_pct: float | None = None
) -> None:
    """Register `handler` for `event` of the steps named `step_name` under personas that match `pattern`."""
    given: Any = step_name
    if given is None:
        raise mistake("step_name", given, "a step's name; register_persona_hook is for every step")
    runtime().hooks.add(pattern, step_name, event, handler, threshold_pct)


def clear_persona_hooks() -> None:
    """Forget every hook, of personas and of steps."""
    runtime().hooks.clear()


def drain_completed_steps() -> list[CompletedStep]:
    """All finished steps in completion order, taken out of the log."""
    return runtime().log.drain()


def peek_completed_steps() -> list[CompletedStep]:
    """A copy of the log: all finished steps in completion order."""
    return runtime().log.peek()
