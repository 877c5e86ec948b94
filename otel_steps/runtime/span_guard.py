"""SpanGuard: what others get for the span of a scope of ours; keeps what they write about their model calls off it."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import Span, StatusCode

from .state import runtime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import SpanContext, Status

    from .scope import Scope
    from .state import Runtime

SETTLE_AFTER_S: Final = 0.02
"""How long after the last attribute of a call the next is waited for: they are written one by one."""
SETTLE_WHOLE_AFTER_S: Final = 0.004
"""The same where the call's usage is among them, at a gate that somebody waits at."""
WAIT_MAX_S: Final = 0.1
"""The longest that a gate waits for a call that another thread is writing of."""

_OF_A_CALL: Final = (
    "gen_ai.usage.",
    "gen_ai.cost.",
    "gen_ai.operation.",
    "gen_ai.request.",
    "gen_ai.response.",
    "gen_ai.system",
    "gen_ai.provider.",
    "gen_ai.openai.",
    "llm.",
    "litellm.",
    "openai.",
    "anthropic.",
    "operation.cost",
    "openinference.span.kind",
)
"""Attributes that tell of one model call, by the conventions: on a span of ours others would count or classify it."""


class SpanGuard(Span):
    """Stands for a scope's span in the OpenTelemetry context.

    Some emitters have no span of their own and write a call's usage and status onto the current one, from any thread
    and also after it ended. Such a call is metered as one; the span's name, status and end stay its owner's; everything
    else reaches the span.
    """

    __slots__ = ("_calls", "_scope", "_span")

    def __init__(self, span: Span, scope: Scope) -> None:
        self._span = span
        self._scope = scope
        self._calls: dict[int, _Told] | None = None

    def get_span_context(self) -> SpanContext:
        """The span's own."""
        return self._span.get_span_context()

    def is_recording(self) -> bool:
        """The span's own."""
        return self._span.is_recording()

    def set_attribute(self, key: str, value: Any) -> None:
        """Set it on the span, unless it tells of a model call."""
        if key.startswith(_OF_A_CALL):
            self._told().note(key, value)
        elif not self._scope.closed:
            self._span.set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set them one by one."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add it to the span."""
        if not self._scope.closed:
            self._span.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Add it to the span."""
        if not self._scope.closed:
            self._span.add_link(context, attributes)

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        """Record it on the span."""
        if not self._scope.closed:
            self._span.record_exception(exception, attributes, timestamp, escaped)

    def update_name(self, name: str) -> None:
        """Nothing: the span is named by its scope."""

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:  # noqa: ARG002 - the API's
        """Nothing to the span, whose status is its scope's; it may be the beginning of a call that is told."""
        code = status if isinstance(status, StatusCode) else status.status_code
        self._told().begin(failed=code is StatusCode.ERROR)

    def end(self, end_time: int | None = None) -> None:
        """Nothing: the scope ends its span."""

    def __getattr__(self, name: str) -> Any:
        """What else the SDK's span has (attributes, name, parent), to be read."""
        return getattr(self._span, name)

    def _told(self) -> _Told:
        """The call that this thread writes of."""
        calls = self._calls
        if calls is None:
            calls = self._calls = {}
        thread = threading.get_ident()
        told = calls.get(thread)
        if told is None:
            told = calls[thread] = _Told(self._span, self._scope)
        return told


