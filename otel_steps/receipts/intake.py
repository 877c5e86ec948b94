"""Intake: receipts on their way in, to the journal, or to memory while the disk does not take them."""

from __future__ import annotations

import contextlib
import errno
import threading
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

from .group_sync import GroupSync
from .journal import Journal
from .lines import opened_line, receipt_line, spent_line, spent_of
from .memory import MEMORY_MAX, MemoryOutbox
from .open_steps import OpenSteps
from .outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..record import CompletedStep
    from ..usage import Usage
    from .disk import AppendFile
    from .journal import Terms
    from .trouble import Trouble

CHECK_EVERY_S: Final = 0.1
"""How often it is looked whether the folder is still there; what came in between is written again elsewhere."""
RETRY_EVERY_S: Final = 1.0
_DISK: Final = "disk "


class Intake:
    """The writing side of the store. Safe for threads, and to enter again from a finalizer or a signal handler."""

    def __init__(
        self,
        folder: Path | None,
        terms: Terms,
        *,
        trouble: Trouble,
        on_upkeep: Callable[[], None],
        on_waiting: Callable[[], None],
    ) -> None:
        """`folder` None: receipts are in memory only, and only for delivery."""
        self._folder = folder
        self._terms = terms
        self._endpoint = terms.endpoint
        self._trouble = trouble
        self._on_upkeep = on_upkeep
        self._on_waiting = on_waiting
        self._lasting = terms.durability == "power"
        self.begin_again()

    def begin_again(self) -> None:
        """Start from nothing, as a new object or in a forked child."""
        # entered again by a finalizer that closes a step, or a signal handler, in the middle of our own work
        self._lock = threading.RLock()
        self._busy = False
        self._steps = OpenSteps()
        self._journal: Journal | None = None
        self.outbox: Outbox | None = None
        """The files of this process, as delivery reads them; None before the first receipt."""
        self.memory: MemoryOutbox = MemoryOutbox()
        self.lost: int = 0
        """Waiting receipts that went with the store's folder."""
        self._dropped_before = 0
        self.idle: bool = True
        """Set by delivery when it found nothing, and at the beginning: then it is told of the next receipt."""
        self._file: AppendFile | None = None
        """The journal's file while all is well with it."""
        self._rotate_at = 0
        self._snapshot_due = False
        self._check_at = 0.0
        self._retry_at = 0.0
        self._verified = 0
        self._sync = GroupSync(lambda: None if self._journal is None else self._journal.current)

    def completed(self, record: CompletedStep) -> None:
        """A step finished: durable, as far as the disk lets us, when this returns."""
        line = receipt_line(record) if self._folder is not None else b""
        number = 0
        with self._lock:
            file = self._file
            if file is None or file.size >= self._rotate_at or monotonic() >= self._check_at:
                file = self._look_after()
            # before the line: should a finalizer enter between the two and turn to a new file, its head must not have
            # this step as open
            self._steps.closed(record)
            outbox = self.outbox
            if file is None or outbox is None:
                self._keep(record)
            else:
                outbox.added += 1  # before it is there: a count too low would call a receipt delivered that is not
                try:
                    file.append(line)
                except OSError as error:
                    outbox.added -= 1
                    self._give_up(error)
                    self._keep(record)
            if self._lasting:
                number = self._sync.appended()
        if number:
            self._make_last(number)
        if self.idle and self._endpoint is not None:
            self.idle = False
            self._on_waiting()

    def spent(self, receipt_id: str, usage: Usage, opened: tuple[CompletedStep, ...]) -> None:
        """A model call was charged: survives the process, so that a step cut off has on record what it spent."""
        if self._folder is None:
            return
        spent = spent_of(receipt_id, usage, time_ns())
        data = spent_line(spent)
        head = b"".join([opened_line(record) for record in opened])
        with self._lock:
            file = self._file
            if file is None or file.size >= self._rotate_at or monotonic() >= self._check_at:
                file = self._look_after()
            nested = self._busy
            self._busy = True  # a snapshot between the line and the totals would count the call twice or not at all
            try:
                for record in opened:
                    self._steps.opened(record)
                standing = self._steps.standing(spent)
                if standing is not spent:
                    data = spent_line(standing)
                if file is not None:
                    try:
                        file.append(head + data if head else data)
                    except OSError as error:
                        self._give_up(error)  # the totals go into the head of the next file
                self._steps.spent(standing)
            finally:
                self._busy = nested

    def tally(self) -> tuple[int, int]:
        """How many receipts wait, in the journal and in memory, and how many bounds and a lost folder have cost."""
        with self._lock:
            outbox, memory = self.outbox, self.memory
            dropped = memory.dropped + self.lost + self._dropped_before
            if outbox is None:
                return memory.waiting, dropped
            return memory.waiting + outbox.waiting, dropped + outbox.dropped

    def tend(self) -> None:
        """Look after the disk without a receipt at hand: whether the folder is there, and whether it works again."""
        with self._lock:
            if (self._journal is not None and monotonic() >= self._check_at) or self.memory:
                self._look_after()

    def is_durable(self) -> bool:
        """Whether everything that came in and was not dropped is in the journal."""
        self._retry_at = 0.0
        self.tend()
        return not self.memory

    def nothing_waits(self, outbox: Outbox) -> None:
        """Delivery found nothing at the end of the files: a count that a signal had put off is set right."""
        with self._lock, contextlib.suppress(OSError):  # what cannot be read still waits
            if outbox.waiting and outbox is self.outbox and outbox.read(1, 1) is None:
                outbox.added = outbox.settled

    def close(self) -> None:
        """End the journal. With steps still open it stays as it is: they are this process's as long as it lives."""
        with self._lock:
            self._check_at = self._retry_at = 0.0
            if self._journal is not None or self.memory:
                self._look_after()
            journal, outbox = self._journal, self.outbox
            if journal is not None and outbox is not None and not len(self._steps):
                self._journal = self.outbox = self._file = None
                try:
                    journal.end(outbox)
                except OSError as error:
                    self._trouble.warn(f"end {error.errno}", "the next process has to end the journal: %s", error)
        if self.memory and self._folder is not None:
            self._trouble.warn("close", "%d receipts are in memory only and end with this process", len(self.memory))

    def abandon(self) -> None:
        """In a forked child: the parent's files, steps and waiting receipts are the parent's."""
        if self._journal is not None:
            self._journal.abandon()
        self.begin_again()

    def _look_after(self) -> AppendFile | None:
        """The file to write to, None for memory; from time to time, and where the next line needs more than a write."""
        if self._busy:
            return self._file
        self._busy = True
        try:
            now = monotonic()
            if self._file is not None and self._journal is not None:
                if not self._journal.in_place():
                    self._carry_over(self._journal)
                elif self._file.size >= self._rotate_at:
                    self._rotate(self._journal)
            if self._file is None and now >= self._retry_at:
                self._resume()
            if self._file is not None:
                self._verified = self._file.size
                self._check_at = now + CHECK_EVERY_S
            return self._file
        finally:
            self._busy = False

    def _resume(self) -> None:
        """Begin, or go on after trouble: the steps open now head a new file, and what is in memory follows."""
        if self._folder is None:
            return
        try:
            journal = self._journal
            if journal is not None and not journal.in_place():
                self._carry_over(journal)
                journal = None
            if journal is None:
                journal = self._begin(self._folder)
            elif self._snapshot_due:
                journal.rotate(self._steps.records())
            self._snapshot_due = False
            if self.memory and self.outbox is not None:
                self.outbox.added += self.memory.move(journal.write)
        except OSError as error:
            self._give_up(error)
            return
        self._file = journal.current
        self._rotate_at = journal.rotate_at
        self._trouble.over(_DISK)

    def _begin(self, folder: Path) -> Journal:
        self._journal = journal = Journal(folder, self._terms, self._steps.records())
        resource = self._terms.resource
        self.outbox = Outbox(
            folder, journal.writer, journal.segments, resource=resource, endpoint=self._endpoint, alive=True
        )
        if not journal.locked:
            self._trouble.warn(
                "locks", "the file system of %s has no locks: steps cut off there are not found by others", folder
            )
        self._on_upkeep()
        return journal

    def _make_last(self, number: int) -> None:
        try:
            self._sync.upto(number)
        except OSError as error:
            self._trouble.warn(f"sync {error.errno}", "the journal may not outlast a loss of power: %s", error)

    def _keep(self, record: CompletedStep) -> None:
        if self._folder is None and self._endpoint is None:
            return
        if not self.memory.add(record):
            self._trouble.warn(
                "memory", "more than %d receipts wait in memory; the oldest are dropped and counted", MEMORY_MAX
            )

    def _rotate(self, journal: Journal) -> None:
        try:
            journal.rotate(self._steps.records())
        except OSError as error:
            self._trouble.warn(f"rotate {error.errno}", "no next file of the journal: %s; the old one goes on", error)
        else:
            self._on_upkeep()
        self._file = journal.current
        self._rotate_at = journal.rotate_at

    def _give_up(self, error: OSError) -> None:
        self._file = None
        self._snapshot_due = True
        self._retry_at = monotonic() + RETRY_EVERY_S
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        self._trouble.warn(
            _DISK + name,
            "the journal in %s cannot be written (%s); up to %d receipts are kept in memory until it can",
            self._folder,
            error,
            MEMORY_MAX,
        )

    def _carry_over(self, journal: Journal) -> None:
        """The folder went away under us: what nobody can find there any more is kept, to be written again."""
        self._trouble.warn(
            _DISK + "gone", "the journal's folder %s was removed or replaced; it is begun again", journal.folder
        )
        outbox, self.outbox, self._journal, self._file = self.outbox, None, None, None
        carried: list[CompletedStep] = []
        lost = 0
        if outbox is not None:
            lost = outbox.waiting
            self._dropped_before += outbox.dropped
        try:
            carried, lost = journal.rescue(None if self._endpoint is None else outbox, self._verified)
        except OSError as error:
            self._trouble.warn(_DISK + "back", "what the journal held cannot be read back: %s", error)
        for record in carried:
            self._keep(record)
        if lost:
            self.lost += lost
            self._trouble.warn("lost", "%d waiting receipts went with the journal's folder", lost)
        journal.leave()
