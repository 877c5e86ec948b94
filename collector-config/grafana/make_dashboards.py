#!/usr/bin/env python3
"""Write the Grafana dashboards in dashboards/ with a typed library (PyPI grafana-foundation-sdk, group `fleet`).

python collector-config/grafana/make_dashboards.py          write them
python collector-config/grafana/make_dashboards.py --check  exit 1 where one on disk is not what this makes
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cost import cost
from delivery import delivery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from steps import steps

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER: Final = Path(__file__).resolve().parent / "dashboards"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or compare them; the exit code."""
    parser = argparse.ArgumentParser(description="Write the Grafana dashboards.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    check: bool = parser.parse_args(arguments).check
    different: list[str] = []
    for name, made in (("cost", cost()), ("steps", steps()), ("delivery", delivery())):
        text = json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        path = FOLDER / f"{name}.json"
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        different.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if different:
        print(("not what this makes: " if check else "written: ") + ", ".join(different))
    return int(check and bool(different))


if __name__ == "__main__":
    sys.exit(main())
