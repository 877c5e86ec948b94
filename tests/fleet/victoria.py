"""VictoriaMetrics, which speaks Prometheus, and its rule engine vmalert, for the tests: built, started and asked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.collector.servers import Server, clean_environment, free_ports, started, unavailable
from tests.fleet.built import built

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

VMALERT_VERSION = "1.151.0"


def vmalert_binary() -> Path:
    """vmalert of the same release, from the cache; built first where it is not there (half a minute)."""
    own = os.environ.get("OTEL_STEPS_CACHE")
    cache = (Path(own).absolute() if own else Path.home() / ".cache" / "otel-steps") / "build"
    path = cache / f"vmalert-{VMALERT_VERSION}" / "vmalert"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".vmalert-") as folder:
        try:
            built_now = subprocess.run(
                ["go", "install", f"github.com/VictoriaMetrics/VictoriaMetrics/app/vmalert@v{VMALERT_VERSION}"],
                cwd="/",  # a go.mod nearby may ask for another toolchain
                env={**os.environ, "GOBIN": folder, "CGO_ENABLED": "0", "GOWORK": "off"},
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            unavailable("Go, which builds vmalert, is not installed")
        if built_now.returncode != 0:
            pytest.fail(f"building vmalert failed:\n{built_now.stderr}")
        (Path(folder) / "vmalert").replace(path)  # whole or not at all, however many build it
    return path


class QueryError(Exception):
    """The server refused a query; the message is its own."""


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, `__name__` among them, and its value now."""

    labels: Mapping[str, str]
    value: float


class Victoria(Server):
    """One VictoriaMetrics that scrapes by a Prometheus configuration."""

    def __init__(self, folder: Path, scrape: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        command = [
            str(built("victoria-metrics")),
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-storageDataPath={folder / 'data'}",
            f"-promscrape.config={scrape}",
            "-promscrape.config.strictParse=false",  # rule_files are Prometheus's
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-storage.cacheSizeIndexDBTagFilters=1",  # it would not see a new series for ten seconds
            "-retentionPeriod=7d",
        ]
        super().__init__(command, clean_environment(), folder, f"{self.url}/health", folder / "victoria.log")

    def query(self, expr: str) -> list[Series]:
        """What an instant query answers now. Raises QueryError."""
        found = self._get("query", query=expr)
        return [Series(each["metric"], float(each["value"][1])) for each in found["result"]]

    def names(self) -> set[str]:
        """Names of all metrics that it has."""
        return set(self._get("label/__name__/values"))

    def label_values(self, metric: str, label: str) -> list[str]:
        """The values of a label on the series that `metric` selects."""
        values: list[str] = self._get(f"label/{label}/values", **{"match[]": metric})
        return values

    def write(self, lines: Sequence[str]) -> None:
        """Take samples in Prometheus's text format, each with its time in milliseconds."""
        post = urllib.request.Request(f"{self.url}/api/v1/import/prometheus", data="\n".join(lines).encode())
        with urllib.request.urlopen(post, timeout=10):
            pass

    def _get(self, path: str, **parameters: str) -> Any:
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=20
            ) as response:
                return json.loads(response.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise QueryError(f"{parameters}: {error.read().decode()}") from error


class VmAlert(Server):
    """vmalert, which evaluates rule files every second against a server, and writes there what it records."""

    def __init__(self, folder: Path, server: Victoria, rules: Sequence[Path]) -> None:
        (self.port,) = free_ports(1)
        command = [
            str(vmalert_binary()),
            f"-httpListenAddr=127.0.0.1:{self.port}",
            f"-datasource.url={server.url}",
            f"-remoteWrite.url={server.url}",
            "-remoteWrite.flushInterval=200ms",
            "-notifier.blackhole",
            "-evaluationInterval=1s",
            "-rule.evalDelay=0s",
            *(f"-rule={path}" for path in rules),
        ]
        super().__init__(
            command, clean_environment(), folder, f"http://127.0.0.1:{self.port}/health", folder / "vmalert.log"
        )

    def rules(self) -> list[Mapping[str, Any]]:
        """Every rule with its state: `name`, `type`, `health`, `lastError`, `query` and more."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/rules", timeout=10) as response:
            groups = json.loads(response.read())["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextlib.contextmanager
def victoria(folder: Path, scrape: Path) -> Generator[Victoria, None, None]:
    """A running VictoriaMetrics, its data in `folder`."""
    folder.mkdir(exist_ok=True)
    server = started(lambda: Victoria(folder, scrape))
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def vmalert(folder: Path, server: Victoria, rules: Sequence[Path]) -> Generator[VmAlert, None, None]:
    """A running vmalert."""
    folder.mkdir(exist_ok=True)
    engine = started(lambda: VmAlert(folder, server, rules))
    try:
        yield engine
    finally:
        engine.terminate()
