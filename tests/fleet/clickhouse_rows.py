"""From OTLP to the rows that the Collector's clickhouseexporter 0.161.0 inserts; a test holds the two together."""

from __future__ import annotations

import base64
import json
import math
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_steps.receipts.otlp import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    from otel_steps.record import CompletedStep

COLUMNS = (
    *("Timestamp", "TraceId", "SpanId", "TraceFlags", "SeverityText", "SeverityNumber", "ServiceName", "Body"),
    *("ResourceSchemaUrl", "ResourceAttributes", "ScopeSchemaUrl", "ScopeName", "ScopeVersion", "ScopeAttributes"),
    *("LogAttributes", "EventName"),
)
WITHOUT_EVENT = COLUMNS[:-1]
"""What an exporter inserts that started while ClickHouse was away."""
RESOURCE = {"service.name": "agents", "tenant": "acme"}


def receipt_rows(receipts: Sequence[CompletedStep], resource: Mapping[str, Any] = RESOURCE) -> list[dict[str, Any]]:
    """The rows of receipts, as otel_steps sends them and the exporter inserts them."""
    return exporter_rows(Encoder().request(receipts, resource)) if receipts else []


def exporter_rows(request: bytes) -> list[dict[str, Any]]:
    """The rows of an ExportLogsServiceRequest, by column, as values that JSON has."""
    rows: list[dict[str, Any]] = []
    for of_resource in ExportLogsServiceRequest.FromString(request).resource_logs:
        resource = _texts(of_resource.resource.attributes)
        for of_scope in of_resource.scope_logs:
            scope = of_scope.scope
            for record in of_scope.log_records:
                seconds, nanos = divmod(record.time_unix_nano or record.observed_time_unix_nano, 1_000_000_000)
                values = (
                    f"{seconds:010d}.{nanos:09d}",
                    record.trace_id.hex(),
                    record.span_id.hex(),
                    record.flags & 0xFF,
                    record.severity_text,
                    record.severity_number,
                    resource.get("service.name", ""),
                    value_text(record.body),
                    of_resource.schema_url,
                    resource,
                    of_scope.schema_url,
                    scope.name,
                    scope.version,
                    _texts(scope.attributes),
                    _texts(record.attributes),
                    record.event_name,
                )
                rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def value_text(value: AnyValue) -> str:
    """A value as the Collector writes it into a text column (pdata's AsString)."""
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "int_value":
        return str(value.int_value)
    if kind == "double_value":
        return _number_text(value.double_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return _json(value)


def _json(value: AnyValue) -> str:
    # lists and maps come as JSON
    kind = value.WhichOneof("value")
    if kind is None:
        return "null"
    if kind == "array_value":
        return f"[{','.join(map(_json, value.array_value.values))}]"
    if kind == "kvlist_value":
        items = sorted(((item.key, item.value) for item in value.kvlist_value.values), key=itemgetter(0))
        return "{" + ",".join(f"{_json_text(key)}:{_json(item)}" for key, item in items) + "}"
    text = value_text(value)
    return _json_text(text) if kind in {"string_value", "bytes_value"} else text


def _json_text(text: str) -> str:
    # Go's encoder escapes the two line ends of JavaScript
    return json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _number_text(number: float) -> str:
    # as ECMAScript writes numbers: no exponent from 1e-6 up to 1e21, and none with a leading zero
    if not math.isfinite(number):
        return f"json: unsupported value: {'NaN' if math.isnan(number) else '+Inf' if number > 0 else '-Inf'}"
    if number and not 1e-6 <= abs(number) < 1e21:
        digits, _, exponent = repr(number).partition("e")
        return f"{digits.removesuffix('.0')}e{int(exponent):+d}"
    return format(Decimal(repr(number)), "f").removesuffix(".0")


def _texts(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {item.key: value_text(item.value) for item in attributes}
