"""The configurations of a fleet are valid, start without a complaint, listen on loopback and end in order."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.collector.servers import CONFIGS, CollectorServer, binary
from tests.collector.test_configs import listening_addresses
from tests.fleet.collectors import Secrets, gateway, other
from tests.fleet.landing import landing

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

METRICS = CONFIGS / "metrics" / "receipts-to-metrics.yaml"
STARTS = {
    "gateway.yaml": [CONFIGS / "gateway.yaml"],
    "gateway.yaml and its metrics": [CONFIGS / "gateway.yaml", METRICS],
    "agent.yaml": [CONFIGS / "agent.yaml"],
    "consumer.yaml": [CONFIGS / "consumer.yaml"],
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("receipts_to", ["kafka/receipts", "clickhouse"])
def test_a_configuration_is_valid(start: str, receipts_to: str, tmp_path: Path) -> None:
    checked = subprocess.run(
        [str(binary("collector")), "validate", *(f"--config={path}" for path in STARTS[start])],
        cwd=tmp_path,
        env={"OTEL_STEPS_GATEWAY_RECEIPTS_TO": receipts_to},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@contextlib.contextmanager
def running(config: str, folder: Path, secrets: Secrets) -> Generator[CollectorServer, None, None]:
    """A Collector with one of the three; what stands behind it is away, but the consumer's ClickHouse."""
    if config == "gateway.yaml":
        with gateway(folder, secrets) as server:
            yield server
    elif config == "agent.yaml":
        token, trusted = str(secrets.folder / "token"), secrets.certificate
        with other(folder, config, {"OTEL_STEPS_AGENT_TOKEN": token, "OTEL_STEPS_AGENT_CA": trusted}) as server:
            yield server
    else:
        with landing(folder / "clickhouse") as store, other(folder, config, store.env) as server:
            yield server


@pytest.mark.parametrize("config", ["gateway.yaml", "agent.yaml", "consumer.yaml"])
def test_a_configuration_starts_on_loopback_without_a_complaint_and_ends_in_order(
    config: str, tmp_path: Path, secrets: Secrets
) -> None:
    with running(config, tmp_path, secrets) as server:
        assert listening_addresses(server.pid) == {"127.0.0.1"}
        complaints = [line for line in server.log.splitlines() if "deprecated" in line.lower() or "0.0.0.0" in line]
        assert complaints == []
        assert server.terminate() == 0


def test_nothing_touches_a_receipt_before_it_is_kept() -> None:
    allowed = {"memory_limiter", "filter/receipts", "transform/tenant"}
    for config in ("gateway.yaml", "agent.yaml", "consumer.yaml"):
        pipelines = yaml.safe_load((CONFIGS / config).read_text(encoding="utf-8"))["service"]["pipelines"]
        assert set(pipelines["logs/receipts"].get("processors", ())) <= allowed, config


def test_queues_of_receipts_are_on_the_disk_and_never_give_up() -> None:
    for config, exporters in (
        ("gateway.yaml", ("kafka/receipts", "clickhouse")),
        ("agent.yaml", ("otlp_http/receipts",)),
    ):
        loaded = yaml.safe_load((CONFIGS / config).read_text(encoding="utf-8"))
        assert loaded["extensions"]["file_storage"]["fsync"] == f"${{env:OTEL_STEPS_{config[:-5].upper()}_FSYNC:-true}}"
        for name in exporters:
            exporter = loaded["exporters"][name]
            assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
            assert exporter["sending_queue"]["storage"] == "file_storage"
            assert exporter["sending_queue"]["num_consumers"] == 1
    assert loaded["exporters"]["otlp_http/other"]["retry_on_failure"]["max_elapsed_time"] == "1h"
    kafka = yaml.safe_load((CONFIGS / "gateway.yaml").read_text(encoding="utf-8"))["exporters"]["kafka/receipts"]
    assert kafka["producer"]["required_acks"] == "all"
    assert kafka["sending_queue"]["batch"]["max_size"] < kafka["producer"]["max_message_bytes"]
