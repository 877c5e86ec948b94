"""Each configuration of collector-config/ is valid, starts, listens on loopback, and is described in the README."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from tests.collector.servers import CONFIGS, CollectorServer, binary, collector, get, jaeger

MANIFESTS = {"builder.yaml", "compose.yaml"}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def program_of(config: str) -> Literal["collector", "jaeger"]:
    return "jaeger" if "jaeger_storage" in load(CONFIGS / config)["extensions"] else "collector"


FLEET = {"gateway.yaml", "agent.yaml", "consumer.yaml"}
"""They need certificates, a token and a broker: tests/fleet starts them."""
CONFIG_NAMES = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name not in MANIFESTS)
STARTED = [name for name in CONFIG_NAMES if name not in FLEET]


@pytest.mark.parametrize("config", CONFIG_NAMES)
def test_a_configuration_is_valid(config: str, tmp_path: Path) -> None:
    checked = subprocess.run(
        [str(binary(program_of(config))), "validate", f"--config={CONFIGS / config}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("config", STARTED)
def test_a_configuration_starts_without_a_complaint_and_ends_in_order(config: str, tmp_path: Path) -> None:
    with collector(tmp_path, config) if program_of(config) == "collector" else jaeger(tmp_path, config) as server:
        assert server.running
        complaints = [line for line in server.log.splitlines() if "deprecated" in line.lower() or "0.0.0.0" in line]
        assert not complaints
        assert server.terminate() == 0


@pytest.mark.parametrize("config", STARTED)
def test_a_configuration_listens_on_loopback_alone(config: str, tmp_path: Path) -> None:
    with collector(tmp_path, config) if program_of(config) == "collector" else jaeger(tmp_path, config) as server:
        everywhere = listening_addresses(server.pid) - {"127.0.0.1"}
        assert not everywhere


def listening_addresses(pid: int) -> set[str]:
    """IPv4 and IPv6 addresses that a process listens on; from /proc, so on Linux."""
    inodes: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            inodes.add(link.readlink().name.removeprefix("socket:[").rstrip("]"))
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address = fields[1].partition(":")[0]
                found.add(
                    ".".join(str(byte) for byte in reversed(bytes.fromhex(address))) if table == "tcp" else address
                )
    assert found, "nothing listens"
    return found


def test_jaeger_sends_no_spans_of_its_own_to_our_collector(tmp_path: Path) -> None:
    with jaeger(tmp_path) as server:
        assert server.api.find_traces("nobody") == []
        assert server.terminate(timeout_s=5) == 0
        assert "127.0.0.1:4317" not in server.log


def test_the_readme_names_each_setting_and_port() -> None:
    readme = (CONFIGS / "README.md").read_text(encoding="utf-8")
    for config in CONFIG_NAMES:
        for name, default in re.findall(r"\$\{env:(\w+):-([^}]*)\}", (CONFIGS / config).read_text(encoding="utf-8")):
            assert f"`{name}`" in readme
            assert not name.endswith("_PORT") or re.search(rf"^\|.*\b{default}\b.*`{name}`", readme, re.MULTILINE), name


def test_compose_names_only_files_that_exist_and_publishes_on_loopback() -> None:
    compose = load(CONFIGS / "compose.yaml")
    assert set(compose["services"]) == {"collector", "jaeger"}
    for service in compose["services"].values():
        mounts = [volume.split(":") for volume in service["volumes"]]
        for source, target, *_ in mounts:
            if source.startswith("."):
                assert (CONFIGS / source).is_file()
            else:
                assert source in compose["volumes"]
            assert target.startswith("/")
        configured = service["command"][0].removeprefix("--config=")
        assert configured in {target for _, target, *_ in mounts}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    for name, config in (("collector", "dev.yaml"), ("jaeger", "jaeger.yaml")):
        text = (CONFIGS / config).read_text(encoding="utf-8")
        assert all(f"${{env:{key}:-" in text for key in compose["services"][name]["environment"])


def test_compose_runs_the_releases_that_are_built() -> None:
    images = [service["image"] for service in load(CONFIGS / "compose.yaml")["services"].values()]
    version = load(CONFIGS / "builder.yaml")["dist"]["version"]
    assert images == [f"otel/opentelemetry-collector-contrib:{version}", "jaegertracing/jaeger:2.13.0"]
    told = subprocess.run([str(binary("jaeger")), "version"], capture_output=True, text=True, check=True)
    assert "2.13.0" in told.stdout + told.stderr


def test_a_collector_answers_its_health_check_and_tells_of_itself(collector_server: CollectorServer) -> None:
    assert "available" in (get(collector_server.health_url) or "")
    assert any(sample.name.startswith("otelcol_process") for sample in collector_server.own_samples())
