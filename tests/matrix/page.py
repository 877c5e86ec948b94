"""Writes docs/reference/instrumentations.md from what the matrix came to: `python -m tests.matrix.page`."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.matrix.cells import FRAMEWORKS, Cell, Set, cells
from tests.matrix.environments import ROOT
from tests.matrix.exceptions import exception_for
from tests.matrix.judge import broken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Result = Mapping[str, Mapping[str, Any]]

PAGE = ROOT / "docs" / "reference" / "instrumentations.md"
RESULT = ROOT / "build" / "matrix" / "result.json"
PREFIXES = {
    "genai-": "opentelemetry-instrumentation-genai-",
    "traceloop-": "opentelemetry-instrumentation-",
    "openinference-": "openinference-instrumentation-",
}
OTHERS = {
    "anthropic": "the client itself (on by default)",
    "pydantic-ai": "`Agent.instrument_all()`",
    "litellm-otel": '`litellm.callbacks = ["otel"]`',
    "threading": "`opentelemetry-instrumentation-threading`",
}
HEAD = """\
<!-- Written by `python -m tests.matrix.page` from the result of `make matrix`; a test holds both together. -->

# Instrumentations

What otel_steps counts, and where it stops, with the clients, frameworks and instrumentations that people use. Each line
comes from a test that runs the real packages against a provider that knows the truth: three model calls in a step, once
without a limit and once with a `max_usd` that the second call breaks, in each of the modes that are named.

- **Counted**: calls, tokens, cached tokens and cost equal the provider's own figures, each call once, whoever tells it.
- **Stopped at**: where the third call is refused, before it is sent. *Span start*: where the instrumentation opens its
  span. *Client*: in the HTTP client, by the transport gate ([`configure(transport_gate=)`](api.md)), for calls whose
  span says nothing in time or whose framework swallows what is raised there. In all of them the caller of the step gets
  `StepBudgetExceeded`.
- **A denied tool**: whether a tool that the policy denies, and that is not wrapped in `tool(...)`, runs all the same.
  Where it does, nothing opens a span for it that could be refused in time: wrap it.

Streams whose client does not ask OpenAI for the usage cannot be counted by anybody: they are `unmetered_calls` on the
receipt (*stream without usage* below), and `configure(unmetered="stop")` makes the first of them break a dollar limit.

LiteLLM's own callback tells of a call from another thread, some milliseconds after the call has returned. Once it has
begun to write it is waited for, 0.1 s at most; a call that is sent before that may still go out after the one that
broke the limit. An instrumentation of the client beside it closes this gap.

A provider with a `ConcurrentMultiSpanProcessor` calls ours on threads of its own. Calls are counted and refused as
elsewhere, but what runs inside `suspended()` or a hook cannot be told there from the step's own work, and is charged to
the step.

A span processor that was added before ours and raises at the end of a span raises into your code, and keeps that end
from us: the SDK calls nobody behind it. Such a call is not counted.
"""


def main() -> None:
    """Write the page."""
    result: Result = json.loads(RESULT.read_text(encoding="utf-8"))
    missing = [cell.id for cell in cells() if set(result.get(cell.id, ())) != set(cell.scenarios)]
    if missing:
        raise SystemExit(f"{len(missing)} cells are not in {RESULT}, {missing[0]} for one: run the whole matrix first")
    PAGE.write_text(page(result), encoding="utf-8")


def page(result: Result) -> str:
    """The page, from the facts of all cells."""
    text = HEAD
    found = dict(rows(result))
    for key, framework in FRAMEWORKS.items():
        modes = ", ".join(framework.mode_names)
        denies = framework.denies != ()
        pairs = f" Pairs of instrumentations: {', '.join(framework.pair_modes)}." if framework.pair_modes else ""
        text += f"\n## {framework.title}\n\nModes: {modes}.{pairs}\n\n"
        text += "| instrumented by | counted | stopped at |" + (" a denied tool |" if denies else "") + " notes |\n"
        text += "|---|---|---|" + ("---|" if denies else "") + "---|\n"
        text += "".join(found[key, names] for names in framework.sets)
    return text


def rows(result: Result) -> Iterator[tuple[tuple[str, Set], str]]:
    """The lines of the page for which all cells are known, by framework and instrumentations."""
    of_row: dict[tuple[str, Set], list[Cell]] = defaultdict(list)
    for cell in cells():
        of_row[cell.framework, cell.names].append(cell)
    for place, found in of_row.items():
        if all(set(result.get(cell.id, ())) == set(cell.scenarios) for cell in found):
            yield place, _row(found, result)


def _row(found: list[Cell], result: Result) -> str:
    framework = FRAMEWORKS[found[0].framework]
    columns = [
        " + ".join(map(_title, found[0].names)) or "nothing: `record_llm_usage`",
        _said(found, lambda cell: _counted(cell, result)),
        _said(found, lambda cell: _stopped(result[cell.id]["limited"])),
    ]
    if framework.denies:
        asked = [cell for cell in found if "denied" in cell.scenarios]
        columns.append(_said(asked, lambda cell: "runs" if result[cell.id]["denied"]["tool_runs"] else "does not run"))
    columns.append("; ".join(_notes(found)))
    return "| " + " | ".join(columns) + " |\n"


def _notes(found: list[Cell]) -> Iterator[str]:
    seen: dict[str, None] = {}
    for cell in found:
        declared = exception_for(cell)
        if declared is not None:
            seen.setdefault(declared.reason)
    yield from seen


def _said(found: list[Cell], say: Callable[[Cell], str]) -> str:
    """What holds in most modes, and those in which something else does."""
    if not found:
        return "not played"
    said: dict[str, list[str]] = defaultdict(list)
    for cell in found:
        said[say(cell)].append(cell.mode)
    most, *others = sorted(said, key=lambda words: -len(said[words]))
    return "; ".join([most, *(f"{words}: {', '.join(said[words])}" for words in others)])


def _counted(cell: Cell, result: Result) -> str:
    facts = result[cell.id]["free"]
    breaks = broken("free", facts, asks_for_usage=cell.asks_for_usage, by_hand=not cell.names)
    checks = [check.removeprefix("free.") for check in breaks]
    if not checks:
        return "yes"
    if "calls" in checks:
        return "no" if facts["receipt"]["total_llm_calls"] == 0 else "one call too many"
    if "unmetered" in checks:
        return "as unmetered"
    return f"all but {' and '.join(_WORDS.get(check, check) for check in checks)}"


_WORDS = {"cached": "cached tokens"}


def _stopped(facts: Mapping[str, Any]) -> str:
    """Where the call after the limit broke was refused."""
    at = [site for site in facts["stopped_at"] if site in _SITES]
    if facts["error"] is None:
        return "not stopped"
    return _SITES[at[-1]] if at else "exit"


_SITES = {"span": "span start", "transport": "client"}


def _title(name: str) -> str:
    if name in OTHERS:
        return OTHERS[name]
    if name.startswith("logfire-"):
        return f"`logfire.instrument_{name.removeprefix('logfire-').replace('-', '_')}()`"
    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
    return f"`{PREFIXES[prefix]}{name.removeprefix(prefix)}`"


if __name__ == "__main__":
    main()