class _Told:
    """What one thread has written of the latest model call."""

    __slots__ = ("_attributes", "_before", "_failed", "_lock", "_noted", "_scope", "_span", "_thread", "_timer")

    def __init__(self, span: Span, scope: Scope) -> None:
        self._span = span
        self._scope = scope
        self._thread = threading.get_ident()
        self._attributes: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None
        """What was metered of a call of which more may come; None where it was another thing, or is whole."""
        self._failed = False
        self._noted = 0.0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def begin(self, *, failed: bool) -> None:
        """What was told is complete; what comes is another call."""
        self.settle()
        self._before = None
        self._failed = failed

    def note(self, key: str, value: Any) -> None:
        """One attribute more; one that is there already is the next call's."""
        before = self._before
        if key in self._attributes or (before is not None and key in before):
            self.begin(failed=False)
        rt = runtime()
        with self._lock:
            self._attributes[key] = value
            self._noted = time.monotonic()
            rt.told_calls[self] = self._scope
            if self._timer is None:
                self._settle_later(SETTLE_AFTER_S)

    def due(self, leaving: Scope | None) -> bool:  # noqa: ARG002 - what is written is metered at every gate
        """Always."""
        return True

    def wait(self, until: float) -> None:
        """Wait, at most until then (monotonic), while another thread is writing of the call."""
        while self._thread != threading.get_ident() and (attributes := self._attributes):
            whole = _USAGE.issubset(attributes)
            left = self._noted + (SETTLE_WHOLE_AFTER_S if whole else SETTLE_AFTER_S) - time.monotonic()
            if left <= 0 or time.monotonic() >= until:
                return
            time.sleep(min(left, 0.002))

    def settle(self) -> None:
        """Meter what was told; where that was no model call, it goes onto the span after all. Never raises."""
        rt = runtime()
        with self._lock:
            attributes, self._attributes = self._attributes, {}
            timer, self._timer = self._timer, None
            rt.told_calls.pop(self, None)
            before, failed = self._before, self._failed
            if attributes:
                self._before = attributes if before is None else {**before, **attributes}
                if _tells_usage(self._before):
                    self._before = dict.fromkeys(self._before)  # the keys tell the next call; prompts are not kept
        if timer is not None:
            timer.cancel()
        if not attributes:
            return
        try:
            if not self._meter(rt, before, attributes, failed):
                self._before = None
                if not self._scope.closed:
                    self._span.set_attributes(attributes)
        except Exception as error:  # noqa: BLE001 - on the thread of somebody's callback, or a timer's
            rt.faults.report("metering what was written onto a span", error)

    def _meter(self, rt: Runtime, before: dict[str, Any] | None, attributes: dict[str, Any], failed: bool) -> bool:
        if rt.meter_told is None:
            return False
        if before is None:
            return rt.meter_told(self._scope, attributes, failed)
        # the rest of a call that was metered half-written: what it told already stands
        if _tells_usage(before) or not _tells_usage(attributes):
            return True
        return rt.meter_told(self._scope, {**before, **attributes}, failed, True)

    def _settle_later(self, after_s: float) -> None:
        self._timer = threading.Timer(after_s, self._timed)
        self._timer.daemon = True
        with contextlib.suppress(RuntimeError):  # the interpreter is ending: the scope's own end settles it
            self._timer.start()

    def _timed(self) -> None:
        """Settle, unless the call is still being written of."""
        with self._lock:
            left = self._noted + SETTLE_AFTER_S - time.monotonic()
            if self._timer is threading.current_thread() and left > 0:
                self._settle_later(left)
                return
        self.settle()


_USAGE: Final = frozenset({"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"})
_USAGE_PREFIXES: Final = ("gen_ai.usage.", "llm.token_count.", "llm.usage.")


def _tells_usage(attributes: dict[str, Any]) -> bool:
    return any(key.startswith(_USAGE_PREFIXES) for key in attributes)


def settle_told(rt: Runtime, scope: Scope, *, wait: bool = True, leaving: bool = False) -> None:
    """Meter at once what was told of calls in `scope` and around or inside it, before its limits are looked at.

    With `wait`, a call that another thread is writing of right now may first be written to its end. With `leaving`, the
    scope is left: calls in it whose usage was to be told of later are judged without.
    """
    until = time.monotonic() + WAIT_MAX_S
    for told, where in list(rt.told_calls.items()):
        if where.root is scope.root and told.due(scope if leaving else None):
            if wait:
                told.wait(until)
            told.settle()
