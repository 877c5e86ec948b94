"""Scope: a step, persona or run while it is open; the tree of what is open, its totals and its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..bounds import nano_usd
from .home import here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from ..breach import Breach, LimitName, ScopeKind
    from ..definitions import StepDefinition
    from ..persona_definitions import PersonaBudget, PersonaDefinition
    from ..record import CompletedStep
    from .home import Home
    from .hooks import Hook
    from .policy import CapabilityPolicy
    from .remote import Caller
    from .shared_budgets import SharedView
    from .windows import Windows


class StepOptions(NamedTuple):
    """What a decorator or block says beyond the definition."""

    fallback: Any = None
    inclusive: bool = True
    admission: str = "post"
    unpriced: str | None = None
    approval: bool = False


DEFAULT_OPTIONS: Final = StepOptions()
WAKE_NOT, WAKE_SOON, WOKEN = range(3)
"""Whether a scope's own task is to be cancelled because a stop died on another one: no, soon, done."""


class Scope:
    """One open step, persona or run.

    Inclusive totals (`total_*`) are kept eagerly in every scope around a call, so that a limit is one comparison;
    `limited` are the scopes with limits from this one outwards. All amounts of money are integer nano-USD. A closed
    step holds no reference to itself: it must go with its last user, not wait for the garbage collector.
    """

    __slots__ = (
        "around",
        "breaches",
        "caller",
        "cancels_before",
        "children",
        "closed",
        "context",
        "finder",
        "home",
        "limited",
        "max_nano_usd",
        "max_tokens",
        "max_usd",
        "name",
        "outermost",
        "parent",
        "parent_step",
        "parked",
        "persona",
        "policy",
        "reserved_nano_usd",
        "reserved_tokens",
        "reserving",
        "run",
        "shared",
        "span",
        "total_calls",
        "total_input",
        "total_nano_usd",
        "total_output",
        "unpriced_stops",
        "wake",
    )

    kind: ScopeKind = "step"
    usd_limit_name: LimitName = "max_usd"
    inclusive = True

    def __init__(self, name: str, parent: Scope | None, max_tokens: int | None, max_usd: float | None) -> None:
        self.name: str = name
        self.parent: Scope | None = parent
        self.max_tokens: int | None = max_tokens
        self.max_usd: float | None = max_usd
        self.max_nano_usd: int | None = None if max_usd is None else nano_usd(max_usd)
        self.total_input: int = 0
        self.total_output: int = 0
        self.total_nano_usd: int = 0
        self.total_calls: int = 0
        self.reserved_tokens: int = 0
        self.reserved_nano_usd: int = 0
        self.shared: SharedView | None = None
        self.breaches: list[Breach] | None = None
        self.children: dict[Scope, None] = {}
        self.closed: bool = False
        self.wake: int = WAKE_NOT
        self.cancels_before: int
        """How often its task had been told to cancel when it was woken; set where it was."""
        self.parked: Any = None
        self.span: Span | None = None
        self.context: Context | None = None
        self.home: Home | None = None
        self.unpriced_stops: bool = True
        self.finder: Any = None
        self.around: tuple[Scope, ...] = () if parent is None else parent.limited
        self.limited: tuple[Scope, ...] = self.around
        """The open scopes with limits from this one outwards."""
        self.outermost: Scope | None = None
        if parent is None:
            self.run: RunScope | None = None
            self.persona: PersonaScope | None = None
            self.parent_step: StepScope | None = None
            self.policy: CapabilityPolicy | None = None
            self.reserving: bool = False
            self.caller: Caller | None = None
        else:
            self.outermost = parent.root
            self.run = parent.run
            self.persona = parent.persona
            self.parent_step = parent.step
            self.policy = parent.policy
            self.reserving = parent.reserving
            self.caller = parent.caller
            parent.children[self] = None

    def watch_limits(self) -> None:
        """Join the watched scopes; called once, where this scope has a limit of its own."""
        self.limited = (self, *self.around)
        self.home = here()

    @property
    def step(self) -> StepScope | None:
        """The innermost step from here outwards."""
        return self.parent_step

    def unwatch_limits(self) -> None:
        """Leave the watched scopes, at the end: by then its limits stop nobody, and it refers to itself no longer."""
        self.limited = self.around

    @property
    def root(self) -> Scope:
        """The outermost scope."""
        return self.outermost or self

    def outwards(self) -> Iterator[Scope]:
        """This scope and those around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    @property
    def breached(self) -> tuple[str, ...]:
        """Names of the limits broken in this scope, the primary one first."""
        if not self.breaches:
            return ()
        names: dict[str, None] = {}
        for breach in self.breaches:
            names.update(dict.fromkeys(breach.also or (breach.limit,)))
        return tuple(names)

    def spent_tokens(self) -> int:
        """Tokens that this scope's limit looks at: its own, or those of all that share its budget."""
        tokens = self.total_input + self.total_output
        return tokens if self.shared is None else max(tokens, self.shared.tokens)

    def spent_nano_usd(self) -> int:
        """Nano-USD that this scope's limit looks at: its own, or those of all that share its budget."""
        return self.total_nano_usd if self.shared is None else max(self.total_nano_usd, self.shared.nano_usd)

    @property
    def error_boundary(self) -> str:
        """What the owner makes of a stop; personas and runs always fail."""
        return "fail"


