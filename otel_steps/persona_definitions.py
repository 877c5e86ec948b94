"""What a persona, its stages and its budget are: frozen value objects, checked on construction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .checks import checked_level, checked_name, checked_tokens, checked_usd, is_list, is_mapping, mistake


class FrozenDict(Mapping[str, Any]):
    """A dict as it was when a definition was made: immutable, hashable, equal to a dict of the same entries."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash(frozenset(self._entries.items()))

    def __repr__(self) -> str:
        return repr(self._entries)


@dataclass(frozen=True, slots=True)
class Stage:
    """A persona's declared limits on tools and side effects for the step of the same name.

    `allowed_tools`: None says nothing, `[]` denies every tool, a list is an allow-list (globs allowed).
    `side_effect_level`: none < read_only < workspace_write < process_exec < network. `max_iterations`: entries of the
    step per activation of the persona (int >= 0). `on_exit`: `{"on_complete": stage, "on_failure": stage}`, named on
    the receipt as `next_stage`. Raises DefinitionError on anything else.
    """

    name: str
    allowed_tools: Sequence[str] | None = field(default=None, kw_only=True)
    side_effect_level: str | None = field(default=None, kw_only=True)
    max_iterations: int | None = field(default=None, kw_only=True)
    on_exit: Mapping[str, Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        tools: Any = self.allowed_tools
        if tools is not None:
            if not is_list(tools):
                raise mistake("allowed_tools", tools, "a list of tool names or globs, [] to deny every tool, or None")
            if bad := [tool for tool in tools if not isinstance(tool, str) or not tool]:
                raise mistake("allowed_tools", bad[0], "a list of non-empty strings")
            object.__setattr__(self, "allowed_tools", tuple(tools))
        checked_level("side_effect_level", self.side_effect_level)
        limit: Any = self.max_iterations
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise mistake("max_iterations", limit, "an int >= 0, or None for no limit")
        route: Any = self.on_exit
        if route is not None and not isinstance(route, FrozenDict):
            if not is_mapping(route):
                raise mistake("on_exit", route, 'a dict with "on_complete" and "on_failure", or None')
            object.__setattr__(self, "on_exit", FrozenDict(route))

    def next_stage(self, *, failed: bool) -> str | None:
        """The stage that `on_exit` names for this outcome, or None."""
        target = (self.on_exit or {}).get("on_failure" if failed else "on_complete")
        return target if isinstance(target, str) else None


@dataclass(frozen=True, slots=True)
class PersonaBudget:
    """A persona's limits: US dollars per activation (`run_usd`), UTC day and UTC hour, and tokens per activation."""

    run_usd: float | None = None
    daily_usd: float | None = None
    hourly_usd: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("run_usd", "daily_usd", "hourly_usd"):
            object.__setattr__(self, name, checked_usd(name, getattr(self, name)))
        checked_tokens("max_tokens", self.max_tokens)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return self.run_usd is self.daily_usd is self.hourly_usd is self.max_tokens is None


@dataclass(frozen=True, slots=True)
class PersonaDefinition:
    """A named role an agent plays: its stages in written order, output style and budget.

    `output_style` is `{"name": ..., "instructions": ...}`. Raises DefinitionError on a duplicate stage name or a wrong
    shape.
    """

    name: str
    stages: tuple[Stage, ...] = ()
    output_style: Mapping[str, Any] | None = None
    budget: PersonaBudget | None = None

    def __post_init__(self) -> None:
        checked_name("name", self.name)
        stages: Any = self.stages
        if not is_list(stages):
            raise mistake("stages", stages, "a list of Stage(...)")
        for stage in stages:
            if not isinstance(stage, Stage):
                raise mistake("stages", stage, "Stage(...) objects only")
        names = [stage.name for stage in stages]
        if twice := [name for index, name in enumerate(names) if name in names[:index]]:
            raise mistake("stages", twice[0], "each stage name once")
        object.__setattr__(self, "stages", tuple(stages))
        style: Any = self.output_style
        if style is not None and not isinstance(style, FrozenDict):
            if not is_mapping(style):
                raise mistake("output_style", style, 'a dict with "name" and "instructions", or None')
            object.__setattr__(self, "output_style", FrozenDict(style))
        budget: Any = self.budget
        if budget is not None and not isinstance(budget, PersonaBudget):
            raise mistake("budget", budget, "a PersonaBudget(...), or None")

    def stage(self, name: str) -> Stage | None:
        """The stage of that name, or None."""
        return next((stage for stage in self.stages if stage.name == name), None)
