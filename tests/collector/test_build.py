"""build.py: what a missing Go, two builds at once, a failure and a stop do to its cache; `go` is a script here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.collector.servers import CONFIGS, unavailable, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

GO = """#!/bin/sh
if [ "$1" = env ]; then echo "$FAKE_GO_VERSION"; echo linux; echo amd64; exit 0; fi
echo "$$ $PWD" >> "$FAKE_GO_CALLS"
while [ -e "$FAKE_GO_HOLD" ]; do sleep 0.05; done
[ -n "$FAKE_GO_FAILS" ] && { echo "undefined: something"; exit 1; }
mkdir -p source jaeger
for program in source/otelcol-steps jaeger/jaeger; do
  printf '#!/bin/sh\\necho "$@"; env | grep ^OTEL_STEPS_; exit 7\\n' > $program; chmod +x $program
done
"""


class Bench:
    """A copy of collector-config/ with a `go` of our own and a cache in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.configs = folder / "collector-config"
        shutil.copytree(CONFIGS, self.configs, ignore=shutil.ignore_patterns("__pycache__"))
        self.cache = folder / "cache"
        self.calls = folder / "calls"
        self.hold = folder / "hold"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "go").write_text(GO)
        (programs / "go").chmod(0o755)
        self.env = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "OTEL_STEPS_CACHE": str(self.cache),
            "FAKE_GO_VERSION": "go1.25.3",
            "FAKE_GO_CALLS": str(self.calls),
            "FAKE_GO_HOLD": str(self.hold),
        }

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.configs / "build.py"), *arguments],
            env={**self.env, **(env or {})},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def builds(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0

    def entries(self) -> list[str]:
        """What is in the cache, without locks and logs."""
        return sorted(path.name for path in (self.cache / "build").iterdir() if path.suffix not in {".lock", ".log"})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_second_build_takes_the_first_ones_binary(bench: Bench) -> None:
    assert bench.run("collector", "--print-path")[0] == 1
    code, first, told = bench.run("all")
    assert code == 0, told
    collector_path, jaeger_path = map(Path, first.split())
    assert os.access(collector_path, os.X_OK)
    assert os.access(jaeger_path, os.X_OK)
    assert bench.run("all")[:2] == (0, first)
    assert bench.run("all", "--print-path")[:2] == (0, first)
    assert bench.builds() == 2
    assert len(bench.entries()) == 2


def test_another_manifest_or_go_is_another_binary(bench: Bench) -> None:
    def path(**env: str) -> str:
        return bench.run("collector", "--print-path", env=env)[1]

    before = path()
    assert path(FAKE_GO_VERSION="go1.25.9") == before
    assert path(FAKE_GO_VERSION="go1.26.0") != before
    with (bench.configs / "builder.yaml").open("a") as manifest:
        manifest.write("# changed\n")
    assert path() != before


@pytest.mark.parametrize("version", ["go1.24.9", "devel +abcdef", ""])
def test_an_old_or_unknown_go_is_refused_with_what_to_do(bench: Bench, version: str) -> None:
    code, out, told = bench.run("collector", env={"FAKE_GO_VERSION": version})
    assert (code, out) == (3, "")
    assert "1.25" in told
    assert "compose.yaml" in told


def test_a_missing_go_is_refused_with_what_to_do(bench: Bench, tmp_path: Path) -> None:
    for arguments in (("collector",), ("all", "--print-path"), ("run", "jaeger")):
        code, out, told = bench.run(*arguments, env={"PATH": str(tmp_path / "nowhere")})
        assert (code, out) == (3, "")
        assert "No Go found" in told


def test_two_at_once_build_once(bench: Bench) -> None:
    bench.hold.touch()
    first = bench.start("collector")
    wait_until(bench.builds, what="the first build")
    second = bench.start("collector")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    bench.hold.unlink()
    outputs = {process.communicate(timeout=60)[0] for process in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(outputs) == 1
    assert bench.builds() == 1


def test_a_failed_build_leaves_nothing_but_its_log(bench: Bench) -> None:
    code, out, told = bench.run("jaeger", env={"FAKE_GO_FAILS": "1"})
    assert (code, out) == (1, "")
    assert "undefined: something" in told
    assert bench.entries() == []
    assert bench.run("jaeger")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_build_stops_go_and_leaves_nothing(bench: Bench, number: signal.Signals) -> None:
    bench.hold.touch()
    process = bench.start("collector")
    wait_until(bench.builds, what="the build")
    compiler = int(bench.calls.read_text().split()[0])
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert not Path(f"/proc/{compiler}").exists()
    assert bench.entries() == []


def test_what_a_killed_build_left_is_cleared_by_the_next(bench: Bench) -> None:
    bench.hold.touch()
    process = bench.start("collector")
    wait_until(bench.builds, what="the build")
    compiler = int(bench.calls.read_text().split()[0])
    process.kill()
    process.communicate(timeout=30)
    os.kill(compiler, signal.SIGKILL)
    assert len(bench.entries()) == 1
    bench.hold.unlink()
    code, out, told = bench.run("collector")
    assert code == 0, told
    assert bench.entries() == [Path(out.strip()).parent.name]


def test_nothing_is_written_beside_the_manifests(bench: Bench) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in bench.configs.rglob("*") if path.is_file()}

    before = files()
    bench.run("all")
    bench.run("run", "collector")
    assert files() == before


def test_run_builds_tells_the_settings_and_becomes_the_program(bench: Bench, tmp_path: Path) -> None:
    code, out, told = bench.run("run", "collector", env={"OTEL_STEPS_COLLECTOR_HTTP_PORT": "5318"})
    assert code == 7
    assert f"--config={bench.configs / 'dev.yaml'}" in out
    receipts = tmp_path / ".local/state/otel-steps/collector/receipts.jsonl"
    assert f"OTEL_STEPS_COLLECTOR_RECEIPTS={receipts}" in out
    for line in ("OTEL_STEPS_COLLECTOR_HTTP_PORT=5318", "OTEL_STEPS_COLLECTOR_GRPC_PORT=4317", str(receipts)):
        assert line in told


def test_run_refuses_a_configuration_that_is_not_there(bench: Bench) -> None:
    code, _, told = bench.run("run", "jaeger", "--config", "nowhere.yaml")
    assert code == 1
    assert "nowhere.yaml" in told
    assert bench.builds() == 0


@pytest.mark.parametrize("arguments", [(), ("run",), ("collector", "jaeger"), ("gateway",)])
def test_wrong_usage_is_exit_code_2(bench: Bench, arguments: tuple[str, ...]) -> None:
    assert bench.run(*arguments)[0] == 2


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_real_part_fails_in_ci_and_skips_elsewhere(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no Go"):
        unavailable("no Go")
