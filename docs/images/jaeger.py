"""Draw jaeger.svg from what the real Jaeger answers about a run of the demo, after a change of spans or attributes.

With `make jaeger` and `make collector` running: `python docs/images/jaeger.py` runs the demo, asks Jaeger's API for
its trace, and draws the tree as trace viewers do. (A Jaeger built from source has an API and no pages of its own.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).resolve().parent
COLLECTOR: Final = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
JAEGER: Final = f"http://127.0.0.1:{os.environ.get('OTEL_STEPS_JAEGER_UI_PORT', '16686')}"
SERVICE: Final = "otel-steps-demo"
CHOSEN: Final = "review"
"""The span whose attributes are shown."""
TAGS: Final = (
    *("status", "persona", "breached", "error_boundary", "max_usd", "cost_usd", "llm_calls"),
    *("input_tokens", "output_tokens", "model", "receipt_id", "run_id"),
)
WIDTH: Final = 1040
NAMES: Final = 330
ROW: Final = 25
TOP: Final = 66
RIGHT: Final = WIDTH - 24
COLOURS: Final = {"run": "#c5c8c6", "persona": "#8abeb7", "step": "#81a2be", "call": "#5f6770"}
STATUS: Final = {"completed": "#98a84b", "skipped": "#d0b344", "escalated": "#b294bb", "failed": "#cc555a"}


@dataclass
class Span:
    """One span as Jaeger tells it."""

    id: str
    name: str
    start: int
    length: int
    tags: dict[str, Any]
    events: list[dict[str, Any]]
    parent: str | None
    children: list[Span] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """`run`, `persona`, `step`, or `call` where it is not ours."""
        return str(self.tags.get("otel_steps.kind", "step" if "otel_steps.status" in self.tags else "call"))

    @property
    def colour(self) -> str:
        """Steps by how they ended, others by their kind."""
        return STATUS[self.tags["otel_steps.status"]] if self.kind == "step" else COLOURS[self.kind]

    @property
    def label(self) -> str:
        """What stands beside its bar."""
        length = f"{self.length / 1000:.0f} ms"
        if self.kind == "call":
            return length
        cost = self.tags.get("otel_steps.total_cost_nano_usd", self.tags.get("otel_steps.cost_nano_usd", 0)) / 1e9
        return f"{self.tags['otel_steps.status']}  ${cost:.4f}  {length}"


def main() -> None:
    """Run the demo, wait for its trace, draw it."""
    with tempfile.TemporaryDirectory() as store:
        demo = [str(Path(sys.executable).parent / "otel-steps"), "demo", "--json"]
        told = subprocess.run(
            [*demo, "--endpoint", COLLECTOR, "--store", store], check=True, capture_output=True, text=True
        ).stdout
    trace = _trace(json.loads(told)["trace_id"])
    (HERE / "jaeger.svg").write_text(_svg(_tree(trace)), encoding="utf-8")


def _trace(trace_id: str) -> dict[str, Any]:
    """The trace, once Jaeger has all of it: the run's own span ends last."""
    for _ in range(100):
        with urlopen(f"{JAEGER}/api/traces?{urlencode({'service': SERVICE, 'limit': 20})}", timeout=10) as answer:
            found = json.load(answer)["data"]
        for trace in found:
            if trace["traceID"] == trace_id and any(not span["references"] for span in trace["spans"]):
                whole: dict[str, Any] = trace
                return whole
        time.sleep(0.1)
    raise SystemExit(f"Jaeger at {JAEGER} does not have the trace {trace_id}")


def _tree(trace: dict[str, Any]) -> Span:
    spans = {
        span["spanID"]: Span(
            id=span["spanID"],
            name=span["operationName"],
            start=span["startTime"],
            length=span["duration"],
            tags={tag["key"]: tag["value"] for tag in span["tags"]},
            events=[{each["key"]: each["value"] for each in log["fields"]} for log in span["logs"]],
            parent=next((each["spanID"] for each in span["references"]), None),
        )
        for span in trace["spans"]
    }
    for span in sorted(spans.values(), key=lambda each: each.start):
        if span.parent is not None:
            spans[span.parent].children.append(span)
    (root,) = (span for span in spans.values() if span.parent is None)
    return root


def _rows(span: Span, depth: int = 0) -> Iterator[tuple[int, Span]]:
    yield depth, span
    for child in span.children:
        yield from _rows(child, depth + 1)


