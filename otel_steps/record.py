"""CompletedStep: the receipt of a finished step, the same in the log, the journal, the span and the OTLP record."""

from __future__ import annotations

import calendar
import inspect
import operator
import re
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import msgspec

from . import attributes as attr
from .checks import is_list, is_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace import ReadableSpan

SCHEMA: Final = 1
"""Version of the record's shape; a reader passes over lines of a newer one."""


STATUSES: Final = ("completed", "failed", "skipped", "escalated", "cancelled", "interrupted")
"""How a step can have ended."""

# what the JSON Schema says of a text beyond its type; decoding takes any, so that it costs nothing
_Status = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(STATUSES)})]
_ReceiptId = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[0-9a-f]{32}$"})]
_Time = Annotated[
    str,
    msgspec.Meta(extra_json_schema={"pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$", "format": "date-time"}),
]


class CompletedStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one finished step was, spent and came to.

    Own totals are what the step itself was charged; `total_*` are inclusive of everything nested in it. Tokens are
    counts, `*_usd` US dollars, `*_nano_usd` integer billionths of a dollar (exact), times RFC 3339 in UTC with
    nanoseconds, ids hex text. `status` is completed, failed, skipped, escalated, cancelled or interrupted.
    """

    name: str
    function: str | None = None
    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    llm_calls: int = 0
    status: _Status = "completed"
    error: str | None = None

    schema: int = SCHEMA
    receipt_id: _ReceiptId
    revision: int = 1
    persona: str | None = None
    run_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_receipt_id: _ReceiptId | None = None
    started_at: _Time
    ended_at: _Time
    cost_nano_usd: int = 0
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    total_cost_usd: float = 0.0
    total_cost_nano_usd: int = 0
    total_llm_calls: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    max_tokens: int | None = None
    max_usd: float | None = None
    breached: tuple[str, ...] = ()
    error_boundary: str = "fail"
    unpriced_calls: int = 0
    unmetered_calls: int = 0
    invalid_costs: int = 0
    duplicates_discarded: int = 0
    shared_unconsulted_calls: int = 0
    price_source: str | None = None
    tools_called: tuple[str, ...] = ()
    tools_denied: tuple[str, ...] = ()
    stage: str | None = None
    next_stage: str | None = None

    SEED_KEYS: ClassVar[tuple[str, ...]] = (
        "name",
        "function",
        "model",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "llm_calls",
        "status",
        "error",
    )

    @classmethod
    def from_span(cls, span: ReadableSpan) -> CompletedStep:
        """Rebuild the record from a finished step span; it equals the record that the step logged.

        Raises ValueError when the span is not a step's (it carries no `otel_steps.receipt_id`).
        """
        return _from_span(span)


def completed_step_to_json(step: CompletedStep) -> dict[str, Any]:
    """All fields of `step` as a dict ready for `json.dumps`: lists, numbers, strings, booleans and None only."""
    return {field: list(getattr(step, field)) if field in _LISTS else getattr(step, field) for field in _FIELDS}


def to_line(step: CompletedStep) -> bytes:
    """One JSON object with every field, without a line end."""
    return _ENCODER.encode(step)


def record_attributes(step: CompletedStep) -> dict[str, Any]:
    """Typed OTLP attributes of the receipt's log record: every field that is not None, lists included."""
    return {key: value for field, key in _KEYS if (value := getattr(step, field)) is not None}


def span_attributes(step: CompletedStep) -> dict[str, Any]:
    """Typed span attributes: without None, defaults, own-equal totals, and ids and times that the span has anyway."""
    result = {
        key: value
        for key, value, default in zip(_USUAL_KEYS, _usual_values(step), _USUAL_DEFAULTS, strict=True)
        if value != default and value is not None
    }
    rare = _rare_values(step)
    if rare != _RARE_DEFAULTS:
        columns = zip(_RARE_KEYS, rare, _RARE_DEFAULTS, strict=True)
        result.update({key: value for key, value, default in columns if value != default and value is not None})
    totals = _total_values(step)
    if totals != _own_values(step):
        columns = zip(_TOTAL_KEYS, totals, _own_values(step), strict=True)
        result.update({key: total for key, total, own in columns if total != own})
    return result


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the record, generated from the type."""
    return schema_of(CompletedStep)


def schema_of(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of `shape`: the same whatever the versions of Python and msgspec that generate it."""
    schema: dict[str, Any] = _settled(msgspec.json.schema(shape))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _settled(part: Any) -> Any:
    """Descriptions without their indentation, which Python 3.13 strips; alternatives with null at the end."""
    if is_list(part):
        return sorted(map(_settled, part), key=lambda choice: choice == {"type": "null"})
    if not is_mapping(part):
        return part
    settled = {key: _settled(value) for key, value in part.items()}
    description = settled.get("description")
    if isinstance(description, str):
        settled["description"] = inspect.cleandoc(description)
    return settled


