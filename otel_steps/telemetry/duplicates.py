"""DuplicateFinder: tells a second report of a model call from a second call."""

from __future__ import annotations

import enum
import threading
from itertools import islice
from typing import Final

from ..usage import Usage
from .call_memory import Memory
from .call_reports import (
    HAND,
    POINT_SLACK_NS,
    Call,
    CountedCall,
    fit,
    input_alike,
    input_keys,
    is_another_call,
    outputs_equal,
    repeats_by_chance,
    told_by_relative,
)

__all__ = ["HAND", "CountedCall", "DuplicateFinder", "Verdict"]

GENERATION: Final = 2048
"""Calls of a generation; the latest two are remembered, to judge reports without a known response id by."""
GENERATION_IDS: Final = 16384
"""Response ids of a generation; the latest two are remembered."""
SCAN: Final = 256
"""Calls of equal input that are looked at for one report, the latest first."""
CERTAIN: Final = 0.9
"""Two reports that share so much of their time, and output, need no better match."""

_DEPTH: Final = 64
"""Spans between a late report and the request it belongs to."""
_NAMES_MAX: Final = 8
"""Names of its model that a call is known by."""


class Verdict(enum.Enum):
    """What to do with a report."""

    COUNT = "count"
    """A call of its own: charge it, one more call."""
    DISCARD = "discard"
    """A call that was counted already: charge nothing, one more discarded duplicate."""
    COMPLETE = "complete"
    """The usage of a call that was counted without: charge it, no further call, one unmetered call fewer."""


