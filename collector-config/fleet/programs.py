"""Start programs one after another, watch them, and end them all; for run.py. Standard library only."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 15.0
LAST_LINES, LAST_WIDTH = 5, 400


class StartError(Exception):
    """A program did not start, or ended by itself; the message has the last lines of its log."""


@dataclass(frozen=True)
class Program:
    """A program that is up when it listens on `port` of loopback; `env` is added to this process's."""

    name: str
    command: tuple[str, ...]
    port: str
    env: Mapping[str, str] = field(default_factory=dict[str, str])


def run_all(programs: Sequence[Program], folder: Path, when_up: Callable[[], None]) -> None:
    """Start them in this order, call `when_up`, and wait until one ends by itself. Ends the others, last first.

    Their output is in `folder`/name.log. Raises StartError; what ends the waiting (KeyboardInterrupt) goes through.
    """
    running: list[tuple[Program, subprocess.Popen[bytes]]] = []
    try:
        for program in programs:
            if listens(program.port):
                raise StartError(
                    f"port {program.port}, which {program.name} needs, is taken: README.md names its variable"
                )
            running.append((program, start(program, folder)))
            wait_until_up(program, running[-1][1], folder)
        when_up()
        while True:
            for program, process in running:
                ensure_running(program, process, folder)
            time.sleep(0.5)
    finally:
        for _, process in reversed(running):
            end(process)


def start(program: Program, folder: Path) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own: Ctrl-C reaches us alone, who end it in order."""
    with (folder / f"{program.name}.log").open("ab") as log:
        return subprocess.Popen(
            program.command,
            cwd=folder,
            env={**os.environ, **program.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until_up(program: Program, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until it listens. Raises StartError."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not listens(program.port):
        ensure_running(program, process, folder)
        if time.monotonic() > deadline:
            raise StartError(f"{program.name} does not listen on {program.port}:\n{tail(program, folder)}")
        time.sleep(0.05)


def ensure_running(program: Program, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Raises StartError if it ended."""
    if process.poll() is not None:
        raise StartError(f"{program.name} ended with {process.returncode}:\n{tail(program, folder)}")


def tail(program: Program, folder: Path) -> str:
    """The last lines of its log."""
    lines = (folder / f"{program.name}.log").read_text(errors="replace").splitlines()[-LAST_LINES:]
    return "\n".join(line[:LAST_WIDTH] for line in lines)


def listens(port: str) -> bool:
    """Whether somebody listens on that port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=1):
        return True
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that is not enough."""
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
