"""Entering a step: who has a say before it opens, in the order of the contract, and how a denial is told."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .. import attributes as attr
from ..bounds import error_text, name_text
from ..errors import ApprovalRequired, StepDenied
from . import meter
from .asking import ask
from .context import current_scope
from .hooks import Denial, Rewrite, payload, read_approval, read_pre_answer
from .lifecycle import check_entry, open_step
from .receipt import record_module
from .spans import add_event

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..definitions import StepDefinition
    from .plan import Admission
    from .scope import PersonaScope, Scope, StepOptions
    from .state import Runtime


class StepPlan:
    """What a decorator or block says of its step; the registry is asked at each entry."""

    __slots__ = ("__weakref__", "definition", "fallback", "function", "options")

    def __init__(self, definition: StepDefinition, options: StepOptions) -> None:
        self.definition: StepDefinition = definition
        self.function: str | None = definition.function
        self.options: StepOptions = options
        self.fallback: Any = options.fallback
        record_module()

    def _definition(self, rt: Runtime) -> StepDefinition:
        registered = rt.registry.steps
        return (registered.get(self.function, self) if registered.any else None) or self.definition

    def admission(self, rt: Runtime) -> Admission | None:
        """How to ask, where approval or a PreStep hook has a say."""
        if not self.options.approval and not rt.hooks.any("PreStep"):
            return None
        return partial(self._admit, rt)

    def open(self, rt: Runtime) -> Scope:
        """Check the entry and open the step by the definition in force."""
        definition = self._definition(rt)
        around = current_scope()
        if around is not None:
            _check(rt, around, definition.name)
        return open_step(rt, definition, self.options)

    def _admit(
        self, rt: Runtime, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[Any, Any, tuple[Scope, tuple[Any, ...], dict[str, Any]]]:
        """Ask PreStep hooks, count the stage's iteration, ask for approval, then open; the order of the contract."""
        definition = self._definition(rt)
        around = current_scope()
        persona = "" if around is None or around.persona is None else around.persona.name
        for hook in rt.hooks.matching("PreStep", persona, definition.name):
            told = payload("PreStep", persona, definition.name, definition.function, args=args, kwargs=kwargs)
            answer = read_pre_answer((yield from ask(hook.handler, told)))
            if isinstance(answer, Denial):
                raise denied(around, definition.name, "PreStep", answer.reason)
            if isinstance(answer, Rewrite):
                args = args if answer.args is None else answer.args
                kwargs = kwargs if answer.kwargs is None else answer.kwargs
        if around is not None:
            _check(rt, around, definition.name)
        if self.options.approval:
            try:
                yield from approve(rt, around, definition.name, definition.name, definition.function, args, kwargs)
            except BaseException:  # raised on: denied, unanswered or cancelled, it was no iteration
                if around is not None and around.persona is not None:
                    _give_back(around.persona, definition.name)
                raise
        return open_step(rt, definition, self.options), args, kwargs


def _check(rt: Runtime, around: Scope, name: str) -> None:
    policy = around.policy
    if policy is not None and not policy.allows_depth(1):
        raise denied(around, name, "policy", "its recursion_limit allows no further step in here")
    check_entry(rt, around.persona, name)


def _give_back(persona: PersonaScope, name: str) -> None:
    """An entry that nobody approved was none of the stage's iterations."""
    with meter.LOCK:
        if persona.iterations.get(name):
            persona.iterations[name] -= 1


def denied(around: Scope | None, step_name: str, event: str, reason: str) -> StepDenied:
    """A denial, noted on the caller's span and in the run; there is no span and no receipt of the step."""
    add_event(
        around, attr.EVENT_STEP_DENIED, {"step": name_text(step_name), "event": event, "reason": error_text(reason)}
    )
    if around is not None and around.run is not None:
        around.run.ledger.denied(step_name, reason)
    return StepDenied(step_name, event, reason)


def approve(
    rt: Runtime,
    around: Scope | None,
    what: str,
    step_name: str | None,
    function: str | None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Generator[Any, Any, None]:
    """Ask OnApprovalRequested hooks in order; the first allow or deny decides.

    Raises StepDenied for a deny, ApprovalRequired where nobody answers.
    """
    persona = "" if around is None or around.persona is None else around.persona.name
    for hook in rt.hooks.matching("OnApprovalRequested", persona, step_name):
        told = payload("OnApprovalRequested", persona, step_name, function, args=args, kwargs=kwargs or {}, what=what)
        answer = read_approval((yield from ask(hook.handler, told)))
        if answer is True:
            _note_approval(rt, around, what, "allowed", None, step_name)
            return
        if isinstance(answer, Denial):
            _note_approval(rt, around, what, "denied", answer.reason, step_name)
            raise denied(around, step_name or what, "OnApprovalRequested", answer.reason)
    _note_approval(rt, around, what, "unanswered", None, step_name)
    raise ApprovalRequired(what, step=step_name)


def _note_approval(
    rt: Runtime, around: Scope | None, what: str, answer: str, reason: str | None, step_name: str | None
) -> None:
    noted = None if reason is None else error_text(reason)
    add_event(around, attr.EVENT_APPROVAL, {"what": name_text(what), "answer": answer, "reason": noted})
    if around is not None and around.run is not None:
        around.run.ledger.approval(what, answer, noted, step_name, rt.clock())
