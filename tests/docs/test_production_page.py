"""The server that the how-to about production shows, run as it shows it: each worker's receipts are delivered."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import yaml
from pytest_examples import find_examples

from otel_steps.testing.provider import ScriptedProvider
from tests.docs.pages import FENCE, ROOT
from tests.faults.receiver import http_receiver, wait_until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

PAGE = ROOT / "docs" / "how-to" / "production.md"
REQUESTS = 30


def ask(port: int) -> bool:
    """Whether the server answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/ask")
        return connection.getresponse().status == 200
    except OSError:  # not up yet
        return False
    finally:
        connection.close()


@contextmanager
def served(folder: Path, environment: dict[str, str]) -> Generator[int, None, None]:
    """`asgi.py` of the page under three workers of uvicorn; ended as an operator ends it."""
    (block,) = (one for one in find_examples(PAGE) if one.prefix_settings().get("title") == "asgi.py")
    (folder / "asgi.py").write_text(block.source, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--workers", "3", "--port", str(port), "--log-level", "warning"]
    server = subprocess.Popen([*command, "asgi:app"], cwd=folder, env=os.environ | environment)
    try:
        wait_until(lambda: ask(port), 60)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def test_the_workers_of_the_page_deliver_before_they_end(readers_machine: Path) -> None:
    with http_receiver() as receiver, ScriptedProvider() as provider:
        environment = provider.environment | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_STEPS_STORE": str(readers_machine / "receipts"),
        }
        with served(readers_machine, environment) as port, ThreadPoolExecutor(6) as pool:
            assert all(pool.map(ask, [port] * REQUESTS))
        assert len(receiver.taken) == len(provider.requests) == REQUESTS + 1


def test_its_yaml_can_be_read() -> None:
    blocks = [block[3] for block in FENCE.finditer(PAGE.read_text(encoding="utf-8")) if block[2].strip() == "yaml"]
    pod, sidecar = (yaml.safe_load(block) for block in blocks)
    mounts = {
        mount["name"]
        for container in (*pod["spec"]["containers"], *sidecar)
        for mount in container.get("volumeMounts", ())
    }
    assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}
