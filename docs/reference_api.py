"""Public names as the reference shows them: signature, docstring, members; read from the objects and their source."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any, get_args

from reference_words import MEMBERS

from otel_steps.record import CompletedStep

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class WordsMissingError(SystemExit):
    """Something public has no words."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: no words for it; add a docstring where it is defined, or docs/reference_words.py")


def entry(name: str, value: Any, *, level: int = 2, bare: bool = False, told: Collection[Any] = ()) -> str:
    """The section of one name; `bare`: a class whose constructor nobody calls; `told`: classes with sections too."""
    words = inspect.getdoc(value) or missing(name)
    shape = f"class {name}" if bare else f"{name}{signature(value)}"
    text = f"\n{'#' * level} {name}\n\n```text\n{shape}\n```\n\n{as_markdown(words)}\n"
    if not inspect.isclass(value) or is_error(value):
        return text
    bases = [base for base in value.__mro__[1:] if base in told]
    inherited = {row for base in bases for row in members(base)}
    rows = "".join(f"| `{shown}` | {words} |\n" for shown, words in members(value) if (shown, words) not in inherited)
    text += f"\nBeside what [{bases[0].__name__}](#{bases[0].__name__.lower()}) has:\n" if bases else ""
    return text + (f"\n| member | |\n|---|---|\n{rows}" if rows else "")


def missing(what: str) -> Any:
    """Raise WordsMissingError."""
    raise WordsMissingError(what)


def is_error(value: Any) -> bool:
    """Whether it is an exception class."""
    return isinstance(value, type) and issubclass(value, BaseException)


def signature(value: Any) -> str:
    """The signature as it is written, one parameter a line where it is long."""
    if value is CompletedStep:
        return "(*, name, receipt_id, started_at, ended_at, ...)"
    found = inspect.signature(value)
    parts = list(_parameters(found))
    empty = found.return_annotation is found.empty or inspect.isclass(value)
    result = "" if empty else f" -> {annotation_text(found.return_annotation)}"
    whole = f"({', '.join(parts)}){result}"
    return whole if len(whole) <= 90 else "(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def as_markdown(words: str) -> str:
    """A docstring; indented lines `name: what it is` are a list."""
    lines: list[str] = []
    listed = False
    for line in words.splitlines():
        if item := re.match(r" {4}(\w+): (.*)", line):
            lines += ([] if listed else [""]) + [f"- `{item[1]}`: {item[2]}"]
            listed = True
        elif listed and line.startswith(" " * 8):
            lines.append(f"  {line.strip()}")
        else:
            lines.append(line)
            listed = False
    return "\n".join(lines)


def members(owner: Any) -> list[tuple[str, str]]:
    """Public methods, properties and attributes that are our own, and the first paragraph of their words."""
    return sorted(dict(_members(owner)).items())


def _members(owner: Any) -> Iterator[tuple[str, str]]:
    for name, value in inspect.getmembers_static(owner):
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if name.startswith("_") or not (isinstance(plain, property) or inspect.isfunction(plain)):
            continue
        if not (plain.fget if isinstance(plain, property) else plain).__module__.startswith("otel_steps"):
            continue
        words = _first_paragraph(inspect.getdoc(plain) or "")
        if words:
            bound = not isinstance(value, staticmethod)
            yield name if isinstance(plain, property) else f"{name}{_call(plain, bound=bound)}", words
    for kind in owner.__mro__:
        if kind.__module__.startswith("otel_steps"):
            for name, words in attributes_of(kind).items():
                said = words or MEMBERS.get(f"{kind.__name__}.{name}") or ""
                if said:
                    yield name, _first_paragraph(said)


def attributes_of(owner: type) -> dict[str, str]:
    """Public attributes that `__init__` sets, and the words below each (empty where there are none)."""
    made = vars(owner).get("__init__")
    if not inspect.isfunction(made) or made.__code__.co_filename.startswith("<"):
        return {}
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(made))).body
    assert isinstance(function, ast.FunctionDef)
    found: dict[str, str] = {}
    for node, after in zip(function.body, [*function.body[1:], None], strict=True):
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        if not isinstance(target, ast.Attribute) or ast.unparse(target.value) != "self" or target.attr.startswith("_"):
            continue
        found[target.attr] = text_of(after)
    return found


def text_of(node: ast.AST | None) -> str:
    """The docstring below a constant or attribute, on one line; empty where there is none."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return " ".join(node.value.value.split())
    return ""


def _first_paragraph(words: str) -> str:
    return words.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def _call(function: Any, *, bound: bool) -> str:
    """Names and defaults of the parameters, without types."""
    found = inspect.signature(function)
    parameters = [one.replace(annotation=one.empty) for one in list(found.parameters.values())[int(bound) :]]
    return str(found.replace(parameters=parameters, return_annotation=found.empty)).replace("|", "\\|")


def _parameters(found: inspect.Signature) -> Iterator[str]:
    last: Any = None
    for parameter in found.parameters.values():
        kind = parameter.kind
        if last is parameter.POSITIONAL_ONLY and kind is not last:
            yield "/"
        if kind is parameter.KEYWORD_ONLY and last is not kind and last is not parameter.VAR_POSITIONAL:
            yield "*"
        stars = "*" if kind is parameter.VAR_POSITIONAL else "**" if kind is parameter.VAR_KEYWORD else ""
        annotation = "" if parameter.annotation is parameter.empty else f": {annotation_text(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        yield f"{stars}{parameter.name}{annotation}{default}"
        last = kind
    if last is inspect.Parameter.POSITIONAL_ONLY:
        yield "/"


def annotation_text(annotation: Any) -> str:
    """An annotation as it is written."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return re.sub(r"(?<!['\w.])(?:[a-z_]\w*\.)+(?=[A-Z])", "", str(annotation))  # without modules


def _default(value: Any) -> str:
    text = repr(value)
    return "..." if " at 0x" in text or text.startswith("<") else text
