"""From a step to ClickHouse by way of gateway, Kafka and consumer: each is killed -9, and every receipt comes out.

`OTEL_STEPS_FLEET_SECONDS` sets how long the killing goes on (default 15).
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import otel_steps
from tests.collector.readings import total
from tests.collector.senders import logs_request, receipt
from tests.collector.servers import CollectorServer, wait_until
from tests.fleet.collectors import Gateway, gateway, make_secrets, other
from tests.fleet.kafka import Broker, broker
from tests.fleet.landing import Landing, landing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = float(os.environ.get("OTEL_STEPS_FLEET_SECONDS", "15"))
STEPS_PER_S = 50
DRAIN_S = 90


@dataclass(frozen=True)
class Fleet:
    """The real parts between a step and ClickHouse."""

    gateway: Gateway
    broker: Broker
    consumer: CollectorServer
    clickhouse: Landing


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as running:
        kafka = running.enter_context(broker(folder / "kafka"))
        store = running.enter_context(landing(folder / "clickhouse"))
        env = {"OTEL_STEPS_KAFKA": kafka.address}
        secrets = make_secrets(folder / "secrets")
        gate = running.enter_context(gateway(folder / "gateway", secrets, env))
        consumer = running.enter_context(other(folder / "consumer", "consumer.yaml", {**env, **store.env}))
        yield Fleet(gate, kafka, consumer, store)


class Agent(threading.Thread):
    """Steps until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(name="agent")
        self.sent: set[str] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(1 / STEPS_PER_S):
            with otel_steps.step("outer"), otel_steps.step("inner", max_usd=1.0):
                otel_steps.record_llm_usage("m", 10, 5, 0.001)
            self.sent |= {record.receipt_id for record in otel_steps.drain_completed_steps()}


def troubles(fleet: Fleet) -> list[Callable[[], None]]:
    """Each part killed, and back after a moment."""

    def kill_and_start(part: Gateway | Broker | CollectorServer | Landing) -> Callable[[], None]:
        def trouble() -> None:
            part.kill()
            part.start()

        return trouble

    return [kill_and_start(part) for part in (fleet.gateway, fleet.consumer, fleet.broker, fleet.clickhouse)]


def configure(fleet: Fleet, store: Path) -> None:
    """The library delivers to the fleet's gateway."""
    otel_steps.configure(
        endpoint=fleet.gateway.http_endpoint,
        headers={"Authorization": f"Bearer {fleet.gateway.secrets.token}"},
        store=store,
        service_name="agent",
    )


def test_every_receipt_comes_out_whoever_is_killed(
    fleet: Fleet, tmp_path: Path, quiet_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", fleet.gateway.secrets.certificate)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")
    configure(fleet, tmp_path / "store")
    agent = Agent()
    agent.start()
    rng = random.Random(7)
    killed = 0
    deadline = time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline or killed < 4:
            round_of = troubles(fleet)
            rng.shuffle(round_of)
            for trouble in round_of:
                time.sleep(rng.uniform(0.2, 1.5))
                trouble()
                killed += 1
    finally:
        agent.ended.set()
        agent.join()
    assert otel_steps.force_flush(60)
    sent = agent.sent | {record.receipt_id for record in otel_steps.drain_completed_steps()}
    assert len(sent) > SECONDS
    wait_until(lambda: sent <= set(fleet.clickhouse.arrived()), what="every receipt", timeout_s=DRAIN_S, every_s=0.5)
    otel_steps.shutdown(5)

    arrived = fleet.clickhouse.arrived()
    # A kill sends again what was on its way: a few messages, not the whole topic.
    assert sum(arrived[each] for each in sent) < 2 * len(sent)
    kept = [row for row in fleet.clickhouse.kept() if row[1] in sent]
    assert {receipt_id for _, receipt_id, _ in kept} == sent
    assert len(kept) == len(sent)  # the table keeps one of each
    assert {tenant for tenant, _, _ in kept} == {"dev"}


def test_nothing_leaves_kafka_before_clickhouse_has_it(fleet: Fleet) -> None:
    def in_kafka() -> float:
        return total(fleet.gateway.own_samples(), "otelcol_exporter_sent_log_records", exporter="kafka/receipts")

    fleet.clickhouse.kill()
    before = in_kafka()
    ids = {f"waits-{number}" for number in range(200)}
    for each in sorted(ids):
        fleet.gateway.send_logs(logs_request([receipt(receipt_id=each)], service="fleet"))
    wait_until(lambda: in_kafka() >= before + len(ids), what="all in Kafka", timeout_s=30)
    fleet.consumer.kill()
    fleet.broker.kill()
    fleet.broker.start()
    fleet.consumer.start()
    fleet.clickhouse.start()
    wait_until(lambda: ids <= set(fleet.clickhouse.arrived()), what="what waited in Kafka", timeout_s=DRAIN_S)


def test_without_kafka_the_gateway_goes_on_taking_and_keeps(fleet: Fleet) -> None:
    fleet.broker.kill()
    ids = {f"queued-{number}" for number in range(300)}
    for each in sorted(ids):
        fleet.gateway.send_logs(logs_request([receipt(receipt_id=each)], service="fleet"))
    fleet.gateway.kill()
    fleet.gateway.start()
    fleet.broker.start()
    wait_until(lambda: ids <= set(fleet.clickhouse.arrived()), what="what waited at the gateway", timeout_s=DRAIN_S)


def test_what_clickhouse_refuses_stays_in_kafka_until_it_is_taken(fleet: Fleet) -> None:
    fleet.clickhouse.refuse()
    ids = {f"refused-{number}" for number in range(50)}
    fleet.gateway.send_logs(logs_request([receipt(receipt_id=each) for each in sorted(ids)], service="fleet"))
    before = fleet.consumer.log.count("otel_steps_landing")
    wait_until(lambda: fleet.consumer.log.count("otel_steps_landing") > before, what="a refusal", timeout_s=30)
    fleet.clickhouse.accept()
    wait_until(lambda: ids <= set(fleet.clickhouse.arrived()), what="what was refused", timeout_s=DRAIN_S)


def test_a_request_larger_than_a_message_is_split_and_none_of_it_lost(fleet: Fleet) -> None:
    ids = {f"large-{number}" for number in range(500)}
    large = [receipt(receipt_id=each, error=f"{each} ".ljust(4096, "x")) for each in sorted(ids)]
    request = logs_request(large, service="fleet")
    assert request.ByteSize() > 2_000_000
    fleet.gateway.send_logs(request)
    wait_until(lambda: ids <= set(fleet.clickhouse.arrived()), what="all of it", timeout_s=DRAIN_S)
