"""ClickHouse for the tests: the engine itself, in this process, with a database for each that asks."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chdb.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
SQL = ROOT / "collector-config" / "clickhouse"
TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|--[^\n]*|`[^`]*`|;", re.DOTALL)


class ClickHouse:
    """One database of the engine, which keeps its files in `folder`: the same folder for the whole process.

    Statements run one at a time. Raises RuntimeError with ClickHouse's own words where one fails.
    """

    def __init__(self, folder: Path, database: str = "default") -> None:
        self._session = Session(str(folder))
        self._scratch = folder.parent
        self.database = database
        self.run(f"CREATE DATABASE IF NOT EXISTS `{database}`")
        self.use(database)

    def use(self, database: str) -> None:
        """Names without a database mean those of this one from now on."""
        self._session.query(f"USE `{database}`")

    def run(self, sql: str) -> None:
        """Run one statement for its effect."""
        self._session.query(sql, "Null")

    def script(self, text: str) -> None:
        """Run the statements of a file, one after another."""
        for statement in statements(text):
            self.run(statement)

    def table(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Names, types (`meta`) and rows (`data`) of a SELECT."""
        text = str(self._session.query(sql, "JSONCompact", params=dict(parameters) if parameters else None))
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
        """Insert rows by JSON; `columns` as the insert statement names them, which may be fewer than the table has."""
        path = self._scratch / "insert.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")
        self.insert_file(table, path, "JSONEachRow", columns)
        path.unlink()

    def insert_file(self, table: str, path: Path, form: str, columns: Sequence[str]) -> None:
        """Insert a file of a format that ClickHouse knows."""
        names = ", ".join(f"`{name}`" for name in columns)
        structure = ", ".join(
            f"`{row['name']}` {row['type']}" for row in self.rows(f"DESC TABLE {table}") if row["name"] in columns
        ).replace("'", "\\'")
        self.run(f"INSERT INTO {table} ({names}) SELECT {names} FROM file('{path}', '{form}', '{structure}')")  # noqa: S608

    def close(self) -> None:
        """Let go of the engine."""
        self._session.close()


def statements(text: str) -> list[str]:
    """The statements of a script, split at semicolons outside of texts and comments."""
    found: list[str] = []
    start = 0
    for match in TEXT.finditer(text):
        if match[0] == ";":
            found.append(text[start : match.start()])
            start = match.end()
    found.append(text[start:])
    return [part.strip() for part in found if re.sub(r"--[^\n]*", "", part).strip()]


def _reader(kind: str) -> Callable[[Any], Any]:
    bare = kind.removeprefix("LowCardinality(").removeprefix("Nullable(")
    make = int if re.match(r"U?Int", bare) else float if bare.startswith("Float") else _same
    return _same if make is _same else lambda value: None if value is None else make(value)


def _same(value: Any) -> Any:
    return value
