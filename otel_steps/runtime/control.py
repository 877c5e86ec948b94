"""Pauses, handoffs and requests for approval: events with their hooks, noted on the span and in the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import attributes as attr
from ..bounds import name_text
from ..checks import checked_name
from .asking import drive, tell
from .context import current_scope
from .entering import approve
from .hooks import payload
from .spans import add_event
from .state import runtime

if TYPE_CHECKING:
    from .hooks import EventName
    from .state import Runtime


def emit_handoff(target: str, *, kind: str | None = None) -> None:
    """Say that work is handed to `target`. Fires OnHandoffEmitted; noted on the span and in the run's receipt.

    Errors of a hook are raised here; an async hook runs on the loop of this task.
    """
    rt, scope = runtime(), current_scope()
    checked_name("target", target)
    step = None if scope is None or scope.step is None else scope.step
    add_event(scope, attr.EVENT_HANDOFF, {"target": name_text(target), "kind": kind})
    if scope is not None and scope.run is not None:
        scope.run.ledger.handoff(target, kind, None if step is None else step.name, rt.clock())
    name = None if step is None else step.name
    function = None if step is None else step.definition.function
    persona = "" if scope is None or scope.persona is None else scope.persona.name
    for hook in rt.hooks.matching("OnHandoffEmitted", persona, name):
        tell(hook.handler, payload("OnHandoffEmitted", persona, name, function, what=target, kind=kind))


def request_approval(what: str) -> None:
    """Ask OnApprovalRequested hooks in order; returns where the first answer allows.

    Raises StepDenied where it denies, ApprovalRequired where nobody answers, DefinitionError where a hook is async: a
    plain function cannot await it; a step with `approval=True` can.
    """
    rt, scope = runtime(), current_scope()
    checked_name("what", what)
    step = None if scope is None else scope.step
    drive(
        approve(
            rt,
            scope,
            what,
            None if step is None else step.name,
            None if step is None else step.definition.function,
        )
    )


def told_of_pause(rt: Runtime, name: str, reason: str | None, *, resumed: bool) -> None:
    """Tell the hooks of a persona that it was paused or resumed, and note it."""
    scope = current_scope()
    event: EventName = "OnPersonaResumed" if resumed else "OnPersonaPaused"
    add_event(
        scope, attr.EVENT_RESUMED if resumed else attr.EVENT_PAUSED, {"persona": name_text(name), "reason": reason}
    )
    if scope is not None and scope.run is not None:
        scope.run.ledger.pause(f"{name_text(name)[:240]} {'resumed' if resumed else 'paused'}")
    for hook in rt.hooks.matching(event, name, None if scope is None or scope.step is None else scope.step.name):
        tell(hook.handler, payload(event, name, None, None, reason=reason))
