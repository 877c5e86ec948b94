"""The exception tree.

OtelStepsError (Exception)
├── DefinitionError (also ValueError)   a definition that cannot be meant, where it is written
├── StepBudgetExceeded                  a limit was broken; what the owner's caller gets
│   └── StepEscalated                   the same, where the owner's boundary is `escalate`
├── StepDenied                          a hook said no at the entry
├── ToolDenied                          the policy said no to a tool; safe to hand to the model
├── ApprovalRequired                    nobody answered a request for approval
├── StageIterationsExceeded             one entry more than the stage allows
└── PersonaPaused                       the persona of the step is paused

StepStop (BaseException)                a broken limit on its way to its owner; never caught by `except Exception`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from .breach import (
    CATEGORY_BUDGET,
    CATEGORY_ESCALATED,
    KIND_EXHAUSTED,
    KIND_REFUSED,
    REASON_EXHAUSTED,
    REASON_REFUSED,
    Breach,
    BreachFacts,
)

_CATEGORIES: Final = (CATEGORY_BUDGET, CATEGORY_ESCALATED)


class OtelStepsError(Exception):
    """Base of every ordinary exception the package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)


class DefinitionError(OtelStepsError, ValueError):
    """A definition that cannot be meant. `field`, `value` and `remedy` say what, and what to write instead."""

    def __init__(
        self, message: str, *, field: str | None = None, value: object = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.field = field
        self.value = value
        self.remedy = remedy


class StepBudgetExceeded(BreachFacts, OtelStepsError):
    """A limit was broken and its owner's boundary is `fail`, or the owner is a persona or run."""

    def __init__(self, breach: Breach, *, result: Any = None) -> None:
        super().__init__(breach.message)
        self.breach = breach
        self.result = result


class StepEscalated(StepBudgetExceeded):
    """A limit was broken and its owner's boundary is `escalate`."""

    escalated = True


class StepStop(BreachFacts, BaseException):
    """A broken limit on its way to the scope that owns it.

    A BaseException on purpose: agent frameworks turn ordinary exceptions into text for the model and carry on. Catch it
    by name inside a step to save partial work; the boundary still applies when the scope is left.
    """

    owner: object = None

    def __init__(self, breach: Breach, owner: object = None) -> None:
        super().__init__(breach.message)
        self.breach = breach
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        return _reduce(self)


class StepDenied(OtelStepsError):
    """A hook, or the policy's recursion limit (`event`: `policy`), denied a step at its entry: no span, no receipt."""

    def __init__(self, step: str, event: str, reason: str) -> None:
        super().__init__(f"step `{step}` was denied by {event}: {reason}")
        self.category = "permission_denied" if event == "policy" else "hook_denied"
        self.step = step
        self.event = event
        self.reason = reason


class ToolDenied(OtelStepsError):
    """The current policy does not allow a tool. An ordinary exception, so that an agent loop can tell the model."""

    category = "permission_denied"

    def __init__(self, tool: str, reason: str, *, step: str | None = None) -> None:
        super().__init__(f"tool `{tool}` was denied: {reason}")
        self.tool = tool
        self.reason = reason
        self.step = step


class ApprovalRequired(OtelStepsError):
    """Approval was asked for and no OnApprovalRequested hook answered."""

    category = "approval_required"

    def __init__(self, what: str, *, step: str | None = None) -> None:
        super().__init__(f"approval is required for `{what}` and nobody answered; register an OnApprovalRequested hook")
        self.what = what
        self.step = step


class StageIterationsExceeded(OtelStepsError):
    """A stage was entered once more than its max_iterations in one activation of its persona."""

    category = "stage_iterations_exceeded"

    def __init__(self, stage: str, persona: str, max_iterations: int) -> None:
        super().__init__(f"stage `{stage}` of persona `{persona}` allows {max_iterations} iteration(s) per activation")
        self.stage = stage
        self.persona = persona
        self.max_iterations = max_iterations


class PersonaPaused(OtelStepsError):
    """A step was entered while its persona is paused."""

    category = "persona_paused"

    def __init__(self, persona: str, reason: str | None = None) -> None:
        super().__init__(f"persona `{persona}` is paused" + (f": {reason}" if reason else ""))
        self.persona = persona
        self.reason = reason


def is_step_budget_exhausted(err: object) -> bool:
    """Whether `err` tells a broken or refused budget: an error or stop of this package, or its `to_dict()` form."""
    if isinstance(err, StepBudgetExceeded | StepStop):
        return True
    if not isinstance(err, Mapping):
        return False
    facts = cast("Mapping[str, Any]", err)
    told = [facts.get("kind"), facts.get("reason")]
    return facts.get("category") in _CATEGORIES and told in (
        [KIND_EXHAUSTED, REASON_EXHAUSTED],
        [KIND_REFUSED, REASON_REFUSED],
    )


def mark_escalated(err: Any, step: str | None = None, function: str | None = None) -> Any:
    """`err` escalated: a StepEscalated for an error or stop, a new dict for the dict form; facts are kept.

    `step` and `function`, where given, replace the names. Raises TypeError for anything that is not a budget error.
    """
    if isinstance(err, StepBudgetExceeded | StepStop):
        breach = err.breach._replace(step=step or err.breach.step, function=function or err.breach.function)
        escalated = StepEscalated(breach, result=err.result)
        escalated.__cause__ = err if isinstance(err, Exception) else err.__cause__
        return escalated
    if is_step_budget_exhausted(err):
        facts = cast("Mapping[str, Any]", err)
        return {
            **facts,
            "category": CATEGORY_ESCALATED,
            "escalated": True,
            "step": step or facts.get("step"),
            "function": function or facts.get("function"),
        }
    raise TypeError(f"mark_escalated wants a budget error, a StepStop or their dict form, not {type(err).__name__}")


def _reduce(error: BaseException) -> tuple[Any, ...]:
    """How an error crosses processes: whole, but for a scope (it stays in its process) and what cannot be pickled."""
    state = {key: _portable(value) for key, value in vars(error).items() if key != "owner"}
    return (_rebuild, (type(error), error.args, state))


def _portable(value: Any) -> Any:
    if value is None or type(value) in {str, int, float, bool, Breach}:
        return value
    import pickle

    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - whatever the object raises: the error itself must reach the other process
        return None
    return value


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
