"""One budget for a fleet: real processes on a real Redis, never past the limit, exact to the nano-dollar."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import otel_steps
from otel_steps import DefinitionError, StepBudgetExceeded, drain_completed_steps, persona, record_llm_usage, run, step
from otel_steps.runtime.faults import Warnings
from otel_steps.runtime.shared_budgets import Account, Balance
from otel_steps.runtime.state import runtime
from otel_steps.shared.address import read_address
from otel_steps.shared.budgets import RedisBudgets
from otel_steps.shared.link import RedisLink
from otel_steps.shared.operations import Batch, Encoding, Operation, balances
from tests.faults.certificates import Authority
from tests.fleet.redis_servers import RedisServer, fleet_of, free_port, redis_server, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NANO = 10**9


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(autouse=True)
def empty(server: RedisServer) -> None:
    server.client.flushall()


def shared(url: str) -> None:
    """With patience: what is tested here is what is counted, on a machine that may be busy."""
    patient = url if "timeout_s" in url else f"{url}{'&' if '?' in url else '?'}timeout_s=10"
    otel_steps.configure(shared=patient, durability="off")


def test_twenty_processes_with_reservation_never_pass_the_budget(server: RedisServer, tmp_path: Path) -> None:
    budget = 2.0
    with fleet_of(server.url + "?timeout_s=20", tmp_path, 20, "spend", "reserve", str(budget), "0.02") as fleet:
        ends = fleet.end()
    spent = sum(fleet.calls())
    assert spent <= budget * NANO
    assert spent >= 0.85 * budget * NANO  # each had at most one call of 0.01 in flight when it was refused
    assert server.spent("run", "fleet")[1] == spent
    assert server.holds_nothing("run", "fleet")
    assert {end[0] for end in ends} == {"terminal run max_usd"}
    assert all(end[1].startswith("unconsulted 0 of") for end in ends)


def test_without_reservation_each_process_passes_it_by_one_call_at_most(server: RedisServer, tmp_path: Path) -> None:
    budget, count = 1.0, 10
    with fleet_of(server.url + "?timeout_s=20", tmp_path, count, "spend", "post", str(budget), "0.02") as fleet:
        ends = fleet.end()
    spent = sum(fleet.calls())
    assert budget * NANO < spent <= budget * NANO + count * 0.01 * NANO
    assert server.spent("run", "fleet")[1] == spent
    assert {end[0].split()[0] for end in ends} <= {"terminal", "budget_exhausted"}


ADDER = """
import random, sys, threading
from otel_steps.runtime.faults import Warnings
from otel_steps.runtime.shared_budgets import Account
from otel_steps.shared.address import read_address
from otel_steps.shared.budgets import RedisBudgets
from otel_steps.shared.link import RedisLink

address = read_address(sys.argv[1])
budgets = RedisBudgets(address, RedisLink(address), Warnings())
account, sums = Account("run", "exact"), []

def add(seed):
    dice, total = random.Random(seed), 0
    for _ in range(1000):
        nano = dice.randint(1, 10**12)
        assert budgets.charge({account: (3, nano)}, None).consulted
        total += nano
    sums.append(total)

