"""Receiver: a scripted OTLP receiver over real HTTP and real gRPC that knows what it took and what it acknowledged."""

from __future__ import annotations

import gzip
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from tests.faults.plays import OK, Play

if TYPE_CHECKING:
    import ssl

Script = Callable[[list[LogRecord]], Play]
RECEIPT_ID = "otel_steps.receipt_id"


def attributes(record: LogRecord) -> dict[str, Any]:
    """The attributes of a log record as Python values."""

    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        if kind == "array_value":
            return tuple(value(item) for item in any_value.array_value.values)
        return getattr(any_value, kind)

    return {item.key: value(item.value) for item in record.attributes}


def records_of(request: ExportLogsServiceRequest) -> list[LogRecord]:
    """The log records of a request, in its order."""
    return [
        record
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    ]


class Receiver:
    """What one receiver was sent. `script` picks the play for each request's records."""

    def __init__(self, script: Script = lambda records: OK) -> None:
        self.script = script
        self.lock = threading.Lock()
        self.requests: list[ExportLogsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections = 0
        self.taken: Counter[str] = Counter()
        self.may_come_again: Counter[str] = Counter()
        """Receipts that were taken and the client could not know it, as often as that happened."""
        self.shapes: dict[str, dict[str, Any]] = {}
        self.plays: Counter[str] = Counter()
        self.url = ""
        self.released = threading.Event()
        """Set at the end of the test: hanging answers give up."""

    def play(self, data: bytes, headers: dict[str, str], path: str) -> Play:
        request = ExportLogsServiceRequest.FromString(data)
        records = records_of(request)
        with self.lock:
            play = self.script(records)
            self.requests.append(request)
            self.headers.append(headers)
            self.paths.append(path)
            self.plays[play.name] += 1
            if play.taken:
                for record in records:
                    found = attributes(record)
                    self.taken[found[RECEIPT_ID]] += 1
                    self.may_come_again[found[RECEIPT_ID]] += not play.counts
                    self.shapes[found[RECEIPT_ID]] = found
        return play


@contextmanager
def http_receiver(script: Script = lambda records: OK, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver of OTLP/HTTP at `receiver.url`."""
    receiver = Receiver(script)

    class Handler(_Handler):
        pass

    Handler.receiver = receiver
    server = _Server(("127.0.0.1", 0), Handler)
    server.tls = tls
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64
    block_on_close = False
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[Any, Any]:
        request, address = super().get_request()
        if self.tls is not None:
            # the handshake is the handler's, on its own thread, with its first read
            request = self.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away in the middle of an answer: that is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True
    receiver: Receiver

    def setup(self) -> None:
        super().setup()
        with self.receiver.lock:
            self.receiver.connections += 1

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        headers = {name.lower(): value for name, value in self.headers.items()}
        play = self.receiver.play(data, headers, self.path)
        if play.how in {"hang", "slow"}:
            self.receiver.released.wait(20 if play.how == "hang" else 0.7)
        if play.how in {"hang", "close", "reset", "half status line"}:
            self._leave(play)
            return
        head = [f"HTTP/1.1 {play.status} Played", *(f"{name}: {value}" for name, value in play.headers)]
        if play.content_type is not None:
            head.append(f"Content-Type: {play.content_type}")
        body = play.body
        if play.how == "cut chunked":
            head.append("Transfer-Encoding: chunked")
            body = b"%x\r\n%s" % (len(body), body[:3])
        elif play.status != 204:
            length = len(body) + {"cut": 5, "endless": 1 << 40}.get(play.how, 0)
            head.append(f"Content-Length: {length}")
        self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n")
        if play.how == "drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.receiver.released.wait(0.05):
                    break
        else:
            self.wfile.write(body)
        while play.how == "endless" and not self.receiver.released.is_set():
            self.wfile.write(b"\0" * 65536)
        if play.how in {"cut", "cut chunked"}:
            self.close_connection = True

    def _leave(self, play: Play) -> None:
        self.close_connection = True
        if play.how == "half status line":
            self.wfile.write(b"HTTP/1.1 2")
        if play.how == "reset":
            # a close that lingers for no time sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def grpc_receiver(
    script: Script = lambda records: OK, credentials: grpc.ServerCredentials | None = None, max_bytes: int = 4 << 20
) -> Iterator[Receiver]:
    """A receiver of OTLP/gRPC at `receiver.url`."""
    receiver = Receiver(script)

    def export(data: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = {item.key: str(item.value) for item in context.invocation_metadata()}
        play = receiver.play(data, metadata, "")
        if play.how == "hang":
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait(20)
        code = grpc.StatusCode[play.grpc]
        if play.retry_s is not None:
            status = Status(code=code.value[0], message=play.details)
            delay = Duration(seconds=int(play.retry_s), nanos=int(play.retry_s % 1 * 1e9))
            status.details.add().Pack(RetryInfo(retry_delay=delay))
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        if code is not grpc.StatusCode.OK:
            context.abort(code, play.details)
        return play.body

    handler = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.logs.v1.LogsService", {"Export": grpc.unary_unary_rpc_method_handler(export)}
    )
    server = grpc.server(ThreadPoolExecutor(8), options=(("grpc.max_receive_message_length", max_bytes),))
    server.add_generic_rpc_handlers((handler,))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    receiver.url = f"{'http' if credentials is None else 'https'}://127.0.0.1:{port}"
    server.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.stop(0).wait()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Poll until `condition` holds; fail after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(0.005)
