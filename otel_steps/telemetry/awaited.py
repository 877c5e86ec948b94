"""AwaitedUsage: a stream's request that ended, while its usage is told of in a report of its own once it was read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ..runtime.charging import judge_unmetered

if TYPE_CHECKING:
    from ..runtime.scope import Scope
    from ..runtime.state import Runtime

AWAIT_MAX_S: Final = 300.0
"""How long a stream is let be read before its call is judged as one without usage."""
AWAITED_MAX: Final = 256
"""How many streams are waited for at a time; beyond it the oldest is judged."""


class AwaitedUsage:
    """One such call, counted as unmetered and not judged so: that is done when its scope is left, at the latest."""

    __slots__ = ("_is_told", "_model", "_rt", "_scope", "_until")

    def __init__(self, rt: Runtime, scope: Scope, model: str) -> None:
        self._rt = rt
        self._scope = scope
        self._model = model
        self._until = 0.0
        self._is_told = False

    def wait_for_it(self) -> None:
        """From now on."""
        self._until = time.monotonic() + AWAIT_MAX_S
        waiting = self._rt.told_calls
        waiting[self] = self._scope
        if self._is_told:  # by another thread meanwhile
            waiting.pop(self, None)
        if len(waiting) > AWAITED_MAX:
            oldest = next((told for told in list(waiting) if isinstance(told, AwaitedUsage)), None)
            if oldest is not None:
                oldest.settle()

    def told(self, *, metered: bool) -> None:
        """The report came, with usage or without."""
        self._is_told = True
        if self._rt.told_calls.pop(self, None) is not None and not metered:
            judge_unmetered(self._rt, self._scope, self._model)

    def due(self, leaving: Scope | None) -> bool:
        """Where a scope around the call is left, or the time is over."""
        if leaving is not None and any(scope is leaving for scope in self._scope.outwards()):
            return True
        return time.monotonic() >= self._until

    def wait(self, until: float) -> None:
        """Nothing: nobody can say when a stream will have been read."""

    def settle(self) -> None:
        """Judge it as a call without usage."""
        self.told(metered=False)
