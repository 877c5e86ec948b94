"""Owed: what was spent while the store was away, kept by account until it can be added; bounded by accounts."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from .operations import Operation

if TYPE_CHECKING:
    from ..runtime.shared_budgets import Account, Pair

ACCOUNTS_MAX: Final = 10_000
HOLDS_MAX: Final = 1_000


class Owed:
    """Sums by account (of windows by hour too), and the holds to give back. Its owner has a lock."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Account, int | None], Pair] = {}
        self._holds: dict[str, tuple[Account, ...]] = {}
        self.dropped: int = 0
        """Accounts whose sum was lost to the bound."""

    def __bool__(self) -> bool:
        return bool(self._sums or self._holds)

    def take_in(self, operation: Operation, hour: int) -> None:
        """Keep what `operation` would have added and settled."""
        for account, (first, second) in (operation.add or {}).items():
            if first or second:
                key = (account, hour if account.kind == "window" else None)
                known = self._sums.get(key, (0, 0))
                self._sums[key] = known[0] + first, known[1] + second
                if len(self._sums) > ACCOUNTS_MAX:
                    del self._sums[next(iter(self._sums))]
                    self.dropped += 1
        if operation.settle is not None and len(self._holds) < HOLDS_MAX:  # beyond it they lapse
            self._holds[operation.settle] = operation.accounts

    def take_out(self, count: int) -> list[Operation]:
        """Up to `count` operations that add and settle it; they are its taker's from now on."""
        taken: list[Operation] = []
        for key in list(islice(self._sums, count)):
            account, hour = key
            taken.append(Operation((account,), add={account: self._sums.pop(key)}, hour=hour))
        holds = list(islice(self._holds, count - len(taken)))
        return taken + [Operation(self._holds.pop(hold), settle=hold) for hold in holds]
