"""A small fleet in trouble, for the tests of metrics: its services, Collector, Jaeger, VictoriaMetrics and vmalert."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.collector.servers import CONFIGS, CollectorServer, clean_environment, jaeger, started, wait_until
from tests.fleet.victoria import Victoria, VmAlert, victoria, vmalert

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.collector.servers import JaegerServer

METRICS = CONFIGS / "metrics"
FRAGMENT = METRICS / "receipts-to-metrics.yaml"
RULES = METRICS / "rules.yaml"
ALERTS = METRICS / "alerts.yaml"
REPOSITORY = CONFIGS.parent

SMALL_QUEUE = """\
exporters:
  otlp_http/jaeger:
    sending_queue: {queue_size: 2, num_consumers: 1}
"""
"""So that spans fill the queue as soon as Jaeger is away."""


class FragmentCollector(CollectorServer):
    """dev.yaml, the shared fragment as a second configuration, and a queue that fills soon as a third."""

    def __init__(self, folder: Path, jaeger_endpoint: str) -> None:
        super().__init__(CONFIGS / "dev.yaml", {"OTEL_STEPS_COLLECTOR_JAEGER": jaeger_endpoint}, folder)
        queue = folder / "queue.yaml"
        queue.write_text(SMALL_QUEUE, encoding="utf-8")
        self.command = (*self.command, f"--config={FRAGMENT}", f"--config={queue}")


class Refuses(http.server.BaseHTTPRequestHandler):
    """A receiver to which each receipt is bad."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: it refuses a lot."""


@contextlib.contextmanager
def refusing_receiver() -> Generator[str, None, None]:
    """The URL of a receiver that answers 400."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/logs"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def service(folder: Path, kind: str, collector: CollectorServer, **env: str) -> Generator[None, None, None]:
    """One running metrics_app.py, its journal and its errors in `folder`; asked to end in order afterwards."""
    command = [sys.executable, str(Path(__file__).with_name("metrics_app.py")), kind, collector.http_endpoint]
    own = {
        "OTEL_SERVICE_NAME": f"{kind}-agent",
        "OTEL_RESOURCE_ATTRIBUTES": "tenant=acme",
        "OTEL_STEPS_STORE": str(folder / kind),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint,
        **env,
    }
    environment = {**clean_environment(), **own}
    environment.pop("PYTEST_CURRENT_TEST", None)  # where that is set faults are raised, not survived
    with (
        (folder / f"{kind}.log").open("w") as log,
        subprocess.Popen(
            command, env=environment, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield
        finally:
            try:
                process.communicate(timeout=30)
            finally:
                process.kill()  # nothing, where it has ended
    assert process.returncode == 0, (folder / f"{kind}.log").read_text()


@dataclass(frozen=True)
class World:
    """What runs, and what is asked."""

    collector: CollectorServer
    jaeger: JaegerServer
    metrics: Victoria
    rules: VmAlert


def scrape_configuration(folder: Path, collector: CollectorServer) -> Path:
    """prometheus.yaml as it is, with this Collector's ports and a scrape each second."""
    text = (METRICS / "prometheus.yaml").read_text(encoding="utf-8")
    for shipped, here in (
        ("127.0.0.1:8889", f"127.0.0.1:{collector.prometheus_port}"),
        ("127.0.0.1:8888", f"127.0.0.1:{collector.telemetry_port}"),
        ("scrape_interval: 15s", "scrape_interval: 1s"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    path = folder / "prometheus.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def yesterday(now_s: float) -> list[str]:
    """Samples of a day on which the busy service spent a cent an hour: an hour at its pace now is unusual."""
    series = 'otel_steps:service_cost_usd:per_hour{service_name="busy-agent",tenant="acme",source="sdk"}'
    return [f"{series} 0.01 {int((now_s - minutes * 60) * 1000)}" for minutes in range(70, 23 * 60, 5)]


@contextlib.contextmanager
def world(folder: Path) -> Generator[World, None, None]:
    """The fleet, at work for long enough that every metric has moved; Jaeger is up until a test takes it away."""
    with contextlib.ExitStack() as running:
        (folder / "jaeger").mkdir()
        backend = running.enter_context(jaeger(folder / "jaeger"))
        collector = started(lambda: FragmentCollector(folder, backend.otlp_http_endpoint))
        running.callback(collector.kill)
        database = running.enter_context(victoria(folder / "victoria", scrape_configuration(folder, collector)))
        database.write(yesterday(time.time()))
        engine = running.enter_context(vmalert(folder / "vmalert", database, [RULES, ALERTS]))
        refusing = running.enter_context(refusing_receiver())
        dead = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:9/v1/logs", "OTEL_TRACES_EXPORTER": "none"}
        running.enter_context(service(folder, "busy", collector))
        running.enter_context(service(folder, "waiting", collector, **dead))
        running.enter_context(service(folder, "refused", collector, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=refusing))
        yield World(collector, backend, database, engine)


def expect(query: str, found: World, what: str = "", timeout_s: float = 40.0) -> None:
    """Wait until the query has data. Raises AssertionError that shows it."""
    wait_until(lambda: found.metrics.query(query), what=f"{what} {query}", timeout_s=timeout_s, every_s=0.3)
