"""The thread that asks the shared store: nobody waits long, nothing is lost, nothing counts twice."""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_steps.errors import DefinitionError
from otel_steps.runtime.faults import Warnings
from otel_steps.runtime.shared_budgets import Account
from otel_steps.shared import owed as owed_module
from otel_steps.shared.address import Address, check_client, read_address
from otel_steps.shared.budgets import RedisBudgets
from otel_steps.shared.operations import AMOUNT_MAX, Batch, Encoding, Operation, balances
from otel_steps.shared.owed import Owed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RUN, WINDOW = Account("run", "r"), Account("window", "p")


class Script:
    """The script's part that matters here, in memory; it can be away, lose its answers, or hang."""

    def __init__(self) -> None:
        self.spent: dict[bytes, int] = {}
        self.settled: list[str] = []
        self.hours: list[int | None] = []
        self.last = 0
        self.runs = 0
        self.fails = False
        self.loses_answers = False
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.closed = 0
        self.forks = 0

    def run(self, keys: Sequence[bytes], arguments: Sequence[str]) -> Any:
        self.runs += 1
        self.goes_on.wait(10)
        if self.fails:
            raise OSError("gone")
        number, operations = int(arguments[0]), json.loads(arguments[1])
        changes = number > self.last
        self.last = max(self.last, number)
        answers = []
        for operation in operations:
            answer = ["0"]
            if changes and "settle" in operation:
                self.settled.append(operation["settle"])
            for account in operation["accounts"]:
                key = keys[account["key"] - 1]
                if changes and operation["add"]:
                    self.hours.append(operation.get("hour"))
                    self.spent[key] = self.spent.get(key, 0) + int(account["add"][1])
                answer += ["0", str(self.spent.get(key, 0)), "0", "0"]
            answers.append(answer)
        if self.loses_answers:
            raise OSError("no answer")
        return answers

    def close(self) -> None:
        self.closed += 1

    def forked(self) -> None:
        self.forks += 1


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def budgets(script: Script) -> Iterator[RedisBudgets]:
    made = RedisBudgets(Address("redis://x", timeout_s=0.2), script, Warnings(), lambda: 7200.0)
    yield made
    script.goes_on.set()
    made.close(5)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def spend(budgets: RedisBudgets, nano_usd: int = 1, hold: str | None = None, account: Account = RUN) -> bool:
    return budgets.charge({account: (1, nano_usd)}, hold).consulted


def test_an_answer_tells_what_all_have_spent(budgets: RedisBudgets, script: Script) -> None:
    assert spend(budgets, 5)
    answer = budgets.read([RUN])
    assert (answer.consulted, answer.balances[RUN].spent, answer.refused) == (True, (0, 5), False)
    held = budgets.hold({RUN: (1, 1)}, {RUN: (None, 10)})
    assert held.hold is not None
    assert held.number > answer.number
    budgets.release(held.hold, [RUN])
    assert script.settled == [held.hold]


