"""agent.yaml: OTLP on loopback in, TLS and a token out; what it took outlives its death and the gateway's absence."""

from __future__ import annotations

import contextlib
import urllib.error
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import otel_steps
from tests.collector.senders import logs_request, receipt, send_logs, tracer
from tests.collector.servers import CollectorServer, JaegerServer, jaeger, wait_until
from tests.fleet.collectors import Gateway, Secrets, gateway, make_secrets, other
from tests.fleet.landing import Landing, landing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Far:
    """What lies behind an agent."""

    gateway: Gateway
    clickhouse: Landing
    jaeger: JaegerServer


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder = tmp_path_factory.mktemp("far")
    secrets = make_secrets(folder / "secrets")
    (folder / "jaeger").mkdir()
    with contextlib.ExitStack() as running:
        spans = running.enter_context(jaeger(folder / "jaeger"))
        store = running.enter_context(landing(folder / "clickhouse"))
        env = {
            **store.env,
            "OTEL_STEPS_GATEWAY_RECEIPTS_TO": "clickhouse",
            "OTEL_STEPS_COLLECTOR_JAEGER": spans.otlp_http_endpoint,
            "OTEL_STEPS_GATEWAY_SHARE_PERCENT": "100",
        }
        yield Far(running.enter_context(gateway(folder / "gateway", secrets, env)), store, spans)


def settings(far: Far, folder: Path) -> dict[str, str]:
    """What an agent's environment names; its token is a file of its own."""
    (folder / "token").write_text(far.gateway.secrets.token, encoding="utf-8")
    return {
        "OTEL_STEPS_AGENT_GATEWAY": far.gateway.http_endpoint,
        "OTEL_STEPS_AGENT_CA": far.gateway.secrets.certificate,
        "OTEL_STEPS_AGENT_TOKEN": str(folder / "token"),
        "OTEL_STEPS_AGENT_QUEUE": str(folder / "queue"),
    }


@contextlib.contextmanager
def agent(far: Far, folder: Path, env: Mapping[str, str] | None = None) -> Generator[CollectorServer, None, None]:
    with other(folder / "agent", "agent.yaml", {**settings(far, folder), **(env or {})}) as server:
        yield server


def send(server: CollectorServer, ids: set[str]) -> None:
    for each in sorted(ids):
        send_logs(server, logs_request([receipt(receipt_id=each)], service="agent"))


def test_receipts_of_the_library_and_spans_pass_through_with_the_agents_tenant(
    far: Far, tmp_path: Path, quiet_environment: None
) -> None:
    with agent(far, tmp_path) as server:
        otel_steps.configure(endpoint=server.http_endpoint, store=tmp_path / "store", service_name="app")
        with otel_steps.step("through"):
            pass
        assert otel_steps.force_flush(20)
        (sent,) = otel_steps.drain_completed_steps()
        with tracer(server, "grpc", service="app") as spans:
            spans.start_span("plan").end()
        wait_until(lambda: ("dev", sent.receipt_id, "through") in far.clickhouse.kept(), what="the receipt")
        wait_until(lambda: far.jaeger.api.find_traces("app"), what="the span", timeout_s=30)
        otel_steps.shutdown(5)


def test_what_an_agent_took_outlives_its_death_while_the_gateway_is_away(far: Far, tmp_path: Path) -> None:
    with agent(far, tmp_path) as server:
        far.gateway.kill()
        ids = {f"agent-{number}" for number in range(200)}
        send(server, ids)
        server.kill()
        server.start()
        far.gateway.start()
        wait_until(lambda: ids <= set(far.clickhouse.arrived()), what="all of them", timeout_s=60)


def test_a_full_queue_is_told_to_the_sender_and_loses_nothing(far: Far, tmp_path: Path) -> None:
    with agent(far, tmp_path, {"OTEL_STEPS_AGENT_QUEUE_BYTES": "500000"}) as server:
        far.gateway.kill()
        taken: set[str] = set()
        code = 200
        for number in range(200):
            ids = {f"agent-full-{number}-{each}" for each in range(50)}
            try:
                send_logs(server, logs_request([receipt(receipt_id=each) for each in ids], service="agent"))
            except urllib.error.HTTPError as refused:
                refused.close()
                code = refused.code
                break
            taken |= ids
        assert code == 503
        far.gateway.start()
        wait_until(lambda: taken <= set(far.clickhouse.arrived()), what="what was taken", timeout_s=60)


def test_passed_straight_through_the_gateways_answer_is_the_answer(
    far: Far, tmp_path: Path, quiet_environment: None
) -> None:
    """A token that is no longer valid keeps receipts in the library's store, where a queue would lose them."""
    with agent(far, tmp_path, {"OTEL_STEPS_AGENT_QUEUED": "false"}) as server:
        (tmp_path / "token").write_text("dev.expired", encoding="utf-8")
        otel_steps.configure(endpoint=server.http_endpoint, store=tmp_path / "store", service_name="app")
        with otel_steps.step("kept"):
            pass
        assert not otel_steps.force_flush(2)
        far.gateway.kill()
        assert not otel_steps.force_flush(2)
        far.gateway.start()
        (sent,) = otel_steps.drain_completed_steps()
        assert sent.receipt_id not in far.clickhouse.arrived()
        (tmp_path / "token").write_text(far.gateway.secrets.token, encoding="utf-8")
        assert otel_steps.force_flush(40)
        wait_until(lambda: sent.receipt_id in far.clickhouse.arrived(), what="the receipt")
        otel_steps.shutdown(5)


def test_an_agent_trusts_no_gateway_but_its_own(far: Far, tmp_path: Path) -> None:
    strange: Secrets = make_secrets(tmp_path / "strange")
    with agent(far, tmp_path, {"OTEL_STEPS_AGENT_CA": strange.certificate}) as server:
        send(server, {"untrusted"})
        wait_until(lambda: "certificate" in server.log, what="a complaint about the certificate")
        assert "untrusted" not in far.clickhouse.arrived()
