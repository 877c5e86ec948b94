"""What people hold of an open scope: ActiveStep, ActivePersona, ActiveRun. Read-only views, and `check()`."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from ..bounds import usd
from . import meter, remaining
from .scope import PersonaScope, RunScope, Scope, StepScope
from .state import runtime
from .stops import gate

if TYPE_CHECKING:
    from .ledger import RunReceipt


class _ActiveScope:
    __slots__ = ("_scope",)

    def __init__(self, scope: Any) -> None:
        self._scope = scope

    @property
    def name(self) -> str:
        """Name of the scope."""
        name: str = self._scope.name
        return name

    @property
    def remaining_tokens(self) -> int | None:
        """Tokens left (>= 0) under the tightest limit in force here, or None where there is none."""
        _ask_others(self._scope)
        return remaining.remaining_tokens(self._scope)

    @property
    def remaining_usd(self) -> float | None:
        """US dollars left (>= 0) under the tightest limit in force here, or None where there is none."""
        _ask_others(self._scope)
        return remaining.remaining_usd(self._scope)

    @property
    def breached(self) -> tuple[str, ...]:
        """Names of this scope's own limits that are broken, the primary one first."""
        scope: Scope = self._scope
        return scope.breached

    def check(self) -> None:
        """A gate: raises StepStop where a limit of this scope or one around it is broken."""
        rt = runtime()
        gate(rt, self._scope)
        if rt.shared is not None:
            from . import sharing

            sharing.admit(rt, rt.shared, self._scope)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {'closed' if self._scope.closed else 'open'}>"


def _ask_others(scope: Scope) -> None:
    """Have the totals that other processes count on too, where there are any."""
    rt = runtime()
    if rt.shared is not None:
        from . import sharing

        sharing.refresh(rt, scope)


class ActiveStep(_ActiveScope):
    """An open step: its own totals so far, and what is left. After the step it tells how it ended."""

    __slots__ = ("__weakref__",)
    _scope: StepScope

    @property
    def function(self) -> str | None:
        """`module:qualname` of the function, None for a block."""
        return self._scope.definition.function

    @property
    def persona(self) -> str | None:
        """Name of the persona around, or None."""
        persona = self._scope.persona
        return None if persona is None else persona.name

    @property
    def model(self) -> str | None:
        """The last model reported, else the declared one, else None."""
        return self._scope.model

    @property
    def input_tokens(self) -> int:
        """Own input tokens so far, cached ones included."""
        return self._scope.input_tokens

    @property
    def output_tokens(self) -> int:
        """Own output tokens so far, reasoning included."""
        return self._scope.output_tokens

    @property
    def cost_usd(self) -> float:
        """Own cost so far in US dollars."""
        return usd(self._scope.cost_nano_usd)

    @property
    def llm_calls(self) -> int:
        """Own model calls so far."""
        return self._scope.llm_calls

    @property
    def status(self) -> str | None:
        """None while open, then the receipt's status."""
        record = self._scope.record
        return None if record is None else record.status

    @property
    def receipt_id(self) -> str:
        """The id that the receipt has or will have."""
        return self._scope.receipt_id


class ActivePersona(_ActiveScope):
    """An activation of a persona."""

    __slots__ = ()
    _scope: PersonaScope

    @property
    def output_style(self) -> Any:
        """The declared output style, a mapping with `name` and `instructions`, or None."""
        return self._scope.definition.output_style


class Totals(NamedTuple):
    """Inclusive totals of a run: tokens, US dollars (and exact nano-USD), model calls."""

    input_tokens: int
    output_tokens: int
    cost_usd: float
    cost_nano_usd: int
    llm_calls: int


class ActiveRun(_ActiveScope):
    """An open run; after it, its receipt."""

    __slots__ = ()
    _scope: RunScope

    @property
    def run_id(self) -> str:
        """Id of the run, on every receipt in it."""
        return self._scope.run_id

    @property
    def totals(self) -> Totals:
        """What the run has consumed so far, everything in it included."""
        scope = self._scope
        with meter.LOCK:
            return Totals(
                scope.total_input,
                scope.total_output,
                usd(scope.total_nano_usd),
                scope.total_nano_usd,
                scope.total_calls,
            )

    def receipt(self) -> RunReceipt:
        """The envelope of the run as it stands: identity, status, steps, totals, approvals, handoffs, error, times."""
        receipt: RunReceipt = self._scope.ledger.receipt(self._scope)
        return receipt


def facade_of(scope: Scope) -> Any:
    """The one view of `scope`."""
    if isinstance(scope, StepScope):
        known = None if scope.facade is None else scope.facade()
        if known is None:
            known = ActiveStep(scope)
            scope.facade = weakref.ref(known)
        return known
    return ActivePersona(scope) if isinstance(scope, PersonaScope) else ActiveRun(scope)
