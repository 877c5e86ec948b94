"""`step`: a unit of agent work as a decorator or a block."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from ..checks import ERROR_BOUNDARIES, checked_choice, checked_flag, mistake
from .block import Block
from .context import current_scope, current_step_scope
from .entering import StepPlan
from .facades import ActiveStep, facade_of
from .forms import wrap
from .plan import given_name
from .registry import STEP_MARK, Registry, function_id, function_name
from .scope import StepOptions

if TYPE_CHECKING:
    from decimal import Decimal
    from types import TracebackType

    from ..definitions import Admission, OnUnknown, StepDefinition
    from .registry import Decorated
    from .state import Runtime


F = TypeVar("F", bound="Decorated")


@cache
def _definition() -> type[StepDefinition]:
    """The class of definitions, loaded with the first step: dataclasses cost the import a sixth of its time."""
    from ..definitions import StepDefinition

    return StepDefinition


class StepBlock(Block[ActiveStep]):
    """`step("name", ...)`: a decorator, or a block for `with` and `async with`. A block is entered once."""

    __slots__ = ("_name", "_options", "_settings")

    def __init__(self, name: str | None, settings: dict[str, Any], options: StepOptions) -> None:
        self._name = name
        self._settings = settings
        self._options = options
        definition = _definition()(name or "unnamed", **settings)  # a mistake is told where it is written
        super().__init__(StepPlan(definition, options))

    def __call__(self, function: F) -> F:
        """Decorate `function`: a step each time it runs. Raises DefinitionError for what cannot be decorated."""
        named = self._name or function_name(function)
        known = function_id(function)
        plan = StepPlan(_definition()(named, function=known, **self._settings), self._options)
        wrapped: F = wrap(function, plan, STEP_MARK)
        Registry.decorated[known] = plan
        return wrapped

    def _before(self) -> Runtime:
        if self._name is None:
            raise mistake("name", None, 'a name: with step("plan"):')
        return super()._before()


class ContinuingStepBlock(StepBlock):
    """A StepBlock that may end early and go on behind the block (`error_boundary="continue"`), for type checkers."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> bool: ...
        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> bool: ...


@overload
def step(function: F, /) -> F: ...
@overload
def step(
    target: str | None = None,
    /,
    *,
    name: str | None = None,
    model: str | None = None,
    max_tokens: int | None = None,
    max_usd: float | Decimal | None = None,
    error_boundary: Literal["fail", "escalate"] = "fail",
    fallback: Any = None,
    inclusive: bool = True,
    admission: Admission = "post",
    unpriced: OnUnknown | None = None,
    approval: bool = False,
) -> StepBlock: ...
@overload
def step(
    target: str | None = None,
    /,
    *,
    name: str | None = None,
    model: str | None = None,
    max_tokens: int | None = None,
    max_usd: float | Decimal | None = None,
    error_boundary: Literal["continue"],
    fallback: Any = None,
    inclusive: bool = True,
    admission: Admission = "post",
    unpriced: OnUnknown | None = None,
    approval: bool = False,
) -> ContinuingStepBlock: ...
def step(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    model: str | None = None,
    max_tokens: int | None = None,
    max_usd: float | Decimal | None = None,
    error_boundary: str = "fail",
    fallback: Any = None,
    inclusive: bool = True,
    admission: str = "post",
    unpriced: str | None = None,
    approval: bool = False,
) -> Any:
    """One unit of agent work with its own budget, as a decorator or a block.

    Use `@step`, `@step(...)`, `@step("name", ...)`, `with step("name", ...) as s` or `async with`.

    `name`: default the function's name. `model`: what `default_model()` answers inside. `max_tokens`: input and output
    tokens together (int >= 1). `max_usd`: US dollars (>= 0). `error_boundary`: what a broken limit becomes for the
    caller: `fail` raises StepBudgetExceeded, `continue` gives `fallback` (a callable gets the stop), `escalate` raises
    StepEscalated. `inclusive`: limits look at nested work too. `admission="reserve"` reserves the worst case of each
    call at its start. `unpriced`: `stop` or `allow` for calls of unknown price under `max_usd` (default: what
    `configure` says). `approval=True` asks OnApprovalRequested hooks at each entry.

    Raises DefinitionError where a value cannot be meant. Entering raises StepDenied, ApprovalRequired,
    StageIterationsExceeded or PersonaPaused; nothing was opened then.
    """
    settings = {"model": model, "max_tokens": max_tokens, "max_usd": max_usd, "error_boundary": error_boundary}
    checked_choice("error_boundary", error_boundary, ERROR_BOUNDARIES)
    options = StepOptions(
        fallback=fallback,
        inclusive=checked_flag("inclusive", inclusive),
        admission=checked_choice("admission", admission, ("post", "reserve")),
        unpriced=None if unpriced is None else checked_choice("unpriced", unpriced, ("stop", "allow")),
        approval=checked_flag("approval", approval),
    )
    block = StepBlock(given_name(target, name), settings, options)
    return block if target is None or isinstance(target, str) else block(target)


def default_model() -> str | None:
    """The declared model of the innermost step here, or None; an inner step without one does not inherit."""
    scope = current_scope()
    return None if scope is None or scope.step is None else scope.step.definition.model


def current_step() -> ActiveStep | None:
    """The innermost open step here, or None."""
    scope = current_step_scope()
    if scope is None:
        return None
    active: ActiveStep = facade_of(scope)
    return active
