"""Writes docs/reference from the code: `python docs/generate.py`, or `--check` to say what is stale (exit code 1).

A name, field, variable or error without words is an error here, so that none gets into the code undocumented.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Final

import click
import msgspec
from reference_api import annotation_text, entry, is_error, missing
from reference_attributes import PACKAGE, attributes_page, below_fields, constants
from reference_testing import testing_page
from reference_words import (
    COMPLETION,
    ERRORS,
    EVENTS,
    HOOKS,
    PRECEDENCE,
    PROPAGATION,
    RUN,
    RUN_FIELDS,
    STEPS_FILE,
    THRESHOLDS,
    TOLD,
    VARIABLES,
)

import otel_steps
from otel_steps import errors, propagation
from otel_steps.record import json_schema
from otel_steps.runtime.ledger import Approval, Handoff, RunReceipt, RunStep, run_receipt_schema

ROOT: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = ROOT / "docs" / "reference"
NOTE: Final = "<!-- Written by docs/generate.py from the code; change it there. -->\n\n"


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 and the names of stale files")
    check: bool = parser.parse_args().check
    stale = 0
    for name, text in pages().items():
        path = REFERENCE / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if check and stale:
        print("python docs/generate.py writes them anew")
    return 1 if check and stale else 0


def pages() -> dict[str, str]:
    """Each file of docs/reference and what it should hold."""
    texts = {
        "api.md": api(),
        "attributes.md": attributes_page(),
        "command-line.md": command_line(),
        "environment.md": environment(),
        "errors.md": errors_page(),
        "hooks.md": hooks(),
        "propagation.md": propagation_page(),
        "steps-file.md": steps_file(),
        "testing.md": testing_page(),
    }
    schemas = {"completed-step.schema.json": json_schema(), "run-receipt.schema.json": run_receipt_schema()}
    return {
        **{name: NOTE + text.rstrip() + "\n" for name, text in texts.items()},
        **{name: json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()},
    }


def propagation_page() -> str:
    """The names of otel_steps.propagation."""
    text = f"# Propagation\n\n{PROPAGATION}"
    for name in propagation.__all__:
        text += entry(name, getattr(propagation, name))
    return text


def api() -> str:
    """Every public name, its signature and docstring."""
    text = "# API\n\n`import otel_steps` gives these names and no others.\n"
    for name in otel_steps.__all__:
        value = getattr(otel_steps, name)
        made_by_us = inspect.isclass(value) and (is_error(value) or value is otel_steps.ActiveStep)
        text += entry(name, value, bare=made_by_us)
    return f"{text}\n## The receipt of a run\n\n{RUN}{''.join(map(_record, (RunReceipt, RunStep, Approval, Handoff)))}"


def _record(kind: type[msgspec.Struct]) -> str:
    name = kind.__name__
    words = below_fields("runtime/ledger.py", name) | RUN_FIELDS[name]
    rows = "".join(
        f"| `{info.name}` | `{annotation_text(info.type)}` | {words.get(info.name) or missing(info.name)} |\n"
        for info in msgspec.structs.fields(kind)
    ).replace(" | None`", " \\| None`")
    return f"\n### {name}\n\n| field | type | what |\n|---|---|---|\n{rows}"


def environment() -> str:
    """Every environment variable that the package reads, in the order of VARIABLES; others by their docstrings."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and re.fullmatch(r"OTEL_[A-Z0-9_]*[A-Z0-9]", str(node.value)):
                found.setdefault(str(node.value), "")
        found |= {value: words for name, value, words, _ in constants(path) if name.startswith("ENV_")}
    endpoint = (PACKAGE / "receipts" / "endpoint.py").read_text(encoding="utf-8")
    read = [f"OTEL_EXPORTER_OTLP_{name}" for name in re.findall(r'(?:self|env)\.get\("(\w+)"\)', endpoint)]
    found = {**dict.fromkeys(read, ""), **found}
    rows = {name: words for name, words in VARIABLES.items() if name in found}
    ours = [name for name in sorted(found) if name.startswith("OTEL_STEPS_") and name not in rows]
    others = [name for name in sorted(found) if name not in rows and name not in ours]
    rows = {
        **{name: found[name] or missing(name) for name in ours},
        **rows,
        **{n: found[n] or missing(n) for n in others},
    }
    text = f"# Environment variables\n\n{PRECEDENCE}\n\n| variable | what |\n|---|---|\n"
    return text + "".join(f"| `{name}` | {words} |\n" for name, words in rows.items())


