"""Shared budgets in trouble: Redis slow, down, restarted, failing over; what an agent notices, what is right after."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from opentelemetry.sdk.trace import TracerProvider

import otel_steps
from otel_steps import StepBudgetExceeded, drain_completed_steps, record_llm_usage, run, step
from otel_steps.runtime.state import runtime
from tests.fleet.redis_servers import DURABLE, RedisServer, fleet_of, free_port, redis_server, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLACK_S = 0.75
"""What a busy machine may add to the time that a step is held."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", *DURABLE) as started:
        yield started
    otel_steps.reset()


PATIENT = "?timeout_s=10"
"""For what is not about waiting, on a machine that may be busy."""


def shared(url: str, **options: Any) -> None:
    otel_steps.configure(shared=url, durability="off", **options)


def connected(server: RedisServer) -> bool:
    """Whether the shared budgets of this process have got through."""
    budgets: Any = runtime().shared
    return bool(budgets.read([]).consulted)


def held_s() -> float:
    """How long one call holds its step."""
    before = time.perf_counter()
    record_llm_usage("m", 1, 1, 0.001)
    return time.perf_counter() - before


def unconsulted() -> int:
    return sum(record.shared_unconsulted_calls for record in drain_completed_steps())


def test_a_frozen_redis_holds_a_step_once_and_everything_is_counted_once_it_thaws(server: RedisServer) -> None:
    shared(server.url)
    with run("frozen", max_usd=100), step("work"):
        wait_for(lambda: connected(server), "a connection")
        record_llm_usage("m", 1, 1, 0.001)
        server.freeze()
        times = [held_s() for _ in range(500)]
        until = time.monotonic() + 2
        while time.monotonic() < until:
            times.append(held_s())
            time.sleep(0.005)
        server.thaw()
        wait_for(lambda: connected(server), "Redis again")
        record_llm_usage("m", 1, 1, 0.001)
    calls = len(times) + 2
    print(f"held at most {max(times):.3f} s, {sum(times):.3f} s in all by {len(times)} calls")
    assert max(times) < 0.25 + SLACK_S
    assert sum(1 for held in times if held > 0.2) <= 2
    assert server.spent("run", "frozen") == (2 * calls, calls * 1_000_000)
    assert len(times) <= unconsulted() <= calls


def test_an_event_loop_is_held_once_too(server: RedisServer) -> None:
    shared(server.url)

    async def beat(gaps: list[float]) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    async def agent() -> None:
        async with run("loop", max_usd=100), step("work"):
            for _ in range(50):
                record_llm_usage("m", 1, 1, 0.001)
                await asyncio.sleep(0.01)

    async def both() -> list[float]:
        gaps: list[float] = []
        beating = asyncio.create_task(beat(gaps))
        await asyncio.gather(*(agent() for _ in range(20)))
        beating.cancel()
        return gaps

    wait_for(lambda: connected(server), "a connection")
    server.freeze()
    gaps = asyncio.run(both())
    assert max(gaps) < 0.25 + SLACK_S
    server.thaw()
    wait_for(lambda: server.spent("run", "loop") == (2000, 1_000_000_000), "every call, once")


def test_processes_go_on_while_redis_is_killed_and_nothing_is_lost_or_counted_twice(
    server: RedisServer, tmp_path: Path
) -> None:
    with fleet_of(server.url, tmp_path, 4, "add", "200", "4") as fleet:
        for _ in range(2):
            wait_for(lambda: server.spent("run", "fleet")[0] > 0, "the first calls")
            time.sleep(0.5)
            server.kill()
            time.sleep(0.5)
            server.start()
        ends = fleet.end()
    print(ends)
    assert server.spent("run", "fleet") == (2 * len(fleet.calls()), sum(fleet.calls()))
    assert sum(int(end[1].split()[1]) for end in ends) > 0
    assert max(float(end[0].split()[1]) for end in ends) < 0.25 + 2 * SLACK_S


def test_a_budget_holds_while_workers_and_redis_are_killed_in_the_middle(server: RedisServer, tmp_path: Path) -> None:
    words = ("spend", "reserve", "0.4", "0.05", "100000", "stop")
    with fleet_of(server.url + PATIENT, tmp_path / "first", 5, *words) as first:
        wait_for(lambda: len(first.calls()) > 10, "calls")
        for child in first.children[:2]:
            os.kill(child, signal.SIGKILL)
        wait_for(lambda: len(first.calls()) > 20, "more calls")
        server.kill()
        server.start()
        first.process.communicate(timeout=60)
    with fleet_of(server.url + PATIENT, tmp_path / "second", 4, *words) as second:
        assert {end[0] for end in second.end()} == {"terminal run max_usd"}
    spent = sum(first.calls()) + sum(second.calls())
    assert 0.25 * 10**9 < spent <= 0.4 * 10**9  # what the killed ones held is not given back yet


def test_after_shutdown_calls_are_told_as_not_consulted(server: RedisServer) -> None:
    shared(server.url + PATIENT)
    with run("late", max_usd=10), step("work"):
        record_llm_usage("m", 1, 1, 1)
        otel_steps.shutdown()
        record_llm_usage("m", 1, 1, 1)
    assert unconsulted() == 1


