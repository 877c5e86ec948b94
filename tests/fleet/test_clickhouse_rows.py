"""The rows that the store's tests insert are those of the Collector's exporter, and it is answered as it asks."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from otel_steps.checks import is_list, is_mapping
from otel_steps.receipts.otlp import Encoder
from tests.collector.servers import CollectorServer, collector, wait_until
from tests.fleet.clickhouse import SQL, ClickHouse, receipts_store, statements
from tests.fleet.clickhouse_http import ClickHouseHttp
from tests.fleet.clickhouse_receipts import run_agents
from tests.fleet.clickhouse_rows import COLUMNS, RESOURCE, WITHOUT_EVENT, exporter_rows, receipt_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:${env:OTEL_STEPS_COLLECTOR_HTTP_PORT}"}}}}
exporters:
  clickhouse:
    endpoint: "${env:ENDPOINT}"
    database: "${env:DATABASE}"
    logs_table_name: "${env:TABLE}"
    create_schema: false
    compress: none
    retry_on_failure: {initial_interval: 100ms, max_interval: 200ms, max_elapsed_time: 0}
    sending_queue: {num_consumers: 1}
extensions: {health_check: {endpoint: "127.0.0.1:${env:OTEL_STEPS_COLLECTOR_HEALTH_PORT}"}}
service:
  extensions: [health_check]
  telemetry: {metrics: {level: none}}
  pipelines: {logs: {receivers: [otlp], exporters: [clickhouse]}}
"""
ODD = (0.1, 1e-7, -1e-10, 1e21, 1e300, 123456789.0, 1e20, 0.000001, -0.0, 5e-324, 2.5, True, -(2**63), "t", b"\x00\xff")


@pytest.fixture
def store() -> Iterator[ClickHouse]:
    with receipts_store() as store:
        yield store


def environment(server: ClickHouseHttp, table: str) -> dict[str, str]:
    return {"ENDPOINT": server.url, "DATABASE": server.store.database, "TABLE": table}


def config(folder: Path) -> Path:
    path = folder / "clickhouse.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def send(server: CollectorServer, request: bytes) -> None:
    post = urllib.request.Request(f"{server.http_endpoint}/v1/logs", request)
    post.add_header("Content-Type", "application/x-protobuf")
    with urllib.request.urlopen(post, timeout=10) as answer:
        assert answer.status == 200


def odd_request() -> bytes:
    """Every kind of value, in resource, scope and record."""
    request = ExportLogsServiceRequest.FromString(Encoder().request(run_agents(2), {**RESOURCE, "pid": 7, "r": 0.5}))
    of_scope = request.resource_logs[0].scope_logs[0]
    of_scope.schema_url = "https://example.org/scope"
    of_scope.scope.attributes.add(key="list").value.CopyFrom(value(["<a>", 1, 2.0, None, {"b": b"x", "a": [False]}]))
    record = of_scope.log_records[0]
    record.flags = 0x101
    record.body.CopyFrom(value({"k": "v&\u2028"}))
    record.attributes.extend(KeyValue(key=f"odd.{index}", value=value(each)) for index, each in enumerate(ODD))
    return request.SerializeToString()


def value(raw: Any) -> AnyValue:
    if raw is None:
        return AnyValue()
    if is_mapping(raw):
        return AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key=k, value=value(v)) for k, v in raw.items()]))
    if is_list(raw):
        return AnyValue(array_value=ArrayValue(values=[value(item) for item in raw]))
    kinds = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"}
    return AnyValue(**{kinds[type(raw)]: raw})


def test_the_exporter_inserts_the_rows_that_the_tests_insert(tmp_path: Path, store: ClickHouse) -> None:
    store.run("CREATE TABLE raw AS otel_steps_landing ENGINE = Memory")
    store.run("CREATE TABLE ours AS otel_steps_landing ENGINE = Memory")
    request = odd_request()
    rows = exporter_rows(request)
    store.insert("ours", rows, COLUMNS)
    with ClickHouseHttp(store) as server, collector(tmp_path, config(tmp_path), environment(server, "raw")) as receiver:
        send(receiver, request)
        wait_until(lambda: server.columns, what="the exporter's insert")
    assert server.columns == [COLUMNS]
    order = "ORDER BY LogAttributes['otel_steps.receipt_id'], LogAttributes['otel_steps.revision']"
    theirs, ours = store.rows(f"SELECT * FROM raw {order}"), store.rows(f"SELECT * FROM ours {order}")
    for their, our in zip(theirs, ours, strict=True):
        assert {k: v for k, v in their.items() if our[k] != v} == {k: v for k, v in our.items() if their[k] != v}
    assert store.value("SELECT count() FROM raw") == len(rows) > 10


def test_an_exporter_that_started_without_clickhouse_leaves_out_the_event_and_its_receipts_arrive(
    tmp_path: Path, store: ClickHouse
) -> None:
    receipts = run_agents(2)
    server = ClickHouseHttp(store)
    with server:
        env = environment(server, "otel_steps_landing")
    with collector(tmp_path, config(tmp_path), env) as receiver:
        send(receiver, Encoder().request(receipts, RESOURCE))
        with server:
            wait_until(lambda: server.columns, what="the exporter's insert")
    assert server.columns == [WITHOUT_EVENT]
    kept = store.value("SELECT count() FROM otel_steps_receipts_latest")
    assert kept == len({receipt.receipt_id for receipt in receipts})


def test_an_insert_whose_answer_was_lost_or_that_was_refused_comes_again_and_counts_once(
    tmp_path: Path, store: ClickHouse
) -> None:
    receipts = run_agents(2)
    with ClickHouseHttp(store) as server:
        server.lost_answers = 1
        with collector(tmp_path, config(tmp_path), environment(server, "otel_steps_landing")) as receiver:
            send(receiver, Encoder().request(receipts, RESOURCE))
            wait_until(lambda: server.inserts == 2, what="the second insert")
            server.refusal = (500, "Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS)")
            later = msgspec.structs.replace(receipts[0], receipt_id="f" * 32)
            send(receiver, Encoder().request([later], RESOURCE))
            wait_until(lambda: server.refused, what="a refusal")
            server.refusal = None
            wait_until(lambda: server.inserts == 3, what="the insert after the refusal")
    kept = store.value("SELECT count() FROM otel_steps_receipts_latest")
    assert kept == len({receipt.receipt_id for receipt in receipts}) + 1


def test_a_table_that_is_not_there_is_said_in_clickhouses_words(store: ClickHouse) -> None:
    with ClickHouseHttp(store) as server, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(server.url, b"DESC TABLE nothing_here", timeout=5)
    with refused.value as answer:
        assert answer.code == 404
        assert b"UNKNOWN_TABLE" in answer.read()


def test_rows_without_a_text_or_a_time_are_rows() -> None:
    rows = receipt_rows(run_agents(1))
    assert {row["EventName"] for row in rows} == {"otel_steps.step.completed"}
    assert all(row["Body"] == "" and row["ServiceName"] == "agents" for row in rows)


def test_a_script_is_split_where_statements_end() -> None:
    text = "-- a; b's\nSELECT ';', 'it\\'s;' ;\n\nSELECT `;`; -- end;\n"
    assert statements(text) == ["-- a; b's\nSELECT ';', 'it\\'s;'", "SELECT `;`"]
    assert len(statements((SQL / "schema.sql").read_text(encoding="utf-8"))) == 4
