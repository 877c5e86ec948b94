"""Hooks: who is told of an event, who may say no, and how their answers are read."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, NamedTuple, TypedDict

from ..checks import is_list, is_mapping, mistake, one_of
from ..errors import DefinitionError, OtelStepsError

EventName = Literal[
    "PreStep",
    "PostStep",
    "OnBudgetThreshold",
    "OnApprovalRequested",
    "OnHandoffEmitted",
    "OnPersonaPaused",
    "OnPersonaResumed",
]
EVENTS: Final[tuple[EventName, ...]] = (
    "PreStep",
    "PostStep",
    "OnBudgetThreshold",
    "OnApprovalRequested",
    "OnHandoffEmitted",
    "OnPersonaPaused",
    "OnPersonaResumed",
)


_EVENT_OF: Final[dict[str, EventName]] = {name: name for name in EVENTS}


class HookStep(TypedDict):
    """The step an event is about."""

    name: str
    function: str | None
    args: list[Any]
    kwargs: dict[str, Any]


class HookEvent(TypedDict, total=False):
    """What a handler is told. `output` comes with PostStep; the limit's fields with OnBudgetThreshold."""

    event: str
    target: str
    persona: str
    step: HookStep
    output: Any
    limit_name: str
    limit: float
    consumed: float
    pct: float
    what: str
    kind: str | None
    reason: str | None


Handler = Callable[[Any], Any]


class Hook:
    """One registration; the same handler registered twice fires twice."""

    __slots__ = ("event", "handler", "pattern", "step", "threshold_pct")

    def __init__(
        self, pattern: str, step: str | None, event: EventName, handler: Handler, threshold_pct: float | None = None
    ) -> None:
        self.pattern: str = pattern
        self.step: str | None = step
        self.event: EventName = event
        self.handler: Handler = handler
        self.threshold_pct: float | None = threshold_pct

    def matches(self, persona: str, step: str | None) -> bool:
        """Whether the hook is for this persona (glob; none is the empty text) and step (exact)."""
        if self.step is not None and self.step != step:
            return False
        return self.pattern == "*" or fnmatchcase(persona, self.pattern)


class HookTable:
    """Registered hooks in order; the table is swapped whole, so readers take no lock."""

    def __init__(self) -> None:
        self._by_event: dict[EventName, tuple[Hook, ...]] = {}

    def add(self, pattern: Any, step: Any, event: Any, handler: Any, threshold_pct: Any) -> None:
        """Register `handler`. Raises DefinitionError for an unknown event, a bad pattern, threshold or handler."""
        name, in_name = _parse_event(event)
        if threshold_pct is None:
            threshold_pct = in_name
        elif in_name is not None and in_name != threshold_pct:
            raise mistake("threshold_pct", threshold_pct, f"one threshold; the event already says {in_name:g}")
        if threshold_pct is not None:
            _check_threshold(name, threshold_pct)
        if not isinstance(pattern, str):
            raise mistake("persona", pattern, 'a persona name or glob, "*" for any')
        if step is not None and (not isinstance(step, str) or not step):
            raise mistake("step", step, "a step's name, or None for any")
        if not callable(handler):
            raise mistake("handler", handler, "a function of one argument, the event")
        hook = Hook(pattern, step, name, handler, threshold_pct)
        table = dict(self._by_event)
        table[name] = (*table.get(name, ()), hook)
        self._by_event = table

    def copied(self) -> HookTable:
        """A table of its own with the same hooks."""
        made = HookTable()
        made._by_event = self._by_event
        return made

    def clear(self) -> None:
        """Forget every hook."""
        self._by_event = {}

    def any(self, event: EventName) -> bool:
        """Whether anybody listens to `event`."""
        return event in self._by_event

    def matching(self, event: EventName, persona: str, step: str | None) -> list[Hook]:
        """The hooks for an event of this persona and step, in order of registration."""
        return [hook for hook in self._by_event.get(event, ()) if hook.matches(persona, step)]


def _parse_event(event: Any) -> tuple[EventName, float | None]:
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*([^)]*?)\s*%?\s*\))?\s*", event) if isinstance(event, str) else None
    name = None if match is None else _EVENT_OF.get(match.group(1))
    if match is None or name is None:
        raise mistake("event", event, one_of(EVENTS))
    if match.group(2) is None:
        return name, None
    try:
        threshold = float(match.group(2))
    except ValueError:
        raise mistake("event", event, '"OnBudgetThreshold(80)", a percentage in the brackets') from None
    _check_threshold(name, threshold)
    return name, threshold