class DuplicateFinder:
    """Judges the reports under one root scope, in the order in which they arrive. Safe from any thread.

    The rules, the first that applies decides:
    1. The same response id is the same call, whoever tells it and whenever. (But short ids, as some local servers
       count them, repeat by chance: of calls that look different they mean nothing.)
    2. A late report belongs to the latest request of its scope and parent that has none yet.
    3. Different response ids of one kind (`chatcmpl-a`, `chatcmpl-b`) are different calls, unless one span is the
       parent of the other and all counts are equal.
    4. Parent and child of different scopes with equal input are one call; of the same scope, if output is equal too.
       A parent whose input and output are the sums over its counted children repeats them. A parent completes its
       child's call if only the parent tells usage; a report without usage repeats its parent's or child's call. Spans
       between the two that tell of no call change nothing. What was found by rule 5 makes no relatives in the call's
       own scope: of many equal calls it may be another's.
    5. Spans of different scopes that overlap by half of the shorter one, and begin or end together, with equal input,
       are one call; without usage on either side too. Not so where something tells them apart: models of different
       vendors or sizes, a call for embeddings and another one, calls in different branches of the work. Of several, one
       with equal output goes first, then the one that shares most of its time.
    One call is repeated at most once by each other scope (rules 4 and 5), so that N parallel calls of equal prompts,
    told by two scopes, are N. Equal input means equal with or without cached tokens.

    Memory is bounded by `GENERATION` and `GENERATION_IDS`, whatever the number of calls.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._new = Memory()
        self._old = Memory()
        self._scopes: set[str] = set()
        self._ids: dict[str, Call] = {}
        self._old_ids: dict[str, Call] = {}

    def judge(self, report: CountedCall) -> Verdict:
        """What `report` is: a call to count, a duplicate to discard, or the usage of a call counted without."""
        keys = input_keys(report.usage)
        with self._lock:
            if report.scope_name not in self._scopes and report.span_id:
                self._scopes.add(report.scope_name)
            known = self._known(report)
            if known is not None:
                known.add_span(report)
            elif report.scope_name != HAND and report.span_id:
                known = self._contemporary(report, keys)
            if known is not None:
                return self._merge(known, report, keys)
            call = Call(report, keys)
            if report.response_id is not None:
                self._keep_id(report.response_id, call)
            if report.span_id and report.scope_name != HAND:
                memory = self._new
                if memory.size >= GENERATION:
                    self._old, self._new = memory, Memory()
                    memory = self._new
                memory.relate(call, report)
                memory.unlisted.append(call)
            return Verdict.COUNT

    def is_duplicate(self, report: CountedCall) -> bool:
        """Whether `report` is to be discarded; see `judge`."""
        return self.judge(report) is Verdict.DISCARD

    def _known(self, report: CountedCall) -> Call | None:
        """The call that `report` tells of by its response id or its place in the tree of spans."""
        if report.response_id is not None:
            call = self._ids.get(report.response_id) or self._old_ids.get(report.response_id)
            if call is not None and not repeats_by_chance(call, report):
                return call
        if report.scope_name == HAND or not report.span_id:
            return None
        if report.late:
            call = self._request_of(report)
            if call is not None:
                return call
        new, old, above, span = self._new, self._old, report.parent_span_id, report.span_id
        if above in new.spans or above in old.spans or span in new.children or span in old.children:
            return self._relative(report)
        return None

    def _request_of(self, report: CountedCall) -> Call | None:
        place = report.parent_span_id or 0
        siblings = self._children_of(place)
        for _ in range(_DEPTH):
            moved = self._new.moved.get(place) or self._old.moved.get(place)
            if moved is None:
                break
            place = moved
            siblings = self._children_of(place) + siblings
        for call in islice(reversed(siblings), SCAN):
            if call.scope != report.scope_name or call.late_told or call.start > report.end_ns:
                continue
            if call.usage is None or report.usage is None or input_alike(call.usage, report.usage):
                call.late_told = True
                return call
        return None

    def _children_of(self, span_id: int) -> list[Call]:
        old, new = self._old.children.get(span_id), self._new.children.get(span_id)
        return old + new if old and new else new or old or []

    def _relative(self, report: CountedCall) -> Call | None:
        above = report.parent_span_id
        parent = self._new.spans.get(above) or self._old.spans.get(above) if above else None
        if parent is not None and self._tells_too(parent, report):
            return parent
        children = self._children_of(report.span_id)
        fitting = [call for call in children if self._tells_too(call, report)]
        for call in reversed(fitting):
            if call.usage is not None:
                return call
        if report.usage is not None and _is_sum(report.usage, children):
            self._pass_on(report.span_id, above)
            return children[-1]
        return fitting[-1] if fitting else None

    def _tells_too(self, call: Call, report: CountedCall) -> bool:
        """Whether `report`, a relative of a span that told of `call`, tells of it too.

        In the call's own scope it has to be in one line with the spans that surely told of it. A span which was found
        to tell of it by its time alone may belong to one of many equal calls, and has relatives of its own.
        """
        if not told_by_relative(call, report):
            return False
        if report.scope_name != call.scope or report.parent_span_id in call.spans:
            return True
        return any(self._now_under(above) == report.span_id for above in call.above)

    def _now_under(self, span_id: int | None) -> int | None:
        """The span that takes over what is under `span_id`: itself, or where ended spans that told of no call led."""
        for _ in range(_DEPTH):
            moved = None if span_id is None else self._new.moved.get(span_id) or self._old.moved.get(span_id)
            if moved is None:
                break
            span_id = moved
        return span_id

    def pass_on(self, span_id: int, parent_span_id: int | None) -> None:
        """The span has ended and tells of no call: what its children told, its parent may repeat."""
        if span_id in self._new.children or span_id in self._old.children:
            with self._lock:
                self._pass_on(span_id, parent_span_id)

    def _pass_on(self, span_id: int, parent_span_id: int | None) -> None:
        children = self._children_of(span_id)
        if children and parent_span_id:
            self._new.children.pop(span_id, None)
            self._old.children.pop(span_id, None)
            self._new.children.setdefault(parent_span_id, []).extend(children)
            self._new.moved[span_id] = parent_span_id

    def _contemporary(self, report: CountedCall, keys: tuple[int, ...]) -> Call | None:
        if len(self._scopes) < 2:
            return None
        self._old.list_all()
        self._new.list_all()
        best: Call | None = None
        best_match = 0.0
        scope, start, usage = report.scope_name, report.start_ns, report.usage
        for key in keys:
            for memory in (self._new, self._old):
                scopes = memory.alike.get(key)
                if scopes is None:
                    continue
                for other, alike in scopes.items():
                    if other == scope:
                        continue
                    for calls in (alike.untold, alike.told):
                        for call in islice(reversed(calls), SCAN):
                            if call.end + POINT_SLACK_NS < start:
                                break  # reports arrive about when calls end: what is behind ended earlier still
                            if scope in call.told_by:
                                continue
                            match = fit(call.start, call.end, start, report.end_ns)
                            if not match or is_another_call(call, report):
                                continue
                            if usage is None or outputs_equal(call.usage, usage):
                                match += 1
                            if match > best_match:
                                best, best_match = call, match
                                if match > 1 + CERTAIN:
                                    return call
        return best

    def _merge(self, call: Call, report: CountedCall, keys: tuple[int, ...]) -> Verdict:
        report.awaits = None
        if call.awaits is not None and (report.late or report.usage is not None):
            report.awaits, call.awaits = call.awaits, None
        if report.scope_name == call.scope:
            call.nested_told = True
        self._told(call)
        if report.scope_name not in call.told_by:
            call.told_by += (report.scope_name,)
        if report.response_id is not None:
            call.response_id = call.response_id or report.response_id
            self._keep_id(report.response_id, call)
        if report.scope_name != HAND and report.span_id:
            self._new.relate(call, report)  # a discarded report's relatives are the call's
        if report.models != call.models and len(call.models) < _NAMES_MAX:
            call.models += report.models
        if call.usage is not None or report.usage is None:
            return Verdict.DISCARD
        call.usage, call.keys = report.usage, keys
        report.where = call.where or report.where
        call.start, call.end = min(call.start, report.start_ns), max(call.end, report.end_ns)
        if call.scope != HAND:
            self._new.unlisted.append(call)  # by its usage now, too: what it was listed by, as one without, is no harm
        return Verdict.COMPLETE

    def _told(self, call: Call) -> None:
        """Look at `call` after those of which no other scope has told yet."""
        if len(call.told_by) > 1:
            return
        self._old.list_all()
        self._new.list_all()
        for key in call.keys:
            for memory in (self._new, self._old):
                alike = memory.alike.get(key, {}).get(call.scope)
                if alike is not None:
                    alike.now_told(call)

    def _keep_id(self, response_id: str, call: Call) -> None:
        if len(self._ids) >= GENERATION_IDS:
            self._old_ids, self._ids = self._ids, {}
        self._ids[response_id] = call


def _is_sum(usage: Usage, children: list[Call]) -> bool:
    """Whether `usage` is what several children told, added up."""
    metered = [call.usage for call in dict.fromkeys(children) if call.usage is not None]
    if len(metered) < 2:
        return False
    total = Usage(
        input_tokens=sum(one.input_tokens for one in metered),
        output_tokens=sum(one.output_tokens for one in metered),
        cache_read_tokens=sum(one.cache_read_tokens for one in metered),
        cache_write_tokens=sum(one.cache_write_tokens for one in metered),
    )
    return input_alike(usage, total) and outputs_equal(usage, total)
