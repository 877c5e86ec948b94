"""ClickHouse as the Collectors of a fleet see it: the engine behind its HTTP side, in a process that can be killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING

from tests.collector.servers import CONFIGS, free_ports, get, wait_until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

SCHEMA = CONFIGS / "clickhouse" / "schema.sql"
ARRIVALS = """
CREATE TABLE IF NOT EXISTS arrivals (tenant String, receipt_id String, name String)
ENGINE = MergeTree ORDER BY receipt_id;
CREATE MATERIALIZED VIEW IF NOT EXISTS arrivals_mv TO arrivals AS
SELECT ResourceAttributes['tenant'] AS tenant, LogAttributes['otel_steps.receipt_id'] AS receipt_id,
       LogAttributes['otel_steps.name'] AS name
FROM otel_steps_landing;
"""
"""Each row that was inserted, duplicates too."""


class Landing:
    """The project's own schema, and a table beside it that counts what arrived. `env` leads a Collector to it."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {"OTEL_STEPS_CLICKHOUSE": self.url, "OTEL_STEPS_CLICKHOUSE_COMPRESS": "none"}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        arrivals = self._folder / "arrivals.sql"
        arrivals.write_text(ARRIVALS, encoding="utf-8")
        scripts = [str(SCHEMA), str(arrivals)]
        command = [sys.executable, "-m", "tests.fleet.clickhouse_http", str(self._folder / "data"), str(self.port)]
        with (self._folder / "clickhouse.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *scripts], cwd=CONFIGS.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: get(self.url), what="ClickHouse", timeout_s=30)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, sql: str) -> list[tuple[str, ...]]:
        """The rows of a SELECT whose columns are all String."""
        with urllib.request.urlopen(urllib.request.Request(self.url, data=sql.encode()), timeout=20) as response:
            body: bytes = response.read()
            return read_block(body) if body else []

    def refuse(self) -> None:
        """Take the landing table away: every insert is refused."""
        self.ask("DROP VIEW arrivals_mv")
        self.ask("RENAME TABLE otel_steps_landing TO otel_steps_landing_away")

    def accept(self) -> None:
        """Put it back, by a start of its own."""
        self.ask("RENAME TABLE otel_steps_landing_away TO otel_steps_landing")
        self.kill()
        self.start()

    def arrived(self) -> Counter[str]:
        """Receipts by id, each as often as it was inserted."""
        return Counter(receipt_id for (receipt_id,) in self.ask("SELECT receipt_id FROM arrivals"))

    def kept(self) -> list[tuple[str, str, str]]:
        """Tenant, id and name of each receipt that the project's table holds."""
        rows = self.ask(
            "SELECT CAST(tenant, 'String'), receipt_id, CAST(name, 'String') FROM otel_steps_receipts FINAL"
        )
        return [(tenant, receipt_id, name) for tenant, receipt_id, name in rows]


def read_block(data: bytes) -> list[tuple[str, ...]]:
    """The rows of one block of ClickHouse's Native format in which every column is String."""
    position = 8  # what the block is

    def number() -> int:
        nonlocal position
        shift = value = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text() -> str:
        nonlocal position
        length = number()
        position += length
        return data[position - length : position].decode()

    columns, rows = number(), number()
    found: list[list[str]] = []
    for _ in range(columns):
        name, kind = text(), text()
        assert kind == "String", (name, kind)
        position += 1  # no custom serialization
        found.append([text() for _ in range(rows)])
    return list(zip(*found, strict=True))


@contextlib.contextmanager
def landing(folder: Path) -> Generator[Landing, None, None]:
    """ClickHouse that runs, its files in `folder`."""
    running = Landing(folder)
    running.start()
    try:
        yield running
    finally:
        running.kill()