def _check_threshold(event: EventName, threshold: Any) -> None:
    if event != "OnBudgetThreshold":
        raise mistake("threshold_pct", threshold, "no threshold: only OnBudgetThreshold has one")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold < float("inf"):
        raise mistake("threshold_pct", threshold, "a finite number >= 0 (per cent)")


def payload(event: str, persona: str, step: str | None, function: str | None, **more: Any) -> HookEvent:
    """The mapping a handler gets."""
    told = HookEvent(event=event, persona=persona)
    told["target"] = f"{persona}.{step}" if persona and step else (step or persona)
    args, kwargs = more.pop("args", ()), more.pop("kwargs", {})
    told["step"] = HookStep(name=step or "", function=function, args=list(args), kwargs=dict(kwargs))
    told.update(more)  # type: ignore[typeddict-item]
    return told


class Denial(NamedTuple):
    """A handler said no."""

    reason: str


class Rewrite(NamedTuple):
    """A handler rewrote the arguments; None leaves them."""

    args: tuple[Any, ...] | None
    kwargs: dict[str, Any] | None


def read_pre_answer(answer: Any) -> Denial | Rewrite | None:
    """A PreStep handler's answer. Raises OtelStepsError where it is none of the agreed forms."""
    if answer is None or _is(answer, "Allow"):
        return None
    if not is_mapping(answer):
        raise _bad_answer("PreStep", answer, 'None, "Allow" or a dict')
    if (denial := _read_denial(answer)) is not None:
        return denial
    given, kwargs = (answer.get(key) for key in ("args", "kwargs"))
    args = given if is_list(given) else answer.get("modify")
    rewrite = Rewrite(tuple(args) if is_list(args) else None, dict(kwargs) if is_mapping(kwargs) else None)
    return None if rewrite.args is None and rewrite.kwargs is None else rewrite


def read_post_answer(answer: Any, output: Any) -> Any:
    """The output after a PostStep handler's answer. Raises OtelStepsError where it is none of the agreed forms."""
    if answer is None or _is(answer, "Pass"):
        return output
    if not is_mapping(answer):
        raise _bad_answer("PostStep", answer, 'None, "Pass" or a dict')
    for key in ("output", "result", "modify"):
        if key in answer:
            return answer[key]
    return output


def read_approval(answer: Any) -> bool | Denial | None:
    """An OnApprovalRequested handler's answer: True allows, a Denial denies, None leaves it to the next."""
    if answer is None:
        return None
    if answer is True or _is(answer, "Allow", "Approve"):
        return True
    if answer is False or _is(answer, "Deny"):
        return Denial(_DENIED)
    if not is_mapping(answer):
        raise _bad_answer("OnApprovalRequested", answer, 'None, True, False, "Allow", "Deny" or a dict')
    said = [answer[key] for key in ("allow", "approve", "approved") if isinstance(answer.get(key), bool)]
    if said:  # here a reason goes with either answer
        return True if all(said) and "deny" not in answer else _read_denial(answer) or Denial(_DENIED)
    return True if _is(answer.get("action"), "allow", "Allow", "approve") else _read_denial(answer)


def _read_denial(answer: Mapping[Any, Any]) -> Denial | None:
    """A dict that has `deny` or `reason`, whatever they hold, denies: what is meant as a no is never read as a yes."""
    if "deny" not in answer and "reason" not in answer and not _is(answer.get("action"), "deny", "Deny"):
        return None
    texts = (text for text in (answer.get("deny"), answer.get("reason")) if isinstance(text, str) and text)
    return Denial(next(texts, _DENIED))


def _is(answer: Any, *words: str) -> bool:
    return isinstance(answer, str) and answer in words


def _bad_answer(event: str, answer: Any, wanted: str) -> OtelStepsError:
    return OtelStepsError(f"a {event} hook answered {answer!r}; answer {wanted}")


_DENIED: Final = "denied without a reason"


def refuse_awaitable(answer: Awaitable[Any]) -> DefinitionError:
    """The error for an async handler where nothing can be awaited; closes the coroutine."""
    close = getattr(answer, "close", None)
    if close is not None:
        close()
    return DefinitionError(
        "an async hook cannot be awaited in sync code; make the hook a plain function or the step async",
        field="handler",
    )
