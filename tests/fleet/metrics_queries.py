"""The queries of the rule files and the dashboards, as Prometheus gets them, and the metrics that they name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.collector.servers import CONFIGS
from tests.fleet.metrics_world import ALERTS, RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DASHBOARDS = sorted((CONFIGS / "grafana" / "dashboards").glob("*.json"))

GRAFANA = {"__rate_interval": "1m", "__range": "1h", "source": "receipts", "__interval": "30s"}
"""What Grafana puts in; every other variable is `All`, which is `.*`."""

NAME = re.compile(r'(?<![\w":])(?:otel_steps[:_]|otelcol_|up\b)[\w:]*')
NAME_PATTERN = re.compile(r'__name__=~"([^"]*)"')
LABELS = re.compile(r"\b(?:by|without|on|group_left|group_right)\s*\([^)]*\)")
MATCHERS = re.compile(r"\{[^{}]*\}")
TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class Query:
    """One query and where it stands."""

    where: str
    expr: str


def rules(path: Path) -> list[Mapping[str, Any]]:
    """All rules of a file."""
    return [rule for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def recording_rules() -> list[Mapping[str, Any]]:
    """Those of rules.yaml."""
    return rules(RULES)


def alerting_rules() -> list[Mapping[str, Any]]:
    """Those of alerts.yaml."""
    return rules(ALERTS)


def substituted(expr: str, **values: str) -> str:
    """`expr` as Grafana would send it."""
    known = {**GRAFANA, **values}
    return re.sub(r"\$\{?(\w+)\}?", lambda found: known.get(found[1], ".*"), expr)


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every panel, those in rows too."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels") or ()


def panel_queries(dashboard: Mapping[str, Any], source: str) -> list[Query]:
    """What a dashboard's panels ask with that source chosen."""
    return [
        Query(f"{dashboard['title']} / {panel['title']}", substituted(target["expr"], source=source))
        for panel in panels(dashboard)
        for target in panel.get("targets", ())
    ]


def load(path: Path) -> Mapping[str, Any]:
    """One dashboard."""
    loaded: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def metrics_named(expr: str) -> tuple[set[str], set[str]]:
    """The metrics that an expression names, and the patterns of `__name__` in it."""
    patterns = set(NAME_PATTERN.findall(expr))
    bare = LABELS.sub("", TEXTS.sub("", MATCHERS.sub("", expr)))
    return set(NAME.findall(bare)), patterns


def unknown(expr: str, known: set[str]) -> list[str]:
    """What an expression names and nobody emits."""
    names, patterns = metrics_named(expr)
    missing = [f"no metric matches {each}" for each in patterns if not any(re.fullmatch(each, name) for name in known)]
    return missing + [f"no metric is called {name}" for name in sorted(names - known)]