def test_a_redis_that_lost_its_data_begins_anew_and_is_told_what_it_missed(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        shared(server.url + PATIENT)
        with run("lost", max_usd=10), step("work"):
            wait_for(lambda: connected(server), "a connection")
            record_llm_usage("m", 1, 1, 1)
            server.kill()
            record_llm_usage("m", 1, 1, 2)
            server.start()
            wait_for(lambda: connected(server), "Redis again")
            assert server.spent("run", "lost") == (2, 2_000_000_000)
            record_llm_usage("m", 1, 1, 4)
        assert server.spent("run", "lost") == (4, 6_000_000_000)
        assert unconsulted() == 1
        otel_steps.reset()


def test_the_local_limit_holds_while_redis_is_away(caplog: pytest.LogCaptureFixture) -> None:
    shared(f"redis://127.0.0.1:{free_port()}")
    with (
        caplog.at_level(logging.WARNING, "otel_steps"),
        pytest.raises(StepBudgetExceeded) as stopped,
        run("alone", max_usd=0.05),
        step("work"),
    ):
        for _ in range(10):
            record_llm_usage("m", 1, 1, 0.02)
    assert (stopped.value.kind, stopped.value.consumed_cost_usd) == ("budget_exhausted", 0.06)
    assert unconsulted() == 3
    said = [wait_for(lambda: caplog.records, "a warning")[0].message]
    assert ["shared budgets cannot be consulted" in each for each in said] == [True]


def test_stop_refuses_model_calls_while_redis_is_away() -> None:
    provider = TracerProvider()
    shared(f"redis://127.0.0.1:{free_port()}", shared_unavailable="stop", tracer_provider=provider)
    tracer = provider.get_tracer("opentelemetry.instrumentation.scripted")
    sent = []
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.request.max_tokens": 10}
    for admission in ("post", "reserve"):
        with (
            pytest.raises(StepBudgetExceeded, match="totals that it shares with other processes") as stopped,
            run("strict", max_usd=1),
            step("work", admission=admission),
            tracer.start_as_current_span("chat m", attributes=attributes),
        ):
            sent.append(admission)
        assert (stopped.value.kind, stopped.value.scope, stopped.value.limit) == ("terminal", "run", "max_usd")
    with pytest.raises(StepBudgetExceeded, match="shared_unavailable"), run("by hand", max_tokens=100):
        record_llm_usage("m", 1, 1, 0)
        sent.append("more")
    assert sent == []
    with step("of nobody else", max_usd=1):
        record_llm_usage("m", 1, 1, 0)  # a step's own limit is shared with nobody


def test_a_failover_to_a_replica_and_back_to_a_master(server: RedisServer) -> None:
    shared(server.url + PATIENT)
    with run("failing over", max_usd=10), step("work"):
        wait_for(lambda: connected(server), "a connection")
        record_llm_usage("m", 1, 1, 1)
        server.client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))  # READONLY from now on
        record_llm_usage("m", 1, 1, 2)
        record_llm_usage("m", 1, 1, 4)
        server.client.execute_command("REPLICAOF", "NO", "ONE")
        wait_for(lambda: connected(server), "a master")
        assert server.spent("run", "failing over") == (6, 7_000_000_000)
    assert unconsulted() == 2


@pytest.mark.parametrize("answer", [b"-LOADING Redis is loading\r\n", b"-MOVED 1 127.0.0.1:1\r\n", b"rubbish\r\n", b""])
def test_any_other_answer_is_trouble_and_no_error(answer: bytes) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(100):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        shared(f"redis://127.0.0.1:{listener.getsockname()[1]}?protocol=2")
        with run("odd", max_usd=1), step("work"):
            record_llm_usage("m", 1, 1, 0.1)
        assert unconsulted() == 1
        otel_steps.reset()


def test_a_script_cache_that_was_flushed_is_filled_again(server: RedisServer) -> None:
    shared(server.url + PATIENT)
    with run("flushed", max_usd=10), step("work"):
        wait_for(lambda: connected(server), "a connection")
        record_llm_usage("m", 1, 1, 1)
        server.client.script_flush()
        record_llm_usage("m", 1, 1, 1)
    assert unconsulted() == 0
    assert server.spent("run", "flushed") == (4, 2_000_000_000)


def test_a_name_that_never_resolves_and_a_wrong_password_are_trouble(server: RedisServer) -> None:
    server.client.config_set("requirepass", "s3cret")
    for url in ("redis://no-such-host.invalid", f"redis://:wrong@127.0.0.1:{server.port}"):
        shared(url)
        with run("closed", max_usd=10), step("work"):
            assert max(held_s() for _ in range(10)) < 0.25 + SLACK_S
        assert unconsulted() == 10
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port, password="wrong").ping()
    server.client.close()


def test_the_end_of_a_process_waits_a_moment_only(server: RedisServer) -> None:
    server.freeze()
    code = (
        "import otel_steps as o, sys\n"
        "o.configure(shared=sys.argv[1], durability='off')\n"
        "with o.run('end', max_usd=1): o.record_llm_usage('m', 1, 1, 0.1)\n"
        "import time; print(time.time(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, server.url], capture_output=True, text=True, check=True)
    assert time.time() - float(done.stdout) < 1 + 2 * SLACK_S
    assert "missing there" in done.stderr
    server.thaw()


def test_where_nothing_is_shared_the_client_is_not_even_imported() -> None:
    code = (
        "import otel_steps as o, sys\n"
        "o.configure(durability='off')\n"
        "with o.run('end', max_usd=1): o.record_llm_usage('m', 1, 1, 0.1)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'redis' or 'otel_steps.shared' in name])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
