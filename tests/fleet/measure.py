"""Measures receipts on their way through the real gateway into a real broker: python -m tests.fleet.measure [SECONDS]

Prints receipts per second and per second of the gateway's processor time, with the queue forced to the disk and not,
for several sizes of request, and what a receipt weighs on the wire and in Kafka. The library itself makes the receipts.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import ssl
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

import otel_steps
from tests.collector.readings import total
from tests.collector.servers import wait_until
from tests.faults.receiver import http_receiver
from tests.fleet.collectors import Gateway, gateway, make_secrets, other
from tests.fleet.kafka import Broker, broker
from tests.fleet.landing import Landing, landing

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = (1, 20, 512)
SENDERS = 4
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """What one way took."""

    way: str
    size: int
    receipts: int
    seconds: float
    gateway_cpu_s: float
    broker_cpu_s: float
    kafka_bytes: int

    def __str__(self) -> str:
        return (
            f"| {self.way} | {self.size} | {self.receipts / self.seconds:,.0f} "
            f"| {self.receipts / self.gateway_cpu_s:,.0f} | {self.receipts / self.broker_cpu_s:,.0f} "
            f"| {self.kafka_bytes / self.receipts:,.0f} |"
        )


def real_receipts(count: int, folder: Path) -> ExportLogsServiceRequest:
    """One request with that many receipts as the library sends them: a model call, a limit, a persona, a parent."""
    os.environ["OTEL_TRACES_EXPORTER"] = "none"
    with http_receiver() as receiver:
        otel_steps.configure(endpoint=receiver.url, store=folder / "store", service_name="measured")
        for number in range(count):
            with otel_steps.persona("researcher"), otel_steps.step(f"step-{number % 10}", max_usd=1.0):
                otel_steps.record_llm_usage("gpt-5-mini", 1200 + number, 340, 0.001 + number / 1e6)
        assert otel_steps.force_flush(30)
        otel_steps.shutdown(5)
    whole = ExportLogsServiceRequest()
    for request in receiver.requests:
        whole.MergeFrom(request)
    first = whole.resource_logs[0]
    records = [record for each in whole.resource_logs for scope in each.scope_logs for record in scope.log_records]
    made = ExportLogsServiceRequest(resource_logs=[first])
    del made.resource_logs[0].scope_logs[0].log_records[:]
    made.resource_logs[0].scope_logs[0].log_records.extend(records[:count])
    return made


def portion(request: ExportLogsServiceRequest, size: int) -> bytes:
    """A request with the first `size` receipts."""
    part = ExportLogsServiceRequest()
    part.CopyFrom(request)
    del part.resource_logs[0].scope_logs[0].log_records[size:]
    return part.SerializeToString()


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, user and system; from /proc, so on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def stored(folder: Path) -> int:
    """Bytes of the topic's log, the file's unused end left out."""
    return sum(path.stat().st_blocks * 512 for path in folder.glob("data/log/otel_steps_receipts-*/*.log"))


def send_for(server: Gateway, body: bytes, seconds: float) -> tuple[int, float]:
    """Send that body over several connections, one request at a time on each; requests taken, and seconds."""
    context = ssl.create_default_context(cafile=server.secrets.certificate)
    headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {server.secrets.token}"}
    taken = [0] * SENDERS
    begin = time.monotonic()

    def sender(number: int) -> None:
        address = urlsplit(server.http_endpoint).netloc
        with contextlib.closing(http.client.HTTPSConnection(address, context=context, timeout=30)) as connection:
            while time.monotonic() - begin < seconds:
                connection.request("POST", "/v1/logs", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    taken[number] += 1
                else:
                    time.sleep(0.05)

    threads = [threading.Thread(target=sender, args=(number,)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(taken), time.monotonic() - begin


def measure(server: Gateway, kafka: Broker, way: str, body: bytes, size: int, seconds: float) -> Measured:
    """Send for a while, wait until all of it is in Kafka, and say what it took."""

    def in_kafka() -> float:
        return total(server.own_samples(), "otelcol_exporter_sent_log_records", exporter="kafka/receipts")

    before, bytes_before = in_kafka(), stored(kafka.folder)
    gateway_before, broker_before = cpu_s(server.pid), cpu_s(kafka.pid)
    requests, took = send_for(server, body, seconds)
    receipts = requests * size
    wait_until(lambda: in_kafka() >= before + receipts, what="all in Kafka", timeout_s=300, every_s=0.2)
    return Measured(
        way=way,
        size=size,
        receipts=receipts,
        seconds=took,
        gateway_cpu_s=cpu_s(server.pid) - gateway_before,
        broker_cpu_s=cpu_s(kafka.pid) - broker_before,
        kafka_bytes=stored(kafka.folder) - bytes_before,
    )


def measure_consumer(kafka: Broker, server: Gateway, folder: Path, body: bytes, size: int) -> str:
    """What the consumer takes to carry a topic into ClickHouse (here the engine behind a small HTTP server)."""
    with landing(folder / "clickhouse") as store:
        env = {"OTEL_STEPS_KAFKA": kafka.address, "OTEL_STEPS_KAFKA_TOPIC": "measured", **store.env}
        server.kill()
        server.env |= env
        server.start()
        receipts = measure(server, kafka, "", body, size, 5.0).receipts
        with other(folder / "consumer", "consumer.yaml", env) as consumer:
            before = cpu_s(consumer.pid)
            wait_until(lambda: rows(store) >= receipts, what="all in ClickHouse", timeout_s=300, every_s=0.5)
            took = cpu_s(consumer.pid) - before
        inserts = len(store.ask("SELECT name FROM system.parts WHERE table = 'arrivals'"))
    return (
        f"the consumer: {receipts / took:,.0f} receipts per s of its CPU; {receipts:,} receipts, {inserts} parts left"
    )


def rows(store: Landing) -> int:
    """Rows that were inserted."""
    ((count,),) = store.ask("SELECT toString(count()) FROM arrivals")
    return int(count)


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a table."""
    seconds = float(arguments[0]) if arguments else 10.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        request = real_receipts(max(SIZES), folder)
        whole = portion(request, max(SIZES))
        print(
            f"a receipt on the wire: {len(whole) / max(SIZES):.0f} bytes in a request of {max(SIZES)},"
            f" {len(gzip.compress(whole)) / max(SIZES):.0f} with gzip; alone {len(portion(request, 1))}\n"
        )
        print(
            "| queue | receipts a request | receipts/s | per s of gateway CPU | per s of broker CPU | bytes in Kafka |"
        )
        print("|---|---|---|---|---|---|", flush=True)
        secrets = make_secrets(folder / "secrets")
        with broker(folder / "kafka") as kafka:
            for fsync in ("true", "false"):
                env = {"OTEL_STEPS_KAFKA": kafka.address, "OTEL_STEPS_GATEWAY_FSYNC": fsync}
                with gateway(folder / f"gateway-{fsync}", secrets, env) as server:
                    measure(server, kafka, "", portion(request, 20), 20, 1.0)  # the topic is made, the code is warm
                    for size in SIZES:
                        way = "forced to the disk" if fsync == "true" else "not forced"
                        print(measure(server, kafka, way, portion(request, size), size, seconds), flush=True)
                    if fsync == "false":
                        print(f"\n{measure_consumer(kafka, server, folder, portion(request, 512), 512)}")


if __name__ == "__main__":
    main(sys.argv[1:])
