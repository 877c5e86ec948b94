"""`persona`: a named role with stages, a policy and budgets over its activations, days and hours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..checks import checked_name, checked_usd, mistake
from ..persona_definitions import PersonaBudget, PersonaDefinition, Stage
from .block import Block
from .context import current_scope
from .facades import ActivePersona
from .forms import wrap
from .lifecycle import open_persona
from .plan import given_name
from .policy import CapabilityPolicy
from .registry import PERSONA_MARK, function_id, function_name
from .state import runtime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from .registry import Decorated
    from .scope import Scope
    from .state import Runtime

F = TypeVar("F", bound="Decorated")


class PersonaPlan:
    """What a decorator or block says of its persona; the registry is asked at each entry."""

    __slots__ = ("__weakref__", "definition", "fallback", "function", "policy")

    def __init__(self, function: str | None, definition: PersonaDefinition, policy: CapabilityPolicy | None) -> None:
        self.function: str | None = function
        self.definition: PersonaDefinition = definition
        self.policy: CapabilityPolicy | None = policy
        self.fallback: None = None

    def admission(self, rt: Runtime) -> None:
        """None: nobody is asked before a persona."""

    def open(self, rt: Runtime) -> Scope:
        """Open an activation by the definition in force."""
        registered = rt.registry.personas
        definition = (registered.get(self.function, self) if registered.any else None) or self.definition
        return open_persona(rt, definition, self.policy)


class PersonaBlock(Block[ActivePersona]):
    """`persona("name", ...)`: a decorator, or a block for `with` and `async with`. A block is entered once."""

    __slots__ = ("_name", "_policy", "_settings")

    def __init__(self, name: str | None, settings: dict[str, Any], policy: CapabilityPolicy | None) -> None:
        self._name = name
        self._settings = settings
        self._policy = policy
        definition = PersonaDefinition(name or "unnamed", **settings)  # a mistake is told where it is written
        super().__init__(PersonaPlan(None, definition, policy))

    def __call__(self, function: F) -> F:
        """Decorate `function`: an activation of the persona each time it runs."""
        named = self._name or function_name(function)
        plan = PersonaPlan(function_id(function), PersonaDefinition(named, **self._settings), self._policy)
        wrapped: F = wrap(function, plan, PERSONA_MARK)
        return wrapped

    def _before(self) -> Runtime:
        if self._name is None:
            raise mistake("name", None, 'a name: with persona("researcher"):')
        return super()._before()


@overload
def persona(function: F, /) -> F: ...
@overload
def persona(
    target: str | None = None,
    /,
    *,
    name: str | None = None,
    stages: Sequence[Stage] = (),
    policy: CapabilityPolicy | None = None,
    output_style: Mapping[str, Any] | None = None,
    run_usd: float | Decimal | None = None,
    daily_usd: float | Decimal | None = None,
    hourly_usd: float | Decimal | None = None,
    max_tokens: int | None = None,
) -> PersonaBlock: ...
def persona(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    stages: Sequence[Stage] = (),
    policy: CapabilityPolicy | None = None,
    output_style: Mapping[str, Any] | None = None,
    run_usd: float | Decimal | None = None,
    daily_usd: float | Decimal | None = None,
    hourly_usd: float | Decimal | None = None,
    max_tokens: int | None = None,
) -> Any:
    """A named role an agent plays, as a decorator or a block (the five forms of `step`).

    `stages`: limits on tools and side effects for the steps of the same names. `policy`: what everything inside may do.
    `run_usd` and `max_tokens` limit one activation; `daily_usd` and `hourly_usd` UTC windows that outlive the process.
    A broken limit leaves the persona as StepBudgetExceeded (scope `persona`). Raises DefinitionError where a value
    cannot be meant.
    """
    budget = PersonaBudget(
        run_usd=checked_usd("run_usd", run_usd),
        daily_usd=checked_usd("daily_usd", daily_usd),
        hourly_usd=checked_usd("hourly_usd", hourly_usd),
        max_tokens=max_tokens,
    )
    checked_policy(policy)
    settings = {"stages": stages, "output_style": output_style, "budget": None if budget.is_empty else budget}
    block = PersonaBlock(given_name(target, name), settings, policy)
    return block if target is None or isinstance(target, str) else block(target)


def checked_policy(policy: Any) -> CapabilityPolicy | None:
    """A CapabilityPolicy or None, or DefinitionError."""
    if policy is not None and not isinstance(policy, CapabilityPolicy):
        raise mistake("policy", policy, "a CapabilityPolicy(...), or None")
    return policy


def current_persona() -> str | None:
    """Name of the innermost persona here, or None."""
    scope = current_scope()
    return None if scope is None or scope.persona is None else scope.persona.name


def current_policy() -> CapabilityPolicy | None:
    """What may be done here: the policies around, each narrowed by the inner ones; None is unrestricted."""
    scope = current_scope()
    return None if scope is None else scope.policy


def pause_persona(name: str, *, reason: str | None = None) -> None:
    """Pause a persona: entering a step of it raises PersonaPaused until it is resumed. Fires OnPersonaPaused."""
    from .control import told_of_pause

    rt = runtime()
    rt.paused[checked_name("name", name)] = reason
    told_of_pause(rt, name, reason, resumed=False)


def resume_persona(name: str) -> None:
    """Resume a paused persona. Fires OnPersonaResumed; nothing to do where it was not paused."""
    from .control import told_of_pause

    rt = runtime()
    if checked_name("name", name) in rt.paused:
        rt.paused.pop(name, None)
        told_of_pause(rt, name, None, resumed=True)
