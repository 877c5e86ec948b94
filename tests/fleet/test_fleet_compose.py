"""The fleet in one command: compose.yaml fits what it mounts, and run.py runs it for real without containers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import otel_steps
from tests.collector.servers import CONFIGS, clean_environment, free_ports, get, wait_until
from tests.fleet.built import built
from tests.fleet.landing import landing

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

FLEET = CONFIGS / "fleet"
COMPOSE = FLEET / "compose.yaml"
PORTS = (
    *("COLLECTOR_GRPC", "COLLECTOR_HTTP", "COLLECTOR_PROMETHEUS", "COLLECTOR_TELEMETRY", "COLLECTOR_HEALTH"),
    *("JAEGER_UI", "JAEGER_OTLP_GRPC", "JAEGER_OTLP_HTTP", "JAEGER_HEALTH", "JAEGER_QUERY_GRPC"),
    *("REDIS", "METRICS", "KAFKA", "CONSUMER_HEALTH", "CONSUMER_TELEMETRY"),
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose() -> Any:
    return load(COMPOSE)


def test_it_is_the_whole_fleet_from_pinned_images_of_the_releases_that_are_tested(compose: Any) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert {"gateway", "kafka", "consumer", "clickhouse", "jaeger", "redis", "victoria-metrics", "grafana"} <= set(
        images
    )
    version = load(CONFIGS / "builder.yaml")["dist"]["version"]
    assert images["gateway"] == images["consumer"] == f"otel/opentelemetry-collector-contrib:{version}"
    assert images["jaeger"] == load(CONFIGS / "compose.yaml")["services"]["jaeger"]["image"]
    recipes = (CONFIGS / "recipes.py").read_text(encoding="utf-8")
    for name, program in (("kafka", "apache/kafka"), ("victoria-metrics", "victoriametrics/victoria-metrics")):
        assert images[name].startswith(program)
        assert f'"{images[name].rpartition(":")[2].removeprefix("v")}"' in recipes
    assert all(re.search(r":v?\d[\w.-]*$", image) for image in images.values())


def test_what_it_mounts_and_names_is_there(compose: Any) -> None:
    for name, service in compose["services"].items():
        mounts = {target: source for source, target, *_ in (each.split(":") for each in service.get("volumes", ()))}
        for source in mounts.values():
            assert (FLEET / source).exists() if source.startswith(".") else source in compose["volumes"], (name, source)
        for option in service.get("command", ()):
            path = option.partition("=")[2]
            if path.startswith("/etc/otel-steps"):
                target = next(each for each in mounts if path == each or path.startswith(f"{each}/"))
                assert (FLEET / mounts[target] / path.removeprefix(target).lstrip("/")).is_file(), (name, option)
        for other in service.get("depends_on", ()):
            assert other in compose["services"]


def test_it_publishes_on_loopback_alone(compose: Any) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_each_collector_is_told_only_what_its_configuration_reads(compose: Any) -> None:
    for name in ("gateway", "consumer", "jaeger"):
        text = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")
        for variable in compose["services"][name]["environment"]:
            assert f"${{env:{variable}:-" in text, (name, variable)


def test_services_find_each_other(compose: Any) -> None:
    told = [*compose["services"].values()]
    addresses = re.findall(r"(?:https?://|\b)([a-z][a-z-]*):(\d{4,5})\b", str(told) + str(load(FLEET / "scrape.yaml")))
    assert {host for host, _ in addresses} <= {*compose["services"], "gateway"}
    topic = next(each for each in compose["services"]["topic"]["command"] if each.startswith("--topic="))
    assert f":-{topic.partition('=')[2]}}}" in (CONFIGS / "gateway.yaml").read_text(encoding="utf-8")


def test_the_compose_client_takes_it_where_there_is_one() -> None:
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        return  # the structure is tested above; there is no client that could say more
    checked = subprocess.run(
        ["docker", "compose", "-f", str(COMPOSE), "config", "--quiet"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


class Run:
    """run.py with ports and a folder of its own."""

    def __init__(self, folder: Path, arguments: Sequence[str], env: dict[str, str]) -> None:
        numbers = free_ports(len(PORTS))
        self.ports = {f"OTEL_STEPS_{name}_PORT": str(port) for name, port in zip(PORTS, numbers, strict=True)}
        self.folder = folder
        self.told = folder / "told"
        folder.mkdir()
        with self.told.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(FLEET / "run.py"), "--folder", str(folder), *arguments],
                env={**clean_environment(), **self.ports, **env},
                stdout=out,
                stderr=out,
            )

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[f'OTEL_STEPS_{name}_PORT']}"

    def up(self) -> str:
        """What it told, once it runs."""

        def told() -> str | None:
            assert self.process.poll() is None, self.told.read_text()
            text = self.told.read_text()
            return text if "Ctrl-C ends it" in text else None

        return wait_until(told, what="run.py up", timeout_s=120)

    def exports(self) -> dict[str, str]:
        """The environment that it tells people to set."""
        lines = re.findall(r"^ +export (\w+)=(.*)$", self.up(), re.MULTILINE)
        script = "".join(f"export {name}={value}\n" for name, value in lines)
        names = " ".join(f'"${name}"' for name, _ in lines)
        told = subprocess.run(
            ["sh", "-c", f'{script}printf "%s\\n" {names}'], capture_output=True, text=True, check=True
        )
        return dict(zip([name for name, _ in lines], told.stdout.splitlines(), strict=True))

    def end(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def started_runs() -> Generator[list[Run], None, None]:
    runs: list[Run] = []
    yield runs
    for run in runs:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.wait(60)


def needs() -> None:
    """The programs, built before the clock runs."""
    for program in ("collector", "jaeger", "victoria-metrics", "kafka"):
        built(program)
    assert shutil.which("redis-server"), "redis-server is not installed"


def query(run: Run, promql: str) -> str:
    return get(f"{run.url('METRICS')}/api/v1/query?{urllib.parse.urlencode({'query': promql})}") or ""


@pytest.mark.parametrize("kafka", [False, True], ids=["development", "kafka"])
def test_run_starts_a_fleet_that_takes_receipts_and_ctrl_c_ends_all_of_it(
    kafka: bool,
    tmp_path: Path,
    quiet_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    started_runs: list[Run],
) -> None:
    needs()
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    with landing(tmp_path / "clickhouse") as store:
        run = Run(tmp_path / "fleet", ["--kafka"] if kafka else [], store.env if kafka else {})
        started_runs.append(run)
        for name, value in run.exports().items():
            monkeypatch.setenv(name, value)
        otel_steps.configure(store=tmp_path / "store", service_name="fleet")
        with otel_steps.step("counted"):
            otel_steps.record_llm_usage("m", 10, 5, 0.001)
        assert otel_steps.force_flush(30)
        (sent,) = otel_steps.drain_completed_steps()
        if kafka:
            wait_until(lambda: sent.receipt_id in store.arrived(), what="the receipt in ClickHouse", timeout_s=60)
        else:
            assert sent.receipt_id in (run.folder / "receipts.jsonl").read_text(encoding="utf-8")
        wait_until(
            lambda: '"counted"' in query(run, "otel_steps_receipts_steps_total"), what="the metric", timeout_s=40
        )
        assert "fleet" in (get(f"{run.url('JAEGER_UI')}/api/services") or "") or kafka
        otel_steps.shutdown(5)
        assert run.end() == 0
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(run.folder) not in left


def test_run_ends_all_and_tells_why_when_one_cannot_start(tmp_path: Path, started_runs: list[Run]) -> None:
    needs()
    with landing(tmp_path / "taken") as taken:
        run = Run(tmp_path / "fleet", [], {"OTEL_STEPS_COLLECTOR_HTTP_PORT": str(taken.port)})
        started_runs.append(run)
        assert run.process.wait(60) == 1
        assert f"port {taken.port}, which collector needs, is taken" in run.told.read_text()
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(run.folder) not in left


def test_run_says_what_is_missing(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, str(FLEET / "run.py"), "--folder", str(tmp_path / "fleet")],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 3
    assert "redis-server" in told.stderr
    assert os.listdir(tmp_path / "fleet") == []  # noqa: PTH208
