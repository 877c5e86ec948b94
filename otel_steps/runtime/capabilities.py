"""Which operations of which capabilities are allowed, and how a tool says what it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from ..checks import mistake
from .allowlist import ANY, AllowList, checked_names, is_glob

_SEPARATOR = re.compile("[.:]")
_NOTHING = AllowList()


class Capabilities(Mapping[str, AllowList]):
    """Allowed operations by capability, immutable. An absent capability is denied, unless `*` speaks for the rest."""

    __slots__ = ("_hash", "_operations")

    def __init__(self, operations: Mapping[str, AllowList]) -> None:
        self._operations = dict(operations)
        self._hash = hash(frozenset(self._operations.items()))

    def __getitem__(self, capability: str) -> AllowList:
        return self._operations[capability]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        mine = other._operations if isinstance(other, Capabilities) else other
        return self._operations == mine if isinstance(mine, Mapping) else NotImplemented

    def __repr__(self) -> str:
        return repr(self._operations)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Capabilities, (self._operations,))

    def operations(self, capability: str) -> AllowList:
        """What is allowed of `capability`: its own entry, else that of `*`, else nothing."""
        allowed = self._operations.get(capability)
        return self._operations.get(ANY, _NOTHING) if allowed is None else allowed

    def allows(self, requirement: str) -> bool:
        """Whether `capability.operation` (or `capability:operation`) is allowed; without operation, all of them."""
        capability, operation = _split(requirement)
        operations = self.operations(capability)
        if not is_glob(requirement):
            return operations.allows(operation) if operation else operations.allows_all
        # A glob asks for several operations, which only `*` is known to cover, or for several capabilities.
        return operations.allows_all and not is_glob(capability)

    def intersection(self, other: Capabilities) -> Capabilities:
        """Exactly what both allow."""
        both = {
            name: self.operations(name).intersection(other.operations(name)) for name in dict.fromkeys((*self, *other))
        }
        # An empty entry says something only where `*` would otherwise speak for it.
        rest = both.get(ANY)
        return Capabilities({name: allowed for name, allowed in both.items() if allowed or (rest and name != ANY)})


def checked_capabilities(value: object) -> Capabilities:
    """A dict of capability -> operations, frozen, or DefinitionError."""
    if isinstance(value, Capabilities):
        return value
    if not _is_mapping(value):
        raise mistake("capabilities", value, 'a dict of capability -> operations, such as {"fs": ["read"]}, or None')
    operations: dict[str, AllowList] = {}
    for name, allowed in value.items():
        if not isinstance(name, str) or not name or _split(name)[0] != name or (is_glob(name) and name != ANY):
            raise mistake("capabilities", name, 'names without ".", ":" and globs, such as {"fs": ["read"]}, or "*"')
        operations[name] = checked_names(f"capabilities[{name!r}]", allowed, 'a list, ["*"] for all operations')
    return Capabilities(operations)


def capability_requirements(value: object) -> tuple[str, ...]:
    """What a tool declares that it needs, ready for `check_tool`: `("capability.operation", ...)`.

    Accepts None, one string, a list of `capability`, `capability.operation` or `capability:operation`, or a dict of
    capability -> operations. Raises DefinitionError on anything else, and on globs other than `*` as the operation.
    """
    remedy = 'a list such as ["fs.read"], or a dict such as {"fs": ["read"]}'
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if _is_mapping(value):
        value = [f"{name}.{entry}" for name in value for entry in checked_names("capabilities", value[name], remedy)]
    requirements = checked_names("capabilities", value, remedy)
    for requirement in requirements:
        capability, operation = _split(requirement)
        if not capability or is_glob(capability) or (is_glob(operation) and operation != ANY):
            raise mistake("capabilities", requirement, remedy + ", without globs")
    return tuple(requirements)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _split(requirement: str) -> tuple[str, str]:
    """Capability and operation, parted by the first `.` or `:`; the operation is empty where there is none."""
    parts = _SEPARATOR.split(requirement, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""
