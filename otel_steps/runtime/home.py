"""Where a scope's body runs, for the one who has to wake it: a task of an event loop, or a thread."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    Home = tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | int
    """The loop and task that a scope's body runs on, or the thread where no loop ran when it was entered."""


def here() -> Home | None:
    """Where a limited scope's body runs: to wake it if a stop dies elsewhere."""
    asyncio = sys.modules.get("asyncio")
    # of the two that tell of a running loop, the one that does not raise where there is none: it is asked at each step
    if asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - of asyncio's __all__ all the same
        return threading.get_ident()
    task = asyncio.current_task()
    return None if task is None else (task.get_loop(), task)
