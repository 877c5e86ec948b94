"""The services, workers and processes that the how-to about services shows, run as it shows them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_examples import CodeExample, find_examples

from tests.docs.pages import ROOT
from tests.faults.receiver import wait_until
from tests.fleet.redis_servers import redis_program

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

PAGE = ROOT / "docs" / "how-to" / "across-services.md"
PROGRAMS = {str(one.prefix_settings().get("title")): one for one in find_examples(PAGE)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:  # not up yet
        return False
    return True


def write(folder: Path, ports: dict[str, int]) -> None:
    """The page's files, with free ports."""
    for name, program in PROGRAMS.items():
        text = program.source
        for shown, port in ports.items():
            text = text.replace(f":{shown}", f":{port}")
        (folder / name).write_text(text, encoding="utf-8")


@contextmanager
def running(folder: Path, *command: str) -> Generator[None, None, None]:
    """A program beside the test, ended as an operator ends it."""
    process = subprocess.Popen(command, cwd=folder, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def prints(folder: Path, name: str) -> str:
    """What a file of the page prints."""
    done = subprocess.run([sys.executable, name], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(program: CodeExample) -> str:
    """What the page says that it prints."""
    return "".join(f"{line}\n" for line in re.findall(r"#> (.*)", program.source))


def test_the_service_and_its_caller(readers_machine: Path) -> None:
    port = free_port()
    write(readers_machine, {"8000": port})
    uvicorn = ("-m", "uvicorn", "--port", str(port), "--log-level", "warning", "service:app")
    with running(readers_machine, sys.executable, *uvicorn):
        wait_until(lambda: listens(port), 60)
        assert prints(readers_machine, "caller.py") == said(PROGRAMS["caller.py"])


def test_the_worker_and_its_sender(readers_machine: Path) -> None:
    port = free_port()
    write(readers_machine, {"6379": port})
    worker = (sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1", "-l", "error", "--without-mingle")
    with running(readers_machine, redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""):
        wait_until(lambda: listens(port), 60)
        with running(readers_machine, *worker):
            assert prints(readers_machine, "send.py") == said(PROGRAMS["send.py"])


def test_the_pool_of_processes(readers_machine: Path) -> None:
    write(readers_machine, {})
    assert prints(readers_machine, "processes.py") == said(PROGRAMS["processes.py"])
