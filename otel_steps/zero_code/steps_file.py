"""The steps file: which functions are steps and personas, the run's limits and prices, in TOML; checked before use."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..checks import is_list, is_mapping
from ..errors import DefinitionError
from ..metadata import persona_from_dict, step_from_dict
from .steps_file_keys import BUDGET, PERSONA, PRICE, RUN, STAGE, STEP, SUB_TABLES, TABLES

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from .steps_file_keys import Key


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The `[run]` table: the name of the run around the program, and its limits in US dollars and tokens."""

    name: str | None = None
    max_usd: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class StepsFile:
    """A steps file as it was read and checked. `steps` and `personas` are metadata by `module:qualname`."""

    path: Path | None = None
    run: RunSettings = RunSettings()
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Any])
    personas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Any])
    prices: tuple[tuple[str, Mapping[str, Any]], ...] = ()


def read_steps_file(path: str | os.PathLike[str]) -> StepsFile:
    """The steps file at `path`.

    Raises DefinitionError that names the file, the key, the value and the remedy: for what cannot be read, a key that
    nobody knows, and a value that would not limit what it seems to limit.
    """
    file = Path(path)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        remedy = "the path of a TOML file"
        why = error.strerror or error
        raise DefinitionError(f"{file}: {why}; write {remedy}", field="steps", value=str(file), remedy=remedy) from None
    except ValueError as error:  # TOML's own errors tell line and column; the other one is not UTF-8
        remedy = "TOML in UTF-8"
        raise DefinitionError(
            f"{file}: {error}; write {remedy}", field="steps", value=str(file), remedy=remedy
        ) from None
    return _Reader(file).read(table)


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self, table: Mapping[str, Any]) -> StepsFile:
        """The whole file."""
        for name, value in table.items():
            if name not in TABLES:
                raise self._mistake("", name, value, f"one of {_listed(TABLES)}{_meant(name, TABLES)}")
            self._table("", name, value)
        run = table.get("run", {})
        self._keys("[run]", run, RUN)
        return StepsFile(
            path=self._file,
            run=RunSettings(run.get("name"), _float(run.get("max_usd")), run.get("max_tokens")),
            steps={name: self._step(name, value) for name, value in table.get("steps", {}).items()},
            personas={name: self._persona(name, value) for name, value in table.get("personas", {}).items()},
            prices=tuple(
                (model, price)
                for model, value in table.get("prices", {}).items()
                for price in self._prices(model, value)
            ),
        )

    def _step(self, target: str, value: Any) -> Mapping[str, Any]:
        where = self._target("steps", target, value)
        self._keys(where, value, STEP)
        self._built(where, lambda: step_from_dict(target, value))
        return dict(value)

    def _persona(self, target: str, value: Any) -> Mapping[str, Any]:
        where = self._target("personas", target, value)
        self._keys(where, value, PERSONA)
        if "budget" in value:
            self._keys(f"{where} budget:", self._table(where, "budget", value["budget"]), BUDGET)
        for index, stage in enumerate(value.get("stages", ())):
            place = f"{where} stages[{index}]:"
            self._keys(place, self._table(where, f"stages[{index}]", stage), STAGE)
            if "name" not in stage:
                raise self._mistake(place, "name", None, "the name of the step that it limits")
        self._built(where, lambda: persona_from_dict(target, value))
        return dict(value)

    def _prices(self, model: str, value: Any) -> list[Mapping[str, Any]]:
        where = f"[prices.{json.dumps(model)}]"
        prices: list[Any] = list(value) if is_list(value) else [value]
        for price in prices:
            self._keys(where, self._table("[prices]", model, price), PRICE)
            for name in ("input_usd_per_mtok", "output_usd_per_mtok"):
                if name not in price:
                    raise self._mistake(where, name, None, f"{name} = US dollars per million tokens")
        return [dict(price) for price in prices]

    def _target(self, table: str, target: str, value: Any) -> str:
        where = f"[{table}.{json.dumps(target)}]"
        if not _TARGET.fullmatch(target):
            remedy = 'a name such as "package.module:function" or "package.module:Class.method"'
            module, dot, name = target.rpartition(".")
            if dot and _TARGET.fullmatch(f"{module}:{name}"):
                remedy += f'; did you mean "{module}:{name}"?'
            raise DefinitionError(
                f"{self._file}: {where} names no function: write {remedy}", field=table, value=target, remedy=remedy
            )
        self._table(f"[{table}]", target, value)
        return where

    def _table(self, where: str, name: str, value: Any) -> Any:
        if not is_mapping(value):
            raise self._mistake(where, name, value, "a table")
        return value

    def _keys(self, where: str, table: Mapping[str, Any], known: Mapping[str, Key]) -> None:
        for name, value in table.items():
            key = known.get(name)
            if key is None:
                raise self._mistake(where, name, value, f"one of {_listed(known)}{_meant(name, known)}")
            if not key.allows(value):
                raise self._mistake(where, name, value, key.remedy)

    def _built(self, where: str, build: Any) -> None:
        """What the definitions themselves have to say against it."""
        try:
            build()
        except DefinitionError as error:
            raise DefinitionError(
                f"{self._file}: {where} {error}", field=error.field, value=error.value, remedy=error.remedy
            ) from None

    def _mistake(self, where: str, name: str, value: Any, remedy: str) -> DefinitionError:
        where = f"{self._file}: {where} ".rstrip() + " "
        if value is None:
            text = f"{where}{name} is missing: write {remedy}"
        else:
            text = f"{where}{name} = {_shown(value)} is not valid: write {remedy}"
        return DefinitionError(text, field=name, value=value, remedy=remedy)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _listed(known: Mapping[str, Any]) -> str:
    return ", ".join(known)


def _meant(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, [*known, *SUB_TABLES], 1)
    return f"; did you mean {near[0]}?" if near else ""


_NAME: Final = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET: Final = re.compile(f"{_NAME}:{_NAME}")
