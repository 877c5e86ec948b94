"""The lines of the journal: one JSON object each, told apart by `kind`; how they are written, and read back."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from ..bounds import INT64_MAX, clamp_int64, name_text, valid_text
from ..record import SCHEMA, CompletedStep, to_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..usage import Usage


LINE_MAX_BYTES: Final = 64 * 1024
"""No line is longer: a record above it loses the tails of its lists and texts, never itself."""

RECEIPT: Final = b'{"kind":"receipt",'
OPENED: Final = b'{"kind":"opened",'
SPENT: Final = b'{"kind":"spent",'
KIND: Final = b'{"kind":"'
"""How each line begins. Within a JSON string the quotes would be escaped, so it is found nowhere else."""

_S = TypeVar("_S", bound=msgspec.Struct)

# 17 texts of 256 characters, an error of 1,024 and 3 lists of 32 x 48, at six bytes a character, stay below the bound
_TEXT_MAX_CHARS: Final = 256
_ERROR_MAX_CHARS: Final = 1024
_LIST_MAX: Final = 32
_ITEM_MAX_CHARS: Final = 48


class Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="journal"):
    """First line of each file: who writes it, and where its receipts go (`endpoint`; None: nowhere).

    `opened` counts the lines right behind it that repeat the steps which were open when the file began.
    """

    schema: int = SCHEMA
    writer: str = ""
    seq: int = 1
    pid: int = 0
    host: str = ""
    started_at: str = ""
    durability: str = "process"
    endpoint: str | None = None
    resource: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    opened: int = 0


class Spent(msgspec.Struct, frozen=True, tag_field="kind", tag="spent", omit_defaults=True):
    """One model call charged to an open step; amounts are what this call adds.

    Its time is nanoseconds since the epoch, not text: it is made on the agent's thread, with every call.
    """

    receipt_id: str
    at_ns: int
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    price_source: str | None = None
    invalid_cost: bool = False
    metered: bool = True
    elsewhere: int | None = None
    """Calls that steps elsewhere made, of which these are the totals that came back; None: a call of this step."""
    unconsulted: bool = False


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="closed"):
    """Last line of a writer that ended with no step open."""

    at: str = ""


class SetAside(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="set_aside"):
    """A receipt that will not be sent again by itself, with the reason."""

    why: str
    reason: str
    at: str
    record: CompletedStep


class Opened(msgspec.Struct, frozen=True):
    """The facts of a step that was open: its record with the totals from before the calls that follow."""

    record: CompletedStep


class Receipt(msgspec.Struct, frozen=True):
    """A finished step."""

    record: CompletedStep


Line = Header | Spent | Closed | SetAside | Opened | Receipt


class NewerSchema(ValueError):
    """The line was written by a later version, and is passed over."""


class Damaged(ValueError):
    """The line is torn or damaged."""


class _Probe(msgspec.Struct):
    kind: str = ""
    schema: int = SCHEMA


_encode = msgspec.json.Encoder().encode
decode_record: Final = msgspec.json.Decoder(CompletedStep).decode
_other: msgspec.json.Decoder[Header | Spent | Closed | SetAside] = msgspec.json.Decoder(
    Header | Spent | Closed | SetAside
)
_decode_probe = msgspec.json.Decoder(_Probe).decode


def receipt_line(record: CompletedStep) -> bytes:
    """The line of a finished step. Never fails and never exceeds `LINE_MAX_BYTES`."""
    return RECEIPT + _record_json(record)[1:] + b"\n"


def opened_line(record: CompletedStep) -> bytes:
    """The line of a step that is open and has spent something."""
    return OPENED + _record_json(record)[1:] + b"\n"


def spent_of(receipt_id: str, usage: Usage, at_ns: int) -> Spent:
    """What `usage`, charged to `receipt_id` at the time `at_ns`, adds."""
    return Spent(  # by position: half the time of keywords
        receipt_id,
        at_ns,
        name_text(usage.model),
        usage.input_tokens,
        usage.output_tokens,
        usage.cost_nano_usd,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.price_source,
        usage.invalid_cost,
        usage.metered,
        usage.elsewhere,
        usage.unconsulted,
    )


def spent_line(spent: Spent) -> bytes:
    """The line of one model call."""
    try:
        return _encode(spent) + b"\n"
    except UnicodeEncodeError:
        return _encode(_clean(spent)) + b"\n"


def header_line(header: Header) -> bytes:
    """The first line of a file."""
    return _encode(msgspec.structs.replace(header, resource=_plain(header.resource))) + b"\n"


def closed_line(at: str) -> bytes:
    """The last line of a writer with no step open."""
    return _encode(Closed(at=at)) + b"\n"


def set_aside_line(record: CompletedStep, why: str, reason: str, at: str) -> bytes:
    """The line of a receipt that is set aside."""
    fitting = decode_record(_record_json(record))
    line = SetAside(why=why, reason=valid_text(reason[:_ERROR_MAX_CHARS]), at=at, record=fitting)
    return _encode(line) + b"\n"


def parse(line: bytes) -> Line:
    """What one line says. Raises NewerSchema or Damaged."""
    try:
        if line.startswith(RECEIPT):
            return Receipt(_current(decode_record(line)))
        if line.startswith(OPENED):
            return Opened(_current(decode_record(line)))
        probe = _decode_probe(line)
        if probe.schema > SCHEMA:
            raise NewerSchema(line[:80])
        # the same object written by another tool, with its keys in another order or with blanks
        if probe.kind == "receipt":
            return Receipt(_current(decode_record(line)))
        if probe.kind == "opened":
            return Opened(_current(decode_record(line)))
        return _other.decode(line)
    except NewerSchema:
        raise
    except ValueError as error:  # msgspec's errors, and a UnicodeDecodeError, are all ValueErrors
        if _is_newer(line):
            raise NewerSchema(line[:80]) from error
        raise Damaged(line[:80]) from error


def pieces(line: bytes) -> Iterator[bytes]:
    """The whole lines that may hide in a damaged one: a torn line swallows the end that separates it from the next."""
    start = line.rfind(KIND)
    found: list[bytes] = []
    while start > 0:
        found.append(line[start:])
        line = line[:start]
        start = line.rfind(KIND)
    # the first piece is what was damaged: tried too, for its own end may have been the only thing lost
    if found:
        found.append(line)
    return reversed(found)


def _current(record: CompletedStep) -> CompletedStep:
    if record.schema > SCHEMA:
        raise NewerSchema(record.receipt_id)
    return record


def _is_newer(line: bytes) -> bool:
    try:
        return _decode_probe(line).schema > SCHEMA
    except ValueError:
        return False


def _record_json(record: CompletedStep) -> bytes:
    try:
        data = to_line(record)
    except UnicodeEncodeError:
        record = _clean(record)
        data = to_line(record)
    # the encoder writes a float that is no number as null, which would not read back
    if len(data) < LINE_MAX_BYTES - 512 and isfinite(record.cost_usd + record.total_cost_usd):
        return data
    return to_line(_fitted(_clean(record)))


def _clean(struct: _S) -> _S:
    """`struct` with every text, list of texts and number made one that JSON can carry."""
    changes = {name: _plain(getattr(struct, name)) for name in struct.__struct_fields__}
    return msgspec.structs.replace(struct, **changes)


def _fitted(record: CompletedStep) -> CompletedStep:
    """`record` with its texts and lists cut so that the line stays within its bound, whatever the texts are."""
    changes: dict[str, Any] = {}
    for name in record.__struct_fields__:
        value: object = getattr(record, name)
        if isinstance(value, str):
            changes[name] = value[: _ERROR_MAX_CHARS if name == "error" else _TEXT_MAX_CHARS]
        elif isinstance(value, tuple):
            texts = cast("tuple[str, ...]", value)
            changes[name] = tuple(text[:_ITEM_MAX_CHARS] for text in texts[:_LIST_MAX])
        elif isinstance(value, int) and not isinstance(value, bool):
            changes[name] = max(-INT64_MAX, clamp_int64(value))
    return msgspec.structs.replace(record, **changes)


def _plain(value: Any) -> Any:
    """`value` as JSON can carry it and give it back: texts valid, numbers finite, anything unknown as its text."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if isfinite(value) else 0.0
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        return {valid_text(str(key)): _plain(item) for key, item in items.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in cast("list[Any]", value))
    return valid_text(str(value))
