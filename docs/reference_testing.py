"""The page of what tests use: the pytest plugin's options, marker and fixtures, and the names of otel_steps.testing."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import entry_points
from typing import Any, Final

from reference_api import entry, missing
from reference_words import TESTING

from otel_steps import testing

(_POINT,) = entry_points(group="pytest11", name="otel_steps")
PLUGIN: Final[Any] = _POINT.load()


class _Asked:
    """Stands in for pytest's parser and configuration, and remembers what the plugin asks for."""

    def __init__(self) -> None:
        self.options: list[tuple[str, dict[str, Any]]] = []
        self.settings: list[tuple[str, str]] = []
        self.markers: list[str] = []

    def getgroup(self, *_names: str) -> _Asked:
        return self

    def addoption(self, *names: str, **kinds: Any) -> None:
        self.options.append((", ".join(f"`{name}`" for name in names), kinds))

    def addini(self, name: str, help: str, *_more: Any, **_kinds: Any) -> None:  # noqa: A002 - pytest's name
        self.settings.append((name, help))

    def addinivalue_line(self, name: str, line: str) -> None:
        if name == "markers":
            self.markers.append(line)

    def getoption(self, *_names: str) -> None:
        return None

    getini = getoption


def asked() -> _Asked:
    """What the plugin adds to pytest."""
    found = _Asked()
    any_kind: Any = found
    PLUGIN.pytest_addoption(any_kind)
    PLUGIN.pytest_configure(any_kind)
    return found


def fixtures() -> dict[str, tuple[str, str]]:
    """The plugin's fixtures: what each gives, and its words."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse(inspect.getsource(PLUGIN)).body:
        if isinstance(node, ast.FunctionDef) and any(
            "pytest.fixture" in ast.unparse(one) for one in node.decorator_list
        ):
            gives = re.sub(r"^Iterator\[(.*)\]$", r"\1", ast.unparse(node.returns) if node.returns else "")
            found[node.name] = (gives, ast.get_docstring(node) or missing(f"fixture {node.name}"))
    return found


def testing_page() -> str:
    """All of it."""
    added = asked()
    text = f"# Testing\n\n{TESTING}\n## The pytest plugin\n\n### Options\n\n| option | what |\n|---|---|\n"
    for names, kinds in added.options:
        value = "" if kinds.get("action") == "store_true" else f" {kinds.get('metavar', 'VALUE')}"
        text += f"| {names}{value} | {kinds.get('help') or missing(names)} |\n"
    if added.settings:
        text += "\n### Settings (`ini`)\n\n| name | what |\n|---|---|\n"
        text += "".join(f"| `{name}` | {words or missing(name)} |\n" for name, words in added.settings)
    text += "\n### Markers\n\n| marker | what |\n|---|---|\n"
    for line in added.markers:
        name, _, words = line.partition(": ")
        text += f"| `{name}` | {words or missing(name)} |\n"
    text += "\n### Fixtures\n\n| fixture | gives | what |\n|---|---|---|\n"
    for name, (gives, words) in fixtures().items():
        text += f"| `{name}` | [`{gives}`](#{gives.lower()}) | {' '.join(words.split())} |\n"
    text += "\n## `otel_steps.testing`\n"
    names = {name: getattr(testing, name) for name in testing.__all__}
    for name, value in names.items():
        text += entry(name, value, level=3, told=tuple(names.values()))
    return text
