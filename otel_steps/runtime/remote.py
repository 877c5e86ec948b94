"""The caller elsewhere: which step of another process or service this one runs for, and what goes back to it."""

from __future__ import annotations

import re
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from .. import attributes as attr
from . import meter
from .context import current_scope, raw_current
from .scope import SUSPENDED

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext

    from ..record import CompletedStep
    from ..usage import Usage
    from .returned import Returned
    from .scope import Scope
    from .state import Runtime

FINISHED_MAX: Final = 10_000
"""Receipts kept for one caller; beyond it the oldest is forgotten."""
_ENTRY = re.compile(r"1-([0-9a-f]{32})?-([0-9a-f]{32})?")
_caller: ContextVar[Caller | None] = ContextVar("otel_steps_caller", default=None)


class Caller:
    """The step (and run) of another process that work here is done for, by ids; and what that work came to so far."""

    __slots__ = ("calls", "input_tokens", "nano_usd", "output_tokens", "receipt_id", "receipts", "run_id", "span",
                 "unpriced_calls")  # fmt: skip

    def __init__(self, run_id: str | None, receipt_id: str | None, span: SpanContext | None = None) -> None:
        self.run_id: str | None = run_id
        self.receipt_id: str | None = receipt_id
        self.span: SpanContext | None = span
        """The caller's span, for steps where no span is current; None where nobody told it."""
        self.receipts: dict[str, CompletedStep | Returned] = {}
        """The outermost steps that finished here for the caller, and those that came back to here from elsewhere."""
        self.unpriced_calls: int = 0
        self.calls: int = 0
        self.input_tokens: int = 0
        self.output_tokens: int = 0
        self.nano_usd: int = 0
        """What was spent here for the caller outside any step."""

    def finished(self, receipt: CompletedStep | Returned) -> None:
        """An outermost step finished for the caller, or its receipt was amended."""
        with meter.LOCK:
            self.receipts[receipt.receipt_id] = receipt
            if len(self.receipts) > FINISHED_MAX:
                del self.receipts[next(iter(self.receipts))]

    def charged(self, scope: Scope, usage: Usage) -> None:
        """A call was charged here."""
        with meter.LOCK:
            if usage.elsewhere is None and meter.is_unpriced(usage):
                self.unpriced_calls += 1
            if scope.step is None:
                self.calls += 1 if usage.elsewhere is None else usage.elsewhere
                self.input_tokens += usage.input_tokens
                self.output_tokens += usage.output_tokens
                self.nano_usd += usage.cost_nano_usd or 0

    @property
    def entry(self) -> str:
        """The value of the baggage entry: a version and two ids, of characters that need no escape anywhere."""
        return f"1-{self.run_id or ''}-{self.receipt_id or ''}"

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process is told: the ids, and the span as one that is not its own."""
        span = self.span
        if span is not None:
            span = trace.SpanContext(span.trace_id, span.span_id, True, span.trace_flags, span.trace_state)
        return Caller, (self.run_id, self.receipt_id, span)


def run_id_of(scope: Scope) -> str | None:
    """Id of the run around, which may be one in the process that called."""
    if scope.run is not None:
        return scope.run.run_id
    return None if scope.caller is None else scope.caller.run_id


def parent_receipt_id_of(scope: Scope) -> str | None:
    """Receipt id of the step around this scope, which may be one in the process that called."""
    if scope.parent_step is not None:
        return scope.parent_step.receipt_id
    return None if scope.caller is None else scope.caller.receipt_id


def read_entry(value: object) -> Caller | None:
    """The caller that a baggage entry names; None where it is no entry of ours."""
    match = _ENTRY.fullmatch(value) if isinstance(value, str) and len(value) <= 67 else None
    if match is None or not (match[1] or match[2]):
        return None
    return Caller(match[1], match[2])


def caller_here(runtime: Runtime) -> Caller | None:
    """Who called, for a scope that opens with none around it.

    Asked once per outermost scope: where no OpenTelemetry context is attached either, it costs two look-ups.
    """
    known = _caller.get()
    if known is None:
        context = otel_context.get_current()
        if not context:
            return None
        value = _entry_in(context)
        if value is None:
            return None
        known = read_entry(value)
        if known is None:
            runtime.warnings.once("caller", "a baggage entry `otel_steps` that names no step was ignored")
    return None if raw_current() is SUSPENDED else known


def caller_to_tell(runtime: Runtime) -> Caller | None:
    """What a step elsewhere is to hang under when it is called from here; None: nothing here to hang under."""
    scope = current_scope()
    here = otel_context.get_current()
    if scope is not None:
        return caller_of(scope, here)
    known = caller_here(runtime)
    if known is None:
        return None
    span = trace.get_current_span(here).get_span_context()
    return Caller(known.run_id, known.receipt_id, span if span.is_valid else known.span)


def caller_of(scope: Scope, otel: Context) -> Caller | None:
    """What a step elsewhere is to hang under when it is called from within `scope` and `otel`."""
    step = scope.step
    receipt_id = parent_receipt_id_of(scope) if step is None else step.receipt_id
    run_id = run_id_of(scope)
    if receipt_id is None and run_id is None:
        return None
    span = trace.get_current_span(otel).get_span_context()
    return Caller(run_id, receipt_id, span if span.is_valid else None)


def context_under(caller: Caller) -> Context:
    """The context for the first span of work that is done for `caller`.

    A span that is current stays the parent; else it is the caller's. The baggage entry is taken out: an
    instrumentation of an HTTP client would send it to any host.
    """
    here = without_entry(otel_context.get_current())
    if caller.span is not None and not trace.get_current_span(here).get_span_context().is_valid:
        here = trace.set_span_in_context(NonRecordingSpan(caller.span), here)
    return here


def without_entry(context: Context) -> Context:
    """`context` without our baggage entry; itself where it has none."""
    if _entry_in(context) is None:
        return context
    from opentelemetry import baggage

    return baggage.remove_baggage(attr.BAGGAGE_ENTRY, context)


def _entry_in(context: Context) -> object:
    # whoever put baggage into a context has loaded the module
    baggage: Any = sys.modules.get("opentelemetry.baggage")
    return None if baggage is None else baggage.get_baggage(attr.BAGGAGE_ENTRY, context)


class Under:
    """`with Under(caller):` the steps inside hang under the caller's; with None nothing is different."""

    __slots__ = ("_before", "_caller", "_otel", "_own")

    def __init__(self, caller: Caller | None) -> None:
        self._caller = caller

    def __enter__(self) -> Caller | None:
        self._before = _caller.get()
        self._otel = self._own = otel_context.get_current()
        if self._caller is not None:
            _caller.set(self._caller)
            self._own = context_under(self._caller)
            if self._own is not self._otel:
                otel_context.attach(self._own)
        return self._caller

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._caller is not None and _caller.get() is self._caller:
            _caller.set(self._before)
        # never a token, which may belong to another task
        if self._own is not self._otel and otel_context.get_current() is self._own:
            otel_context.attach(self._otel)


def enter_call(caller: Caller) -> Caller | None:
    """From now on here work is done for `caller`; returns the one before, for `leave_call`."""
    before = _caller.get()
    _caller.set(caller)
    return before


def leave_call(before: Caller | None) -> None:
    """The work that `enter_call` began is done."""
    _caller.set(before)
