"""Writes the tables of docs/explanation/performance.md from figures that `--json` kept; give it their file."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"
TABLE = re.compile(r"(<!-- table of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(figures: list[dict[str, Any]], *, peers: bool) -> str:
    """The rows with a target, or those of peers, which have none."""
    rows = [row for row in figures if (row["target"] is None) == peers]
    verdict = "" if peers else " target | |"
    lines = [f"| what | median | quartiles |{verdict} |", f"|---|---|---|{'' if peers else '---|---|'}---|"]
    for row in rows:
        unit, cells = row["unit"], [row["name"], _figure(row["median"], row["unit"])]
        spread = row["low"] != row["high"]
        cells.append(f"{_number(row['low'])} - {_number(row['high'])}" if spread else "")
        if not peers:
            reached = row["median"] <= row["target"]
            cells += [_figure(row["target"], unit), "reached" if reached else "**missed**"]
        lines.append(f"| {' | '.join([*cells, row['note']])} |")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _figure(value: float, unit: str) -> str:
    return f"{_number(value)} {unit}"


def main() -> None:
    """Put both tables between their marks."""
    figures = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["figures"]
    page = PAGE.read_text(encoding="utf-8")
    page = TABLE.sub(lambda found: found[1] + table(figures, peers=found[2] == "peers") + found[3], page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
