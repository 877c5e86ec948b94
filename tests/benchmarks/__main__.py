"""Run the cases and print the table: `--json FILE` keeps it, `--compare FILE` shows changes, `--only TEXT` picks."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from . import delivery, peers, receipts, scale, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .measure import Figure

CASES: tuple[Callable[[], Iterator[Figure]], ...] = (
    steps.step_by_decorator,
    steps.pricing,
    steps.async_and_generators,
    steps.nothing_configured,
    steps.nobodys_span,
    steps.without_sdk,
    scale.journal,
    scale.memory,
    scale.many_open,
    scale.million,
    delivery.beside_a_collector,
    delivery.delivery_memory,
    receipts.cpu_of_delivery,
    receipts.report,
    scale.import_time,
    peers.peers,
)


def main() -> int:
    """Print every figure as it is measured; the exit code says nothing about speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--compare", type=Path, help="a file that --json wrote on another commit")
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--million", action="store_true", help="report over a real million of receipts, not 100,000")
    asked = parser.parse_args()
    before: dict[str, float] = {}
    if asked.compare is not None:
        before = {row["name"]: row["median"] for row in json.loads(asked.compare.read_text())["figures"]}
    print(_machine())
    print(f"{'what':46} {'median':>10} {'quartiles':>19} {'target':>10}   {'':7}")
    figures: list[Figure] = []
    for case in CASES:
        if asked.only not in case.__name__:
            continue
        for figure in receipts.report(receipts.MILLION) if case is receipts.report and asked.million else case():
            figures.append(figure)
            print(_row(figure, before.get(figure.name)), flush=True)
    if asked.json is not None:
        asked.json.write_text(
            json.dumps({"machine": _machine(), "figures": [asdict(row) for row in figures]}, indent=1)
        )
    return 0


def _row(figure: Figure, before: float | None) -> str:
    unit = figure.unit
    quartiles = f"{figure.low:.2f} - {figure.high:.2f}"
    target = "" if figure.target is None else f"{figure.target:.2f} {unit:<2}"
    verdict = {True: "reached", False: "MISSED", None: ""}[figure.reached]
    change = "" if before is None else f"  before {before:.2f} {unit}"
    return (
        f"{figure.name:46} {figure.median:>8.2f} {unit:<2} {quartiles:>18} {target:>11} {verdict:7} "
        f"{figure.note}{change}"
    )


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("opentelemetry-sdk", "msgspec", "genai-prices"))
    return f"Python {platform.python_version()}, {packages}, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    sys.exit(main())
