"""Every query of rules, alerts and dashboards has data in a real fleet, and names no metric that nothing emits."""

from __future__ import annotations

import contextlib
import json
import re
import time
import urllib.parse
import urllib.request
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.collector.servers import wait_until
from tests.fleet.metrics_queries import (
    DASHBOARDS,
    alerting_rules,
    load,
    panel_queries,
    recording_rules,
    substituted,
    unknown,
)
from tests.fleet.metrics_world import World, expect, world

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = {
    "OtelStepsCollectorDown": 'up{job=~"otel_steps|otel_collector"}',
    "OtelStepsCollectorRefusesReceipts": 'rate({__name__=~"otelcol_receiver_refused_log_records(_total)?"}[5m])',
}
"""Alerts that this fleet gives no cause for, each with its expression up to the threshold."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One fleet for all tests here."""
    with world(tmp_path_factory.mktemp("fleet")) as running:
        yield running


def test_a_dear_step_on_the_dashboard_links_to_its_runs_in_jaeger(fleet: World) -> None:
    if not fleet.jaeger.running:
        fleet.jaeger.start()
    (panel,) = [each for each in load(DASHBOARDS[0])["panels"] if each["title"] == "Dearest steps"]
    (link,) = [
        value
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "links"
        for value in each["value"]
    ]
    fields = {"service_name": "busy-agent", "otel_steps_name": "read on"}
    url = re.sub(
        r"\$\{__data\.fields\.(\w+):percentencode\}", lambda found: urllib.parse.quote(fields[found[1]]), link["url"]
    )
    # Its page is not part of the Jaeger that we build; the page asks the API with the same parameters.
    url = url.replace("${jaeger}/search", f"{fleet.jaeger.ui_url}/api/traces")
    now_ms = int(time.time() * 1000)
    url = url.replace("${__from}", str(now_ms - 3_600_000)).replace("${__to}", str(now_ms + 3_600_000))

    def traces() -> object:
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.loads(response.read())["data"]

    wait_until(traces, what=url, timeout_s=40)


def test_each_recording_rule_records(fleet: World) -> None:
    for rule in recording_rules():
        wanted = ",".join(f'{label}="{value}"' for label, value in rule.get("labels", {}).items())
        expect(f"{rule['record']}{{{wanted}}}", fleet, "recorded:")
    assert {rule["lastError"] for rule in fleet.rules.rules()} == {""}


def test_each_alert_fires_where_there_is_cause(fleet: World) -> None:
    fleet.jaeger.kill()  # so that the Collector's queue fills
    for rule in alerting_rules():
        expect(QUIET.get(rule["alert"]) or rule["expr"], fleet, rule["alert"])
    for rule in alerting_rules():
        if rule["alert"] in QUIET:
            assert not fleet.metrics.query(rule["expr"]), rule["alert"]
    on = wait_until(
        lambda: (
            names
            if len(
                names := {str(each["name"]) for each in fleet.rules.rules() if each["state"] in {"pending", "firing"}}
            )
            == len(alerting_rules()) - len(QUIET)
            else None
        ),
        what="alerts that vmalert has on",
    )
    assert on == {rule["alert"] for rule in alerting_rules()} - QUIET.keys()


def test_each_panel_has_data_from_either_source(fleet: World) -> None:
    fleet.jaeger.kill()
    for path in DASHBOARDS:
        for source in ("receipts", "sdk"):
            for query in panel_queries(load(path), source):
                expect(query.expr, fleet, query.where)


def test_each_choice_of_a_dashboard_offers_values(fleet: World) -> None:
    for path in DASHBOARDS:
        for variable in load(path)["templating"]["list"]:
            if variable["type"] != "query":
                continue
            found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert found, variable
            asked = partial(fleet.metrics.label_values, substituted(found[1]), found[2])
            values = wait_until(asked, what=variable["name"], timeout_s=40)
            assert all(values)


def test_no_query_names_a_metric_that_nothing_emits(fleet: World) -> None:
    queries = {rule["expr"] for rule in (*recording_rules(), *alerting_rules())}
    queries |= {query.expr for path in DASHBOARDS for query in panel_queries(load(path), "receipts")}

    def missing() -> list[str]:
        known = fleet.metrics.names()
        return sorted({told for expr in queries for told in unknown(expr, known)})

    with contextlib.suppress(AssertionError):  # the list itself tells more
        wait_until(lambda: not missing(), what="every metric known", timeout_s=40)
    assert missing() == []
    assert unknown("sum(rate(otel_steps_imagined_total[1m])) or vector(0)", fleet.metrics.names()) == [
        "no metric is called otel_steps_imagined_total"
    ]
    assert unknown('rate({__name__=~"otelcol_imagined(_total)?"}[1m]) or vector(0)', fleet.metrics.names()) == [
        "no metric matches otelcol_imagined(_total)?"
    ]


def test_both_sources_tell_the_same_of_a_service_in_good_order(fleet: World) -> None:
    """They move on while they are compared: the ratio of what each has counted is near 1."""
    for metric in ("cost_usd_total", "tokens_total", "steps_total", "stops_total"):
        by = 'service_name="busy-agent"'
        ratio = f'sum(otel_steps:{metric}{{source="receipts",{by}}}) / sum(otel_steps:{metric}{{source="sdk",{by}}})'
        expect(f"({ratio}) > 0.8 < 1.25", fleet)


def test_a_stop_tells_its_limit_and_boundary(fleet: World) -> None:
    expect(
        'otel_steps:stops_total{source="receipts",otel_steps_name="draft",otel_steps_limit="max_tokens",'
        'otel_steps_error_boundary="escalate",otel_steps_status="escalated"} > 0',
        fleet,
    )
    expect(
        'otel_steps:stops_total{source="receipts",otel_steps_name="read on",otel_steps_error_boundary="continue"}',
        fleet,
    )


def test_a_collector_that_is_gone_is_told(fleet: World) -> None:
    (rule,) = [each for each in alerting_rules() if each["alert"] == "OtelStepsCollectorDown"]
    fleet.collector.kill()
    both = wait_until(
        lambda: found if len(found := fleet.metrics.query(rule["expr"])) == 2 else None, what=rule["expr"], timeout_s=30
    )
    assert {series.labels["job"] for series in both} == {"otel_steps", "otel_collector"}
    fleet.collector.start()
    wait_until(lambda: not fleet.metrics.query(rule["expr"]), what="up again", timeout_s=30)
