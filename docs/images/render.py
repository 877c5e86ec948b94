"""Draw demo.svg from a real run of the demo (`python docs/images/render.py`), after a change of what it prints."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from otel_steps.cli.demo_output import summary, tell
from otel_steps.cli.demo_run import run_demo
from otel_steps.cli.terminal import line

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run it in a home folder of its own, so that the picture shows nobody's paths."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        out = Console(record=True, width=104, file=StringIO(), force_terminal=True, highlight=False, emoji=False)
        line(out, Text.assemble(("$ ", "dim"), ("otel-steps demo", "bold")))
        line(out)
        outcome = run_demo(
            Path(home) / ".local/state/otel-steps/demo", None, lambda record, wanted: tell(out, record, wanted)
        )
        summary(out, outcome)
        drawn = out.export_svg(title="otel-steps demo")
        # the reader's own fonts: a picture fetches nothing
        (HERE / "demo.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
