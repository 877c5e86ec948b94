"""The stages of `make test`, in order: which commands each runs, and what each needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Command = tuple[str, ...]

PYTHON = sys.executable
UV = str(Path(sys.executable).parent / "uv")
RUNTIME_COVERAGE_PERCENT = 100
"""Lines and branches of otel_steps/runtime that the unit tests and vectors must reach."""
EVERYWHERE = ("tests/unit", "tests/vectors")
"""The tests that run on every supported Python, and beside the oldest OpenTelemetry."""


@dataclass(frozen=True)
class Stage:
    """Commands that run one after another until one fails; `doing` says in one line what for.

    `unavailable` is the reason why the stage cannot run here; `after` names a background stage to wait for.
    """

    name: str
    doing: str
    commands: tuple[Command, ...] = ()
    unavailable: str = ""
    required_in_ci: bool = False
    background: bool = False
    after: str = ""
    junit: Path | None = None
    environment: tuple[tuple[str, str], ...] = ()
    limit_s: float = 900.0


def holds_tests(root: Path, *folders: str) -> tuple[str, ...]:
    """Those of the folders in which pytest would find something."""
    return tuple(folder for folder in folders if any((root / folder).rglob("test_*.py")))


def pytest(python: str, junit: Path, *arguments: str, under: Command = ()) -> Command:
    """The command line of a pytest run; `under` is what runs it, coverage for example."""
    return (python, *under, "-m", "pytest", *arguments, f"--junitxml={junit}", "--durations=5", "--durations-min=2")


def plan(root: Path) -> tuple[Stage, ...]:
    """Every stage, the background ones where their results stand in the summary."""
    return (*gates(root), *main_tests(root), *builds(root), *other_environments(root))


def gates(root: Path) -> Iterator[Stage]:
    """What is checked without running the package's tests."""
    yield Stage("format", "ruff format", ((PYTHON, "-m", "ruff", "format", "--check", "."),))
    yield Stage("lint", "ruff", ((PYTHON, "-m", "ruff", "check", "."),))
    yield Stage("imports", "modules import one way (import-linter)", (("lint-imports", "--no-cache"),))
    yield Stage("types-mypy", "mypy, strict", ((PYTHON, "-m", "mypy"),))
    yield Stage("types-pyright", "pyright, strict", (("pyright",),))
    yield Stage(
        "types-complete",
        "every public type is known (pyright --verifytypes, 100 %)",
        (("pyright", "--verifytypes", "otel_steps", "--ignoreexternal"),),
    )
    yield Stage("reference", "docs/reference is what the code says", ((PYTHON, "docs/generate.py", "--check"),))
    yield Stage(
        "site",
        "the docs as a site, warnings as errors",
        (
            (
                PYTHON,
                "-m",
                "sphinx",
                "-q",
                "-W",
                "--keep-going",
                "-n",
                "-b",
                "html",
                "-d",
                "build/doctrees",
                "docs",
                "build/site",
            ),
        ),
    )
    yield from folder_tests(root, "house", "tests about the repository itself", "tests/house")


def main_tests(root: Path) -> Iterator[Stage]:
    """The tests in this environment, which holds the newest OpenTelemetry; cheap ones first."""
    folders = holds_tests(root, *EVERYWHERE)
    if folders:
        junit = report(root, "unit")
        command = pytest(PYTHON, junit, *folders, under=("-m", "coverage", "run"))
        yield Stage("unit", "tests/unit and tests/vectors, with coverage", (command,), junit=junit)
        measure = (PYTHON, "-m", "coverage", "report", "--include=otel_steps/runtime/*")
        yield Stage(
            "coverage",
            f"the unit tests and vectors reach {RUNTIME_COVERAGE_PERCENT} % of otel_steps/runtime, branches included",
            ((*measure, f"--fail-under={RUNTIME_COVERAGE_PERCENT}"),),
        )
    without_programs = ("cli", "typing", "instrumentations", "docs", "faults")
    for name in without_programs:
        yield from folder_tests(root, name, f"tests/{name}", f"tests/{name}", after="build" if name == "faults" else "")
    if (root / "docs" / "reference" / "instrumentations.md").exists():
        yield matrix(root)  # its page is written from the first whole run
    found = {folder.name for folder in (root / "tests").iterdir() if folder.is_dir()}
    for name in sorted(found - {"house", "unit", "vectors", "matrix", *without_programs}):
        doing = f"tests/{name}, with the real Collector and Jaeger"
        yield from folder_tests(root, name, doing, f"tests/{name}", after="build")


