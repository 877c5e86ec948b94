"""Operations: what one process wants of the shared accounts, and a batch of them as one call of the script."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ..runtime.shared_budgets import Account, Balance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..runtime.shared_budgets import Limits, Pair

AMOUNT_MAX: Final = 4 * 10**18
"""Tokens or nano-USD that an amount, a limit and a total stop at: four billion dollars."""
WINDOW_LIFE_S: Final = 3 * 86_400
MEMORY_S: Final = 86_400
"""How long the store remembers which batch of a process came last."""
_NAME_MAX_BYTES: Final = 200


@dataclass(frozen=True, slots=True)
class Operation:
    """Settle a hold, add amounts, hold room, and read, in this order; on all its accounts at once."""

    accounts: tuple[Account, ...]
    add: Mapping[Account, Pair] | None = None
    settle: str | None = None
    hold: str | None = None
    held: Mapping[Account, Pair] = field(default_factory=dict[Account, "Pair"])
    limits: Mapping[Account, Limits] = field(default_factory=dict[Account, "Limits"])
    hour: int | None = None
    """The UTC hour since the epoch in which it was spent; None: now."""

    @property
    def changes(self) -> bool:
        """Whether it does more than read."""
        return self.hold is not None or self.must_arrive

    @property
    def must_arrive(self) -> bool:
        """Whether it is to be sent again where it did not arrive."""
        return self.add is not None or self.settle is not None


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations that are carried out together, once: under the same number a second time they change nothing."""

    number: int
    operations: tuple[Operation, ...]

    def to_send_again(self, hour: int) -> Batch | None:
        """What is left to do where nobody knows whether it arrived, spent in `hour`; None where that is nothing."""
        left = tuple(
            replace(each, hold=None, hour=hour if each.hour is None else each.hour)
            for each in self.operations
            if each.must_arrive
        )
        return replace(self, operations=left) if left else None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How batches of one process are written for the script."""

    prefix: str
    process: str
    idle_s: float
    lease_s: float
    now_ms: str = ""

    def keys_and_arguments(self, batch: Batch) -> tuple[list[bytes], list[str]]:
        """Keys and arguments of the script, for this batch."""
        places: dict[Account, int] = {}
        for operation in batch.operations:
            for account in operation.accounts:
                places.setdefault(account, len(places) + 2)
        keys = [self.key("process", self.process), *(self.key(each.kind, each.name) for each in places)]
        written = [_written(operation, places) for operation in batch.operations]
        times = (self.lease_s, self.idle_s, WINDOW_LIFE_S, MEMORY_S)
        changes = any(operation.changes for operation in batch.operations)
        arguments = [str(batch.number if changes else 0), json.dumps(written)]
        return keys, [*arguments, *(str(round(seconds * 1000)) for seconds in times), self.now_ms]

    def key(self, kind: str, name: str) -> bytes:
        """The key of an account; a very long name is told by its digest."""
        text = name.encode("utf-8", "surrogatepass")
        if len(text) > _NAME_MAX_BYTES:
            text = b"sha256-" + hashlib.sha256(text).hexdigest().encode()
        return f"{{{self.prefix}}}:{kind}:".encode() + text


def balances(operation: Operation, answer: Any) -> tuple[dict[Account, Balance], bool]:
    """What the script answered to `operation`, and whether it refused to hold. Raises ValueError for anything else."""
    refused, *figures = [int(figure) for figure in answer]
    if len(figures) != 4 * len(operation.accounts):
        raise ValueError(f"{len(figures)} figures for {len(operation.accounts)} accounts")
    found = {
        account: Balance((figures[at], figures[at + 1]), (figures[at + 2], figures[at + 3]))
        for account, at in zip(operation.accounts, range(0, len(figures), 4), strict=True)
    }
    return found, refused > 0


def _written(operation: Operation, places: Mapping[Account, int]) -> dict[str, Any]:
    accounts: list[dict[str, Any]] = []
    for account in operation.accounts:
        written: dict[str, Any] = {"key": places[account], "window": account.kind == "window"}
        if operation.add is not None:
            written["add"] = _texts(operation.add[account])
        if operation.hold is not None:
            written["hold"] = _texts(operation.held[account])
            written["limit"] = _texts(operation.limits[account])
        accounts.append(written)
    told = {"settle": operation.settle, "hold": operation.hold, "hour": operation.hour}
    texts: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    return {"accounts": accounts, "add": operation.add is not None, **texts}


def _texts(pair: Sequence[int | None]) -> list[str]:
    return [str(AMOUNT_MAX if amount is None else max(0, min(amount, AMOUNT_MAX))) for amount in pair]
