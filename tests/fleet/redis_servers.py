"""Real Redis servers for a test, each on a free port, in a folder of its own; and real processes that charge them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from tests.collector.servers import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
AGENT = Path(__file__).with_name("shared_agent.py")
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(holds: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """What `holds` says, once it says anything true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := holds():
            return result
        time.sleep(0.01)
    raise AssertionError(f"in {timeout_s:g} s not: {what}")


def redis_program() -> str:
    """Path of `redis-server`. Skips, in CI fails, where it is not installed."""
    return shutil.which("redis-server") or unavailable("redis-server is not installed")


class RedisServer:
    """One `redis-server`, which can be killed, stopped in its tracks and started again on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.folder = folder
        self.options = options
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.client = redis.Redis(port=self.port, decode_responses=True)

    def start(self) -> None:
        command = [
            redis_program(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.folder),
            "--save",
            "",
        ]
        self.process = subprocess.Popen([*command, *self.options], stdout=subprocess.DEVNULL)
        wait_for(self.answers, "a Redis that answers")

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def account(self, kind: str, name: str, prefix: str = "otel_steps") -> dict[str, str]:
        return self.client.hgetall(f"{{{prefix}}}:{kind}:{name}")  # type: ignore[return-value]

    def spent(self, kind: str, name: str) -> tuple[int, int]:
        """Tokens and nano-USD."""
        found = self.account(kind, name)
        return int(found.get("a", 0)), int(found.get("b", 0))

    def holds_nothing(self, kind: str, name: str) -> bool:
        found = self.account(kind, name)
        return int(found.get("x", 0)) == int(found.get("y", 0)) == 0 and not any(key[0] == ":" for key in found)

    def close(self) -> None:
        self.client.close()
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


@contextlib.contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.close()


class Fleet:
    """Processes that run tests/fleet/shared_agent.py, all begun together."""

    def __init__(self, url: str, folder: Path, count: int, *words: str) -> None:
        self.folder = folder / "fleet"
        self.folder.mkdir(parents=True)
        command = [sys.executable, "-W", "error", str(AGENT), url, str(self.folder), str(count), *words]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.children = [int(pid) for pid in self.process.stdout.readline().split()]
        if len(self.children) != count:
            raise AssertionError(self.process.communicate()[1])
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, timeout_s: float = 60.0) -> list[list[str]]:
        """What each told at its end, line by line."""
        _, errors = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, errors
        return [(self.folder / f"{n}.end").read_text().splitlines() for n in range(len(self.children))]

    def calls(self) -> list[int]:
        """Nano-USD of each call that one of them made."""
        return [int(line) for told in self.folder.glob("*.calls") for line in told.read_text().splitlines()]

    def kill(self) -> None:
        """All of them, in whatever they do."""
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def fleet_of(url: str, folder: Path, count: int, *words: str) -> Iterator[Fleet]:
    """`count` agents, begun together; none is left at the end."""
    fleet = Fleet(url, folder, count, *words)
    try:
        yield fleet
    finally:
        if fleet.process.poll() is None:
            fleet.kill()
