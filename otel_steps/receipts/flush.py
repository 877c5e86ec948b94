"""Flush: the question whether all that waited is delivered, and when it can be answered."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .queue import Own

Until = Literal["own", "exit", "all"]
"""`own`: this process's receipts are settled. `exit`: those of others too, while nothing is in the way. `all`: those of
others too, through any trouble but a mistake of set-up.
"""


@dataclass(slots=True, eq=False)
class Flush:
    """One such question; answered by the worker, at the latest when the asker's time is up."""

    deadline: float
    until: Until
    before: Own
    """How it stood when it was asked: a batch may be under way then, and what it comes to counts."""
    met: bool = False
    """Whether the worker knows of it."""
    delivered: bool = False
    """The answer so far."""
    done: threading.Event = field(default_factory=threading.Event)

    def look(self, now: Own, *, nothing_waits: bool) -> None:
        """See how it stands, and end where there is nothing more to wait for."""
        if not self.met:
            return
        before = self.before
        # what waits no more and was not settled, the queue has lost: that is no delivery
        settled = now.settled >= before.settled + before.waiting
        self.delivered = settled and now.failed == before.failed
        if nothing_waits or (settled and self.until == "own"):
            self.done.set()

    def trouble(self, resumes: float, *, set_up: bool) -> None:
        """Nothing goes before the time `resumes`; end where that is too late, or not worth an exit's while."""
        if not self.met:
            return
        if (self.until == "exit" and self.delivered) or (set_up and self.until != "own") or resumes >= self.deadline:
            self.done.set()
