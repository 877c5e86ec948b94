"""The spans of scopes: opened through the OpenTelemetry API, closed with the totals written on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from .. import attributes as attr
from ..bounds import clamp_int64, error_text, name_text
from .context import OTEL_KEY
from .receipt import record_module
from .remote import context_under
from .span_guard import SpanGuard
from .state import runtime as runtime_in_force

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer, TracerProvider

    from ..record import CompletedStep
    from .scope import Scope, StepScope
    from .state import Runtime

_STATUS_OK = Status(StatusCode.OK)
_CROWDED = 64
"""So many attributes on a span and the oldest may be evicted at its end (the SDK keeps 128): then all are set anew."""


class Tracers:
    """The tracer of the provider in force; notices when the global provider changes, so that set-up can join it.

    One that stands before another (logfire's) stays where it is while that one changes: it is looked behind.
    """

    def __init__(self) -> None:
        self.provider_changed: Callable[[TracerProvider], None] | None = None
        self._provider: TracerProvider | None = None
        self._behind: Any = None
        self._tracer: Tracer | None = None

    def tracer(self, configured: TracerProvider | None) -> Tracer | None:
        """A tracer of `configured`, or of the global provider where that is None; None while there is no provider."""
        provider = trace.get_tracer_provider() if configured is None else configured
        behind: Any = getattr(provider, "provider", None)
        if provider is self._provider and behind is self._behind:
            return self._tracer
        if self.provider_changed is not None:
            self.provider_changed(provider)  # before the tracer is made: it copies the provider's sampler
        # the API's stand-in before anybody has set a provider: its spans are nobody's
        tracer = None if isinstance(provider, trace.ProxyTracerProvider) else provider.get_tracer(attr.SCOPE_NAME)
        self._provider, self._behind, self._tracer = provider, behind, tracer
        return tracer

    def forget(self) -> None:
        """Meet the provider in force anew, as after a reset."""
        self._provider = self._behind = self._tracer = None


tracers: Tracers = Tracers()


def open_span(runtime: Runtime, scope: Scope, name: str, attributes: dict[str, Any], start_ns: int) -> None:
    """Start the span of `scope`. Without a provider there is none, and the scope works all the same."""
    try:
        tracer = tracers.tracer(runtime.tracer_provider)
        if tracer is None:
            return
        around = None if scope.caller is None or scope.parent is not None else context_under(scope.caller)
        span = tracer.start_span(name, around, kind=SpanKind.INTERNAL, attributes=attributes, start_time=start_ns)
        context = span.get_span_context()
        if not span.is_recording() and (
            not context.is_valid or context.span_id == trace.get_current_span(around).get_span_context().span_id
        ):
            return  # no SDK: the API hands back the parent's identity
        scope.span = span
        scope.context = trace.set_span_in_context(
            SpanGuard(span, scope), otel_context.set_value(OTEL_KEY, scope, around)
        )
        runtime.span_scopes[context.span_id] = scope
    except Exception as error:  # noqa: BLE001 - a broken provider or processor must not cost the agent its step
        runtime.faults.report("opening a span", error)


def open_step_span(runtime: Runtime, scope: StepScope) -> None:
    """Start the span of a step: named by the step, persona and declared model as attributes from the start."""
    name = name_text(scope.name)
    attributes: dict[str, Any] = {attr.NAME: name}
    if scope.persona is not None:
        persona = name_text(scope.persona.name)
        attributes[attr.PERSONA] = persona
        attributes[attr.GEN_AI_AGENT_NAME] = persona
    if scope.model is not None:
        attributes[attr.MODEL] = name_text(scope.model)
    open_span(runtime, scope, name, attributes, scope.started_ns)


def close_step_span(
    runtime: Runtime, scope: StepScope, record: CompletedStep, error_type: str | None, end_ns: int
) -> None:
    """Write the totals on the step's span, set its status and end it."""
    span = scope.span
    if span is None:
        return
    try:
        if span.is_recording():
            attributes: dict[str, Any] = record_module().span_attributes(record)
            if len(getattr(span, "attributes", None) or ()) < _CROWDED:
                # what was set at the start is there still, and each attribute costs a microsecond
                del attributes[attr.NAME]
                if record.persona is not None:
                    del attributes[attr.PERSONA]
                if record.model is not None and scope.model == scope.definition.model:
                    del attributes[attr.MODEL]
            if record.status in {"failed", "escalated"}:
                attributes[attr.ERROR_TYPE] = error_type or "Error"
                span.set_attributes(attributes)
                span.set_status(Status(StatusCode.ERROR, _one_line(record.error)))
            else:
                span.set_attributes(attributes)
                if record.status == "completed":
                    span.set_status(_STATUS_OK)
        span.end(end_ns)
    except Exception as error:  # noqa: BLE001 - another processor's fault at the end of our span
        runtime.faults.report("closing a span", error)
    finally:
        runtime.span_scopes.pop(span.get_span_context().span_id, None)


def close_span(
    runtime: Runtime, scope: Scope, status: str, error: str | None, error_type: str | None, end_ns: int
) -> None:
    """End the span of a persona or run."""
    span = scope.span
    if span is None:
        return
    try:
        if span.is_recording():
            attributes: dict[str, Any] = {
                attr.STATUS: status,
                attr.PREFIX + "total_input_tokens": clamp_int64(scope.total_input),
                attr.PREFIX + "total_output_tokens": clamp_int64(scope.total_output),
                attr.PREFIX + "total_cost_nano_usd": clamp_int64(scope.total_nano_usd),
                attr.PREFIX + "total_llm_calls": scope.total_calls,
            }
            if scope.breaches:
                attributes[attr.BREACHED] = scope.breached
            if status == "failed":
                attributes[attr.ERROR_TYPE] = error_type or "Error"
                span.set_status(Status(StatusCode.ERROR, _one_line(error)))
            elif status == "completed":
                span.set_status(_STATUS_OK)
            span.set_attributes(attributes)
        span.end(end_ns)
    except Exception as fault:  # noqa: BLE001 - another processor's fault at the end of our span
        runtime.faults.report("closing a span", fault)
    finally:
        runtime.span_scopes.pop(span.get_span_context().span_id, None)


def add_event(scope: Scope | None, name: str, attributes: dict[str, Any]) -> None:
    """An event on the scope's span, or on the caller's where the scope has none."""
    span = scope.span if scope is not None and scope.span is not None else trace.get_current_span()
    try:
        if span.is_recording():
            told = {key: value for key, value in attributes.items() if value is not None}
            span.add_event(name, {key: error_text(at) if isinstance(at, str) else at for key, at in told.items()})
    except Exception as error:  # noqa: BLE001 - somebody's span that cannot take an event
        runtime_in_force().faults.report("noting an event", error)


def _one_line(text: str | None) -> str:
    return "" if not text else name_text(text.split("\n", 1)[0])
