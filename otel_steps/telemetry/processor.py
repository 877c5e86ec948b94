"""StepSpanProcessor: sees every span start and end, refuses model calls under a broken limit, and meters the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import SpanProcessor

from ..attributes import SCOPE_NAME
from ..errors import OtelStepsError
from ..runtime.charging import reserve_or_stop
from ..runtime.context import OTEL_KEY, raw_current
from ..runtime.scope import SUSPENDED, Scope
from ..runtime.sharing import admit, release
from ..runtime.span_guard import settle_told
from ..runtime.state import Runtime, runtime
from ..runtime.stops import broken_owner, stop_for
from ..runtime.tools import allow_or_deny
from . import conventions
from .calls import charge_span
from .conventions import SpanRole
from .model_requests import REQUESTS
from .prices import prices

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from ..runtime.meter import Reservation

LEARNT_MAX: Final = 4096
"""How many kinds of spans are remembered as model calls by their scope, name and kind."""
LIVE_MAX: Final = 100_000
"""How many open spans are followed; beyond it the oldest, most likely never ended, is let go."""


class _Live:
    """A span that started inside a scope and has not ended."""

    __slots__ = ("in_call", "reservation", "scope", "tool")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.in_call = False
        self.tool: str | None = None
        self.reservation: Reservation | None = None


_NOBODYS: Final = _Live(SUSPENDED)


class StepSpanProcessor(SpanProcessor):
    """Meters the model-call spans of whatever instrumentation is installed, and refuses the next one after a stop.

    Add it LAST to a TracerProvider, or let `configure()` do it. At the start of a model call it raises StepStop where a
    limit around it is broken (or, with `admission="reserve"`, would not fit), and at the start of an `execute_tool`
    span ToolDenied where the policy says no. It never raises at the end of a span. A span is metered once, also where
    its provider has more than one of these.
    """

    def __init__(self) -> None:
        self.active = True
        """False: sees nothing. Set-up says so of its own when it leaves a provider, which keeps its processors."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Find the scope of a span that starts, and refuse it where it is a model call that must not be sent."""
        here = raw_current()
        rt = runtime()
        if (here is None and not rt.live_spans and not rt.span_scopes) or not self.active:
            return
        try:
            emitter = span.instrumentation_scope
            emitter_name = "" if emitter is None else emitter.name
            if emitter_name != SCOPE_NAME:
                _started(rt, span, emitter_name, parent_context, here)
        except OtelStepsError:
            raise
        except Exception as error:  # noqa: BLE001 - ours must not cost the agent its span
            rt.faults.report("the start of a span", error)

    def on_end(self, span: ReadableSpan) -> None:
        """Charge a finished model call to the scope where it started."""
        rt = runtime()
        if not rt.live_spans or not self.active:
            return
        context = span.get_span_context()
        live: _Live | None = None if context is None else rt.live_spans.pop(context.span_id, None)
        if live is None or context is None or live is _NOBODYS:
            return
        try:
            _ended(rt, span, live)
        except Exception as error:  # noqa: BLE001 - never at the end of somebody's span
            rt.faults.report("the end of a span", error)
        finally:
            if live.reservation is not None or live.tool is not None:
                _let_go(rt, context.span_id, live)

    def shutdown(self) -> None:
        """Nothing is held back here; steps go on being metered by the spans of other providers."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - nothing is held back here
        """Nothing is buffered: True."""
        return True


def _started(rt: Runtime, span: Span, emitter_name: str, parent_context: Context | None, here: Scope | None) -> None:
    span_id = span.get_span_context().span_id
    if span_id in rt.live_spans:
        return
    parent = span.parent
    around: _Live | None = None if parent is None else rt.live_spans.get(parent.span_id)
    by_parent = None if parent is None else rt.span_scopes.get(parent.span_id)
    if here is not None and here is by_parent and around is None and parent_context is None and not here.closed:
        scope = here  # nearly always: a span right under that of the scope which is current
    else:
        carried = _carried(here, parent_context)
        if here is SUSPENDED or (here is None and (around is _NOBODYS or carried is SUSPENDED)):
            _follow(rt, span_id, _NOBODYS)
            return
        by_parent = around.scope if around is not None and around is not _NOBODYS else by_parent or carried
        found = _innermost(here, None if by_parent is SUSPENDED else by_parent)
        if found is None:
            return
        scope = found
    live = _Live(scope)
    if around is not None and around.scope is scope:
        live.in_call, live.tool = around.in_call, around.tool
    attributes = conventions.plain(span.attributes)
    # who tells nothing of a model or a tool is looked at only where a call would be refused, or room held for it
    if conventions.speaks(attributes) or rt.broken or rt.told_calls or scope.reserving or rt.shared is not None:
        _admit_by_role(rt, span, emitter_name, live, attributes)
    if live.tool is not None:
        rt.tool_spans[span_id] = live.tool
    _follow(rt, span_id, live)


def _admit_by_role(rt: Runtime, span: Span, emitter_name: str, live: _Live, attributes: dict[str, Any]) -> None:
    role = conventions.role_at_start(attributes, emitter_name, span.name, span.kind)
    if role is SpanRole.MODEL_CALL or (
        role is SpanRole.UNKNOWN_AT_START and (emitter_name, span.name, span.kind) in rt.learnt_spans
    ):
        _admit(rt, live, attributes)
    elif role is SpanRole.TOOL:
        name = conventions.tool_name(attributes, span.name)
        allow_or_deny(live.scope, name, noted=live.tool == name)
        live.tool = name


def _carried(here: Scope | None, parent_context: Context | None) -> Scope | None:
    """The scope in the OpenTelemetry context: an explicit one, or that of a thread which was given it alone."""
    if parent_context is None:
        if here is not None:
            return None
        parent_context = otel_context.get_current()
    scope = parent_context.get(OTEL_KEY)
    return scope if isinstance(scope, Scope) else None


def _follow(rt: Runtime, span_id: int, live: _Live) -> None:
    spans = rt.live_spans
    spans[span_id] = live
    if len(spans) > LIVE_MAX:
        oldest = next(iter(spans), None)
        ended: _Live | None = None if oldest is None else spans.pop(oldest, None)
        if oldest is not None and ended is not None:
            _let_go(rt, oldest, ended)


def _let_go(rt: Runtime, span_id: int, live: _Live) -> None:
    if live.reservation is not None:
        release(rt, live.reservation)
    if live.tool is not None:
        rt.tool_spans.pop(span_id, None)


def _admit(rt: Runtime, live: _Live, attributes: dict[str, Any]) -> None:
    scope = live.scope
    if rt.told_calls:
        settle_told(rt, scope)
    if rt.broken and (owner := broken_owner(scope)) is not None:
        raise stop_for(rt, owner)
    if scope.reserving and not live.in_call:
        live.reservation = _reserve(rt, scope, attributes)
    elif rt.shared is not None and not live.in_call:
        live.reservation = admit(rt, rt.shared, scope)
    live.in_call = True


def _ended(rt: Runtime, span: ReadableSpan, live: _Live) -> None:
    emitter = span.instrumentation_scope
    emitter_name = "" if emitter is None else emitter.name
    attributes = conventions.plain(span.attributes)
    role = SpanRole.OTHER
    if conventions.speaks(attributes):
        role = conventions.role_at_end(attributes, emitter_name, span.name, span.kind)
    if role is SpanRole.MODEL_CALL:
        key = (emitter_name, span.name, span.kind)
        if key not in rt.learnt_spans and len(rt.learnt_spans) < LEARNT_MAX:
            rt.learnt_spans[key] = None
        host = attributes.get("server.address")
        if type(host) is str:
            port = attributes.get("server.port")
            REQUESTS.learn(host, port if type(port) is int else None)
        charge_span(rt, live.scope, span, attributes, live.reservation)
        return
    finder = live.scope.root.finder
    if finder is not None:
        context, parent = span.get_span_context(), span.parent
        if context is not None and parent is not None:
            finder.pass_on(context.span_id, parent.span_id)
    if role is SpanRole.OTHER and conventions.follows_no_convention(emitter_name, span.name, attributes):
        _say_unread(rt, live.scope, emitter_name, span.name)


def _say_unread(rt: Runtime, scope: Scope, emitter_name: str, span_name: str) -> None:
    """Say once that spans of an emitter look like a model library's and cannot be read; unless others of it could."""
    if rt.told_calls:
        settle_told(rt, scope, wait=False)
    if any(known == emitter_name for known, _, _ in list(rt.learnt_spans)):
        return
    rt.warnings.once(
        f"no convention {emitter_name}",
        "spans of %r (such as %r) tell no usage by any known convention: model calls behind them are not metered "
        "unless something else reports them",
        emitter_name,
        span_name,
    )


def _innermost(here: Scope | None, by_parent: Scope | None) -> Scope | None:
    """The scope a call belongs to, from the context variable and from the parent span.

    The inner one where they are related, else the context's; closed ones give way to what is open around them.
    """
    scope = here
    while scope is not None and scope.closed:
        scope = scope.parent
    while by_parent is not None and by_parent.closed:
        by_parent = by_parent.parent
    if scope is None or by_parent is None:
        return scope or by_parent
    around: Scope | None = by_parent
    while around is not None:
        if around is scope:
            return by_parent
        around = around.parent
    return scope


def _reserve(rt: Runtime, scope: Scope, attributes: dict[str, Any]) -> Reservation:
    """Hold room for the call's known output cap and an estimate of its input. Raises StepStop where there is none."""
    cap = conventions.output_cap(attributes) or 0
    step = scope.step
    estimate = 0 if step is None else step.largest_input
    model = conventions.request_model(attributes)
    nano = 0
    if model is not None:
        tier = conventions.service_tier(attributes)
        nano = prices().worst_case(model, conventions.provider(attributes), estimate, cap, tier) or 0
    return reserve_or_stop(rt, scope, cap + estimate, nano)
