"""Lists of allowed names and globs, and their exact intersection."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Final, Self, cast

from ..checks import mistake

if TYPE_CHECKING:
    from collections.abc import Iterable

ANY: Final = "*"
_AND: Final = " & "
_OR: Final = " | "
_GLOB: Final = re.compile(r"[*?\[]")

Group = tuple[str, ...]
"""Globs of which one has to match."""
Conjunction = tuple[Group, ...]
"""Groups that all have to match."""


class AllowList(tuple[str, ...]):  # noqa: SLOT001  a tuple cannot have slots, and the matcher is compiled once per list
    """Allowed names: a tuple of exact names and of globs (`*`, `?`, `[abc]`, `[!abc]`; case counts). Empty allows none.

    An entry with a glob may also say that several have to match, `read_* & *_file`, each of them one of several,
    `(read_* | list_*) & *_file`. That is how the intersection of two lists of globs, which no plain list can hold, is
    written down; read back it means the same. Names that merely contain ` & ` or ` | ` stay names.
    """

    _names: frozenset[str]
    _conjunctions: tuple[Conjunction, ...]
    _patterns: tuple[tuple[re.Pattern[str], ...], ...]

    def __new__(cls, entries: Iterable[str] = ()) -> Self:
        """`entries` in their order, each once."""
        self = super().__new__(cls, dict.fromkeys(entries))
        parsed = [_parsed(entry) for entry in self if is_glob(entry)]
        either = tuple(dict.fromkeys(glob for c in parsed if len(c) == 1 for glob in c[0]))
        self._names = frozenset(entry for entry in self if not is_glob(entry))
        self._conjunctions = (((either,),) if either else ()) + tuple(c for c in parsed if len(c) > 1)
        self._patterns = tuple(tuple(_compiled(group) for group in c) for c in self._conjunctions)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (AllowList, (tuple(self),))

    @property
    def allows_all(self) -> bool:
        """Whether every name is allowed, by `*` itself."""
        return any(all(ANY in group for group in conjunction) for conjunction in self._conjunctions)

    def allows(self, name: str) -> bool:
        """Whether `name` is in the list or matches one of its globs."""
        if name in self._names:
            return True
        for patterns in self._patterns:
            for pattern in patterns:
                if pattern.match(name) is None:
                    break
            else:
                return True
        return False

    def intersection(self, other: AllowList) -> AllowList:
        """The list that allows exactly what both allow."""
        if self == other or other.allows_all:
            return self
        if self.allows_all:
            return other
        names = [entry for entry in self if entry in self._names and other.allows(entry)]
        names += [entry for entry in other if entry in other._names and self.allows(entry)]
        both = _smallest(a + b for a in self._conjunctions for b in other._conjunctions)
        return AllowList([*names, *(entry for conjunction in both for entry in _written(conjunction))])


def is_glob(entry: str) -> bool:
    """Whether an entry is a glob rather than a name."""
    return _GLOB.search(entry) is not None


def checked_names(field: str, value: object, remedy: str) -> AllowList:
    """A list, tuple or set of non-empty strings as AllowList, or DefinitionError."""
    if isinstance(value, AllowList):
        return value
    if not isinstance(value, list | tuple | set | frozenset):
        raise mistake(field, value, remedy)
    entries = cast("Iterable[Any]", value)
    for entry in entries:
        if not isinstance(entry, str) or not entry:
            raise mistake(field, entry, "a list of non-empty strings")
        if is_glob(entry) and any(_dangles(glob) for group in _parsed(entry) for glob in group):
            raise mistake(field, entry, "a glob on either side of each ` & ` and ` | `, a lone mark as [&] or [|]")
    return AllowList(sorted(entries) if isinstance(value, set | frozenset) else entries)


def _parsed(entry: str) -> Conjunction:
    return tuple(_group(text) for text in entry.split(_AND))


def _group(text: str) -> Group:
    if _OR in text and text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return tuple(text.split(_OR))


def _dangles(glob: str) -> bool:
    """Whether a glob would read as half of a joined one, once it is written beside another."""
    return not glob or glob in {"&", "|"} or glob.startswith(("& ", "| ")) or glob.endswith((" &", " |"))


def _written(conjunction: Conjunction) -> list[str]:
    """The entries that say what a conjunction says: one, or each glob by itself where there is nothing to join."""
    if len(conjunction) == 1:
        return list(conjunction[0])
    return [_AND.join(group[0] if len(group) == 1 else f"({_OR.join(group)})" for group in conjunction)]


def _smallest(conjunctions: Iterable[Conjunction]) -> list[Conjunction]:
    """Without repeated groups, and without those that another one already covers: narrowing again adds nothing."""
    distinct = {frozenset(c): tuple(dict.fromkeys(c)) for c in conjunctions}
    return [c for key, c in distinct.items() if not any(other < key for other in distinct)]


def _compiled(group: Group) -> re.Pattern[str]:
    return re.compile("|".join(translate(glob) for glob in group))
