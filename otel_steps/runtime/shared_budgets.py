"""SharedBudgets: what the runtime asks of a store that other processes count on too, and what a scope knows of it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Pair: TypeAlias = "tuple[int, int]"
"""Tokens and nano-USD; of windows nano-USD of the UTC day and of the UTC hour."""
Limits: TypeAlias = "tuple[int | None, int | None]"
"""A limit for each of a pair, None where there is none."""


class Account(NamedTuple):
    """What everybody counts on together: a run's or persona's totals, or a persona's windows, by name."""

    kind: Literal["run", "persona", "window"]
    name: str


class Balance(NamedTuple):
    """What an account has seen spent, and what calls in flight hold of it."""

    spent: Pair
    held: Pair = (0, 0)


class Answer(NamedTuple):
    """What the store says. Not consulted: it could not be asked, and `balances` is empty.

    Of two answers the one with the larger `number` is the later; its balances hold everything that this process was
    told it had missed before. `hold` is the id of the room held, `refused` whether there was none.
    """

    consulted: bool
    number: int
    balances: Mapping[Account, Balance] = MappingProxyType({})
    hold: str | None = None
    refused: bool = False


class SharedBudgets(Protocol):
    """Counts for all processes. Never raises, and never waits longer than its own short bound; no lock is held."""

    def read(self, accounts: Sequence[Account]) -> Answer:
        """The balances."""
        ...

    def hold(self, amounts: Mapping[Account, Pair], limits: Mapping[Account, Limits]) -> Answer:
        """Hold room in all accounts, or in none where one limit would be passed."""
        ...

    def charge(self, amounts: Mapping[Account, Pair], hold: str | None) -> Answer:
        """Add what was spent and give back what was held for it; kept and added later where the store is away."""
        ...

    def release(self, hold: str, accounts: Sequence[Account]) -> None:
        """Give back what was held for a call that was not charged."""
        ...

    def forked(self) -> None:
        """In a forked child: begin anew; what the parent has open or waits for is the parent's."""
        ...


class SharedView:
    """What one scope knows of its shared account."""

    __slots__ = ("_missed", "_number", "_totals", "windows")

    def __init__(self) -> None:
        self._number = -1
        self._totals = Balance((0, 0))
        self._missed: Pair = (0, 0)
        self.windows: Balance | None = None
        """Of its day and hour, as they were told last; None where they were not told last time."""

    def told(self, number: int, totals: Balance | None, windows: Balance | None) -> None:
        """Take in what the store said; an older answer that comes later says nothing."""
        if number > self._number:
            self._number = number
            self._totals = totals or self._totals
            self._missed = (0, 0)
            self.windows = windows

    def missed(self, number: int, amounts: Pair) -> None:
        """A call was charged here and the store was not reached; from then on it counts beside what is known."""
        if number > self._number:
            self._missed = (self._missed[0] + amounts[0], self._missed[1] + amounts[1])
            self.windows = None

    @property
    def tokens(self) -> int:
        """Tokens spent by all processes, as far as is known."""
        return self._totals.spent[0] + self._missed[0]

    @property
    def nano_usd(self) -> int:
        """Nano-USD spent by all processes, as far as is known."""
        return self._totals.spent[1] + self._missed[1]

    @property
    def held(self) -> Pair:
        """Tokens and nano-USD that calls in flight held when the store was last asked."""
        return self._totals.held


class Ticket:
    """What the shared store knows of one call in flight."""

    __slots__ = ("accounts", "consulted", "hold")

    def __init__(self, accounts: tuple[Account, ...], hold: str | None, *, consulted: bool) -> None:
        self.accounts: tuple[Account, ...] = accounts
        self.hold: str | None = hold
        self.consulted: bool = consulted
        """Whether the store was reached when the call began."""
