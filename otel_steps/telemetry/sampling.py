"""Accounting under a dropping sampler: inside a scope a DROP becomes RECORD_ONLY, metered and not exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

from ..runtime.context import current_scope
from ..runtime.state import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.sampling import Sampler

_DROP = Decision.DROP
_MARK = "otel_steps_undo"


def record_inside_scopes(sampler: Sampler) -> None:
    """Let `sampler` record, inside our scopes, what it would drop; what it samples and exports stays the same.

    The sampler object itself is extended, because tracers made before us hold it too; where it takes no attributes its
    class is, for this object alone. Safe to call twice.
    """
    if _undo_of(sampler) is not None:
        return
    asked: Any = sampler.should_sample
    kind: Any = type(sampler)

    def of_object(parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any) -> SamplingResult:
        result: SamplingResult = asked(parent_context, trace_id, name, *rest, **more)
        return result if result.decision is not _DROP else _kept(result, parent_context, rest, more)

    try:
        sampler.should_sample = of_object  # type: ignore[method-assign]
    except AttributeError:  # it has slots
        _extend_class(sampler, kind)
        return

    def undo() -> None:
        if vars(sampler).get("should_sample") is of_object:
            del sampler.should_sample  # the class's is found again

    setattr(of_object, _MARK, (sampler, undo))


def restore(sampler: Sampler) -> None:
    """Undo `record_inside_scopes`."""
    undo = _undo_of(sampler)
    if undo is not None:
        undo()


def _extend_class(sampler: Sampler, kind: Any) -> None:
    own: Any = _own(kind)
    of_class: Any = kind.should_sample

    def should_sample(
        self: Any, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any
    ) -> SamplingResult:
        result: SamplingResult = of_class(self, parent_context, trace_id, name, *rest, **more)
        if result.decision is not _DROP or self is not sampler:
            return result
        return _kept(result, parent_context, rest, more)

    try:
        kind.should_sample = should_sample
    except TypeError:  # a class that is not written in Python
        runtime().warnings.once(
            "sampler",
            "the sampler %r cannot be extended: calls in spans that it drops are seen by the transport gate alone",
            sampler,
        )
        return

    def undo() -> None:
        if _own(kind) is not should_sample:
            return  # somebody extended it after us: ours stays underneath, and is found by nobody
        if own is None:
            del kind.should_sample
        else:
            kind.should_sample = own

    setattr(should_sample, _MARK, (sampler, undo))


def _own(kind: Any) -> Any:
    """What the class itself, and no base of it, has."""
    return kind.__dict__.get("should_sample")


def _undo_of(sampler: Sampler) -> Callable[[], None] | None:
    marked = getattr(sampler.should_sample, _MARK, None)
    if marked is None or marked[0] is not sampler:
        return None
    undo: Callable[[], None] = marked[1]
    return undo


def _kept(result: SamplingResult, parent_context: Any, rest: tuple[Any, ...], more: dict[str, Any]) -> SamplingResult:
    """What becomes of a span that is to be dropped."""
    if not _inside(parent_context):
        return result
    # a dropping result carries no attributes: hand on the request's, or the span would look like nobody's
    attributes = rest[1] if len(rest) > 1 else more.get("attributes")
    return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)


def _inside(parent_context: Any) -> bool:
    if current_scope() is not None:
        return True
    rt = runtime()
    if not rt.span_scopes and not rt.live_spans:
        return False
    parent = trace.get_current_span(parent_context).get_span_context().span_id
    return parent in rt.span_scopes or parent in rt.live_spans
