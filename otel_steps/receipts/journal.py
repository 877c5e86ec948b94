"""Journal: one writing process's files, from its lock and first header to the snapshot that heads each next file."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..record import rfc3339
from .disk import AppendFile, make_folder, sync_folder
from .lines import Header, Receipt, closed_line, header_line, opened_line, parse
from .locks import UNSUPPORTED, FileLock
from .names import Segment, lock_path, new_writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ..record import CompletedStep
    from .outbox import Outbox

_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every file of a process: durability, OTLP resource, where receipts go (None: nowhere), size."""

    durability: str
    resource: Mapping[str, Any]
    endpoint: str | None
    segment_bytes: int


class Journal:
    """The journal of one writing process. Not safe for threads by itself; methods raise OSError."""

    def __init__(self, folder: Path, terms: Terms, opened: Iterable[CompletedStep]) -> None:
        """Begin a journal in `folder` with the steps `opened`. Creates the folder; raises OSError."""
        self.folder = folder
        self.lasting: bool = terms.durability == "power"
        self._segment_bytes = terms.segment_bytes
        self._rotate_at = 0
        make_folder(folder)
        self.writer: str
        self.writer, self._lock = _own_lock(folder)
        self._header = Header(
            writer=self.writer,
            pid=os.getpid(),
            host=socket.gethostname(),
            durability=terms.durability,
            endpoint=terms.endpoint,
            resource=dict(terms.resource),
        )
        self.segments: list[Segment] = []
        """The files that were begun, in order; the last is the one written to. Other threads may read it."""
        try:
            self._file = self._begin(1, opened)
        except BaseException:  # raised on: a lock without a file would keep others waiting for us
            self._release(remove=True)
            raise

    @property
    def locked(self) -> bool:
        """Whether others can tell that this process lives; False where the file system has no locks."""
        return self._lock is not None

    @property
    def rotate_at(self) -> int:
        """Size in bytes at which it is time for the next file."""
        return self._rotate_at

    @property
    def current(self) -> AppendFile:
        """The file written to."""
        return self._file

    def write(self, data: bytes) -> None:
        """Append whole lines, durable for the level of this journal."""
        self._file.append(data)
        if self.lasting:
            self._file.sync()

    def rotate(self, opened: Iterable[CompletedStep]) -> None:
        """Turn to the next file, which begins with the steps `opened`; after a failure the old one goes on."""
        old = self._file
        try:
            if self.lasting:
                old.sync()
            self._file = self._begin(self.segments[-1].seq + 1, opened)
        except OSError:
            self._rotate_at = old.size + self._segment_bytes  # not at once again with the next line
            raise
        if not self.lasting:
            old.close()  # else with its last user: a thread may be syncing it
        if self._header.endpoint is None:
            full = self.segments[-2]
            done = Segment(full.writer, full.seq, "history")
            with contextlib.suppress(OSError):  # then whoever looks after us names it
                os.replace(full.path(self.folder), done.path(self.folder))  # noqa: PTH105 - see disk.write_whole

    def rescue(self, outbox: Outbox | None, start: int) -> tuple[list[CompletedStep], int]:
        """Of a file that is no longer in its folder: the receipts from the offset `start` on, and how many more waited.

        Those that wait in `outbox` (None where nothing is delivered) begin where it is settled.
        """
        waited = 0
        if outbox is not None:
            position = outbox.position
            start = position.offset if position.seq == self.segments[-1].seq else 0
            waited = outbox.waiting
        found: list[CompletedStep] = []
        for line in self._file.read_back(start).split(b"\n"):
            with contextlib.suppress(ValueError):  # the rest of the line that `start` may cut
                if line and isinstance(entry := parse(line), Receipt):
                    found.append(entry.record)
        return found, max(0, waited - len(found))

    def in_place(self) -> bool:
        """Whether the folder still holds the file written to."""
        return self._file.in_place()

    def end(self, outbox: Outbox) -> None:
        """Write that no step is left open, give the files their last names if nothing waits in `outbox`, and let go."""
        finished = False
        try:
            self._file.append(closed_line(rfc3339(time.time_ns())))
            if self.lasting:
                self._file.sync()
            self._file.close()
            if self._header.endpoint is None:
                finished = outbox.finish("history")
            elif not outbox.waiting:
                finished = outbox.finish("done")
        finally:
            self._release(remove=finished)

    def leave(self) -> None:
        """Close the file and let go of the lock: the folder is no longer ours."""
        self._file.close()
        self._release()

    def abandon(self) -> None:
        """In a forked child: close what was inherited; the parent's file and lock stay as they are."""
        self._file.close()
        if self._lock is not None:
            self._lock.abandon()

    def _begin(self, seq: int, opened: Iterable[CompletedStep]) -> AppendFile:
        snapshot = [opened_line(record) for record in opened]
        header = msgspec.structs.replace(
            self._header, seq=seq, started_at=rfc3339(time.time_ns()), opened=len(snapshot)
        )
        segment = Segment(self.writer, seq)
        file = AppendFile(segment.path(self.folder))
        try:
            file.append(header_line(header) + b"".join(snapshot))
            if self.lasting:
                file.sync()
                sync_folder(self.folder)
        except BaseException:  # raised on: a file without its head is none
            file.close()
            with contextlib.suppress(OSError):
                file.path.unlink()
            raise
        # a head of many open steps does not count, or each file would begin full
        self._rotate_at = file.size + max(self._segment_bytes, file.size)
        self.segments.append(segment)
        return file

    def _release(self, *, remove: bool = False) -> None:
        if self._lock is not None:
            self._lock.release(remove=remove)


def _own_lock(folder: Path) -> tuple[str, FileLock | None]:
    """A writer's name of our own and its lock; no lock where the file system has none (then nobody can take it)."""
    for _ in range(_TRIES):
        writer = new_writer()
        try:
            # held by another only if one that looks for dead writers met the file between its creation and our lock
            lock = FileLock.take(lock_path(folder, writer))
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return writer, None
            raise
        if lock is not None:
            return writer, lock
    raise OSError(f"no lock to be had in {folder}")
