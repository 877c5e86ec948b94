"""Services started for a test, and the clients that call them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import httpx2
import requests
import urllib3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Service:
    """A running service; `url` names it by address, `alias` the same one by another name."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.alias = f"http://localhost:{port}"

    def told(self) -> dict[str, Any]:
        """What it saw and did since it was asked last."""
        with urllib3.PoolManager() as pool:
            answer: dict[str, Any] = pool.request("GET", f"{self.url}/-/told").json()
        return answer


@contextmanager
def services(**chosen: dict[str, Any]) -> Iterator[dict[str, Service]]:
    """Services, each a process of its own."""
    usual = {"otel": False, "middleware": True, "propagate": ["127.0.0.1"], "next": None}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = subprocess.Popen(
        [
            sys.executable,
            str(HERE / "propagation_service.py"),
            json.dumps({at: usual | own for at, own in chosen.items()}),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        ports = process.stdout.readline()
        assert ports, f"the services ended with {process.wait()}"
        yield {name: Service(port) for name, port in json.loads(ports).items()}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


def _httpx(url: str, headers: dict[str, str]) -> Any:
    with httpx.Client() as client:
        return client.post(url, headers=headers).json()


def _httpx2(url: str, headers: dict[str, str]) -> Any:
    with httpx2.Client() as client:
        return client.post(url, headers=headers).json()


def _httpx_async(url: str, headers: dict[str, str]) -> Any:
    async def ask() -> Any:
        async with httpx.AsyncClient() as client:
            return (await client.post(url, headers=headers)).json()

    return asyncio.run(ask())


def _requests(url: str, headers: dict[str, str]) -> Any:
    with requests.Session() as session:
        return session.post(url, headers=headers).json()


def _urllib3(url: str, headers: dict[str, str]) -> Any:
    with urllib3.PoolManager() as pool:
        return pool.request("POST", url, headers=headers).json()


def _aiohttp(url: str, headers: dict[str, str]) -> Any:
    async def ask() -> Any:
        async with aiohttp.ClientSession() as session, session.post(url, headers=headers) as response:
            return await response.json()

    return asyncio.run(ask())


CLIENTS: dict[str, Callable[[str, dict[str, str]], Any]] = {
    "httpx": _httpx,
    "httpx async": _httpx_async,
    "httpx2": _httpx2,
    "requests": _requests,
    "urllib3": _urllib3,
    "aiohttp": _aiohttp,
}
