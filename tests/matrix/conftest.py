"""Plays each environment's cells once, and keeps what came of all of them for the page."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.matrix.cells import FRAMEWORKS, Cell
from tests.matrix.environments import ROOT, python_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESULT = ROOT / "build" / "matrix" / "result.json"


class Played:
    """The facts of the cells that this run asks for. A runner plays those of a framework, in order."""

    def __init__(self, cells: list[Cell], folder: Path) -> None:
        self._cells: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            self._cells[cell.framework].append(cell)
        self._folder = folder
        self._runners: dict[str, subprocess.Popen[str]] = {}
        self.facts: dict[str, dict[str, Any]] = {}

    def facts_of(self, cell: Cell) -> dict[str, Any]:
        """Scenario -> facts; waits until they are told. A scenario that its runner left out is not there."""
        if cell.framework not in self._runners:
            self._runners[cell.framework] = self._play(cell.framework)
        lines = self._runners[cell.framework].stdout
        assert lines is not None
        facts = self.facts[cell.id]
        while len(facts) < len(cell.scenarios) and (line := lines.readline()):
            cell_id, scenario, told = json.loads(line)
            self.facts[cell_id][scenario] = told
        return facts

    def errors(self, framework: str) -> str:
        """What the framework's runner wrote to standard error, its end."""
        return (self._folder / f"{framework}.txt").read_text(encoding="utf-8", errors="replace")[-4000:]

    def _play(self, framework: str) -> subprocess.Popen[str]:
        python = python_of(FRAMEWORKS[framework].environment)
        asked = [(cell.id, framework, cell.names, cell.mode, cell.scenarios) for cell in self._cells[framework]]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTEST_"))}
        environment |= {
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "*",
            "no_proxy": "*",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        self.facts |= {cell.id: {} for cell in self._cells[framework]}
        with (self._folder / f"{framework}.txt").open("w") as errors:
            runner = subprocess.Popen(
                [python, "-m", "tests.matrix.runner"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        assert runner.stdin is not None
        with runner.stdin as standard_input:
            json.dump(asked, standard_input)
        return runner

    def end(self) -> None:
        """End the runners, which have nothing more to say when all their cells were asked for."""
        for runner in self._runners.values():
            with runner:
                runner.terminate()


@pytest.fixture(scope="session")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """What the cells of this run came to; written to build/matrix/result.json at the end."""
    cells = [item.callspec.params.get("cell") for item in request.session.items if hasattr(item, "callspec")]
    played = Played([cell for cell in cells if isinstance(cell, Cell)], tmp_path_factory.mktemp("matrix"))
    yield played
    played.end()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(played.facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
