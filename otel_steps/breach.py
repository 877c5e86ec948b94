"""Breach: the facts of one broken limit, and how the stop and the errors it becomes tell them."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from .bounds import clamp_int64, name_text, usd

CATEGORY_BUDGET: Final = "budget_exceeded"
CATEGORY_ESCALATED: Final = "handoff_escalation"
KIND_EXHAUSTED: Final = "budget_exhausted"
KIND_REFUSED: Final = "terminal"
REASON_EXHAUSTED: Final = "step_budget_exhausted"
REASON_REFUSED: Final = "budget_exceeded"

LimitName = Literal["max_tokens", "max_usd", "run_usd", "daily_usd", "hourly_usd"]
ScopeKind = Literal["step", "persona", "run"]


class Breach(NamedTuple):
    """The facts of one broken (or, when reserved, not to be broken) limit.

    Tokens are counts, `*_usd` US dollars, `*_nano_usd` billionths of a dollar. `projected_*` are set on a refusal only.
    """

    scope: ScopeKind
    name: str
    limit: LimitName
    limit_value: float
    consumed_tokens: int
    consumed_cost_nano_usd: int
    step: str | None = None
    function: str | None = None
    persona: str | None = None
    error_boundary: str = "fail"
    also: tuple[str, ...] = ()
    unpriced_model: str | None = None
    unmetered_model: str | None = None
    projected_tokens: int | None = None
    projected_cost_nano_usd: int | None = None
    shared_unavailable: bool = False
    """Whether the budget was shared, could not be asked, and `shared_unavailable="stop"` was in force."""

    @property
    def refused(self) -> bool:
        """Whether a reservation was refused rather than a limit passed."""
        return self.projected_tokens is not None or self.projected_cost_nano_usd is not None

    @property
    def consumed_cost_usd(self) -> float:
        """US dollars consumed in the scope that owns the limit."""
        return usd(self.consumed_cost_nano_usd)

    @property
    def message(self) -> str:
        """One line that names the scope and the quantity that broke, with its unit."""
        subject = f"{self.scope} `{name_text(self.name)}`"
        if self.unpriced_model is not None:
            model = name_text(self.unpriced_model) or "(no model name)"
            return (
                f"{subject} cannot hold its {self.limit} budget of {_number(self.limit_value)} USD: the price of model "
                f'`{model}` is unknown; give it one with set_price({model!r}, ...) or say unpriced="allow"'
            )
        if self.unmetered_model is not None:
            model = name_text(self.unmetered_model) or "(no model name)"
            return (
                f"{subject} cannot hold its {self.limit} budget of {_number(self.limit_value)} USD: a call of model "
                f'`{model}` ended without usage; ask the stream for its usage or say unmetered="allow"'
            )
        if self.shared_unavailable:
            unit = "tokens" if self.limit == "max_tokens" else "USD"
            return (
                f"{subject} cannot hold its {self.limit} budget of {_number(self.limit_value)} {unit}: the totals that "
                'it shares with other processes cannot be had, and shared_unavailable="stop" is in force'
            )
        if self.refused:
            if self.limit == "max_tokens":
                amounts = f"{self.projected_tokens} > {_number(self.limit_value)} tokens"
            else:
                amounts = f"{_number(usd(self.projected_cost_nano_usd or 0))} > {_number(self.limit_value)} USD"
            return f"{subject} has no room left in its {self.limit} budget for this call (projected {amounts})"
        if self.limit == "max_tokens":
            amounts = f"{self.consumed_tokens} > {_number(self.limit_value)} tokens"
        else:
            amounts = f"{_number(self.consumed_cost_usd)} > {_number(self.limit_value)} USD"
        return f"{subject} exceeded its {self.limit} budget ({amounts})"

    def to_dict(self) -> dict[str, Any]:
        """The facts as a dict ready for JSON."""
        facts: dict[str, Any] = {
            "category": CATEGORY_BUDGET,
            "kind": KIND_REFUSED if self.refused else KIND_EXHAUSTED,
            "reason": REASON_REFUSED if self.refused else REASON_EXHAUSTED,
            "scope": self.scope,
            "step": self.step,
            "function": self.function,
            "persona": self.persona,
            "limit": self.limit,
            "limit_value": _exported(self.limit_value),
            "consumed_tokens": clamp_int64(self.consumed_tokens),
            "consumed_cost_usd": self.consumed_cost_usd,
            "error_boundary": self.error_boundary,
            "breached": list(self.also) or [self.limit],
            "message": self.message,
        }
        if self.refused:
            facts["projected_tokens"] = None if self.projected_tokens is None else clamp_int64(self.projected_tokens)
            facts["projected_cost_usd"] = (
                None if self.projected_cost_nano_usd is None else usd(self.projected_cost_nano_usd)
            )
        return facts


class BreachFacts:
    """The error facts of a broken limit, as attributes; shared by the stop and by the errors it becomes."""

    breach: Breach
    result: Any = None
    """What the body had produced when it returned in spite of the stop, else None."""
    escalated: bool = False

    @property
    def category(self) -> str:
        """`budget_exceeded`, or `handoff_escalation` once escalated."""
        return CATEGORY_ESCALATED if self.escalated else CATEGORY_BUDGET

    @property
    def kind(self) -> str:
        """`budget_exhausted`, or `terminal` for a refused reservation."""
        return KIND_REFUSED if self.breach.refused else KIND_EXHAUSTED

    @property
    def reason(self) -> str:
        """`step_budget_exhausted`, or `budget_exceeded` for a refused reservation."""
        return REASON_REFUSED if self.breach.refused else REASON_EXHAUSTED

    @property
    def scope(self) -> ScopeKind:
        """What owns the limit: step, persona or run."""
        return self.breach.scope

    @property
    def step(self) -> str | None:
        """The step that owns the limit; for a persona or run the innermost step where it broke."""
        return self.breach.step

    @property
    def function(self) -> str | None:
        """`module:qualname` of that step's function, None for a block."""
        return self.breach.function

    @property
    def persona(self) -> str | None:
        """The persona in force, or None."""
        return self.breach.persona

    @property
    def limit(self) -> LimitName:
        """Which limit: max_tokens, max_usd, run_usd, daily_usd or hourly_usd."""
        return self.breach.limit

    @property
    def limit_value(self) -> float:
        """The limit itself, in tokens or US dollars."""
        return self.breach.limit_value

    @property
    def consumed_tokens(self) -> int:
        """Tokens consumed in the owning scope."""
        return self.breach.consumed_tokens

    @property
    def consumed_cost_usd(self) -> float:
        """US dollars consumed in the owning scope."""
        return self.breach.consumed_cost_usd

    @property
    def projected_tokens(self) -> int | None:
        """Tokens the refused call would have brought the scope to; None unless refused."""
        return self.breach.projected_tokens

    @property
    def projected_cost_usd(self) -> float | None:
        """US dollars the refused call would have brought the scope to; None unless refused."""
        amount = self.breach.projected_cost_nano_usd
        return None if amount is None else usd(amount)

    @property
    def error_boundary(self) -> str:
        """Boundary of the owning scope."""
        return self.breach.error_boundary

    @property
    def breached(self) -> tuple[str, ...]:
        """Every limit that the same call broke in the owning scope, the primary one first."""
        return self.breach.also or (self.breach.limit,)

    @property
    def message(self) -> str:
        """One line that names the scope and the quantity that broke."""
        return self.breach.message

    def to_dict(self) -> dict[str, Any]:
        """The error facts as a dict ready for JSON."""
        return {**self.breach.to_dict(), "category": self.category, "escalated": self.escalated}


def _exported(value: float) -> float:
    return clamp_int64(value) if isinstance(value, int) else value


def _number(value: float) -> str:
    """The shortest text of an amount, without exponent for what people write as a budget."""
    if value == int(value) and abs(value) < 10**15:
        return str(int(value))
    return f"{value:.9f}".rstrip("0") if 1e-9 <= abs(value) < 10**6 else repr(value)
