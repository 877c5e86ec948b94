"""FileLock: alive is told by a lock of the operating system, which ends with its process and with nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

UNSUPPORTED: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
"""What a file system answers that has no locks."""

_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # flock belongs to the open file description: a forked child that closes its copy leaves the parent's lock
        # alone, and a second holder in the same process is refused like one in another
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FileLock:
    """A lock held until it is released or its process is gone."""

    __slots__ = ("__weakref__", "_descriptor", "path")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path: Path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> FileLock | None:
        """The lock at `path`, or None where another holds it. Raises OSError on anything else."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                _lock(descriptor)
            except OSError as error:
                if error.errno in _HELD:
                    os.close(descriptor)
                    return None
                raise
            # its last holder may have removed the file between our open and our lock: then we hold nobody's lock
            if not _is_at(descriptor, path):
                os.close(descriptor)
                return None
        except BaseException:  # raised on: nobody else would close it
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def wait(cls, path: Path, timeout_s: float) -> FileLock | None:
        """The lock at `path` as soon as it is free, or None after `timeout_s`. Raises OSError as `take` does."""
        deadline = time.monotonic() + timeout_s
        while (lock := cls.take(path)) is None:
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.005)
        return lock

    def release(self, *, remove: bool = False) -> None:
        """Let go; `remove` takes the file away too, where nothing is left that it stands for."""
        if self._descriptor < 0:
            return
        if remove and sys.platform != "win32":
            # while still held, so that whoever opened the old file finds that it is no longer at its path
            with contextlib.suppress(OSError):
                self.path.unlink()
        with contextlib.suppress(OSError):
            # by name: a child that forked while we held it has a copy, and closing ours would not end the lock
            _unlock(self._descriptor)
        self.abandon()
        if remove and sys.platform == "win32":
            with contextlib.suppress(OSError):
                self.path.unlink()

    def abandon(self) -> None:
        """In a forked child: close the inherited copy; the parent goes on holding the lock."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # a daemon closes every descriptor it has, ours among them
                os.close(self._descriptor)
            self._descriptor = -1


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
