"""What a step may do: an immutable policy that inner scopes narrow and never widen."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from ..bounds import name_text
from ..checks import SIDE_EFFECT_LEVELS, checked_level, mistake
from .allowlist import AllowList, checked_names
from .capabilities import Capabilities, checked_capabilities

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
AnyPath: TypeAlias = "str | os.PathLike[str]"

_FIELDS = ("tools", "capabilities", "workspace_roots", "side_effect_level", "recursion_limit")
_TOOLS = "a list of tool names or globs, [] to deny every tool, or None"
_SHOWN = 5
"""Names shown in a refusal: enough to choose another tool, short enough for a model's context."""


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class CapabilityPolicy:
    """What tools may be called and what they may do. Each dimension is None (unrestricted) or a restriction.

    - `tools`: names and globs (see AllowList); `[]` denies every tool.
    - `capabilities`: capability -> operations (names and globs, `"*"` for all). An absent capability is denied; the
      entry `"*"` speaks for those not named; `{}` denies all.
    - `workspace_roots`: folders; a path is allowed inside one of them. Relative ones are made absolute here; `[]`
      denies every path.
    - `side_effect_level`: the highest allowed of none < read_only < workspace_write < process_exec < network.
    - `recursion_limit`: how many steps may still be opened, one inside another, where the policy is in force.

    Lists, sets and dicts are accepted and frozen: a policy is hashable and can be pickled. Raises DefinitionError,
    which names field, value and remedy, on any other shape.
    """

    tools: AllowList | None = None
    capabilities: Capabilities | None = None
    workspace_roots: tuple[str, ...] | None = None
    side_effect_level: str | None = None
    recursion_limit: int | None = None

    def __init__(
        self,
        *,
        tools: Iterable[str] | None = None,
        capabilities: Mapping[str, Iterable[str]] | None = None,
        workspace_roots: Iterable[AnyPath] | None = None,
        side_effect_level: str | None = None,
        recursion_limit: int | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "tools", None if tools is None else checked_names("tools", tools, _TOOLS))
        put(self, "capabilities", None if capabilities is None else checked_capabilities(capabilities))
        put(self, "workspace_roots", None if workspace_roots is None else _roots(workspace_roots))
        put(self, "side_effect_level", checked_level("side_effect_level", side_effect_level))
        put(self, "recursion_limit", _limit(recursion_limit))

    def __reduce__(self) -> tuple[Any, ...]:
        return (CapabilityPolicy.from_dict, (self.to_dict(),))

    def check_tool(
        self, name: str, *, side_effect_level: str | None = None, capabilities: Iterable[str] = ()
    ) -> str | None:
        """None if the tool is allowed, else why not: one sentence that names the dimension, safe to hand to the model.

        `side_effect_level` and `capabilities` are what the tool declares; what it does not declare is not judged.
        `capabilities` are `capability.operation` or `capability:operation`; one without operation needs all of them.
        """
        tools = self.tools
        if tools is not None and not tools.allows(name):
            return f"the policy's tools allow {_shown(tools)}"
        if side_effect_level is not None:
            if side_effect_level not in SIDE_EFFECT_LEVELS:
                return f"the tool's side_effect_level `{side_effect_level}` is none of {', '.join(SIDE_EFFECT_LEVELS)}"
            if self.side_effect_level is not None and _rank(side_effect_level) > _rank(self.side_effect_level):
                return f"the policy's side_effect_level is {self.side_effect_level}, the tool needs {side_effect_level}"
        if self.capabilities is not None:
            for requirement in (capabilities,) if isinstance(capabilities, str) else capabilities:
                if not self.capabilities.allows(requirement):
                    return f"the policy's capabilities do not include `{requirement}`"
        return None

    def allows_path(self, path: AnyPath) -> bool:
        """Whether `path` is one of the roots or inside one.

        Judged by the text alone: relative paths count from the current folder, `..` is resolved, links are not (pass
        `os.path.realpath(path)` where they matter). A path with a leading `~` is refused: nobody knows who expands it.
        """
        roots = self.workspace_roots
        if roots is None:
            return True
        text = os.fspath(path)
        if not text or text.startswith("~") or "\0" in text:
            return False
        try:
            place = _absolute(text)
        except OSError:  # the current folder is gone, so nobody can say where the path leads
            return False
        return any(_inside(place, root) for root in roots)

    def allows_depth(self, depth: int) -> bool:
        """Whether steps may be opened `depth` deep where this policy is in force; 1 is the next step."""
        return self.recursion_limit is None or depth <= self.recursion_limit

    def descended(self) -> CapabilityPolicy:
        """The policy inside a step opened under this one: one level of recursion fewer."""
        return self if self.recursion_limit is None else _descended(self)

    def to_dict(self) -> dict[str, Any]:
        """The five dimensions as a dict ready for JSON; None is unrestricted, an empty list or dict is nothing."""
        return {
            "tools": None if self.tools is None else list(self.tools),
            "capabilities": None if self.capabilities is None else {k: list(v) for k, v in self.capabilities.items()},
            "workspace_roots": None if self.workspace_roots is None else list(self.workspace_roots),
            "side_effect_level": self.side_effect_level,
            "recursion_limit": self.recursion_limit,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CapabilityPolicy:
        """The policy of a `to_dict()` form; an absent key is unrestricted.

        Raises DefinitionError on an unknown key or a wrong shape.
        """
        given: Any = value
        if not isinstance(given, Mapping):
            raise mistake("policy", value, "a dict of " + ", ".join(_FIELDS))
        if unknown := [key for key in value if key not in _FIELDS]:
            raise mistake("policy", unknown[0], "only the keys " + ", ".join(_FIELDS))
        return cls(**value)


def narrow(parent: CapabilityPolicy | None, child: CapabilityPolicy | None) -> CapabilityPolicy | None:
    """The policy that allows exactly what both allow; None says nothing."""
    if parent is None or parent is child:
        return child
    return parent if child is None else _narrowed(parent, child)


def stage_policy(allowed_tools: Iterable[str] | None, side_effect_level: str | None) -> CapabilityPolicy | None:
    """What a stage says, as a policy; None if it says nothing, while `[]` denies every tool.

    Raises DefinitionError as CapabilityPolicy does.
    """
    if allowed_tools is None and side_effect_level is None:
        return None
    if allowed_tools is not None and not isinstance(allowed_tools, tuple):
        allowed_tools = checked_names("allowed_tools", allowed_tools, _TOOLS)
    return _stage_policy(allowed_tools, side_effect_level)


# The memories below only save work: they are bounded, and their values are immutable functions of their keys.


@lru_cache(maxsize=1024)
def _narrowed(parent: CapabilityPolicy, child: CapabilityPolicy) -> CapabilityPolicy:
    level = _either(parent.side_effect_level, child.side_effect_level, lambda a, b: min(a, b, key=_rank))
    return CapabilityPolicy(
        tools=_either(parent.tools, child.tools, AllowList.intersection),
        capabilities=_either(parent.capabilities, child.capabilities, Capabilities.intersection),
        workspace_roots=_either(parent.workspace_roots, child.workspace_roots, _common_roots),
        side_effect_level=level,
        recursion_limit=_either(parent.recursion_limit, child.recursion_limit, min),
    )


@lru_cache(maxsize=1024)
def _stage_policy(allowed_tools: tuple[str, ...] | None, side_effect_level: str | None) -> CapabilityPolicy:
    tools = None if allowed_tools is None else checked_names("allowed_tools", allowed_tools, _TOOLS)
    return CapabilityPolicy(tools=tools, side_effect_level=side_effect_level)


@lru_cache(maxsize=1024)
def _descended(policy: CapabilityPolicy) -> CapabilityPolicy:
    return replace(policy, recursion_limit=max(0, (policy.recursion_limit or 0) - 1))


def _either(parent: _T | None, child: _T | None, both: Callable[[_T, _T], _T]) -> _T | None:
    """`both` where each restricts the dimension, else the one that does."""
    if parent is None:
        return child
    return parent if child is None else both(parent, child)


def _rank(level: str) -> int:
    return SIDE_EFFECT_LEVELS.index(level)


def _common_roots(parent: tuple[str, ...], child: tuple[str, ...]) -> tuple[str, ...]:
    """The inner one of every two roots of which one holds the other: all that lies in both, and nothing else."""
    inner = [root for root in parent if any(_inside(root, outer) for outer in child)]
    inner += [root for root in child if any(_inside(root, outer) for outer in parent)]
    return tuple(dict.fromkeys(inner))


def _inside(place: str, root: str) -> bool:
    place, root = os.path.normcase(place), os.path.normcase(root)
    return place == root or place.startswith(root if root.endswith(os.sep) else root + os.sep)


def _absolute(path: str) -> str:
    place = os.path.abspath(path)  # noqa: PTH100  text alone: pathlib's absolute() keeps `..`, its resolve() asks the disk
    # POSIX lets exactly two leading slashes mean something else; no system in use takes it up.
    return place[1:] if os.sep == "/" and place.startswith("//") else place


def _shown(tools: AllowList) -> str:
    if not tools:
        return "none"
    more = f" and {len(tools) - _SHOWN} more" if len(tools) > _SHOWN else ""
    return "only " + ", ".join(f"`{name_text(entry)}`" for entry in tools[:_SHOWN]) + more


def _roots(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise mistake("workspace_roots", value, "a list of folders, [] for none, or None")
    given = cast("Iterable[Any]", value)
    roots = [_absolute(_root(entry)) for entry in given]
    return tuple(dict.fromkeys(sorted(roots) if isinstance(value, set | frozenset) else roots))


def _root(entry: Any) -> str:
    text: str | None = None
    with suppress(TypeError):  # what is no path stays None, and is refused below
        text = os.fspath(cast("os.PathLike[str]", entry))
    if not isinstance(text, str) or not text or "\0" in text or text.startswith("~"):
        raise mistake("workspace_roots", entry, "folders as text or Path, with ~ expanded (Path.home())")
    return text


def _limit(value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise mistake("recursion_limit", value, "an int >= 0, or None for no limit")
    return value
