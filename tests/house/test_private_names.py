"""Nothing here leans on a private name of another package, so no release of another package breaks us that way."""

from __future__ import annotations

import ast

import pytest

from tests.house.private_names import defined, foreign
from tests.house.repository import parsed, python_files, shown


def test_no_private_name_of_another_package_is_used() -> None:
    own = defined(map(parsed, python_files()))
    found = [f"{shown(path, line)}: {text}" for path in python_files() for line, text in foreign(parsed(path), own)]
    # what we are measured against: the SDK has its logs nowhere else
    assert [use for use in found if not (use.startswith("tests/benchmarks/") and "._log" in use)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import opentelemetry._logs",
        "from opentelemetry._logs import LogRecord",
        "from opentelemetry.sdk.trace import _Span",
        "import os as system\nsystem._wrap_close",
        "from opentelemetry import trace\ntrace.provider._processors",
        "def f(span): return span._attributes",
        "def f(span): span._status = 1",
        "def f(span): return getattr(span, '_attributes', None)",
        # Ours has the same name: it is still theirs through an import.
        "import threading\nclass A:\n    def __init__(self): self._own = 1\nthreading._own",
    ],
)
def test_a_use_of_anothers_private_name_is_found(source: str) -> None:
    tree = ast.parse(source)
    assert len(list(foreign(tree, defined([tree])))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def __init__(self): self._x = 1\n    def same(self, other): return self._x == other._x",
        "from otel_steps.runtime import _own",
        "from ._here import _name",
        "import os\nos._exit(0)",
        "import sys\nsys.__stdout__",
        "_ = 1",
    ],
)
def test_own_and_documented_names_are_let_through(source: str) -> None:
    tree = ast.parse(source)
    assert list(foreign(tree, defined([tree]))) == []
