"""The page of attributes, events and metrics: from the record's type and the constants of attributes.py."""

from __future__ import annotations

import ast
import re
import tokenize
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin

import msgspec
from reference_api import missing, text_of
from reference_words import FIELDS, METRICS, NAMES, SPANS

from otel_steps import attributes
from otel_steps.record import SCHEMA, CompletedStep, completed_step_to_json, span_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = Path(__file__).resolve().parents[1] / "otel_steps"
_OTLP_TYPES: Final[dict[Any, str]] = {int: "int", float: "double", bool: "bool", str: "string"}


def attributes_page() -> str:
    """The receipt's fields as attributes, and every other key, event and metric."""
    text = f"# Attributes, events and metrics\n\n{SPANS}\n## The receipt\n\n"
    text += f"Schema version {SCHEMA}; as [JSON Schema](completed-step.schema.json).\n\n"
    text += "| attribute | type | on the span | what |\n|---|---|---|---|\n"
    always, told = _on_span()
    said = below_fields("record.py", "CompletedStep")
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


def below_fields(module: str, name: str) -> dict[str, str]:
    """The words below the fields of a class of the package, where there are some."""
    (record,) = (
        node
        for node in ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == name
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
    for name, value, words, line in constants(PACKAGE / "attributes.py"):
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


def constants(path: Path) -> Iterator[tuple[str, str, str, int]]:
    """The constants of a module that are text: name, value, the words below, the line."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield ast.unparse(node.target), node.value.value, text_of(after), node.lineno
