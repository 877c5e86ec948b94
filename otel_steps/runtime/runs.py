"""`run`: one whole execution, with a budget over all its steps and a receipt of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..checks import checked_name, checked_tokens, checked_usd
from .block import Block
from .facades import ActiveRun
from .forms import wrap
from .lifecycle import open_run
from .personas import checked_policy
from .registry import function_id

if TYPE_CHECKING:
    from decimal import Decimal

    from .policy import CapabilityPolicy
    from .registry import Decorated
    from .scope import Scope
    from .state import Runtime

F = TypeVar("F", bound="Decorated")


class RunPlan:
    """What a decorator or block says of its run."""

    __slots__ = ("fallback", "function", "max_tokens", "max_usd", "name", "policy")

    def __init__(
        self,
        name: str,
        max_tokens: int | None,
        max_usd: float | None,
        policy: CapabilityPolicy | None,
        function: str | None = None,
    ) -> None:
        self.name: str = name
        self.max_tokens: int | None = max_tokens
        self.max_usd: float | None = max_usd
        self.policy: CapabilityPolicy | None = policy
        self.function: str | None = function
        self.fallback: None = None

    def admission(self, rt: Runtime) -> None:
        """None: nobody is asked before a run."""

    def open(self, rt: Runtime) -> Scope:
        """Open a run."""
        return open_run(rt, self.name, self.max_tokens, self.max_usd, self.policy)


class run(Block[ActiveRun]):  # noqa: N801 - used as `with run("nightly"):` and `@run("nightly")`
    """One whole execution, with a budget over all steps in it: `with run("name", max_usd=2) as r`, or a decorator.

    `max_usd`: US dollars (>= 0), `max_tokens`: input and output tokens together (int >= 1), over everything inside.
    `policy`: what everything inside may do. A broken limit leaves the run as StepBudgetExceeded (scope `run`), through
    every `continue` inside. Raises DefinitionError where a value cannot be meant. A block is entered once.
    """

    __slots__ = ()

    def __init__(
        self,
        name: str,
        *,
        max_usd: float | Decimal | None = None,
        max_tokens: int | None = None,
        policy: CapabilityPolicy | None = None,
    ) -> None:
        super().__init__(
            RunPlan(
                checked_name("name", name),
                checked_tokens("max_tokens", max_tokens),
                checked_usd("max_usd", max_usd),
                checked_policy(policy),
            )
        )

    def __call__(self, function: F) -> F:
        """Decorate `function`: a new run each time it is called."""
        plan: Any = self._plan
        wrapped: F = wrap(
            function, RunPlan(plan.name, plan.max_tokens, plan.max_usd, plan.policy, function_id(function))
        )
        return wrapped
