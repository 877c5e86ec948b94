"""A real Kafka broker of one node for the tests: killed -9 and started again with the same files and port."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.collector.servers import CONFIGS, clean_environment, free_ports, wait_until
from tests.fleet.built import built

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BROKER = CONFIGS / "fleet" / "broker.py"


class Broker:
    """The broker of collector-config/fleet/broker.py; clients take `address`."""

    def __init__(self, folder: Path) -> None:
        built("kafka")
        self.port, self._controller_port = free_ports(2)
        self.address = f"127.0.0.1:{self.port}"
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it wrote, over all its starts."""
        path = self.folder / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *, wait: bool = True) -> None:
        """Start it; with `wait`, until it listens."""
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, str(BROKER), str(self.folder / "data"), f"--port={self.port}"]
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--controller-port={self._controller_port}"],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            wait_until(self._listens, what=f"the broker\n{self.log}", timeout_s=60)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


@contextlib.contextmanager
def broker(folder: Path) -> Generator[Broker, None, None]:
    """A broker that runs, its files in `folder`."""
    running = Broker(folder)
    running.start()
    try:
        yield running
    finally:
        running.kill()