def _svg(root: Span) -> str:
    rows = list(_rows(root))
    chosen = next(span for _, span in rows if span.name == CHOSEN)
    parts = [*_head(root, len(rows)), *_axis(root, len(rows))]
    places: dict[str | None, int] = {}
    for number, (depth, span) in enumerate(rows):
        places[span.id] = TOP + number * ROW
        parts += _row(root, span, depth, TOP + number * ROW, places.get(span.parent, 0))
    panel = TOP + len(rows) * ROW + 18
    parts += _panel(chosen, panel)
    height = panel + 52 + (len(TAGS) + 1) // 2 * 20 + 24 * len(chosen.events) + 34
    parts.append(
        _text(24, height - 18, "Drawn from the answer of Jaeger 2.13 to /api/traces about one run of the demo", "dim")
    )
    style = (
        'text{font:13px "Fira Code",ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#c5c8c6}'
        ".b{font-weight:bold}.dim{fill:#868887;font-size:12px}.on{fill:#292929;font-size:12px}.key{fill:#8abeb7;font-size:12px}.val{font-size:12px}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="The trace of one run of the demo, as a tree of spans over time">\n<style>{style}</style>\n'
        f'<rect x="1" y="1" width="{WIDTH - 2}" height="{height - 2}" rx="8" fill="#292929" '
        'stroke="rgba(255,255,255,0.35)"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _head(root: Span, count: int) -> Iterator[str]:
    for x, colour in ((26, "#ff5f57"), (48, "#febc2e"), (70, "#28c840")):
        yield f'<circle cx="{x}" cy="22" r="7" fill="{colour}"/>'
    told = f"{SERVICE}: {root.name}   {count} spans, {root.length / 1e6:.2f} s"
    yield _text(WIDTH / 2, 27, told, "b", anchor="middle")


def _axis(root: Span, count: int) -> Iterator[str]:
    for part in range(5):
        x = NAMES + (RIGHT - NAMES) * part / 4
        yield f'<line x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{TOP + count * ROW}" stroke="#3d3d3d"/>'
        anchor = "end" if part == 4 else "start" if part == 0 else "middle"
        yield _text(x, TOP - 12, f"{root.length / 4e6 * part:.2f} s", "dim", anchor=anchor)


def _row(root: Span, span: Span, depth: int, y: int, above: int) -> Iterator[str]:
    if span.name == CHOSEN:
        yield f'<rect x="8" y="{y}" width="{WIDTH - 16}" height="{ROW}" rx="4" fill="#35393d"/>'
    x = 24 + depth * 20
    if depth:
        yield f'<path d="M{x - 17} {above + ROW / 2 + 6}V{y + ROW / 2}H{x - 3}" stroke="#5f6770" fill="none"/>'
    yield f'<circle cx="{x + 3}" cy="{y + ROW / 2}" r="4" fill="{span.colour}"/>'
    yield _text(x + 14, y + 17, span.name, "b" if span.kind == "step" else "" if span.kind != "call" else "dim")
    scale = (RIGHT - NAMES) / root.length
    left, wide = NAMES + (span.start - root.start) * scale, max(span.length * scale, 2)
    yield f'<rect x="{left:.1f}" y="{y + 5}" width="{wide:.1f}" height="{ROW - 10}" rx="2" fill="{span.colour}"/>'
    label = span.label
    after = RIGHT - left - wide - 10 > len(label) * 7.3
    before = left - NAMES - 10 > len(label) * 7.3
    if after or before:
        yield _text(left + wide + 8 if after else left - 8, y + 17, label, "dim", anchor="start" if after else "end")
    else:
        yield _text(left + wide - 8, y + 17, label, "on", anchor="end")


def _panel(span: Span, y: int) -> Iterator[str]:
    yield f'<line x1="8" y1="{y}" x2="{WIDTH - 8}" y2="{y}" stroke="#5f6770"/>'
    yield _text(24, y + 26, span.name, "b")
    yield _text(24 + 8 * len(span.name) + 16, y + 26, "attributes", "dim")
    half = (len(TAGS) + 1) // 2
    for number, name in enumerate(TAGS):
        x, line = (24, number) if number < half else (WIDTH / 2, number - half)
        at = y + 52 + line * 20
        yield _text(x, at, f"otel_steps.{name}", "key")
        yield _text(x + 215, at, str(span.tags.get(f"otel_steps.{name}", "-")), "val")
    for number, event in enumerate(span.events):
        at = y + 52 + half * 20 + number * 24 + 8
        yield _text(24, at, event["event"], "key")
        yield _text(24 + 215, at, str(event.get("message") or event.get("target") or ""), "val")


def _text(x: float, y: float, words: str, kind: str = "", *, anchor: str = "start") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} class="{kind}" xml:space="preserve">{escape(words)}</text>'


if __name__ == "__main__":
    main()