class StepScope(Scope):
    """An open step: own totals beside the inclusive ones, and what its receipt will tell."""

    __slots__ = (
        "__weakref__",
        "announced",
        "cache_read_tokens",
        "cache_write_tokens",
        "cost_nano_usd",
        "definition",
        "duplicates_discarded",
        "facade",
        "fired_thresholds",
        "inclusive",
        "input_tokens",
        "invalid_costs",
        "largest_input",
        "llm_calls",
        "model",
        "options",
        "output_tokens",
        "price_source",
        "reasoning_tokens",
        "receipt_id",
        "record",
        "shared_unconsulted_calls",
        "stage",
        "started_ns",
        "tools_called",
        "tools_denied",
        "unmetered_calls",
        "unpriced_calls",
    )

    kind: ScopeKind = "step"

    def __init__(
        self, definition: StepDefinition, options: StepOptions, parent: Scope | None, receipt_id: str, started_ns: int
    ) -> None:
        super().__init__(definition.name, parent, definition.max_tokens, definition.max_usd)
        self.definition: StepDefinition = definition
        self.options: StepOptions = options
        self.inclusive: bool = options.inclusive
        if options.admission == "reserve":
            self.reserving = True
        self.receipt_id: str = receipt_id
        self.started_ns: int = started_ns
        self.input_tokens: int = 0
        self.output_tokens: int = 0
        self.cost_nano_usd: int = 0
        self.llm_calls: int = 0
        self.cache_read_tokens: int = 0
        self.cache_write_tokens: int = 0
        self.reasoning_tokens: int = 0
        self.unpriced_calls: int = 0
        self.unmetered_calls: int = 0
        self.invalid_costs: int = 0
        self.duplicates_discarded: int = 0
        self.shared_unconsulted_calls: int = 0
        self.largest_input: int = 0
        self.model: str | None = definition.model
        self.price_source: str | None = None
        self.tools_called: list[str] | None = None
        self.tools_denied: list[str] | None = None
        self.fired_thresholds: set[Hook] | None = None
        self.stage: Any = None
        self.announced: bool = False
        self.record: CompletedStep | None = None
        self.facade: Any = None
        if definition.max_tokens is not None or definition.max_usd is not None:
            self.watch_limits()

    @property
    def step(self) -> StepScope:
        """This step."""
        return self

    def spent_tokens(self) -> int:
        """Inclusive tokens, or the step's own where its limits look at those."""
        if self.inclusive:
            return self.total_input + self.total_output
        return self.input_tokens + self.output_tokens

    def spent_nano_usd(self) -> int:
        """Inclusive nano-USD, or the step's own where its limits look at those."""
        return self.total_nano_usd if self.inclusive else self.cost_nano_usd

    @property
    def error_boundary(self) -> str:
        """The declared boundary."""
        return self.definition.error_boundary


class PersonaScope(Scope):
    """An activation of a persona: its stages' iterations and its budget windows."""

    __slots__ = ("budget", "definition", "iterations", "windows")

    kind: ScopeKind = "persona"
    usd_limit_name: LimitName = "run_usd"

    def __init__(self, definition: PersonaDefinition, parent: Scope | None, windows: Windows | None) -> None:
        budget = definition.budget
        super().__init__(
            definition.name,
            parent,
            None if budget is None else budget.max_tokens,
            None if budget is None else budget.run_usd,
        )
        self.definition: PersonaDefinition = definition
        self.budget: PersonaBudget | None = budget
        self.iterations: dict[str, int] = {}
        self.windows: Windows | None = windows
        self.persona: PersonaScope | None = self
        if budget is not None and not budget.is_empty:
            self.watch_limits()


class RunScope(Scope):
    """An open run: a budget over everything in it, and what its receipt will tell."""

    __slots__ = ("ledger", "run_id", "started_ns")

    kind: ScopeKind = "run"

    def __init__(
        self,
        name: str,
        parent: Scope | None,
        run_id: str,
        started_ns: int,
        max_tokens: int | None,
        max_usd: float | None,
    ) -> None:
        super().__init__(name, parent, max_tokens, max_usd)
        self.run_id: str = run_id
        self.started_ns: int = started_ns
        self.ledger: Any = None
        self.run: RunScope | None = self
        if max_tokens is not None or max_usd is not None:
            self.watch_limits()


class Suspended(Scope):
    """What is current while scopes are left: charged by nobody, default for nobody."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("suspended", None, None, None)


SUSPENDED: Final = Suspended()
