"""ClickHouse for the tests: the engine itself, in this process, with a database for each that asks."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from decimal import Decimal
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Protocol, cast

from chdb.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
SQL = ROOT / "collector-config" / "clickhouse"
SPLIT = re.compile(r"'(?:[^'\\]|\\.)*'|--[^\n]*|`[^`]*`|;", re.DOTALL)


class _Engine(Protocol):
    def query(self, sql: str, fmt: str = ..., *, params: dict[str, Any] | None = ...) -> object: ...
    def close(self) -> None: ...


class ClickHouse:
    """One database of the engine; statements raise RuntimeError with ClickHouse's own words.

    Without a `folder` the data lives as long as one of this process's connections is open. With one it stays there, and
    no other folder can be used in this process.
    """

    def __init__(self, folder: Path | None = None, database: str = "default") -> None:
        connect = cast("Callable[[str | None], _Engine]", Session)  # the package has no types
        self._engine = connect(None if folder is None else str(folder))
        self.database = database
        self.run(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        self.use(database)

    def use(self, database: str) -> None:
        """Names without a database mean those of this one from now on."""
        self.run(f"USE `{database}`")

    def run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run one statement for its effect."""
        self._engine.query(sql, "Null", params=dict(parameters) if parameters else None)

    def script(self, text: str) -> None:
        """Run the statements of a file, one after another."""
        for statement in statements(text):
            self.run(statement)

    def table(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Names and types (`meta`) and rows (`data`) of a SELECT."""
        text = str(self._engine.query(sql, "JSONCompact", params=dict(parameters) if parameters else None))
        answer: dict[str, Any] = json.loads(text, parse_float=Decimal)
        return answer

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a SELECT by column, exact: integers are int and decimals Decimal whatever their size."""
        answer = self.table(sql, parameters)
        names = [column["name"] for column in answer["meta"]]
        readers = [_reader(column["type"]) for column in answer["meta"]]
        return [
            {name: read(value) for name, read, value in zip(names, readers, row, strict=True)} for row in answer["data"]
        ]

    def value(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The one value of a SELECT."""
        ((value,),) = (row.values() for row in self.rows(sql, parameters))
        return value

    def insert(self, table: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """Insert rows in one statement that names `columns`, which may be fewer than the table has."""
        names = ", ".join(f"`{name}`" for name in columns)
        types = {row["name"]: row["type"] for row in self.rows(f"DESC TABLE {table}")}
        structure = ", ".join(f"`{name}` {types[name]}" for name in columns).replace("'", "\\'")
        with NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
            file.writelines(json.dumps({name: row[name] for name in columns}) + "\n" for row in rows)
            file.flush()
            source = f"file('{file.name}', 'JSONEachRow', '{structure}')"
            self.run(f"INSERT INTO {table} ({names}) SELECT {names} FROM {source}")

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()


@contextlib.contextmanager
def receipts_store() -> Generator[ClickHouse]:
    """A database of its own with the schema of receipts, gone afterwards."""
    store = ClickHouse(database=f"test_{uuid.uuid4().hex}")
    try:
        store.script((SQL / "schema.sql").read_text(encoding="utf-8"))
        yield store
    finally:
        store.run(f"DROP DATABASE `{store.database}`")
        store.close()


def statements(text: str) -> list[str]:
    """The statements of a script, split at semicolons outside of texts and comments."""
    found: list[str] = []
    start = 0
    for match in SPLIT.finditer(text):
        if match[0] == ";":
            found.append(text[start : match.start()])
            start = match.end()
    found.append(text[start:])
    return [part.strip() for part in found if re.sub(r"--[^\n]*", "", part).strip()]


def question(name: str) -> str:
    """The statement of a file in queries/."""
    (statement,) = statements((SQL / "queries" / f"{name}.sql").read_text(encoding="utf-8"))
    return statement


def _reader(kind: str) -> Callable[[Any], Any]:
    bare = kind.removeprefix("LowCardinality(").removeprefix("Nullable(")
    if re.match(r"U?Int", bare):
        return lambda value: None if value is None else int(value)
    if bare.startswith("Float"):
        return lambda value: None if value is None else float(value)
    if bare.startswith("Decimal"):
        return lambda value: None if value is None else Decimal(value)
    return _same


def _same(value: Any) -> Any:
    return value
