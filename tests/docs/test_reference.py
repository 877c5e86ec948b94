"""Everything that a person can name is in docs/reference: walked anew here, apart from what writes the pages."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

import otel_steps
from otel_steps import attributes, errors, testing
from otel_steps.record import CompletedStep
from otel_steps.zero_code import steps_file_keys
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

REFERENCE = ROOT / "docs" / "reference"
PACKAGE = ROOT / "otel_steps"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def absent(names: Iterator[str] | set[str], where: str) -> list[str]:
    """Those that the page does not show in code of their own (`name`, or as a heading or signature)."""
    text = page(where)
    return sorted(name for name in set(names) if not re.search(rf"[`\n ]{re.escape(name)}(?![\w-])", text))


def verbs(command: click.Command, called: str) -> Iterator[tuple[str, click.Command]]:
    yield called, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from verbs(inner, f"{called} {name}")


def modules(folder: Path = PACKAGE) -> Iterator[ast.Module]:
    for path in folder.rglob("*.py"):
        yield ast.parse(path.read_text(encoding="utf-8"))


def test_the_pages_are_as_the_code_is() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_verb_and_option_is_there() -> None:
    from otel_steps.cli import main

    text = page("command-line.md")
    for called, command in verbs(main, "otel-steps"):
        section = re.search(
            rf"^#+ {re.escape(called)}(?: [A-Z_\[\]. ]+)?$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL
        )
        assert section, called
        if not isinstance(command, click.Group):
            options = [one for one in command.params if isinstance(one, click.Option)]
            names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
            assert [name for name in sorted(names) if f"`{name}`" not in section[1]] == [], called


def test_every_variable_is_there() -> None:
    named = {
        node.value
        for tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"OTEL_[A-Z0-9_]*[A-Z0-9]", node.value)
    }
    assert "OTEL_STEPS_STORE" in named
    assert absent(named, "environment.md") == []


def test_every_key_of_the_steps_file_is_there() -> None:
    tables: dict[str, Mapping[str, Any]] = {
        name: value for name, value in vars(steps_file_keys).items() if name.isupper() and isinstance(value, Mapping)
    }
    assert {"RUN", "STEP", "PERSONA", "TABLES"} <= set(tables)
    text = page("steps-file.md")
    for keys in tables.values():
        for name, key in keys.items():
            words = key if isinstance(key, str) else key.words
            assert f"`{name}`" in text or f"`[{name}]`" in text
            assert words in text, name


def test_every_error_is_there() -> None:
    classes = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert {"StepBudgetExceeded", "StepStop"} <= classes
    assert absent({name for name in classes if not name.startswith("_")}, "errors.md") == []


def test_every_attribute_event_and_metric_is_there() -> None:
    ours = {
        value
        for name, value in vars(attributes).items()
        if name.isupper() and isinstance(value, str) and value.startswith(attributes.PREFIX) and name != "PREFIX"
    }
    fields = {attributes.PREFIX + name for name in CompletedStep.__struct_fields__}
    assert absent(ours | fields, "attributes.md") == []


def test_instruments_are_made_with_names_of_the_attributes_module() -> None:
    """So that the test above sees every metric."""
    made = [
        node.args[0]
        for tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if re.fullmatch(r"create_(observable_)?(counter|histogram|gauge|up_down_counter)", node.func.attr)
    ]
    assert made
    assert [ast.unparse(name) for name in made if isinstance(name, ast.Constant)] == []


def test_every_public_name_is_there() -> None:
    assert absent(set(otel_steps.__all__), "api.md") == []
    assert absent(set(testing.__all__), "testing.md") == []


def test_every_check_of_a_step_is_there() -> None:
    checks = {name for kind in (testing.StepCheck, testing.Steps) for name in dir(kind) if not name.startswith("_")}
    assert {"within", "called", "completed"} <= checks
    assert absent(checks, "testing.md") == []


def test_what_the_plugin_adds_to_pytest_is_there(pytestconfig: pytest.Config) -> None:
    plugin = pytestconfig.pluginmanager.get_plugin("otel_steps")
    assert plugin is not None
    source = ast.parse(inspect.getsource(plugin))
    added = {
        str(node.args[0].value)
        for node in ast.walk(source)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"addoption", "addini"}
        if isinstance(node.args[0], ast.Constant)
    }
    fixtures = {
        node.name
        for node in source.body
        if isinstance(node, ast.FunctionDef) and any("fixture" in ast.unparse(one) for one in node.decorator_list)
    }
    markers = {line.partition("(")[0] for line in pytestconfig.getini("markers") if "step_budget" in line}
    assert added
    assert fixtures
    assert markers
    assert absent(added | fixtures | markers, "testing.md") == []
