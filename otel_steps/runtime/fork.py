"""A forked child inherits no open steps: they stay its parent's, who goes on with them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from . import meter
from .context import forget
from .log import CompletedLog
from .state import runtime

if TYPE_CHECKING:
    from .scope import Scope


def _in_child() -> None:
    # another thread of the parent may have held the lock; that thread does not exist here
    meter.LOCK = threading.RLock()
    rt = runtime()
    inherited: list[Scope] = list(rt.span_scopes.values())
    if (here := forget()) is not None:
        inherited.append(here)
    for scope in inherited:
        _close_all(scope.root)
    rt.log = CompletedLog()  # the parent's receipts are the parent's, and its lock may have been held
    broken = list(rt.broken)
    rt.span_scopes.clear()
    rt.tool_spans.clear()
    rt.broken.clear()
    if rt.windows is not None:
        rt.windows.forked()
    if rt.shared is not None:
        rt.shared.forked()
    if rt.gate is not None:
        for owner in broken:
            try:
                rt.gate.scope_left(owner)
            except Exception as error:  # noqa: BLE001 - a gate left in acts inside its scope only, and nobody is there
                rt.faults.report("taking out the transport gate", error)


def _close_all(scope: Scope) -> None:
    waiting = [scope]
    while waiting:
        inner = waiting.pop()
        if not inner.closed:
            inner.closed = True
            waiting.extend(inner.children)


def watch() -> None:
    """Have each forked child begin without steps; called once, at the import of what charges."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_in_child)
