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
import tokenize
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin

import click
import msgspec
from reference_api import entry, is_error, missing, text_of
from reference_testing import testing_page
from reference_words import (
    COMPLETION,
    ERRORS,
    EVENTS,
    FIELDS,
    HOOKS,
    METRICS,
    NAMES,
    PRECEDENCE,
    SPANS,
    STEPS_FILE,
    THRESHOLDS,
    TOLD,
    VARIABLES,
)

import otel_steps
from otel_steps import attributes, errors
from otel_steps.record import SCHEMA, CompletedStep, completed_step_to_json, json_schema, span_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
REFERENCE: Final = ROOT / "docs" / "reference"
PACKAGE: Final = ROOT / "otel_steps"
_OTLP_TYPES: Final[dict[Any, str]] = {int: "int", float: "double", bool: "bool", str: "string"}
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
        "steps-file.md": steps_file(),
        "testing.md": testing_page(),
    }
    schema = json.dumps(json_schema(), indent=2) + "\n"
    return {**{name: NOTE + text.rstrip() + "\n" for name, text in texts.items()}, "completed-step.schema.json": schema}


def api() -> str:
    """Every public name, its signature and docstring."""
    text = "# API\n\n`import otel_steps` gives these names and no others.\n"
    for name in otel_steps.__all__:
        value = getattr(otel_steps, name)
        made_by_us = inspect.isclass(value) and (is_error(value) or value is otel_steps.ActiveStep)
        text += entry(name, value, bare=made_by_us)
    return text


def attributes_page() -> str:
    """The receipt's fields as attributes, and every other key, event and metric."""
    text = f"# Attributes, events and metrics\n\n{SPANS}\n## The receipt\n\n"
    text += f"Schema version {SCHEMA}; as [JSON Schema](completed-step.schema.json).\n\n"
    text += "| attribute | type | on the span | what |\n|---|---|---|---|\n"
    always, told = _on_span()
    said = _below_fields()
    for info in msgspec.structs.fields(CompletedStep):
        where = "always" if info.name in always else "if told" if info.name in told else "-"
        words = FIELDS.get(info.name) or said.get(info.name) or missing(f"field {info.name}")
        text += f"| `{attributes.PREFIX}{info.name}` | {_otlp_type(info.type)} | {where} | {words} |\n"
    for title, rows in _sections().items():
        heading = f"\n## {title[0].upper()}{title[1:]}\n\n"
        text += heading + (_metrics(rows) if title.startswith("metrics") else _names(rows)) if rows else ""
    return text


def _names(rows: list[tuple[str, str, str]]) -> str:
    return "| name | what |\n|---|---|\n" + "".join(
        f"| `{value}` | {'; '.join(filter(None, (words, comment))) or missing(value)} |\n"
        for value, words, comment in rows
    )


def _metrics(rows: list[tuple[str, str, str]]) -> str:
    """Kind and unit are in the comment beside each: `counter [{token}], by otel_steps.token.type`."""
    text = "| metric | kind | unit | what |\n|---|---|---|---|\n"
    dimensions = ""
    for value, words, comment in rows:
        said = re.fullmatch(r"(\w+) \[(.+)\](?:, by (.+))?", comment)
        if said is None:
            dimensions += f"\n`{value}` is a dimension of its own: {words or missing(value)}\n"
            continue
        by = f", by `{said[3]}`" if said[3] else ""
        text += f"| `{value}` | {said[1]} | `{said[2]}` | {words or missing(value)}{by} |\n"
    return f"{text}\n{METRICS}{dimensions}"


def _below_fields() -> dict[str, str]:
    """The words below the fields of the record, where there are some."""
    (record,) = (
        node
        for node in ast.parse((PACKAGE / "record.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == CompletedStep.__name__
    )
    pairs = zip(record.body, [*record.body[1:], None], strict=True)
    return {ast.unparse(node.target): text_of(after) for node, after in pairs if isinstance(node, ast.AnnAssign)}


def _on_span() -> tuple[set[str], set[str]]:
    least = CompletedStep(name="n", function="f", receipt_id="r", started_at="", ended_at="")
    most = {
        info.name: (7 if info.type in (int, int | None) else 7.5 if info.type in (float, float | None) else ("x",))
        for info in msgspec.structs.fields(CompletedStep)
    }
    texts = {name for name, value in completed_step_to_json(least).items() if isinstance(value, str) or value is None}
    numbers = {"max_tokens", "max_usd"}
    told: dict[str, Any] = {name: "x" if name in texts - numbers else value for name, value in most.items()}
    full = CompletedStep(**told)
    distinct = msgspec.structs.replace(
        full, **{f"total_{n}": 9 for n in ("input_tokens", "output_tokens", "llm_calls")}
    )
    distinct = msgspec.structs.replace(distinct, total_cost_nano_usd=9, total_cost_usd=9.5)
    strip = len(attributes.PREFIX)
    always = {key[strip:] for key in span_attributes(least)}
    return always, {key[strip:] for key in span_attributes(distinct)} - always


def _otlp_type(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return _otlp_type(get_args(kind)[0])
    if get_origin(kind) is tuple:
        return f"{_otlp_type(get_args(kind)[0])}[]"
    if kind in _OTLP_TYPES:
        return _OTLP_TYPES[kind]
    (there,) = (each for each in get_args(kind) if each is not type(None))  # `int | None`
    return _otlp_type(there)


def _sections() -> dict[str, list[tuple[str, str, str]]]:
    """The constants of attributes.py by the comments that head them: value, words, and the comment beside it."""
    source = (PACKAGE / "attributes.py").read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    heads = {line: text.removeprefix("--- ") for line, text in comments.items() if text.startswith("--- ")}
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, value, words, line in _constants(PACKAGE / "attributes.py"):
        head = next((text for at, text in sorted(heads.items(), reverse=True) if at < line), None)
        if head in {None, "environment"} or name in {"INVOKE_AGENT", "PREFIX"}:
            continue
        if value.removeprefix(attributes.PREFIX) in FIELDS:
            continue  # told with the receipt
        comment = re.sub(r"^noqa: [\w, ]+(- )?", "", comments.get(line, ""))
        said = "; ".join(filter(None, (NAMES.get(value, ""), words)))
        found.setdefault(
            str(head).removesuffix(", each with its kind and unit").partition(":")[0].partition(" (")[0], []
        ).append((value, said, comment))
    return found


def _constants(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """The constants of a module that are text: name, value, the words below, the line."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield ast.unparse(node.target), node.value.value, text_of(after), node.lineno


def environment() -> str:
    """Every environment variable that the package reads, in the order of VARIABLES; others by their docstrings."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and re.fullmatch(r"OTEL_[A-Z0-9_]*[A-Z0-9]", str(node.value)):
                found.setdefault(str(node.value), "")
        found |= {value: words for name, value, words, _ in _constants(path) if name.startswith("ENV_")}
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
