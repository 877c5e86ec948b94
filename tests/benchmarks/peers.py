"""Cases of peers: what others' decorators cost around the same function, beside a bare span of the same process."""

from __future__ import annotations

import http.server
import json
import math
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.matrix.environments import ROOT, python_of

from . import measure
from .measure import Figure
from .world import END, START, World

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIREMENTS = Path(__file__).parent / "environments"
TIMEOUT_S = 300
CALLS, TURNS = 200, 25


@dataclass(frozen=True)
class Peer:
    """Who wraps a function in a span, and what is done for it meanwhile; `name` is its function in peer_setups."""

    name: str
    package: str
    note: str
    environment: str = "peers"


PEERS = (
    Peer("otel_steps", "otel-steps", "span, persona, limits, meter, prices, receipt on disk; no contents"),
    Peer("logfire", "logfire", "span at start and end, arguments; no limits, nothing on disk"),
    Peer("traceloop", "traceloop-sdk", "span, arguments, result; no limits, nothing on disk"),
    Peer("openinference", "openinference-instrumentation", "span, arguments, result; no limits, nothing on disk"),
    Peer("langfuse", "langfuse", "span, arguments, result; no limits, nothing on disk"),
    Peer("mlflow", "mlflow", "span, arguments, result, the trace in memory; no limits, nothing on disk", "mlflow"),
    Peer("langsmith", "langsmith", "run, arguments, result, no OpenTelemetry; no limits, nothing on disk"),
    Peer("ddtrace", "ddtrace", "APM span with LLM event, arguments, result; no limits, nothing on disk"),
)


def peers() -> Iterator[Figure]:
    """A step of each, and one with a model call in it, beside the bare ones; CPU time of the calling thread."""
    with taker() as url:
        for peer in PEERS:
            yield from _of(peer, url)


def _of(peer: Peer, url: str) -> list[Figure]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "DD_"))}
    environment |= {"PYTHONPATH": str(ROOT), "NO_PROXY": "*", "no_proxy": "*"}
    try:
        told = subprocess.run(
            [python_of(peer.environment, REQUIREMENTS), "-m", "tests.benchmarks.peers", peer.name, url],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return [
            Figure(f"{peer.name}: not measured", math.nan, math.nan, math.nan, "x", None, said.strip().splitlines()[-1])
        ]
    return [Figure(**row) for row in json.loads(told.stdout.splitlines()[-1])]


@contextmanager
def taker() -> Iterator[str]:
    """The URL of a server that takes everything."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Taker)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _answer(path: str, asked: bytes) -> bytes:
    """What a server says that has what clients ask for to work at their best: Datadog's, LangSmith's, MLflow's."""
    if path == "/info":
        told: dict[str, Any] = {
            "version": "7.70.0",
            "endpoints": ["/v0.4/traces", "/evp_proxy/v2/", "/evp_proxy/v4/"],
            "instance_flags": {"zstd_compression_enabled": True},
            "batch_ingest_config": {
                "use_multipart_endpoint": True,
                "scale_up_qsize_trigger": 1000,
                "scale_up_nthreads_limit": 16,
                "scale_down_nempty_trigger": 4,
                "size_limit": 100,
                "size_limit_bytes": 20 << 20,
            },
        }
    elif path == "/version":
        return b"3.17.2"
    elif path == "/api/3.0/mlflow/traces" and asked:
        told = json.loads(asked)
        told["trace"]["trace_info"].setdefault("tags", {})["mlflow.trace.spansLocation"] = "TRACKING_STORE"
    else:
        told = {}
    return json.dumps(told).encode()


class _Taker(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        answer = _answer(self.path, self.rfile.read(int(self.headers.get("content-length") or 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_PATCH = do_POST

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a measured process ends without a word
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Quiet."""


def _measure(name: str, url: str) -> list[Figure]:
    from . import peer_setups

    peer = next(each for each in PEERS if each.name == name)
    world = World()
    with ExitStack() as stack:
        decorate, call = getattr(peer_setups, name)(stack, url)

        @decorate
        def plan(question: str) -> str:
            return f"{question} Let us see."

        @decorate
        def plan_with_call(question: str) -> str:
            call()
            return f"{question} Let us see."

        def bare_with_call() -> None:
            with world.bare.start_as_current_span("plan", attributes=START) as span:
                world.call(world.bare)
                for key, value in END:
                    span.set_attribute(key, value)

        plain = _ratio(f"{name}: a step", lambda: plan("Which way?"), world.base_step)
        with_call = _ratio(f"{name}: with a model call", lambda: plan_with_call("Which way?"), bare_with_call)
    installed = "this checkout" if name == "otel_steps" else version(peer.package)
    return [plain.noted(f"{installed}: {peer.note}"), with_call]


def _ratio(name: str, ours: measure.Work, base: measure.Work) -> Figure:
    return measure.ratio(name, ours, base, None, calls=CALLS, turns=TURNS, clock=time.thread_time_ns)


if __name__ == "__main__":
    print("\n" + json.dumps([asdict(figure) for figure in _measure(*sys.argv[1:])]), flush=True)
    os._exit(0)  # what is not delivered is nobody's here
