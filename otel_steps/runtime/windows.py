"""Budget windows that outlive the process: what each persona spent in a UTC hour and day, kept in SQLite."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from sqlite3 import Connection

    from .faults import Warnings

_HOUR_S: Final = 3600
_HOURS_KEPT: Final = 72
_BUSY_S: Final = 2.0
_AGAIN_S: Final = 30.0
_KEYS_MAX: Final = 10_000
_STORED_MAX: Final = 2**62  # nano-USD; SQLite's integers end at 2**63


class Windows:
    """Nano-USD by persona and UTC hour, shared by the processes of one machine; memory where there is no store.

    A store that cannot be used costs a warning, not the agent: this process's own spending is then what counts, and is
    put into the store once it can be used again (tried every half minute). `clock` gives seconds since the epoch.
    """

    def __init__(self, path: Path | None, warnings: Warnings, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._warnings = warnings
        self._clock = clock
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._pid = os.getpid()
        self._retry_at = 0.0
        self._own: dict[tuple[str, int], int] = {}
        self._unsaved: dict[tuple[str, int], int] = {}
        self._abandoned: list[Connection] = []

    def add(self, persona: str, nano_usd: int) -> tuple[int, int]:
        """Add to the current hour of `persona`; returns the totals of this UTC day and hour, in nano-USD."""
        with self._lock:
            if self._pid != os.getpid():
                self._inherited()
            hour = int(self._clock()) // _HOUR_S
            if nano_usd:
                for spent in (self._own, self._unsaved):
                    spent[persona, hour] = spent.get((persona, hour), 0) + nano_usd
                    _forget(spent, hour)
            if self._path is not None and time.monotonic() >= self._retry_at:
                try:
                    return self._saved(self._path, persona, hour)
                except Exception as error:  # noqa: BLE001 - whatever the disk or SQLite says, the agent goes on
                    self._failed(error)
            rows = [(at, spent) for (name, at), spent in self._own.items() if name == persona]
            return _day_and_hour(rows, hour)

    def totals(self, persona: str) -> tuple[int, int]:
        """The totals of this UTC day and hour, in nano-USD."""
        return self.add(persona, 0)

    def close(self) -> None:
        """Close the database; it is opened again when it is next needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def forked(self) -> None:
        """In a forked child: what the parent's other threads may have held when it forked is held by nobody here."""
        self._lock = threading.RLock()

    def _saved(self, path: Path, persona: str, hour: int) -> tuple[int, int]:
        connection = self._connection
        if connection is None:
            connection = self._connection = _connect(path, hour)
        with connection:
            # the write comes first and takes the lock, so that totals read behind it hold every other process's share
            connection.executemany(
                "INSERT INTO spent (persona, hour, nano_usd) VALUES (?, ?, ?) "
                "ON CONFLICT (persona, hour) DO UPDATE SET nano_usd = nano_usd + excluded.nano_usd",
                [(name, at, min(spent, _STORED_MAX)) for (name, at), spent in self._unsaved.items()],
            )
            rows = connection.execute(
                "SELECT hour, nano_usd FROM spent WHERE persona = ? AND hour >= ? AND hour <= ?",
                (persona, hour - hour % 24, hour),
            ).fetchall()
        self._unsaved.clear()
        return _day_and_hour(rows, hour)

    def _inherited(self) -> None:
        """In a forked child: no SQLite connection may cross a fork, nor be closed there; the parent saves its own."""
        self._pid = os.getpid()
        self._unsaved.clear()
        if self._connection is not None:
            self._abandoned.append(self._connection)
            self._connection = None

    def _failed(self, error: Exception) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._retry_at = time.monotonic() + _AGAIN_S
        self._warnings.once(
            "budget windows",
            "the store of daily and hourly budgets cannot be used (%s); this process counts alone until it can",
            error,
        )


def _connect(path: Path, hour: int) -> Connection:
    import sqlite3

    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _BUSY_S
    while True:
        connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            with connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS spent (persona TEXT, hour INTEGER, nano_usd INTEGER, "
                    "PRIMARY KEY (persona, hour)) WITHOUT ROWID"
                )
                connection.execute("DELETE FROM spent WHERE hour < ?", (hour - _HOURS_KEPT,))
        except sqlite3.OperationalError:
            connection.close()
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)  # several processes that open a new store at once: SQLite does not wait for them here
        except BaseException:  # raised on: nobody else knows the connection
            connection.close()
            raise
        else:
            return connection


def _day_and_hour(rows: list[Any], hour: int) -> tuple[int, int]:
    first = hour - hour % 24
    return sum(spent for at, spent in rows if first <= at <= hour), sum(spent for at, spent in rows if at == hour)


def _forget(spent: dict[tuple[str, int], int], hour: int) -> None:
    if len(spent) > _KEYS_MAX:
        for key in [key for key in spent if key[1] < hour - 24] or list(spent)[:1]:
            del spent[key]
