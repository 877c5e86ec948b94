"""From a finished model-call span to one charge: read, told apart from duplicates, handed to the meter."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import StatusCode

from ..errors import StepStop
from ..runtime import meter
from ..runtime.charging import discard_duplicate, take_in
from ..runtime.state import runtime
from ..usage import Usage
from . import conventions
from .awaited import AwaitedUsage
from .duplicates import HAND, CountedCall, DuplicateFinder, Verdict

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from ..runtime.meter import Reservation
    from ..runtime.scope import Scope
    from ..runtime.state import Runtime


def finder_of(scope: Scope) -> DuplicateFinder:
    """The one finder of everything under the same outermost scope."""
    root = scope.root
    finder: DuplicateFinder | None = root.finder
    if finder is None:
        with meter.LOCK:
            finder = root.finder
            if finder is None:
                finder = root.finder = DuplicateFinder()
    return finder


def seen_by_hand(scope: Scope, usage: Usage) -> bool:
    """Whether usage reported by hand with a response id repeats a call that was counted; one without it completes."""
    verdict = _judge(scope, CountedCall(HAND, usage=usage, response_id=usage.response_id))
    usage.completes = verdict is Verdict.COMPLETE
    return verdict is Verdict.DISCARD


def charge_span(
    rt: Runtime,
    scope: Scope,
    span: ReadableSpan,
    attributes: dict[str, Any],
    reservation: Reservation | None = None,
) -> None:
    """Charge the model call that `span` tells of to `scope`, where it started; once, whoever else tells of it.

    `reservation` is what was held for it, and settled with it.
    """
    emitter = "" if span.instrumentation_scope is None else span.instrumentation_scope.name
    usage: Usage | None = conventions.read_usage(attributes, emitter)
    if usage is None:
        if _was_refused(span, attributes):
            return
        usage = _told_in_event(span, attributes, emitter)
    context = span.get_span_context()
    parent = span.parent
    start_ns, end_ns = span.start_time or 0, span.end_time or 0
    response_id = conventions.response_id(attributes) if usage is None else usage.response_id
    report = CountedCall(
        emitter,
        0 if context is None else context.span_id,
        None if parent is None else parent.span_id,
        start_ns,
        end_ns,
        usage,
        response_id,
        models=_models(attributes, usage),
        embeds=conventions.is_embedding(attributes),
        where=scope,
    )
    if conventions.tells_late(attributes):
        report.start_ns = conventions.report_start_ns(attributes, start_ns)
        report.late = conventions.is_late_report(attributes, emitter)
    if usage is None and conventions.awaits_late_report(attributes, emitter):
        report.awaits = AwaitedUsage(rt, scope, conventions.request_model(attributes) or "")
    verdict = _judge(scope, report)
    if verdict is Verdict.DISCARD:
        discard_duplicate(scope)
        return
    if usage is None:
        usage = Usage(model=conventions.request_model(attributes) or "", provider=conventions.provider(attributes))
        # refused or failed before an answer began: nothing was billed, as far as anybody can tell
        usage.metered = (
            span.status.status_code is StatusCode.ERROR and response_id is None and _failed_whole(attributes)
        )
        if not usage.metered and report.awaits is not None:
            usage.awaited = True
            report.awaits.wait_for_it()
    usage.completes = verdict is Verdict.COMPLETE
    scope = report.where or scope  # where the call that it completes was counted
    usage.ended_ns = end_ns or None
    take_in(rt, scope, usage, by_hand=False, reservation=reservation)


def _told_in_event(span: ReadableSpan, attributes: dict[str, Any], emitter: str) -> Usage | None:
    """Usage that the span tells in an event of its own (the last of them) instead of in its attributes."""
    for event in reversed(span.events):
        told = conventions.plain(event.attributes)
        if conventions.has_usage(told):
            return conventions.read_usage({**attributes, **told}, emitter)
    return None


def charge_told(scope: Scope, attributes: dict[str, Any], *, failed: bool, again: bool = False) -> bool:
    """Charge a call that was told by writing onto the span of `scope`; False where `attributes` tell of none.

    `again`: the call was charged before, when its usage had not been written yet.

    It has no span of its own: its response id, else the moment, tells it from what other emitters say of it.
    """
    usage: Usage | None = conventions.usage_written_onto(attributes)
    if usage is None:
        if conventions.role_at_end(attributes, conventions.LITELLM_SCOPE, "") is not conventions.SpanRole.MODEL_CALL:
            return False
        usage = Usage(model=conventions.request_model(attributes) or "", provider=conventions.provider(attributes))
        usage.metered = failed
        counted = None
    else:
        counted = usage
    rt = runtime()
    rt.learnt_spans.setdefault((conventions.LITELLM_SCOPE, "", None))
    now_ns = time.time_ns()
    parent = None if scope.span is None else scope.span.get_span_context().span_id
    response_id = conventions.response_id(attributes)
    number = -next(_told)  # of no span
    report = CountedCall(
        conventions.LITELLM_SCOPE,
        number,
        parent,
        now_ns,
        now_ns,
        counted,
        response_id,
        late=again,
        models=_models(attributes, counted),
        embeds=conventions.is_embedding(attributes),
        where=scope,
    )
    verdict = _judge(scope, report)
    if verdict is Verdict.DISCARD:
        discard_duplicate(scope)
        return True
    usage.completes = verdict is Verdict.COMPLETE
    scope = report.where or scope  # where the call that it completes was counted
    take_in(rt, scope, usage, by_hand=False)
    return True


def _judge(scope: Scope, report: CountedCall) -> Verdict:
    verdict = finder_of(scope).judge(report)
    if verdict is not Verdict.COUNT and report.awaits is not None:
        report.awaits.told(metered=report.usage is not None)
    return verdict


def _models(attributes: dict[str, Any], usage: Usage | None) -> tuple[str | None, ...]:
    if usage is None:
        return (conventions.request_model(attributes),)
    return (usage.model,) if usage.request_model is None else (usage.model, usage.request_model)


_told = itertools.count(1)


def _was_refused(span: ReadableSpan, attributes: dict[str, Any]) -> bool:
    """Whether a call's span tells that a gate of ours behind its start refused it: then nothing was sent."""
    told = [attributes.get("error.type"), *((event.attributes or {}).get("exception.type") for event in span.events)]
    return any(isinstance(kind, str) and kind.endswith(StepStop.__name__) for kind in told)


_BROKEN_OFF = ("GeneratorExit", "CancelledError", "Cancelled", "KeyboardInterrupt")


def _failed_whole(attributes: dict[str, Any]) -> bool:
    """Whether a call that ended in error failed as a whole, rather than being broken off by its reader."""
    kind = str(attributes.get("error.type", ""))
    return not kind.endswith(_BROKEN_OFF)