def rfc3339(time_ns: int) -> str:
    """`time_ns` (nanoseconds since the epoch) as RFC 3339 in UTC with nine decimals."""
    # formatting a date costs more than the rest of the record; most receipts share their second with the one before
    global _second  # noqa: PLW0603 - one immutable pair, swapped whole
    start_ns, text = _second
    nanos = time_ns - start_ns
    if not 0 <= nanos < _NANO:
        seconds, nanos = divmod(time_ns, _NANO)
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds))
        _second = (seconds * _NANO, text)
    return f"{text}{str(nanos + _NANO)[1:]}Z"  # a format for the nine digits takes twice as long


def parse_rfc3339(text: str) -> int:
    """Nanoseconds since the epoch of a time written by `rfc3339`. Raises ValueError on any other shape."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 UTC time with nanoseconds: {text!r}")
    *parts, nanos = (int(group) for group in match.groups())
    return calendar.timegm((*parts, 0, 0, 0)) * 1_000_000_000 + nanos


_NANO: Final = 1_000_000_000
_second: tuple[int, str] = (0, "1970-01-01T00:00:00.")
"""The second that was formatted last: its first nanosecond and its text."""
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{9})Z")
_ENCODER = msgspec.json.Encoder()
_FIELDS = CompletedStep.__struct_fields__
_KEYS = tuple((field, attr.PREFIX + field) for field in _FIELDS)
_LISTS = frozenset({"breached", "tools_called", "tools_denied"})
_SPAN_HAS = frozenset({"schema", "revision", "trace_id", "span_id", "started_at", "ended_at"})
_DEFAULTS: dict[str, Any] = {
    info.name: info.default for info in msgspec.structs.fields(CompletedStep) if info.default is not msgspec.NODEFAULT
}
_ALWAYS = frozenset({"name", "function", "status", "receipt_id"})
_OWN_OF_TOTAL = {
    "total_input_tokens": "input_tokens",
    "total_output_tokens": "output_tokens",
    "total_cost_usd": "cost_usd",
    "total_cost_nano_usd": "cost_nano_usd",
    "total_llm_calls": "llm_calls",
}
_SPAN_KEYS = tuple((field, attr.PREFIX + field) for field in _FIELDS if field not in _SPAN_HAS)
_RARE = (
    "error",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "breached",
    "error_boundary",
    "unpriced_calls",
    "unmetered_calls",
    "invalid_costs",
    "duplicates_discarded",
    "shared_unconsulted_calls",
    "tools_called",
    "tools_denied",
    "stage",
    "next_stage",
)
"""Fields that most steps have as their defaults: looked at together."""
_USUAL = [field for field in _FIELDS if field not in _SPAN_HAS and field not in _OWN_OF_TOTAL and field not in _RARE]
_USUAL_KEYS, _RARE_KEYS, _TOTAL_KEYS = (
    tuple(attr.PREFIX + field for field in fields) for fields in (_USUAL, _RARE, _OWN_OF_TOTAL)
)
_USUAL_DEFAULTS, _RARE_DEFAULTS = (
    tuple(None if field in _ALWAYS else _DEFAULTS.get(field) for field in fields) for fields in (_USUAL, _RARE)
)
"""The value at which each is left out."""
_usual_values, _rare_values, _total_values, _own_values = (
    operator.attrgetter(*fields) for fields in (_USUAL, _RARE, _OWN_OF_TOTAL, _OWN_OF_TOTAL.values())
)


def _from_span(span: ReadableSpan) -> CompletedStep:
    attributes: Mapping[str, Any] = span.attributes or {}
    if attr.RECEIPT_ID not in attributes:
        raise ValueError(f"span {span.name!r} is not a step's: it has no attribute {attr.RECEIPT_ID}")
    fields: dict[str, Any] = {field: attributes[key] for field, key in _SPAN_KEYS if key in attributes}
    for total, own in _OWN_OF_TOTAL.items():
        if total not in fields and own in fields:
            fields[total] = fields[own]
    context = span.get_span_context()
    if context is not None and context.is_valid:
        fields["trace_id"] = f"{context.trace_id:032x}"
        fields["span_id"] = f"{context.span_id:016x}"
    fields["started_at"] = rfc3339(span.start_time or 0)
    fields["ended_at"] = rfc3339(span.end_time or 0)
    return msgspec.convert(fields, CompletedStep)
