"""Plan: what a decorator or block knows of the scope that it opens, and the name that it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ..checks import checked_name, mistake

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .scope import Scope
    from .state import Runtime

Admission: TypeAlias = (
    "Callable[[tuple[Any, ...], dict[str, Any]], Generator[Any, Any, tuple[Scope, tuple[Any, ...], dict[str, Any]]]]"
)
"""Asks those who have a say about a call's arguments, then opens; yields what must be awaited."""


class Plan(Protocol):
    """What a decorator or block knows of the scope that it opens."""

    function: str | None
    fallback: Any

    def admission(self, rt: Runtime) -> Admission | None:
        """How to ask those who have a say (hooks, approval); None where nobody has: then `open` is all there is."""
        ...

    def open(self, rt: Runtime) -> Scope:
        """Check the entry and open the scope."""
        ...


def given_name(target: Any, name: str | None) -> str | None:
    """The name that a block was given, as its target or by keyword; None where the function's is to be taken.

    Raises DefinitionError where both say one, or it is none.
    """
    if isinstance(target, str):
        if name is not None:
            raise mistake("name", name, f"one name; {target!r} was given too")
        name = target
    return None if name is None else checked_name("name", name)
