"""`otel-steps doctor` on shared budgets: a real Redis that is well, away, slow, forgetful, or named wrongly."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from otel_steps.cli.doctor_shared import shared_budgets
from tests.fleet.redis_servers import RedisServer, free_port, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_STEPS_SHARED", raising=False)


def test_without_one_there_is_nothing_to_say() -> None:
    assert list(shared_budgets(None)) == []


def test_one_that_answers_is_good_and_nothing_is_left_there(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_STEPS_SHARED", f"{server.url}?timeout_s=10")
    (check,) = shared_budgets(None)
    assert check.state == "good"
    assert check.text.startswith(f"{server.url} answers in ")
    assert server.client.keys() == []


def test_one_that_is_away_is_wrong_and_its_password_is_not_repeated() -> None:
    port = free_port()
    (check,) = shared_budgets(f"redis://someone:secret@127.0.0.1:{port}/0")
    assert check.state == "wrong"
    assert "does not answer" in check.text
    assert "secret" not in check.text + check.next
    assert check.next == f"redis-cli -u redis://127.0.0.1:{port}/0 ping"


def test_one_that_is_slow_is_wrong_with_the_time_it_takes(server: RedisServer) -> None:
    assert server.process is not None
    began = time.monotonic()
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        (check,) = shared_budgets(f"{server.url}?timeout_s=0.01")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert check.state == "wrong"
    assert "does not answer" in check.text
    assert time.monotonic() - began < 10
    server.client.client_pause(500)
    (check,) = shared_budgets(f"{server.url}?timeout_s=0.1")
    assert check.state == "wrong"
    assert "a call waits 100 ms at most" in check.text
    assert check.next.startswith(f"export OTEL_STEPS_SHARED='{server.url}?timeout_s=")


def test_one_that_drops_keys_when_it_is_full_is_wrong(server: RedisServer) -> None:
    server.client.config_set("maxmemory", "100mb")
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        good, wrong = shared_budgets(f"{server.url}?timeout_s=10")
    finally:
        server.client.config_set("maxmemory-policy", "noeviction")
    assert (good.state, wrong.state) == ("good", "wrong")
    assert "allkeys-lru" in wrong.text
    assert wrong.next.endswith("config set maxmemory-policy noeviction")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "redis://127.0.0.1:1/0?lease_s=-1"])
def test_a_url_that_cannot_be_meant_is_wrong_with_what_to_write(url: str) -> None:
    (check,) = shared_budgets(url)
    assert check.state == "wrong"
    assert check.next
