"""Reports of model calls: what one tells, the call it told of, and whether another tells of the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .model_lines import are_other_models

if TYPE_CHECKING:
    from ..runtime.scope import Scope
    from ..usage import Usage
    from .awaited import AwaitedUsage

POINT_SLACK_NS: Final = 1_000_000_000
"""How long after a call's end a report without any length of its own (start = end) may tell of it."""

SPANS_MAX: Final = 16
"""Spans that a call is known by for sure: more than instrumentations stand one inside another."""
HAND: Final = ""
"""Scope name of usage that was reported by hand: nothing but its response id tells it from another call."""
ALIGNED_NS: Final = 5_000_000_000
"""How far apart one call's reports may both begin and end, where the shorter one is shorter still: a busy machine."""

_SHORT_ID = re.compile(r"(?:[a-z]{2,8}[-_])?[\w.]{1,10}", re.IGNORECASE)
_COUNTED_ID = re.compile(r"(?:[a-z]{2,8}[-_])?\d{1,4}", re.IGNORECASE)
_UNMETERED: Final = (-1,)


@dataclass(slots=True)
class CountedCall:
    """One report of a model call. Times are nanoseconds since the epoch; `usage` None: it told none.

    `late` is a report by the same scope, in a sibling span, of a request that has been reported without usage.
    `models` are the names told of its model: asked for, and answered. `embeds`: it is a call for embeddings. `where` is
    the step, persona or run that it started in; by the finder, where the call that it completes did. `awaits` is set
    where its usage is to be told of later; and by the finder, on a report that ends such a wait.
    """

    scope_name: str
    span_id: int = 0
    parent_span_id: int | None = None
    start_ns: int = 0
    end_ns: int = 0
    usage: Usage | None = None
    response_id: str | None = None
    late: bool = False
    models: tuple[str | None, ...] = ()
    embeds: bool = False
    where: Scope | None = None
    awaits: AwaitedUsage | None = None


class Call:
    """A counted call, as its first report told it, and who else has told of it."""

    __slots__ = (
        "above",
        "awaits",
        "embeds",
        "end",
        "keys",
        "late_told",
        "models",
        "nested_told",
        "parent",
        "response_id",
        "scope",
        "spans",
        "start",
        "told_by",
        "usage",
        "where",
    )

    def __init__(self, report: CountedCall, keys: tuple[int, ...]) -> None:
        self.scope: str = report.scope_name
        self.start: int = report.start_ns
        self.end: int = report.end_ns
        self.usage: Usage | None = report.usage
        self.response_id: str | None = report.response_id
        self.keys: tuple[int, ...] = keys
        """Where calls of equal input meet; see `input_keys`."""
        self.told_by: tuple[str, ...] = (self.scope,)
        self.spans: tuple[int, ...] = (report.span_id,)
        """The spans that surely tell of it: the first one's, and those known by response id or as relatives."""
        self.above: tuple[int | None, ...] = (report.parent_span_id,)
        """Their parents."""
        self.parent: int | None = None
        """The parent span of the latest report."""
        self.late_told: bool = False
        self.nested_told: bool = False
        self.models: tuple[str | None, ...] = report.models
        self.embeds: bool = report.embeds
        self.where: Scope | None = report.where
        self.awaits: AwaitedUsage | None = report.awaits

    def add_span(self, report: CountedCall) -> None:
        """`report` surely tells of this call."""
        if len(self.spans) < SPANS_MAX:
            self.spans += (report.span_id,)
            self.above += (report.parent_span_id,)


def told_by_relative(call: Call, report: CountedCall) -> bool:
    """Whether `report`, from the parent or a child of a span that told of `call`, tells of it too."""
    if call.embeds != report.embeds:
        return False
    mine, other = call.usage, report.usage
    both = mine is not None and other is not None
    equal = both and outputs_equal(mine, other) and input_alike(mine, other)
    if ids_differ(call.response_id, report.response_id):
        return equal and report.scope_name not in call.told_by
    if report.scope_name == call.scope:
        return not call.nested_told and (equal or not both)
    return report.scope_name not in call.told_by and (not both or input_alike(mine, other))


def is_another_call(call: Call, report: CountedCall) -> bool:
    """Whether `report`, from a span that is neither parent nor child of `call`'s, cannot tell of it.

    They have different response ids, models of other vendors or sizes, only one is for embeddings, or they started in
    different branches of the work.
    """
    return (
        call.embeds != report.embeds
        or ids_differ(call.response_id, report.response_id)
        or are_other_models(call.models, report.models)
        or _apart(call.where, report.where)
    )


def _apart(mine: Scope | None, other: Scope | None) -> bool:
    """Whether neither scope is inside the other: whoever reports a call, it started in one place."""
    if mine is other or mine is None or other is None:
        return False
    return all(scope is not mine for scope in other.outwards()) and all(scope is not other for scope in mine.outwards())


def input_keys(usage: Usage | None) -> tuple[int, ...]:
    """Keys by which reports of one call meet: input without and with cached tokens; output where input says nothing."""
    if usage is None:
        return _UNMETERED
    inputs = usage.input_tokens
    if inputs <= 0:
        return (-2 - usage.output_tokens if usage.output_tokens > 0 else -2,)
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    return (inputs, inputs + cached) if cached > 0 else (inputs,)


def input_alike(mine: Usage | None, other: Usage | None) -> bool:
    """Whether two usages tell the same input, with or without cached tokens."""
    return not set(input_keys(mine)).isdisjoint(input_keys(other))


def outputs_equal(mine: Usage | None, other: Usage | None) -> bool:
    """Whether two usages are told, and tell the same output."""
    return mine is not None and other is not None and mine.output_tokens == other.output_tokens


def ids_differ(mine: str | None, other: str | None) -> bool:
    """Whether two response ids of one kind are different; ids of different kinds can be names of one response."""
    return mine is not None and other is not None and mine != other and _kind_of_id(mine) == _kind_of_id(other)


def _kind_of_id(response_id: str) -> str:
    prefix = response_id.partition("-")[0].partition("_")[0]
    return prefix if prefix.isalpha() else ""


def repeats_by_chance(call: Call, report: CountedCall) -> bool:
    """Whether equal response ids mean nothing: short ones, as local servers make them, of calls that look different.

    By the same scope, with other counts; counters also by another scope, with other input and output, or where the
    models are of other vendors.
    """
    response_id = report.response_id or ""
    if _SHORT_ID.fullmatch(response_id) is None:
        return False
    mine, other = call.usage, report.usage
    both = mine is not None and other is not None
    if report.scope_name in call.told_by:
        return both and not (outputs_equal(mine, other) and input_alike(mine, other))
    if HAND in {call.scope, report.scope_name} or _COUNTED_ID.fullmatch(response_id) is None:
        return False
    if are_other_models(call.models, report.models):
        return True
    return both and not (outputs_equal(mine, other) or input_alike(mine, other))


def fit(start: int, end: int, other_start: int, other_end: int) -> float:
    """How well two intervals fit: shared part of their union, above 0 and up to 1; 0 where they share too little."""
    shorter = min(end - start, other_end - other_start)
    if shorter <= 0:
        # a point in time: inside the other, or a moment after it
        apart = max(start, other_start) - min(end, other_end)
        return 1e-6 if apart <= POINT_SLACK_NS else 0.0
    shared = min(end, other_end) - max(start, other_start)
    if shared * 2 < shorter:
        return 0.0
    if min(abs(start - other_start), abs(end - other_end)) > max(shorter, ALIGNED_NS):
        return 0.0  # a short call in the middle of a long one
    return shared / (max(end, other_end) - min(start, other_start))
