"""gateway.yaml: who may send, as which tenant; which traces are kept; what a receipt meets when there is no room."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

import otel_steps
from tests.collector.readings import total
from tests.collector.senders import key_values, logs_request, receipt
from tests.collector.servers import JaegerServer, jaeger, wait_until
from tests.fleet.collectors import Gateway, Secrets, gateway, make_secrets
from tests.fleet.landing import Landing, landing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEAR_NANO_USD = 50_000_000


@pytest.fixture(scope="module")
def jaeger_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JaegerServer]:
    with jaeger(tmp_path_factory.mktemp("jaeger")) as server:
        yield server


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landing]:
    with landing(tmp_path_factory.mktemp("clickhouse")) as running:
        yield running


@pytest.fixture(scope="module")
def fleet_gateway(
    tmp_path_factory: pytest.TempPathFactory, jaeger_server: JaegerServer, clickhouse: Landing
) -> Iterator[Gateway]:
    """A gateway that sends straight to ClickHouse: the one line without Kafka."""
    secrets = make_secrets(tmp_path_factory.mktemp("secrets"))
    secrets.allow("acme.s3cret", "other.s3cret2", "withoutatenant")
    env = {
        **clickhouse.env,
        "OTEL_STEPS_GATEWAY_RECEIPTS_TO": "clickhouse",
        "OTEL_STEPS_COLLECTOR_JAEGER": jaeger_server.otlp_http_endpoint,
        "OTEL_STEPS_GATEWAY_SHARE_PERCENT": "0",
        "OTEL_STEPS_GATEWAY_DEAR_NANO_USD": str(DEAR_NANO_USD),
    }
    with gateway(tmp_path_factory.mktemp("gateway"), secrets, env) as server:
        yield server


def step(name: str, **fields: Any) -> ExportLogsServiceRequest:
    """A request with one receipt whose id is its name."""
    return logs_request([receipt(name=name, receipt_id=name, run_id="r", **fields)], service="fleet")


def tenant_of(clickhouse: Landing, name: str) -> str:
    """The tenant that a receipt was filed under."""
    row = wait_until(lambda: [row for row in clickhouse.kept() if row[1] == name], what=name)
    ((tenant, _, _),) = row
    return tenant


def claiming(name: str, tenant: str) -> ExportLogsServiceRequest:
    """A receipt whose sender says whose it is, in every place where it could."""
    request = step(name)
    for resource_logs in request.resource_logs:
        resource_logs.resource.attributes.extend(key_values({"tenant": tenant}))
    return request


def test_a_receipt_of_the_library_arrives_over_tls_with_its_token(
    fleet_gateway: Gateway,
    clickhouse: Landing,
    quiet_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for number, protocol in enumerate(("http/protobuf", "grpc")):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", fleet_gateway.secrets.certificate)
        otel_steps.configure(
            endpoint=fleet_gateway.http_endpoint if number == 0 else fleet_gateway.grpc_endpoint,
            headers={"Authorization": "Bearer acme.s3cret"},
            store=tmp_path / protocol.replace("/", "-"),
            service_name="agent",
        )
        with otel_steps.step(f"library-{number}"):
            otel_steps.record_llm_usage("m", 10, 5, 0.001)
        assert otel_steps.force_flush(20)
        (sent,) = otel_steps.drain_completed_steps()
        assert tenant_of(clickhouse, sent.receipt_id) == "acme"
        assert otel_steps.shutdown(5)
        otel_steps.reset()


@pytest.mark.parametrize("token", ["wrong", "acme.s3cre", "acme.s3cret2", "", "ACME.s3cret"])
def test_a_wrong_token_is_refused(fleet_gateway: Gateway, token: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        fleet_gateway.post("logs", step("refused"), ("Authorization", f"Bearer {token}"))
    refused.value.close()
    assert refused.value.code == 401
    with pytest.raises(urllib.error.HTTPError) as refused:
        fleet_gateway.post("logs", step("refused"))
    refused.value.close()
    assert refused.value.code == 401


def test_with_a_wrong_token_receipts_stay_in_the_store_until_it_is_right(
    fleet_gateway: Gateway,
    clickhouse: Landing,
    quiet_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", fleet_gateway.secrets.certificate)

    def configure(token: str) -> None:
        otel_steps.configure(
            endpoint=fleet_gateway.http_endpoint,
            headers={"Authorization": f"Bearer {token}"},
            store=tmp_path / "store",
            service_name="agent",
        )

    configure("acme.wrong")
    for number in range(20):
        with otel_steps.step(f"kept-{number}"):
            pass
    assert not otel_steps.force_flush(1)
    sent = {record.receipt_id for record in otel_steps.drain_completed_steps()}
    assert not sent & set(clickhouse.arrived())
    otel_steps.shutdown(1)
    configure("acme.s3cret")
    assert otel_steps.force_flush(20)
    wait_until(lambda: sent <= set(clickhouse.arrived()), what="all that waited")
    otel_steps.shutdown(5)


def test_a_tenant_comes_from_the_token_and_cannot_be_claimed(fleet_gateway: Gateway, clickhouse: Landing) -> None:
    fleet_gateway.send_logs(claiming("claimed", "acme"), "other.s3cret2")
    assert tenant_of(clickhouse, "claimed") == "other"
    fleet_gateway.send_logs(claiming("plain", "acme"), "withoutatenant")
    assert tenant_of(clickhouse, "plain") == "default"
    headers = (("Tenant", "acme"), ("X-Tenant", "acme"), ("X-Scope-OrgID", "acme"))
    fleet_gateway.post("logs", claiming("headers", "acme"), ("Authorization", "Bearer other.s3cret2"), *headers)
    assert tenant_of(clickhouse, "headers") == "other"
    assert not [row for row in clickhouse.ask("SELECT tenant FROM arrivals") if "s3cret" in row[0]]


def test_a_second_authorization_header_claims_nothing(fleet_gateway: Gateway, clickhouse: Landing) -> None:
    credentials = grpc.ssl_channel_credentials(Path(fleet_gateway.secrets.certificate).read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{fleet_gateway.grpc_port}", credentials) as channel:
        export: grpc.UnaryUnaryMultiCallable[ExportLogsServiceRequest, bytes] = channel.unary_unary(
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            request_serializer=ExportLogsServiceRequest.SerializeToString,
            response_deserializer=None,
        )
        pair = (("authorization", "Bearer other.s3cret2"), ("authorization", "Bearer acme.forged"))
        export(step("twice"), timeout=10, metadata=pair)
        assert tenant_of(clickhouse, "twice") == "other"
        with pytest.raises(grpc.RpcError) as refused:
            export(step("forged"), timeout=10, metadata=pair[::-1])
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_is_taken_and_taken_away_without_a_restart(fleet_gateway: Gateway, clickhouse: Landing) -> None:
    fleet_gateway.secrets.allow("acme.s3cret", "other.s3cret2", "withoutatenant", "fresh.token")

    def accepted() -> bool:
        try:
            fleet_gateway.send_logs(step("fresh"), "fresh.token")
        except urllib.error.HTTPError as refused:
            refused.close()
            return False
        return True

    wait_until(accepted, what="the new token")
    fleet_gateway.secrets.allow("acme.s3cret", "other.s3cret2", "withoutatenant")
    wait_until(lambda: not accepted(), what="the new token gone")


def test_metrics_of_receipts_name_the_tenant(fleet_gateway: Gateway) -> None:
    fleet_gateway.send_logs(step("measured"), "acme.s3cret")
    wait_until(
        lambda: total(
            fleet_gateway.samples(), "otel_steps_receipts_steps_total", otel_steps_name="measured", tenant="acme"
        ),
        what="the metric",
    )


def test_other_logs_do_not_reach_the_receipts(fleet_gateway: Gateway, clickhouse: Landing) -> None:
    odd = logs_request([receipt(receipt_id="not-a-receipt")], service="fleet", event_name="app.started")
    fleet_gateway.send_logs(odd, "acme.s3cret")
    fleet_gateway.send_logs(step("behind"), "acme.s3cret")
    assert tenant_of(clickhouse, "behind") == "acme"
    assert "not-a-receipt" not in clickhouse.arrived()


SPANS: Mapping[str, Mapping[str, Any]] = {
    "failed": {"otel_steps.status": "failed"},
    "escalated": {"otel_steps.status": "escalated"},
    "dear": {"otel_steps.cost_nano_usd": DEAR_NANO_USD},
    "error": {"error": True},
    "denied": {"event": "otel_steps.step.denied"},
    "denied tool": {"event": "otel_steps.tool.denied"},
    "limit": {"event": "otel_steps.budget.exceeded"},
    "cheap": {"otel_steps.status": "completed", "otel_steps.cost_nano_usd": DEAR_NANO_USD - 1},
    "plain": {},
}


def test_traces_with_errors_stops_refusals_or_dear_steps_are_kept_whole_and_receipts_of_all(
    fleet_gateway: Gateway, clickhouse: Landing, jaeger_server: JaegerServer, quiet_environment: None
) -> None:
    exporter = OTLPSpanExporter(
        endpoint=f"{fleet_gateway.http_endpoint}/v1/traces",
        certificate_file=fleet_gateway.secrets.certificate,
        headers={"Authorization": "Bearer acme.s3cret"},
    )
    provider = TracerProvider(resource=Resource({"service.name": "sampled", "tenant": "other"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("otel_steps")
    for name, what in SPANS.items():
        with tracer.start_as_current_span(f"run {name}"):
            with tracer.start_as_current_span(name) as span:
                for key, value in what.items():
                    if key == "event":
                        span.add_event(value)
                    elif key == "error":
                        span.set_status(Status(StatusCode.ERROR))
                    else:
                        span.set_attribute(key, value)
        fleet_gateway.send_logs(step(f"sampled {name}"), "acme.s3cret")
    provider.shutdown()

    kept = set(SPANS) - {"cheap", "plain"}
    wanted = kept | {f"run {name}" for name in kept}

    def names() -> set[str]:
        return {span.name for trace in jaeger_server.api.find_traces("sampled") for span in trace}

    wait_until(lambda: names() >= wanted, what="the traces that are kept", timeout_s=30)
    assert names() == wanted
    (trace,) = jaeger_server.api.find_traces("sampled", {"otel_steps.status": "failed"})
    assert {span.resource["tenant"] for span in trace} == {"acme"}
    wait_until(
        lambda: {f"sampled {name}" for name in SPANS} <= set(clickhouse.arrived()), what="the receipts of all steps"
    )


def refused_with(server: Gateway, request: ExportLogsServiceRequest) -> int:
    """The status of an answer, 200 where it was taken."""
    try:
        server.send_logs(request)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code
    return 200


def test_a_full_queue_refuses_and_nothing_that_was_taken_is_lost(tmp_path: Path, secrets: Secrets) -> None:
    with landing(tmp_path / "clickhouse") as store:
        store.kill()
        env = {
            **store.env,
            "OTEL_STEPS_GATEWAY_RECEIPTS_TO": "clickhouse",
            "OTEL_STEPS_GATEWAY_QUEUE_BYTES": "1000000",
        }
        with gateway(tmp_path / "gateway", secrets, env) as server:
            taken: list[str] = []
            for number in range(40):
                ids = [f"full-{number}-{each}" for each in range(100)]
                request = logs_request([receipt(receipt_id=each) for each in ids], service="fleet")
                code = refused_with(server, request)
                assert code in {200, 503}
                if code == 503:
                    break
                taken += ids
            else:
                pytest.fail("a queue of 1 MB took everything")
            assert len(taken) >= 500
            server.kill()
            server.start()
            store.start()
            wait_until(lambda: set(taken) <= set(store.arrived()), what="all that was taken", timeout_s=40)
            wait_until(lambda: refused_with(server, step("again")) == 200, what="room again")


def test_what_clickhouse_refuses_waits_in_the_queue(tmp_path: Path, secrets: Secrets) -> None:
    with landing(tmp_path / "clickhouse") as store:
        env = {**store.env, "OTEL_STEPS_GATEWAY_RECEIPTS_TO": "clickhouse"}
        with gateway(tmp_path / "gateway", secrets, env) as server:
            store.refuse()
            server.send_logs(step("refused at first"))
            wait_until(lambda: "UNKNOWN_TABLE" in server.log, what="a refusal", timeout_s=20)
            store.accept()
            wait_until(lambda: "refused at first" in store.arrived(), what="the receipt", timeout_s=30)


def test_a_gateway_short_of_memory_refuses_before_it_keeps(
    tmp_path: Path, secrets: Secrets, quiet_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with landing(tmp_path / "clickhouse") as store:
        env = {
            **store.env,
            "OTEL_STEPS_GATEWAY_RECEIPTS_TO": "clickhouse",
            "OTEL_STEPS_GATEWAY_MEMORY_MIB": "3",
            "OTEL_STEPS_GATEWAY_MEMORY_SPIKE_MIB": "1",
        }
        with gateway(tmp_path / "gateway", secrets, env) as server:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", secrets.certificate)
            wait_until(lambda: refused_with(server, step("short")) == 503, what="a refusal for want of memory")
            otel_steps.configure(
                endpoint=server.http_endpoint,
                headers={"Authorization": f"Bearer {secrets.token}"},
                store=tmp_path / "store",
                service_name="agent",
            )
            with otel_steps.step("waits"):
                pass
            assert not otel_steps.force_flush(1)
            (sent,) = otel_steps.drain_completed_steps()
            assert sent.receipt_id not in store.arrived()
            server.kill()
            server.env["OTEL_STEPS_GATEWAY_MEMORY_MIB"] = "1024"
            server.start()
            assert otel_steps.force_flush(30)
            wait_until(lambda: sent.receipt_id in store.arrived(), what="the receipt that waited")
            otel_steps.shutdown(5)


def test_without_its_list_of_tokens_it_does_not_start(tmp_path: Path, secrets: Secrets) -> None:
    with pytest.raises(AssertionError, match=r"(?s)ended at once.*failed to read credentials file"):
        with gateway(tmp_path / "gateway", secrets, {"OTEL_STEPS_GATEWAY_TOKENS": str(tmp_path / "missing")}):
            pytest.fail("it took requests without knowing whose")
