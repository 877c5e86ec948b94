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
    if asyncio is None:
        return threading.get_ident()
    try:
        loop = asyncio.get_running_loop()  # half the time of asking for the task, where no loop runs
    except RuntimeError:
        return threading.get_ident()
    task = asyncio.current_task(loop)
    return None if task is None else (loop, task)
