"""The HTTP side of ClickHouse as the Collector's exporter uses it, in front of the engine in this process.

It answers what clickhouse-go asks over HTTP without compression (`endpoint: http://...`, `compress: none`): the
greeting, DESC TABLE, data definition and `INSERT ... FORMAT Native`. For a test's own process:

    server = ClickHouseHttp(ClickHouse(folder)); server.start(); ...; server.stop()

and as a process that can be killed: `python -m tests.fleet.clickhouse_http FOLDER PORT [SQL FILE...]`.
"""

from __future__ import annotations

import base64
import gzip
import re
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.fleet.clickhouse import ClickHouse

if TYPE_CHECKING:
    from collections.abc import Mapping

INSERT = re.compile(r"\s*INSERT\s+INTO\s+(\S+)\s*\(([^)]*)\).*FORMAT\s+Native\s*", re.IGNORECASE | re.DOTALL)
ASKS = re.compile(r"\s*(?:SELECT|DESC|DESCRIBE|SHOW|WITH|EXISTS)\b", re.IGNORECASE)
PLAIN = {"String": None, "UInt8": "<B", "UInt32": "<I", "UInt64": "<Q", "Int64": "<q"}


class ClickHouseHttp:
    """A server on loopback in front of `store`. `port` 0 takes a free one, and keeps it over stop and start."""

    def __init__(self, store: ClickHouse, port: int = 0, *, user: str = "", password: str = "") -> None:
        self.store = store
        self.port = port
        self.credentials = f"{user}:{password}" if user else ""
        self.refusal: tuple[int, str] | None = None
        """Status and text with which every insert is answered while it is set."""
        self.lost_answers = 0
        """So many inserts are kept and their connection is cut before the answer: the exporter sends them again."""
        self.inserts = 0
        """Inserts that were kept."""
        self.refused = 0
        """Inserts that were answered with `refusal`."""
        self.columns: list[tuple[str, ...]] = []
        """The columns of each insert, as its statement named them."""
        self.lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """For the exporter's `endpoint`."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; where it was stopped, on the same port."""
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port; what was kept stays."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, sql: str, data: bytes, settings: Mapping[str, str]) -> bytes:
        """The body for a statement, with the rows of an insert in `data`. Raises RuntimeError in ClickHouse's words."""
        with self.lock:
            self.store.use(settings.get("database", self.store.database))
            insert = INSERT.fullmatch(sql)
            if insert is not None:
                self._insert(insert[1], insert[2], data)
                return b""
            if ASKS.match(sql):
                return native_block(self.store.table(sql))
            self.store.run(sql)
            return b""

    def _insert(self, table: str, columns: str, data: bytes) -> None:
        with NamedTemporaryFile(suffix=".native") as file:
            file.write(data)
            file.flush()
            self.store.run(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM file('{file.name}', 'Native')")
        self.inserts += 1
        self.columns.append(tuple(name.strip(' \t\n`"') for name in columns.split(",")))


class _Handler(BaseHTTPRequestHandler):
    owner: ClickHouseHttp
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._reply(200, b"Ok.\n")

    def do_POST(self) -> None:
        settings = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
        body = self._body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "decompress" in settings or "compress" in settings:
            self._reply(501, b"only `compress: none` is understood here")
            return
        credentials = self.headers.get("Authorization", "").removeprefix("Basic ")
        if self.owner.credentials and base64.b64decode(credentials).decode() != self.owner.credentials:
            self._reply(403, b"Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
            return
        sql, data = (settings["query"], body) if "query" in settings else (body.decode(), b"")
        is_insert = INSERT.fullmatch(sql) is not None
        if is_insert and self.owner.refusal is not None:
            status, text = self.owner.refusal
            self.owner.refused += 1
            self._reply(status, text.encode())
            return
        try:
            answer = self.owner.answer(sql, data, settings)
        except RuntimeError as error:
            text = str(error)
            self._reply(404 if re.search(r"Code: (?:60|81)\.", text) else 500, text.encode())
            return
        if is_insert and self.owner.lost_answers > 0:
            self.owner.lost_answers -= 1
            self.close_connection = True
            return
        self._reply(200, answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Say nothing: the tests' output is theirs."""


def native_block(table: Mapping[str, Any]) -> bytes:
    """The result of a SELECT as the one block of Native that a client of a current protocol version reads.

    Raises RuntimeError for a column of a type that no question of the exporter has.
    """
    meta, rows = table["meta"], table["data"]
    # what the block is (field 1: no overflow, field 2: bucket -1, end), columns, rows
    out = bytearray(b"\x01\x00\x02\xff\xff\xff\xff\x00" + _uvarint(len(meta)) + _uvarint(len(rows)))
    for index, column in enumerate(meta):
        kind = column["type"]
        if kind not in PLAIN:
            raise RuntimeError(f"Code: 48. DB::Exception: no {kind} in answers here. (NOT_IMPLEMENTED)")
        out += _text(column["name"]) + _text(kind) + b"\x00"  # no custom serialization
        pack = PLAIN[kind]
        for row in rows:
            out += _text(row[index]) if pack is None else struct.pack(pack, int(row[index]))
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return _uvarint(len(data)) + data


def _uvarint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def main(folder: str, port: str, *scripts: str) -> None:
    """Serve until killed, after running the scripts; says `ready` on a line of its own."""
    store = ClickHouse(Path(folder))
    for script in scripts:
        store.script(Path(script).read_text(encoding="utf-8"))
    server = ClickHouseHttp(store, int(port))
    server.start()
    print("ready", server.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
