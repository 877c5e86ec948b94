#!/usr/bin/env python3
"""Build the Collector and what stands beside it into a cache outside the checkout, and run it.

    python build.py collector|jaeger|all [--print-path]     build what is missing; paths on standard output
    python build.py victoria-metrics|kafka [--print-path]   the same, for fleet/run.py; of Kafka the folder of its jars
    python build.py run collector|jaeger [--config FILE]    build if need be, then run in the foreground

`all` is the Collector and Jaeger. Standard library only. Exit codes: 0 done, 1 failed (with --print-path: not built
yet), 2 wrong usage, 3 no Go of at least 1.25, or no Maven for Kafka.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.dont_write_bytecode = True  # nothing is written beside the manifests

from builds import HERE, BuildError, binary_path, build, say, settings, state_folder, stop  # noqa: E402 - see above
from recipes import DEVELOPMENT, RECIPES, Recipe  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(recipe: Recipe, config: Path) -> None:
    """Become the program: replaces this process. Raises BuildError, ToolMissingError."""
    if not config.is_file():
        raise BuildError(f"no such configuration: {config}")
    binary = build(recipe)
    environment = dict(os.environ)
    reads = settings(config)
    if "OTEL_STEPS_COLLECTOR_RECEIPTS" in reads:
        environment.setdefault("OTEL_STEPS_COLLECTOR_RECEIPTS", str(state_folder() / "receipts.jsonl"))
    say(f"{recipe.name} {recipe.version} with {config}; Ctrl-C ends it. Its settings, each an environment variable:")
    for name, default in sorted(reads.items()):
        say(f"  {name}={environment.get(name, default)}")
    say(recipe.note)
    os.execve(binary, [str(binary), f"--config={config}"], environment)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; ends the program with 2 where it is wrong."""
    parser = argparse.ArgumentParser(description="Build and run the Collector and what stands beside it.")
    parser.add_argument("what", choices=[*RECIPES, "all", "run"])
    parser.add_argument(
        "program", nargs="?", choices=[recipe.name for recipe in DEVELOPMENT], help="with `run`: what to run"
    )
    parser.add_argument("--print-path", action="store_true", help="print where it is; build nothing")
    parser.add_argument("--config", type=Path, help="with `run`: another configuration")
    parsed = parser.parse_args(arguments)
    if (parsed.what == "run") != (parsed.program is not None):
        parser.error(
            "`run` needs one of " + ", ".join(recipe.name for recipe in DEVELOPMENT) + ", and nothing else takes it"
        )
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code. With `run` it does not come back."""
    parsed = parse(arguments)
    signal.signal(signal.SIGTERM, stop)
    try:
        if parsed.what == "run":
            recipe = RECIPES[parsed.program]
            run(recipe, parsed.config or HERE / recipe.config)
        missing = False
        for recipe in DEVELOPMENT if parsed.what == "all" else [RECIPES[parsed.what]]:
            path = binary_path(recipe) if parsed.print_path else build(recipe)
            missing = missing or not path.exists()
            print(path, flush=True)
        return int(missing)
    except BuildError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