def matrix(root: Path) -> Stage:
    """Real clients, frameworks and instrumentations, in environments of their own that are cached; a line a cell."""
    junit = report(root, "matrix")
    command = (*pytest(PYTHON, junit, "tests/matrix"), "-vv")
    doing = "clients, frameworks and instrumentations against a scripted provider (the first time a few minutes more)"
    return Stage("matrix", doing, (command,), junit=junit, limit_s=1800.0)


def folder_tests(root: Path, name: str, doing: str, folder: str, after: str = "") -> Iterator[Stage]:
    """A pytest run of one folder, if there is anything in it."""
    if holds_tests(root, folder):
        junit = report(root, name)
        yield Stage(name, doing, (pytest(PYTHON, junit, folder),), junit=junit, after=after)


def builds(root: Path) -> Iterator[Stage]:
    """The programs that are built from source, into a cache outside the checkout."""
    yield Stage(
        "build",
        "build the Collector and Jaeger (about 6 minutes the first time, then cached)",
        ((PYTHON, "collector-config/build.py", "all"),),
        unavailable=go_missing(root),
        required_in_ci=True,
        background=True,
        limit_s=2400.0,
    )


def go_missing(root: Path) -> str:
    """Why the programs cannot be built: no Go, or one that is too old. Empty where they can."""
    answer = subprocess.run(
        (PYTHON, str(root / "collector-config" / "build.py"), "all", "--print-path"),
        capture_output=True,
        text=True,
        check=False,
    )
    no_go = 3
    return answer.stderr.strip() if answer.returncode == no_go else ""


def other_environments(root: Path) -> Iterator[Stage]:
    """The same tests on the other Pythons with the newest of everything, and beside the oldest OpenTelemetry."""
    folders = holds_tests(root, *EVERYWHERE)
    if not folders:
        return
    oldest = root / "build" / "check" / "oldest.txt"
    resolve = (UV, "pip", "compile", "-q", "pyproject.toml", "--all-extras", "--resolution=lowest-direct")
    yield environment(
        root,
        "oldest",
        "unit tests and vectors with the oldest OpenTelemetry that is supported",
        PYTHON,
        folders,
        before=(*resolve, f"--python={PYTHON}", f"--output-file={oldest}"),
        choose=(f"--constraint={oldest}",),
    )
    for version in claimed_pythons(root):
        name = f"python{version}"
        doing = f"unit tests and vectors on Python {version}, with the newest of everything"
        python = find_python(version)
        if python is None:
            yield Stage(name, doing, unavailable=f"Python {version} was not found", background=True)
        else:
            yield environment(root, name, doing, python, folders, choose=("--upgrade", "--group=demo"))


def environment(
    root: Path,
    name: str,
    doing: str,
    base: str,
    arguments: tuple[str, ...],
    *,
    before: Command = (),
    choose: Command = (),
) -> Stage:
    """A stage that makes .venvs/NAME from the Python `base`, installs what `choose` says and runs the tests there."""
    folder = root / ".venvs" / name
    python = str(folder / "bin" / "python")
    junit = report(root, name)
    install = (UV, "pip", "install", "-q", f"--python={python}", *choose, "--editable=.[grpc]", "--group=unit")
    commands = (
        *((before,) if before else ()),
        (UV, "venv", "-q", "--allow-existing", f"--python={base}", str(folder)),
        install,
        (UV, "pip", "list", "-q", f"--python={python}"),
        pytest(python, junit, *arguments),
    )
    # Its own folder of examples: hypothesis is not made for two processes that share one.
    extra = (("HYPOTHESIS_STORAGE_DIRECTORY", str(folder / "hypothesis")),)
    return Stage(name, doing, commands, background=True, junit=junit, environment=extra)


def report(root: Path, name: str) -> Path:
    """Where a pytest run leaves its JUnit report."""
    return root / "build" / "check" / f"{name}.xml"


def claimed_pythons(root: Path) -> tuple[str, ...]:
    """The versions in pyproject.toml's classifiers, without the one that runs this."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    return tuple(version for version in found if version != f"{sys.version_info[0]}.{sys.version_info[1]}")


def find_python(version: str) -> str | None:
    """The path of an installed Python of that version: on PATH, of uv or of pyenv. Nothing is downloaded."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    paths = [os.environ.get("PATH", os.defpath), *(str(folder / "bin") for folder in pyenv.glob(f"{version}.*"))]
    answer = subprocess.run(
        (UV, "python", "find", "--offline", "--no-python-downloads", "--no-project", "--system", version),
        env={**os.environ, "PATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or None if answer.returncode == 0 else None
