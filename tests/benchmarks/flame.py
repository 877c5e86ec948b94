"""Draw docs/images/flame-*.svg and print what the dearest functions cost: `python -m tests.benchmarks.flame`.

It needs py-spy (`pip install py-spy`), which samples a process from outside, and where only root may do that, root.
"""

from __future__ import annotations

import html
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
SECONDS, RATE = 20, 500
WIDTH, ROW, LEAST = 1100, 17, 0.004
"""Pixels, and the least share of the whole that is drawn."""
OURS, SDK, OTHERS = "#7fc8a9", "#f3d9a4", "#d9d9d9"


class Frame(NamedTuple):
    """A function, and the colour of whose it is."""

    name: str
    colour: str


Stacks = Counter[tuple[Frame, ...]]


def loop(kind: str, seconds: float) -> None:
    """Steps, or metered model calls in one open step, for so long; prints the microseconds that one took."""
    import otel_steps
    from otel_steps import step

    from .world import configured

    with configured() as world, otel_steps.persona("researcher"):

        @step("plan", model="gpt-4o-mini", max_tokens=10_000, max_usd=1.0)
        def a_step() -> None:
            pass

        def a_call() -> None:
            world.call(world.emitter)

        work = a_step if kind == "step" else a_call
        with step("open", max_tokens=10**12, max_usd=1e6):
            count, started, end = 0, time.thread_time_ns(), time.monotonic() + seconds
            while time.monotonic() < end:
                for _ in range(500):
                    work()
                count += 500
            print((time.thread_time_ns() - started) / count / 1000)


@dataclass
class Node:
    """A frame of the picture: samples in it, and what it called."""

    count: int = 0
    inner: dict[Frame, Node] = field(default_factory=dict)


def sample(kind: str) -> tuple[Stacks, float]:
    """Stack -> samples below the loop, and the microseconds of one piece of work."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        with subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.flame", kind, str(SECONDS + 6)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as measured:
            time.sleep(3)  # it has imported all and is warm
            spy = [str(Path(sys.executable).parent / "py-spy"), "record", "--full-filenames", "--nonblocking"]
            spy += ["-p", str(measured.pid), "-r", str(RATE), "-d", str(SECONDS), "-f", "raw", "-o", str(raw)]
            subprocess.run(spy, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            took_us = float(measured.communicate()[0])
        stacks: Stacks = Counter()
        work = "a_step" if kind == "step" else "a_call"
        for line in raw.read_text(encoding="utf-8").splitlines():
            stack, _, count = line.rpartition(" ")
            frames = tuple(_frame(each) for each in stack.split(";"))
            found = [at for at, frame in enumerate(frames) if frame.name.endswith("flame.loop")]
            if found:
                stacks[(Frame(work, OTHERS), *frames[found[0] + 1 :])] += int(count)
    return stacks, took_us


def _frame(text: str) -> Frame:
    """`package/module.function` of py-spy's `function (file:line)`."""
    function, _, where = text.partition(" (")
    path = Path(where.rpartition(":")[0])
    module = path.parent if path.stem == "__init__" else path.parent / path.stem
    colour = OURS if path.is_relative_to(ROOT / "otel_steps") else SDK if "opentelemetry" in path.parts else OTHERS
    return Frame(f"{module.parent.name}/{module.name}.{function}", colour)


def own_us(stacks: Stacks, took_us: float) -> list[tuple[str, float, float]]:
    """Function of ours -> microseconds of one piece of work in itself and in all that it calls; dearest first."""
    inside: Counter[Frame] = Counter()
    itself: Counter[Frame] = Counter()
    for stack, count in stacks.items():
        for frame in set(stack):
            inside[frame] += count
        itself[stack[-1]] += count
    scale = took_us / sum(stacks.values())
    rows = [(each.name, itself[each] * scale, inside[each] * scale) for each in inside if each.colour == OURS]
    return sorted(rows, key=lambda row: -row[1])


def draw(stacks: Stacks, took_us: float, title: str) -> str:
    """A picture of its own: no script, no font from elsewhere; a frame's width is its share of the time."""
    root = Node()
    for stack, count in stacks.items():
        node = root
        node.count += count
        for frame in stack:
            node = node.inner.setdefault(frame, Node())
            node.count += count
    boxes: list[str] = []
    depth = _boxes(root, 0.0, 0, root.count, took_us, boxes)
    height = (depth + 2) * ROW + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="11"><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
        f'<text x="4" y="14" font-size="13" fill="#222">{html.escape(title)}</text>{"".join(boxes)}</svg>\n'
    )


def _boxes(node: Node, left: float, depth: int, whole: int, took_us: float, boxes: list[str]) -> int:
    deepest = depth
    for frame, inner in sorted(node.inner.items(), key=lambda item: -item[1].count):
        share = inner.count / whole
        if share < LEAST:
            continue
        x, y, width = left * WIDTH, (depth + 1) * ROW + 6, share * WIDTH
        name = frame.name.rpartition("/")[2]
        shown = name if len(name) * 6.2 < width else name[: max(int(width / 6.2) - 1, 0)]
        boxes.append(
            f'<g><title>{html.escape(frame.name)}: {share * took_us:.1f} us</title><rect x="{x:.1f}" y="{y}" '
            f'width="{max(width - 0.5, 0.3):.1f}" height="{ROW - 1}" fill="{frame.colour}"/>'
            + (f'<text x="{x + 2:.1f}" y="{y + 12}" fill="#222">{html.escape(shown)}</text>' if shown else "")
            + "</g>"
        )
        deepest = max(deepest, _boxes(inner, left, depth + 1, whole, took_us, boxes) + 1)
        left += share
    return deepest


def main() -> None:
    """Both pictures, and the tables."""
    for kind, what in (("step", "a step by decorator"), ("call", "a metered model call")):
        stacks, took_us = sample(kind)
        title = f"{what}: {took_us:.0f} us of CPU; green is otel_steps, yellow the SDK, grey others and the caller"
        (IMAGES / f"flame-{kind}.svg").write_text(draw(stacks, took_us, title), encoding="utf-8")
        whose: Counter[str] = Counter()
        for stack, count in stacks.items():
            whose[stack[-1].colour] += count
        shares = [whose[colour] / whose.total() * took_us for colour in (OURS, SDK, OTHERS)]
        print(f"\n{title}\nours {shares[0]:.0f} us, the SDK {shares[1]:.0f} us, others {shares[2]:.0f} us")
        print(f"{'function of ours':44} {'itself':>8} {'with inner':>10}")
        for frame, itself, inside in own_us(stacks, took_us)[:16]:
            print(f"{frame:44} {itself:>5.1f} us {inside:>7.1f} us")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        loop(sys.argv[1], float(sys.argv[2]))
    else:
        main()
