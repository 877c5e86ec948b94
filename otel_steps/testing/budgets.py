"""A limit around the body of a whole test: stops what spends more, wherever in the test that is."""

from __future__ import annotations

import functools
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from ..bounds import nano_usd
from ..checks import checked_tokens, checked_usd
from ..errors import DefinitionError, StepBudgetExceeded
from ..runtime.block import Block
from ..runtime.context import current_scope
from ..runtime.runs import RunPlan
from ..runtime.scope import Scope
from .rendering import plural, table_text, usd_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..breach import ScopeKind
    from ..runtime.state import Runtime
    from .recording import Account

_PACKAGE: Final = str(Path(__file__).parents[1]) + os.sep


@dataclass(frozen=True, slots=True)
class Limits:
    """What a test may spend: input and output tokens together, US dollars; None is no limit."""

    max_tokens: int | None = None
    max_usd: float | None = None

    def broken_by(self, spent: Account) -> bool:
        """Whether more than that was spent."""
        return (self.max_tokens is not None and spent.total_tokens > self.max_tokens) or (
            self.max_usd is not None and spent.total_cost_nano_usd > nano_usd(self.max_usd)
        )

    def __str__(self) -> str:
        limits = [] if self.max_usd is None else [f"max_usd={self.max_usd:g}"]
        if self.max_tokens is not None:
            limits.append(f"max_tokens={self.max_tokens}")
        return ", ".join(limits)


def limits_of_marker(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Limits:
    """What `@pytest.mark.step_budget(max_usd=, max_tokens=)` says. Raises DefinitionError where it cannot be meant."""
    unknown = sorted(set(kwargs) - {"max_usd", "max_tokens"})
    if args or unknown or not kwargs:
        raise DefinitionError(f"write max_usd, max_tokens or both by name, not {[*args, *unknown] or 'nothing'}")
    return Limits(checked_tokens("max_tokens", kwargs.get("max_tokens")), checked_usd("max_usd", kwargs.get("max_usd")))


class WholeTest(Scope):
    """The scope of a test's body. It has no span and no id, so receipts inside are as they would be without it."""

    __slots__ = ()

    kind: ScopeKind = "run"


class TestPlan(RunPlan):
    """Opens the scope of one test's body."""

    __slots__ = ("scope", "unpriced_stops")
    __test__ = False

    def __init__(self, name: str, limits: Limits, *, unpriced_stops: bool) -> None:
        super().__init__(name, limits.max_tokens, limits.max_usd, None)
        self.scope: Scope | None = None
        self.unpriced_stops: bool = unpriced_stops

    def open(self, rt: Runtime) -> Scope:
        """Open it around everything that the test's body does."""
        scope = self.scope = WholeTest(self.name, current_scope(), self.max_tokens, self.max_usd)
        scope.unpriced_stops = self.unpriced_stops and rt.options.unpriced == "stop"
        scope.watch_limits()
        return scope

    def owns(self, error: StepBudgetExceeded) -> bool:
        """Whether the limit that was broken is that of the test."""
        return self.scope is not None and any(error.breach is breach for breach in self.scope.breaches or ())


def guarded(
    function: Callable[..., Any], plan: Callable[[], TestPlan], failure: Callable[[StepBudgetExceeded], BaseException]
) -> Callable[..., Any]:
    """`function`, sync or async as it is, inside the scope of a new plan, whose own stop becomes a `failure`."""

    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        made = plan()
        try:
            with Block(made):
                return function(*args, **kwargs)
        except StepBudgetExceeded as error:
            if not made.owns(error):
                raise
            raise failure(error).with_traceback(_where(error)) from None

    @functools.wraps(function)
    async def around_async(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        made = plan()
        try:
            async with Block(made):
                return await function(*args, **kwargs)
        except StepBudgetExceeded as error:
            if not made.owns(error):
                raise
            raise failure(error).with_traceback(_where(error)) from None

    return around_async if inspect.iscoroutinefunction(function) else around


def _where(error: StepBudgetExceeded) -> TracebackType | None:
    """Where the test was stopped, without the frames of this package."""
    frames: list[TracebackType] = []
    at = None if error.__cause__ is None else error.__cause__.__traceback__
    while at is not None:
        frames.append(at)
        at = at.tb_next
    shown: TracebackType | None = None
    for frame in reversed(frames):
        if not frame.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return shown


def overspent(limit: str, spent: Account) -> str:
    """What a test says that spent more than it may: how much, and on which steps."""
    calls, records = spent.total_llm_calls, spent.completed
    amounts = f"{spent.total_tokens:,} tokens, {plural(calls, 'call')}"
    lines = [f"spent {usd_text(spent.total_cost_nano_usd)} ({amounts}), over {limit}"]
    if records:
        lines.append(table_text(records))
    outside = calls - sum(record.llm_calls for record in records)
    if outside > 0:
        lines.append(f"  outside of finished steps: {plural(outside, 'call')}")
    if spent.unpriced_calls:
        lines.append(f"  of unknown price: {plural(spent.unpriced_calls, 'call')}; set_price() gives one")
    return "\n".join(lines)
