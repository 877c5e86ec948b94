"""What is remembered of counted calls: by everything that a later report of the same call can be known by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .call_reports import Call, CountedCall


class Alike:
    """Calls of one scope with equal input: those that no other scope has told of, and the others."""

    __slots__ = ("told", "untold")

    def __init__(self) -> None:
        self.untold: dict[Call, None] = {}
        self.told: dict[Call, None] = {}

    def now_told(self, call: Call) -> None:
        """Put `call` behind."""
        if self.untold.pop(call, self) is None:
            self.told[call] = None


class Memory:
    """One generation of calls, by everything that a report of the same call can be known by."""

    __slots__ = ("alike", "children", "moved", "size", "spans", "unlisted")

    def __init__(self) -> None:
        self.size: int = 0
        self.spans: dict[int, Call] = {}
        self.children: dict[int, list[Call]] = {}
        self.moved: dict[int, int] = {}
        """Where the children of ended spans that told of no call went."""
        self.alike: dict[int, dict[str, Alike]] = {}
        self.unlisted: list[Call] = []

    def relate(self, call: Call, report: CountedCall) -> None:
        """Know `call` by the report's span and by its parent."""
        self.size += 1
        self.spans.setdefault(report.span_id, call)
        parent = report.parent_span_id or 0
        if parent != call.parent:
            call.parent = parent
            siblings = self.children.get(parent)
            if siblings is None:
                self.children[parent] = [call]
            else:
                siblings.append(call)

    def list_all(self) -> None:
        """Know the calls that came in since the last time by their input: nobody asks before a second scope reports."""
        for call in self.unlisted:
            for key in call.keys:
                scopes = self.alike.setdefault(key, {})
                alike = scopes.get(call.scope)
                if alike is None:
                    alike = scopes[call.scope] = Alike()
                alike.untold[call] = None
        self.unlisted.clear()