def test_a_store_that_is_away_is_waited_for_once_and_told_everything_later(
    budgets: RedisBudgets, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.fails = True
    with caplog.at_level(logging.WARNING, "otel_steps"):
        assert not spend(budgets)
        before = time.perf_counter()
        for _ in range(1000):
            assert not spend(budgets, hold="h")
        assert not spend(budgets, account=WINDOW)
        assert time.perf_counter() - before < 2
    assert [record.message.count("gone") for record in caplog.records] == [1]
    script.fails = False
    until(lambda: budgets.read([RUN]).consulted)
    assert script.spent == {b"{otel_steps}:run:r": 1001, b"{otel_steps}:window:p": 1}
    assert script.settled == ["h"]
    assert script.hours[-1] == 2  # the window's, as it was then


def test_a_lost_answer_is_asked_for_again_and_counts_once(budgets: RedisBudgets, script: Script) -> None:
    script.loses_answers = True
    assert not spend(budgets, 3)
    assert not spend(budgets, 4)
    until(lambda: script.runs > 1)
    script.loses_answers = False
    until(lambda: budgets.read([RUN]).consulted)
    assert budgets.read([RUN]).balances[RUN].spent == (0, 7)


def test_nobody_waits_longer_than_the_bound_and_others_not_at_all(budgets: RedisBudgets, script: Script) -> None:
    assert spend(budgets)
    script.goes_on.clear()
    waited: list[float] = []

    def ask() -> None:
        before = time.perf_counter()
        assert not spend(budgets)
        waited.append(time.perf_counter() - before)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(waited) < 2
    before = time.perf_counter()
    for _ in range(100):
        assert not spend(budgets)
        assert not budgets.read([RUN]).consulted
    assert time.perf_counter() - before < 0.2
    script.goes_on.set()
    until(lambda: budgets.read([RUN]).consulted)
    assert budgets.read([RUN]).balances[RUN].spent == (0, 111)


def test_a_store_that_is_slow_each_time_is_waited_for_seldom() -> None:
    class Slow(Script):
        def run(self, keys: Sequence[bytes], arguments: Sequence[str]) -> Any:
            time.sleep(0.1)
            return super().run(keys, arguments)

    slow = Slow()
    budgets = RedisBudgets(Address("redis://x", timeout_s=0.05), slow, Warnings())
    held: list[float] = []
    end = time.monotonic() + 2
    while time.monotonic() < end:
        before = time.perf_counter()
        spend(budgets)
        held.append(time.perf_counter() - before)
        time.sleep(0.001)
    assert sum(1 for each in held if each > 0.04) <= 5
    budgets.close(5)
    assert slow.spent == {b"{otel_steps}:run:r": len(held)}


def test_a_hold_that_may_have_arrived_is_settled_later(budgets: RedisBudgets, script: Script) -> None:
    script.loses_answers = True
    held = budgets.hold({RUN: (1, 1)}, {RUN: (5, 5)})
    assert not held.consulted
    assert held.hold is not None
    budgets.release(held.hold, [RUN])
    script.loses_answers = False
    until(lambda: script.settled == [held.hold])


def test_the_end_tries_once_more(budgets: RedisBudgets, script: Script) -> None:
    script.fails = True
    assert not spend(budgets, 2)
    script.fails = False
    budgets.close(5)
    assert script.spent == {b"{otel_steps}:run:r": 2}
    assert not spend(budgets)  # nobody is asked any more
    assert script.closed == 1


def test_what_cannot_be_told_before_the_end_is_said(
    budgets: RedisBudgets, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.fails = True
    with caplog.at_level(logging.WARNING, "otel_steps"):
        assert not spend(budgets, 2)
        before = time.perf_counter()
        budgets.close(5)
    assert time.perf_counter() - before < 2
    assert "missing there" in caplog.records[-1].message


def test_a_child_begins_anew_and_its_parents_debt_stays_its_parents(script: Script) -> None:
    budgets = RedisBudgets(Address("redis://x", timeout_s=0.2), script, Warnings())
    script.fails = True
    assert not spend(budgets, 2)
    budgets.forked()
    script.fails = False
    assert spend(budgets, 4)
    assert budgets.read([RUN]).balances[RUN].spent == (0, 4)
    assert script.forks == 1
    budgets.close(5)
    budgets.forked()
    assert not spend(budgets)


def test_where_no_thread_can_start_nobody_waits(budgets: RedisBudgets, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    budgets.connect()
    assert not spend(budgets)
    assert not budgets.read([RUN]).consulted


def test_the_asking_thread_does_not_wait_for_itself(script: Script) -> None:
    """The garbage collector may end a generator's step on any thread."""
    seen: list[bool] = []

    class Collecting(Script):
        def run(self, keys: Sequence[bytes], arguments: Sequence[str]) -> Any:
            if not seen:
                seen.append(spend(budgets, 10))
            return super().run(keys, arguments)

    collecting = Collecting()
    budgets = RedisBudgets(Address("redis://x", timeout_s=5), collecting, Warnings())
    before = time.perf_counter()
    assert spend(budgets, 1)
    assert time.perf_counter() - before < 2
    assert seen == [False]
    until(lambda: collecting.spent.get(b"{otel_steps}:run:r") == 11)
    budgets.close(5)


def test_an_answer_of_another_shape_is_trouble(budgets: RedisBudgets, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[Any] = itertools.cycle([[], [["0"]], [["0", "1", "2", "3", "rubbish"]], None])
    monkeypatch.setattr(budgets, "_link", type("Odd", (Script,), {"run": lambda *_: next(answers)})())
    for _ in range(4):
        assert not spend(budgets)


def test_what_is_owed_is_bounded_by_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owed_module, "ACCOUNTS_MAX", 2)
    monkeypatch.setattr(owed_module, "HOLDS_MAX", 1)
    owed = Owed()
    assert not owed
    for number in range(3):
        account = Account("run", str(number))
        for _ in range(1000):
            owed.take_in(Operation((account,), add={account: (1, 2)}, settle=f"{number}"), 5)
    owed.take_in(Operation((RUN,), add={RUN: (0, 0)}), 5)
    assert owed.dropped == 1
    taken = [owed.take_out(1) for _ in range(4)]
    assert [[(op.add, op.settle) for op in each] for each in taken] == [
        [({Account("run", "1"): (1000, 2000)}, None)],
        [({Account("run", "2"): (1000, 2000)}, None)],
        [(None, "0")],
        [],
    ]
    assert not owed


def test_keys_and_amounts_of_any_kind_can_be_written() -> None:
    encoding = Encoding("acme", "me", 3600, 600)
    names = ["a b{c}", "\ud800", "x" * 300, "é"]
    accounts = tuple(Account("run", name) for name in names)
    amounts = dict.fromkeys(accounts, (10**30, -5))
    operation = Operation(accounts, hold="h", held=amounts, limits=dict.fromkeys(accounts, (None, 10**30)))
    keys, arguments = encoding.keys_and_arguments(Batch(7, (operation, operation)))
    assert len(keys) == 5
    assert all(key.startswith(b"{acme}:") and len(key) < 250 for key in keys)
    written = json.loads(arguments[1])[0]["accounts"][0]
    assert (written["hold"], written["limit"]) == ([str(AMOUNT_MAX), "0"], [str(AMOUNT_MAX)] * 2)
    assert arguments[0] == "7"
    assert encoding.keys_and_arguments(Batch(8, (Operation(accounts),)))[1][0] == "0"
    with pytest.raises(ValueError, match="figures"):
        balances(operation, [0, 1, 2, 3, 4])


def test_what_is_sent_again_holds_nothing_and_asks_nothing() -> None:
    add = Operation((WINDOW,), add={WINDOW: (1, 1)}, hour=3)
    batch = Batch(4, (Operation((RUN,)), Operation((RUN,), hold="h"), add, Operation((RUN,), add={RUN: (1, 1)})))
    again = batch.to_send_again(9)
    assert again is not None
    assert (again.number, [operation.hour for operation in again.operations]) == (4, [3, 9])
    assert Batch(5, (Operation((RUN,)),)).to_send_again(9) is None


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h:1/2", Address("redis://h:1/2")),
        (
            "rediss://u:p@h/0?timeout_s=1&ssl_ca_certs=/ca.pem&idle_s=60&lease_s=5&prefix=acme",
            Address("rediss://u:p@h/0?ssl_ca_certs=%2Fca.pem", 1, 60, 5, "acme"),
        ),
        ("unix:///run/redis.sock?db=1&cluster=false", Address("unix:///run/redis.sock?db=1")),
        ("unix://:pw@/run/redis.sock", Address("unix://:pw@/run/redis.sock")),
        ("redis://h?cluster=true", Address("redis://h", cluster=True)),
    ],
)
def test_urls(url: str, address: Address) -> None:
    assert read_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        *("", 5, "localhost:6379", "http://h", "redis:", "redis://:s3cret@h?timeout_s=never", "redis://h?lease_s=0"),
        *("redis://h?timeout_s=nan", "redis://h?prefix=", "redis://h?prefix={x}", "redis://h?cluster=yes"),
        *("redis://[h", "redis://h:s3cret", "redis://h?idle_s=5", "amqp://user:s3cret@h"),
    ],
)
def test_urls_that_cannot_be_meant(url: Any) -> None:
    with pytest.raises(DefinitionError, match="shared") as error:
        read_address(url)
    assert "s3cret" not in str(error.value)


def test_a_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(DefinitionError, match=r"otel-steps\[shared\]"):
        check_client(Address("redis://h"))