def errors_page() -> str:
    """The exception tree, each class, and the facts that a broken limit carries."""
    tree = (inspect.getdoc(errors) or "").partition("\n\n")[2]
    text = f"# Errors\n\n{ERRORS}\n```text\n{tree}\n```\n\n"
    text += "| error | category | what |\n|---|---|---|\n"
    for value in vars(errors).values():
        if not is_error(value) or value.__module__ != errors.__name__ or value.__name__.startswith("_"):
            continue
        words = (inspect.getdoc(value) or missing(value.__name__)).partition("\n\n")[0].replace("\n", " ")
        category = inspect.getattr_static(value, "category", None)
        shown = f"`{category}`" if isinstance(category, str) else "`budget_exceeded`" if category is not None else "-"
        own = {errors.StepEscalated: "`handoff_escalation`", errors.StepDenied: "`hook_denied`, `permission_denied`"}
        shown = own.get(value, shown)
        text += f"| `{value.__name__}` | {shown} | {words} |\n"
    breach = errors.Breach(
        scope="step", name="plan", step="plan", function="app:plan", limit="max_usd", limit_value=0.05,
        consumed_tokens=180, consumed_cost_nano_usd=62_000_000,
    )  # fmt: skip
    text += (
        "\n## The facts of a broken limit\n\nStepBudgetExceeded, StepEscalated and StepStop have them as attributes "
    )
    text += (
        "and in\n`to_dict()`; `result` is what the body had returned in spite of the stop. For example:\n\n```json\n"
    )
    return text + json.dumps(errors.StepBudgetExceeded(breach).to_dict(), indent=2) + "\n```\n"


def hooks() -> str:
    """The events, what a handler is told and what its answers do."""
    from otel_steps.runtime.hooks import EVENTS as EVENT_NAMES

    text = f"# Hooks\n\n{HOOKS}\n| event | when | what the answer does |\n|---|---|---|\n"
    for name in EVENT_NAMES:
        when, answer = EVENTS.get(name) or missing(name)
        text += f"| `{name}` | {when} | {answer} |\n"
    text += f"\n{THRESHOLDS}\n## What a handler is told\n\n| key | type | what |\n|---|---|---|\n"
    body = ast.parse((PACKAGE / "runtime" / "hooks.py").read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name in {"HookEvent", "HookStep"}:
            prefix = "step." if node.name == "HookStep" else ""
            for item in node.body:
                if isinstance(item, ast.AnnAssign):
                    kind = ast.unparse(item.annotation).replace("|", "\\|")
                    key = prefix + ast.unparse(item.target)
                    text += f"| `{key}` | `{kind}` | {TOLD.get(key) or missing(key)} |\n"
    return text


def steps_file() -> str:
    """Every table and key of the steps file, and the rules that hold for all of them."""
    from otel_steps.zero_code import steps_file_keys as keys

    text = f"# Steps file\n\n{STEPS_FILE}\n## Tables\n\n| table | what |\n|---|---|\n"
    text += "".join(f"| `[{name}]` | {words} |\n" for name, words in keys.TABLES.items())
    for title, table in (
        ("run", keys.RUN),
        ('steps."module:function"', keys.STEP),
        ('personas."module:function"', keys.PERSONA),
        ("a persona's `budget`", keys.BUDGET),
        ("each of a persona's `stages`", keys.STAGE),
        ('prices."model"', keys.PRICE),
    ):
        shown = title if "`" in title else f"`[{title}]`"
        text += f"\n## {shown[0].upper()}{shown[1:]}\n\n| key | value | what |\n|---|---|---|\n"
        text += "".join(f"| `{name}` | {key.remedy} | {key.words} |\n" for name, key in table.items())
    return text


def command_line() -> str:
    """Every verb, its options and examples."""
    from otel_steps.cli import main as command

    text = "# Command line\n\n`otel-steps` comes with the package. `--json` prints JSON for programs;\n"
    text += "colours are for terminals only.\n"
    text += f"\n{COMPLETION}"
    return text + _verb(command, "otel-steps", 2)


def _verb(command: click.Command, called: str, depth: int) -> str:
    words = inspect.cleandoc(command.help or missing(called))
    arguments = [p.human_readable_name for p in command.params if isinstance(p, click.Argument)]
    text = f"\n{'#' * depth} {' '.join([called, *arguments])}\n\n{words}\n"
    options = [p for p in command.params if isinstance(p, click.Option)]
    if options and not isinstance(command, click.Group):
        text += "\n| option | what |\n|---|---|\n"
        for option in options:
            names = ", ".join(f"`{name}`" for name in option.opts)
            value = "" if option.is_flag else f" {_metavar(option)}"
            default = f" Default {option.default}." if option.show_default else ""
            text += f"| {names}{value} | {option.help or missing(names)}{default} |\n"
    for block in filter(None, (command.epilog or "").split("\n\n")):
        title, *lines = block.removeprefix("\b\n").splitlines()
        text += f"\n{title}\n\n```text\n" + "\n".join(line.strip() for line in lines) + "\n```\n"
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            text += _verb(inner, f"{called} {name}", min(depth + 1, 4))
    return text


def _metavar(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return " \\| ".join(option.type.choices)
    return (option.metavar or option.type.name.upper()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
