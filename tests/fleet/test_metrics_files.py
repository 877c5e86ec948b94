"""The files of metrics/ and grafana/: one list of metrics, merged by the real Collector; rules; dashboards as made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.collector.readings import total
from tests.collector.senders import logs_request, receipt
from tests.collector.servers import CONFIGS, binary, started, wait_until
from tests.fleet.collectors import Gateway, Secrets
from tests.fleet.metrics_queries import DASHBOARDS, alerting_rules, load, panels, recording_rules
from tests.fleet.metrics_world import ALERTS, FRAGMENT, RULES
from tests.fleet.victoria import vmalert_binary

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_dev_yaml_has_the_same_list_as_the_fragment() -> None:
    assert read(CONFIGS / "dev.yaml")["connectors"] == read(FRAGMENT)["connectors"]


@pytest.mark.parametrize("base", ["dev.yaml", "gateway.yaml"])
def test_the_fragment_merges_with_a_configuration(base: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("acme.secret\n")
    checked = subprocess.run(
        [str(binary("collector")), "validate", f"--config={CONFIGS / base}", f"--config={FRAGMENT}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def has_counted(server: Gateway, metric: str, amount: float) -> bool:
    return abs(total(server.samples(), metric, tenant="acme", service_name="shop") - amount) < 1e-9


def test_a_gateway_with_the_fragment_counts_by_tenant(tmp_path: Path, secrets: Secrets) -> None:
    secrets.allow("acme.of-a-test", "globex.of-a-test")

    def with_fragment() -> Gateway:
        made = Gateway(secrets, {}, tmp_path)
        made.command = (*made.command, f"--config={FRAGMENT}")
        return made

    server = started(with_fragment)
    try:
        whole = receipt(
            error_boundary="fail",
            unpriced_calls=1,
            unmetered_calls=0,
            max_usd=0.01,
            started_at="2026-01-01T10:00:00.000000000Z",
            ended_at="2026-01-01T10:00:01.500000000Z",
        )
        server.send_logs(logs_request([whole, whole], service="shop"), "acme.of-a-test")
        server.send_logs(logs_request([whole], service="shop"), "globex.of-a-test")
        told = {
            "otel_steps_receipts_steps_total": 2,
            "otel_steps_receipts_unpriced_calls_total": 2,
            "otel_steps_receipts_stops_total": 2,
            "otel_steps_receipts_duration_seconds_sum": 3.0,
            "otel_steps_receipts_usd_budget_used_sum": 1.8,
        }
        for name, amount in told.items():
            wait_until(partial(has_counted, server, name, amount), what=f"{name} of acme")
        assert total(server.samples(), "otel_steps_receipts_steps_total", tenant="globex") == 1
    finally:
        server.kill()


def test_the_rule_files_are_valid() -> None:
    checked = subprocess.run(
        [str(vmalert_binary()), "-dryRun", f"-rule={RULES}", f"-rule={ALERTS}", "-loggerLevel=ERROR"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_each_alert_has_one_severity_and_says_what_to_do() -> None:
    names = [rule["alert"] for rule in alerting_rules()]
    assert len(names) == len(set(names))
    for rule in alerting_rules():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]


def test_the_how_to_names_each_alert_and_recorded_metric() -> None:
    page = (CONFIGS.parent / "docs" / "how-to" / "metrics-and-alerts.md").read_text(encoding="utf-8")
    for name in [rule["alert"] for rule in alerting_rules()] + [rule["record"] for rule in recording_rules()]:
        assert f"`{name}`" in page, name
    for metric in read(FRAGMENT)["connectors"]["signal_to_metrics"]["logs"]:
        assert f"`{metric['name'].replace('.', '_')}" in page, metric["name"]


def test_the_dashboards_are_what_the_script_makes() -> None:
    made = subprocess.run(
        [sys.executable, str(CONFIGS / "grafana" / "make_dashboards.py"), "--check"],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr


def test_each_panel_has_a_unit_a_description_and_a_query() -> None:
    for path in DASHBOARDS:
        for panel in panels(load(path)):
            overridden = [
                prop["id"] for each in panel["fieldConfig"].get("overrides", ()) for prop in each["properties"]
            ]
            assert panel["fieldConfig"]["defaults"].get("unit") or "unit" in overridden, panel["title"]
            assert panel["description"], panel["title"]
            refs = [target["refId"] for target in panel["targets"]]
            assert refs, panel["title"]
            assert len(set(refs)) == len(refs), panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"


def test_a_dashboards_variables_are_the_ones_that_its_queries_use() -> None:
    for path in DASHBOARDS:
        text = path.read_text(encoding="utf-8")
        named = {each["name"] for each in load(path)["templating"]["list"]}
        used = set(re.findall(r"\$\{?(?!__)([a-z]\w*)", text))
        assert used == named, path.name


def test_grafana_finds_its_folders() -> None:
    provisioning = CONFIGS / "grafana" / "provisioning"
    (provider,) = read(provisioning / "dashboards" / "otel_steps.yaml")["providers"]
    (source,) = read(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    readme = (CONFIGS / "grafana" / "README.md").read_text(encoding="utf-8")
    mounted = provider["options"]["path"].removesuffix("/dashboards")
    assert f"./grafana:{mounted}:ro" in readme
    assert f"GF_PATHS_PROVISIONING: {mounted}/provisioning" in readme
    assert source["url"].removeprefix("$") + ":" in readme
    # the least interval of a rate that has data is that of the rules
    assert (
        source["jsonData"]["timeInterval"]
        == read(CONFIGS / "metrics" / "prometheus.yaml")["global"]["evaluation_interval"]
    )