threads = [threading.Thread(target=add, args=(seed,)) for seed in range(25)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
budgets.close(5)
print(sum(sums))
"""


def test_a_hundred_thousand_adds_from_four_processes_are_exact(server: RedisServer, tmp_path: Path) -> None:
    base = 2**60  # far beyond what a double holds exactly
    budgets = shared_budgets(server)
    account = Account("run", "exact")
    budgets.charge({account: (0, base + 1)}, None)
    command = [sys.executable, "-c", ADDER, server.url + "?timeout_s=20"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [int(process.communicate(timeout=80)[0]) for process in processes]
    answer = budgets.read([account])
    budgets.close(1)
    assert answer.balances[account] == Balance((300_000, base + 1 + sum(told)))


def shared_budgets(server: RedisServer, options: str = "timeout_s=20") -> RedisBudgets:
    address = read_address(f"{server.url}?{options}")
    return RedisBudgets(address, RedisLink(address), Warnings())


def test_limits_are_compared_exactly_beyond_what_doubles_hold(server: RedisServer) -> None:
    budgets = shared_budgets(server)
    account, large = Account("run", "large"), 2**60
    budgets.charge({account: (0, large)}, None)
    for amount, limit, fits in ((1, large + 1, True), (1, large + 1, False), (0, large + 1, True), (1, large, False)):
        answer = budgets.hold({account: (0, amount)}, {account: (None, limit)})
        assert answer.refused is not fits, (amount, limit)
    budgets.close(1)


def test_amounts_and_totals_beyond_everything_stop_there_and_break_nothing(server: RedisServer) -> None:
    budgets = shared_budgets(server)
    account = Account("run", "vast")
    for _ in range(5):
        answer = budgets.charge({account: (10**30, 10**30)}, None)
    assert answer.consulted
    assert answer.balances[account] == Balance((8 * 10**18, 8 * 10**18))
    assert budgets.hold({account: (0, 0)}, {account: (None, 10**30)}).refused
    budgets.close(1)


def test_a_limit_that_others_passed_stops_the_next_call_before_it_is_sent(server: RedisServer, tmp_path: Path) -> None:
    shared(server.url)
    with pytest.raises(StepBudgetExceeded) as stopped, run("fleet", max_usd=0.05) as here, step("work"):
        record_llm_usage("m", 10, 10, 0.01)
        with fleet_of(server.url, tmp_path, 1, "spend", "post", "9", "0", "30") as fleet:
            fleet.end()
        spent = sum(fleet.calls()) + 10_000_000
        assert here.remaining_usd == 0
        here.check()
    error = stopped.value
    assert (error.kind, error.scope, error.limit, error.limit_value) == ("terminal", "run", "max_usd", 0.05)
    assert error.consumed_cost_usd == error.projected_cost_usd == spent / NANO
    (record,) = drain_completed_steps()
    assert (record.cost_nano_usd, record.shared_unconsulted_calls) == (
        10_000_000,
        0,
    )  # only its own, and all of it known


def test_each_process_holds_its_own_limit_against_the_one_total(server: RedisServer) -> None:
    shared(server.url)
    with run("mixed", max_usd=10):
        record_llm_usage("m", 1, 1, 6)
    with pytest.raises(StepBudgetExceeded, match="exceeded its max_usd budget"), run("mixed", max_usd=5):
        record_llm_usage("m", 1, 1, 1)
    with run("mixed", max_usd=10) as third:
        assert third.remaining_usd == 3
        record_llm_usage("m", 1, 1, 1)
        assert third.remaining_usd == 2


def test_tokens_are_shared_and_what_is_left_of_them_is_told(server: RedisServer) -> None:
    shared(server.url)
    with run("tokens", max_tokens=100):
        record_llm_usage("m", 40, 20, 0)
    with pytest.raises(StepBudgetExceeded) as stopped, run("tokens", max_tokens=100) as second:
        assert second.remaining_tokens == 40
        record_llm_usage("m", 40, 1, 0)
    assert (stopped.value.limit, stopped.value.consumed_tokens) == ("max_tokens", 101)


def test_a_personas_activations_days_and_hours_are_shared(server: RedisServer) -> None:
    shared(server.url)
    with persona("writer", run_usd=1, daily_usd=0.5, hourly_usd=0.4) as writer:
        record_llm_usage("m", 1, 1, 0.3)
        assert writer.remaining_usd == 0.1
    runtime().windows = None  # as on another host: what this one knows by itself is gone
    with pytest.raises(StepBudgetExceeded) as stopped, persona("writer", hourly_usd=0.4):
        record_llm_usage("m", 1, 1, 0.15)
    assert (stopped.value.scope, stopped.value.limit) == ("persona", "hourly_usd")
    assert stopped.value.consumed_cost_usd == 0.45


def test_a_window_is_refused_by_what_other_hosts_spent(server: RedisServer) -> None:
    shared(server.url)
    budgets = shared_budgets(server)
    budgets.charge({Account("window", "writer"): (600_000_000, 600_000_000)}, None)
    budgets.close(1)
    with pytest.raises(StepBudgetExceeded) as stopped, persona("writer", daily_usd=0.5) as writer:
        writer.check()
    assert (stopped.value.kind, stopped.value.limit, stopped.value.consumed_cost_usd) == ("terminal", "daily_usd", 0.6)


def ask(server: RedisServer, now_s: float, operation: Operation, *, number: int) -> dict[Account, Balance]:
    """The script at a time of its own."""
    link = RedisLink(read_address(server.url))
    encoding = Encoding("clock", "process", 3600, 600, now_ms=str(int(now_s * 1000)))
    (answer,) = link.run(*encoding.keys_and_arguments(Batch(number, (operation,))))
    link.close()
    return balances(operation, answer)[0]


def test_the_edges_of_windows_are_utc_and_old_ones_are_forgotten(server: RedisServer) -> None:
    midnight = 1_800_000_000 // 86_400 * 86_400 + 86_400
    account = Account("window", "coder")
    add, look = Operation((account,), add={account: (5, 5)}), Operation((account,))

    def spent(now_s: float, operation: Operation, number: int = 0) -> tuple[int, int]:
        return ask(server, now_s, operation, number=number)[account].spent

    assert spent(midnight - 0.001, add, 1) == (5, 5)
    assert spent(midnight, look) == (0, 0)
    assert spent(midnight, add, 2) == (5, 5)
    assert spent(midnight + 3599.999, add, 3) == (10, 10)
    assert spent(midnight + 3600, look) == (10, 0)
    late = Operation((account,), add={account: (7, 7)}, hour=midnight // 3600 - 1)
    assert spent(midnight + 3600, late, 4) == (10, 0)  # spent before midnight, told after it
    assert spent(midnight - 1, look) == (12, 12)
    spent(midnight + 5 * 86_400, add, 5)
    fields = {key for key in server.client.hgetall("{clock}:window:coder") if key[0] in "dh"}  # type: ignore[union-attr]
    assert len(fields) == 2


def test_a_call_in_flight_across_midnight_holds_room_in_the_new_day(server: RedisServer) -> None:
    midnight = 1_800_000_000 // 86_400 * 86_400
    account = Account("window", "coder")
    held, limits = {account: (60, 60)}, {account: (100, None)}

    def hold(name: str, now_s: float, number: int) -> bool:
        link = RedisLink(read_address(server.url))
        encoding = Encoding("clock", "process", 3600, 600, now_ms=str(now_s * 1000))
        operation = Operation((account,), hold=name, held=held, limits=limits)
        (answer,) = link.run(*encoding.keys_and_arguments(Batch(number, (operation,))))
        link.close()
        return not balances(operation, answer)[1]

    assert hold("before", midnight - 1, 1)
    assert not hold("behind", midnight + 1, 2)
    assert hold("later", midnight + 700, 3)  # the first one's process is dead by now


def test_a_batch_that_comes_twice_counts_once(server: RedisServer) -> None:
    account = Account("run", "twice")
    add = Operation((account,), add={account: (1, 10)})
    for number in (1, 2, 2, 1, 3, 3):
        found = ask(server, 1_800_000_000, add, number=number)
    assert found[account].spent == (3, 30)


def test_keys_expire_and_a_budget_begins_anew(server: RedisServer) -> None:
    shared(server.url + "?idle_s=1&lease_s=0.5&prefix=short")
    with run("brief", max_usd=1):
        record_llm_usage("m", 1, 1, 0.9)
    assert server.account("run", "brief", "short") != {}
    assert all(server.client.pttl(key) > 0 for key in server.client.scan_iter())  # type: ignore[operator,union-attr]
    wait_for(lambda: not server.account("run", "brief", "short"), "an expired key")
    with run("brief", max_usd=1) as second:
        assert second.remaining_usd == 1


def test_what_a_killed_process_held_comes_back(server: RedisServer, tmp_path: Path) -> None:
    url = server.url + "?lease_s=2&idle_s=60"
    with fleet_of(url, tmp_path, 1, "die_holding") as fleet:
        wait_for(lambda: len(fleet.calls()) == 2, "an agent in its second call")
        fleet.kill()
    assert int(server.account("run", "fleet")["y"]) == 10_000_000
    shared(url)
    with run("fleet", max_usd=0.03, max_tokens=10**6) as here:
        assert here.remaining_usd == 0.01  # 0.01 spent, 0.01 held
        wait_for(lambda: (record_llm_usage("m", 0, 0, 0), here.remaining_usd == 0.02)[1], "the room")
    assert server.holds_nothing("run", "fleet")


async def test_asyncio_agents_share_it_too(server: RedisServer) -> None:
    shared(server.url)

    async def agent() -> int:
        for calls in range(100):
            try:
                async with run("fleet", max_usd=0.2), step("work"):
                    await asyncio.sleep(0)
                    record_llm_usage("m", 1, 1, 0.01)
            except StepBudgetExceeded:
                return calls + 1
        raise AssertionError("nobody stopped it")

    made = sum(await asyncio.gather(*(agent() for _ in range(10))))
    assert server.spent("run", "fleet") == (2 * made, made * 10_000_000)
    assert 20 < made <= 30  # one call too many of each agent at most


def test_threads_share_one_connection(server: RedisServer) -> None:
    shared(server.url)
    before = len(server.client.client_list())  # type: ignore[arg-type]

    def work() -> None:
        for _ in range(20):
            with run("threads", max_usd=100):
                record_llm_usage("m", 1, 1, 0.001)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.spent("run", "threads") == (800, 400_000_000)
    assert len(server.client.client_list()) <= before + 1  # type: ignore[arg-type]


def test_a_forked_child_has_a_connection_of_its_own_and_both_count(server: RedisServer) -> None:
    shared(server.url)
    with run("forked", max_usd=100):
        record_llm_usage("m", 1, 1, 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with run("forked", max_usd=100) as inner:
                    record_llm_usage("m", 1, 1, 2)
                    code = 0 if inner.remaining_usd == 97 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        record_llm_usage("m", 1, 1, 4)
    assert server.spent("run", "forked") == (6, 7 * NANO)


def test_other_doors_a_socket_a_password_and_tls(tmp_path: Path) -> None:
    path, tls_port = tmp_path / "s", free_port()
    authority = Authority(tmp_path, "authority")
    pair = authority.issue("redis")
    tls = ("--tls-port", str(tls_port), "--tls-cert-file", pair.certificate, "--tls-key-file", pair.key)
    more = ("--tls-ca-cert-file", authority.certificate, "--tls-auth-clients", "no", "--unixsocket", str(path))
    with redis_server(tmp_path / "redis", *tls, *more) as server:
        server.client.config_set("requirepass", "s3cret")
        for url in (
            f"unix://:s3cret@{path}?db=0&timeout_s=5",
            f"redis://:s3cret@127.0.0.1:{server.port}?timeout_s=5",
            f"rediss://:s3cret@localhost:{tls_port}?timeout_s=5&ssl_ca_certs={authority.certificate}",
        ):
            shared(url)
            with run("door", max_usd=1), step("in"):
                record_llm_usage("m", 1, 1, 0.1)
            assert drain_completed_steps()[0].shared_unconsulted_calls == 0
        server.client.execute_command("AUTH", "s3cret")
        assert server.spent("run", "door") == (6, 300_000_000)


def test_the_environment_names_it_too(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_STEPS_SHARED", server.url)
    monkeypatch.setenv("OTEL_STEPS_SHARED_UNAVAILABLE", "stop")
    otel_steps.configure(durability="off")
    assert runtime().options.shared_unavailable == "stop"
    with run("named", max_usd=1):
        record_llm_usage("m", 1, 1, 0.1)
    assert server.spent("run", "named") == (2, 100_000_000)
    monkeypatch.setenv("OTEL_STEPS_SHARED_UNAVAILABLE", "maybe")
    with pytest.raises(DefinitionError, match="OTEL_STEPS_SHARED_UNAVAILABLE"):
        otel_steps.configure(durability="off")


def test_an_option_that_the_client_does_not_know_is_told_at_set_up(server: RedisServer) -> None:
    for url in (f"{server.url}?tiemout_s=1", "redis://h:1/0?protocol=9"):
        with pytest.raises(DefinitionError, match="shared"):
            shared(url)


def test_a_cluster_is_found_through_any_of_its_nodes(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        buses = [str(free_port()) for _ in range(2)]
        first, second = (
            stack.enter_context(redis_server(tmp_path / bus, "--cluster-enabled", "yes", "--cluster-port", bus))
            for bus in buses
        )
        first.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        second.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, buses[1])
        for node in (first, second):
            info = functools.partial(node.client.execute_command, "CLUSTER", "INFO")
            wait_for(lambda info=info: "cluster_state:ok" in str(info()), "a cluster")
        has_it = int(first.client.execute_command("CLUSTER", "KEYSLOT", "{otel_steps}")) < 8192  # type: ignore[arg-type]
        keeps, other = (first, second) if has_it else (second, first)
        shared(other.url.removesuffix("/0") + "?cluster=true")
        with run("slots", max_usd=1), persona("slots", run_usd=1, daily_usd=1), step("in"):
            record_llm_usage("m", 1, 1, 0.1)
        assert drain_completed_steps()[0].shared_unconsulted_calls == 0
        assert keeps.spent("run", "slots") == keeps.spent("persona", "slots") == (2, 100_000_000)
