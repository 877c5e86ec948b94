"""W3C headers: the caller's ids written beside what others have put there, and read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .. import attributes as attr
from ..runtime.remote import Caller, read_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

BAGGAGE_MAX: Final = 8192
"""Characters of a baggage header, by the W3C's rule; readers drop a longer one whole."""
NAMES: Final = (attr.HEADER_TRACEPARENT, attr.HEADER_TRACESTATE, attr.HEADER_BAGGAGE)
_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()


def additions(headers: Mapping[str, str], caller: Caller) -> dict[str, str]:
    """What to set in `headers` (lower case), so that the steps behind them hang under `caller`.

    A `traceparent` that is there stays; members of others stay in `baggage`. Where ours does not fit beside them,
    it stays out.
    """
    added: dict[str, str] = {}
    baggage = [*other_members(headers.get(attr.HEADER_BAGGAGE, "")), f"{attr.BAGGAGE_ENTRY}={caller.entry}"]
    text = ",".join(baggage)
    if len(text) <= BAGGAGE_MAX:
        added[attr.HEADER_BAGGAGE] = text
    if attr.HEADER_TRACEPARENT not in headers and caller.span is not None:
        span = NonRecordingSpan(caller.span)
        _TRACE_CONTEXT.inject(added, trace.set_span_in_context(span, Context()))
    return added


def other_members(baggage: str) -> list[str]:
    """The members of a baggage header, without ours."""
    members = (member.strip() for member in baggage.split(","))
    return [member for member in members if member and _key(member) != attr.BAGGAGE_ENTRY]


def caller_in(headers: Mapping[str, str]) -> Caller | None:
    """The caller that `headers` (lower case) tell of; None where they tell of none."""
    baggage = headers.get(attr.HEADER_BAGGAGE, "")
    if len(baggage) > BAGGAGE_MAX or attr.BAGGAGE_ENTRY not in baggage:
        return None
    ours = [member for member in baggage.split(",") if _key(member) == attr.BAGGAGE_ENTRY]
    caller = read_entry(unquote(ours[-1].partition("=")[2].partition(";")[0].strip())) if ours else None
    if caller is not None:
        told = {name: headers[name] for name in (attr.HEADER_TRACEPARENT, attr.HEADER_TRACESTATE) if name in headers}
        span = trace.get_current_span(_TRACE_CONTEXT.extract(told, Context())).get_span_context()
        caller.span = span if span.is_valid else None
    return caller


def lower_case(headers: Any) -> dict[str, str]:
    """The headers that matter here, of a mapping or of pairs, by their names in lower case; more of one are joined."""
    found: dict[str, str] = {}
    for name, value in headers.items() if hasattr(headers, "items") else headers:
        key, text = _text(name).lower(), _text(value)
        if key in NAMES or key == attr.HEADER_RECEIPT:
            found[key] = f"{found[key]},{text}" if key in found else text
    return found


def _key(member: str) -> str:
    return member.partition("=")[0].strip()


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
