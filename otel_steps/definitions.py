"""What a step is: a frozen value object, checked on construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .checks import ERROR_BOUNDARIES, checked_model, checked_name, checked_tokens, checked_usd, mistake, one_of

ErrorBoundary = Literal["fail", "continue", "escalate"]
Admission = Literal["post", "reserve"]
OnUnknown = Literal["stop", "allow"]
SideEffectLevel = Literal["none", "read_only", "workspace_write", "process_exec", "network"]


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """One unit of agent work and its limits.

    `function` is `module:qualname` (None for a block). `max_tokens` counts input and output tokens together (int >= 1),
    `max_usd` is US dollars (finite, >= 0; 0 stops at the first paid call); None is no limit. `error_boundary` is
    `fail`, `continue` or `escalate`; any other text acts as `fail`. Raises DefinitionError on anything else.
    """

    name: str
    function: str | None = None
    model: str | None = None
    max_tokens: int | None = None
    max_usd: float | None = None
    error_boundary: str = "fail"

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        checked_tokens("max_tokens", self.max_tokens)
        object.__setattr__(self, "max_usd", checked_usd("max_usd", self.max_usd))
        object.__setattr__(self, "model", checked_model(self.model))
        boundary: Any = self.error_boundary
        if not isinstance(boundary, str):
            raise mistake("error_boundary", boundary, one_of(ERROR_BOUNDARIES))
