"""The seam to budgets that others share: what is asked, what stops whom, and what is told where nobody answers."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from otel_steps import (
    StepBudgetExceeded,
    StepStop,
    current_step,
    drain_completed_steps,
    persona,
    record_llm_usage,
    run,
    step,
)
from otel_steps.runtime import charging, lifecycle, sharing
from otel_steps.runtime.boundary import Verdict
from otel_steps.runtime.context import charged_scope
from otel_steps.runtime.shared_budgets import Account, Answer, Balance, SharedView, Ticket
from otel_steps.runtime.state import runtime
from otel_steps.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_steps.runtime.scope import Scope
    from otel_steps.runtime.shared_budgets import Limits, Pair

RUN = Account("run", "nightly")
WRITER = Account("persona", "writer")
WINDOW = Account("window", "writer")


class Store:
    """Shared budgets in memory, which can be away."""

    def __init__(self) -> None:
        self.away = False
        self.spent: dict[Account, Pair] = defaultdict(lambda: (0, 0))
        self.holds: dict[str, dict[Account, Pair]] = {}
        self.asked: list[tuple[Account, ...]] = []
        self.numbers = itertools.count(1)
        self.forks = 0

    def held(self, account: Account) -> Pair:
        amounts = [held[account] for held in self.holds.values() if account in held]
        return sum(each[0] for each in amounts), sum(each[1] for each in amounts)

    def spend(self, account: Account, tokens: int, nano_usd: int) -> None:
        before = self.spent[account]
        self.spent[account] = before[0] + tokens, before[1] + nano_usd

    def answer(self, accounts: Sequence[Account], **more: Any) -> Answer:
        found = {account: Balance(self.spent[account], self.held(account)) for account in accounts}
        return Answer(True, next(self.numbers), found, **more)

    def read(self, accounts: Sequence[Account]) -> Answer:
        self.asked.append(tuple(accounts))
        return Answer(False, next(self.numbers)) if self.away else self.answer(accounts)

    def hold(self, amounts: Mapping[Account, Pair], limits: Mapping[Account, Limits]) -> Answer:
        self.asked.append(tuple(amounts))
        name = f"hold {next(self.numbers)}"
        if self.away:
            return Answer(False, next(self.numbers), hold=name)
        for account, amount in amounts.items():
            for which in (0, 1):
                limit = limits[account][which]
                total = self.spent[account][which] + self.held(account)[which] + amount[which]
                if limit is not None and total > limit:
                    return self.answer(tuple(amounts), refused=True)
        self.holds[name] = dict(amounts)
        return self.answer(tuple(amounts), hold=name)

    def charge(self, amounts: Mapping[Account, Pair], hold: str | None) -> Answer:
        self.asked.append(tuple(amounts))
        self.holds.pop(hold or "", None)
        for account, amount in amounts.items():
            self.spend(account, *amount)
        return Answer(False, next(self.numbers)) if self.away else self.answer(tuple(amounts))

    def release(self, hold: str, accounts: Sequence[Account]) -> None:
        self.asked.append(tuple(accounts))
        del self.holds[hold]

    def forked(self) -> None:
        self.forks += 1


@pytest.fixture
def store() -> Store:
    made = runtime().shared = Store()
    return made


def here() -> Scope:
    scope = charged_scope()
    assert scope is not None
    return scope


def reserve(tokens: int, nano_usd: int) -> Any:
    return charging.reserve_or_stop(runtime(), here(), tokens, nano_usd)


def test_only_runs_and_personas_with_limits_are_shared(store: Store) -> None:
    with run("free"), persona("free"), step("own", max_usd=1) as own:
        record_llm_usage("m", 1, 1, 0.1)
        own.check()
        assert own.remaining_usd == 0.9
    assert store.asked == []


def test_each_account_around_a_call_is_charged_once_outermost_first(store: Store) -> None:
    with (
        run("nightly", max_usd=9),
        run("nightly", max_tokens=50, max_usd=5),
        persona("writer", run_usd=8, daily_usd=3, hourly_usd=2),
        persona("writer", max_tokens=7, daily_usd=4),
    ):
        record_llm_usage("m", 2, 1, 1)
    assert store.asked == [(RUN, WRITER, WINDOW)]
    assert store.spent == {RUN: (3, 10**9), WRITER: (3, 10**9), WINDOW: (10**9, 10**9)}


def test_what_others_spent_counts_towards_the_limit_of_a_run(store: Store) -> None:
    store.spend(RUN, 60, 4 * 10**9)
    with pytest.raises(StepBudgetExceeded) as stopped, run("nightly", max_usd=5, max_tokens=100) as nightly:
        assert (nightly.remaining_usd, nightly.remaining_tokens) == (1, 40)
        record_llm_usage("m", 1, 1, 0.5)
        assert (nightly.remaining_usd, nightly.remaining_tokens) == (0.5, 38)
        assert nightly.totals.cost_usd == 0.5
        record_llm_usage("m", 1, 1, 0.6)
    error = stopped.value
    assert (error.kind, error.limit, error.consumed_cost_usd) == ("budget_exhausted", "max_usd", 5.1)


@pytest.mark.parametrize(
    ("account", "spent", "limits", "limit", "cost"),
    [
        (WRITER, (0, 2 * 10**9), {"run_usd": 1}, "run_usd", 2),
        (WRITER, (8, 0), {"max_tokens": 7}, "max_tokens", 0),
        (WINDOW, (2 * 10**9, 0), {"daily_usd": 1, "max_tokens": 7}, "daily_usd", 2),
        (WINDOW, (3 * 10**9, 2 * 10**9), {"hourly_usd": 1, "run_usd": 5}, "hourly_usd", 2),
    ],
)
def test_a_limit_that_others_passed_is_a_stop_before_the_call(
    store: Store, account: Account, spent: Pair, limits: dict[str, Any], limit: str, cost: float
) -> None:
    store.spent[account] = spent
    with pytest.raises(StepBudgetExceeded) as stopped, persona("writer", **limits) as writer:
        writer.check()
    error = stopped.value
    assert (error.kind, error.scope, error.limit, error.consumed_cost_usd) == ("terminal", "persona", limit, cost)


def test_a_personas_tokens_count_last(store: Store) -> None:
    store.spent[WRITER], store.spent[WINDOW] = (9, 0), (2 * 10**9, 2 * 10**9)
    with pytest.raises(StepBudgetExceeded) as stopped, persona("writer", max_tokens=7, daily_usd=1, hourly_usd=1) as on:
        on.check()
    assert stopped.value.breached == ("daily_usd", "hourly_usd", "max_tokens")


def test_the_outermost_of_several_owns_the_stop_and_nothing_is_sent_to_it_twice(store: Store) -> None:
    store.spent[RUN] = store.spent[WRITER] = (0, 2 * 10**9)
    with (
        pytest.raises(StepBudgetExceeded) as stopped,
        run("nightly", max_usd=1),
        persona("writer", run_usd=1) as writer,
    ):
        with pytest.raises(StepStop):
            writer.check()
        assert writer.breached == ("run_usd",)
        asked = len(store.asked)
        writer.check()  # broken here already: nobody need be asked
    assert stopped.value.scope == "run"
    assert len(store.asked) == asked


def test_windows_of_all_hosts_stop_a_persona_behind_its_call(store: Store) -> None:
    store.spent[WINDOW] = (10**9, 10**9)
    with pytest.raises(StepBudgetExceeded) as stopped, persona("writer", daily_usd=1.5) as writer:
        assert writer.remaining_usd == 0.5
        record_llm_usage("m", 1, 1, 0.6)
    assert (stopped.value.limit, stopped.value.consumed_cost_usd) == ("daily_usd", 1.6)


def test_room_is_held_everywhere_and_given_back_with_the_charge(store: Store) -> None:
    with run("nightly", max_usd=1) as nightly, step("work"):
        held = reserve(10, 4 * 10**8)
        assert store.held(RUN) == (10, 4 * 10**8)
        assert nightly.remaining_usd == 0.6
        charging.take_in(runtime(), here(), Usage("m", 5, 0, 10**8), by_hand=False, reservation=held)
        assert nightly.remaining_usd == 0.9
        sharing.release(runtime(), held)  # settled already
    assert store.held(RUN) == (0, 0)


def test_room_of_a_call_that_failed_is_given_back_once(store: Store) -> None:
    with run("nightly", max_usd=1) as nightly:
        held = reserve(10, 4 * 10**8)
        for _ in range(2):
            sharing.release(runtime(), held)
        assert nightly.remaining_usd == 1
    store.holds["late"] = {}
    runtime().shared = None
    sharing.release(runtime(), charging.meter.Reservation((), 0, 0, ticket=Ticket((), "late", consulted=True)))
    assert list(store.holds) == ["late"]  # shut down meanwhile: it lapses by itself


@pytest.mark.parametrize(
    ("account", "limits", "limit", "projected"),
    [
        (WRITER, {"run_usd": 1}, "run_usd", (14, 1.3)),
        (WRITER, {"max_tokens": 13}, "max_tokens", (14, 1.3)),
        (WINDOW, {"daily_usd": 1}, "daily_usd", (0, 1.3)),
        (WINDOW, {"hourly_usd": 1, "run_usd": 5}, "hourly_usd", (0, 1.3)),
    ],
)
def test_a_call_that_does_not_fit_beside_others_is_refused(
    store: Store, account: Account, limits: dict[str, Any], limit: str, projected: Any
) -> None:
    amounts = (5 * 10**8, 5 * 10**8) if account.kind == "window" else (3, 5 * 10**8)
    store.spent[account] = store.holds.setdefault("another's", {account: amounts})[account]
    with pytest.raises(StepBudgetExceeded) as stopped, run("roomy", max_usd=100), persona("writer", **limits):
        reserve(8, 3 * 10**8)
    error = stopped.value
    assert (error.kind, error.scope, error.limit) == ("terminal", "persona", limit)
    assert (error.projected_tokens, error.projected_cost_usd) == projected
    assert list(store.holds) == ["another's"]


def test_where_nothing_is_shared_room_is_held_here_alone(store: Store) -> None:
    with step("own", max_tokens=100):
        assert reserve(10, 0).ticket is None
    assert store.asked == []


def test_a_refusal_that_fits_no_limit_any_more_lets_the_call_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "hold", lambda amounts, limits: store.answer(tuple(amounts), refused=True))
    with run("nightly", max_usd=1):
        assert reserve(1, 1).ticket is not None


def test_a_scope_that_broke_meanwhile_refuses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def hold(amounts: Any, limits: Any) -> Answer:
        store.spent[RUN] = (0, 2 * 10**9)
        with pytest.raises(StepStop):
            sharing.admit(runtime(), store, here())
        store.spent[RUN] = (0, 0)
        return store.answer(tuple(amounts), refused=True)

    monkeypatch.setattr(store, "hold", hold)
    with pytest.raises(StepBudgetExceeded), run("nightly", max_usd=1):
        reserve(1, 1)


def test_a_store_that_is_away_is_told_on_the_receipt_and_the_local_meter_goes_on(store: Store) -> None:
    store.spend(RUN, 0, 6 * 10**8)
    with pytest.raises(StepBudgetExceeded) as stopped, run("nightly", max_usd=1) as nightly:
        with step("first"):
            record_llm_usage("m", 1, 1, 0.1)
            store.away = True
            record_llm_usage("m", 1, 1, 0.2)
            assert nightly.remaining_usd == 0.1  # what others had spent is remembered
        with step("second"):
            record_llm_usage("m", 1, 1, 0.2)
    assert stopped.value.consumed_cost_usd == 1.1
    second, first = sorted(drain_completed_steps(), key=lambda record: record.name, reverse=True)
    assert (first.shared_unconsulted_calls, second.shared_unconsulted_calls) == (1, 1)


def test_what_was_missed_is_not_counted_twice_when_the_store_is_back(store: Store) -> None:
    with run("nightly", max_usd=10) as nightly, persona("writer", daily_usd=9):
        record_llm_usage("m", 1, 1, 1)
        store.away = True
        record_llm_usage("m", 1, 1, 1)
        store.away = False
        assert nightly.remaining_usd == 8
        record_llm_usage("m", 1, 1, 1)
        assert nightly.remaining_usd == 7


def test_a_call_that_began_unseen_is_told_though_it_was_charged_there(store: Store) -> None:
    with run("nightly", max_usd=1), step("work"):
        store.away = True
        begun = sharing.admit(runtime(), store, here())
        held = reserve(1, 1)
        assert begun is not None
        store.away = False
        for reservation in (begun, held):
            charging.take_in(runtime(), here(), Usage("m", 1, 1, 1), by_hand=False, reservation=reservation)
        assert sharing.admit(runtime(), store, here()) is None
    (record,) = drain_completed_steps()
    assert (record.shared_unconsulted_calls, record.llm_calls) == (2, 2)


@pytest.mark.parametrize(
    ("scope", "limit", "unit"),
    [
        (lambda: run("nightly", max_usd=1, max_tokens=5), "max_usd", "1 USD"),
        (lambda: run("nightly", max_tokens=5), "max_tokens", "5 tokens"),
        (lambda: persona("writer", run_usd=2, daily_usd=3), "run_usd", "2 USD"),
        (lambda: persona("writer", daily_usd=3, max_tokens=5), "daily_usd", "3 USD"),
    ],
)
@pytest.mark.parametrize("gate", ["check", "reserve", "by hand"])
def test_stop_means_that_no_call_is_made_unseen(store: Store, scope: Any, limit: str, unit: str, gate: str) -> None:
    store.away = True
    runtime().set_options(shared_unavailable="stop")
    gates = {
        "check": lambda opened: opened.check(),
        "reserve": lambda _: reserve(1, 1),
        "by hand": lambda _: record_llm_usage("m", 1, 1, 0),
    }
    with pytest.raises(StepBudgetExceeded) as stopped, scope() as opened:
        gates[gate](opened)
    error = stopped.value
    assert (error.kind, error.limit) == ("terminal", limit)
    assert f"cannot hold its {limit} budget of {unit}" in error.message


def test_stop_says_nothing_behind_a_call_that_was_gated_before(store: Store) -> None:
    runtime().set_options(shared_unavailable="stop")
    with run("nightly", max_usd=1) as nightly:
        store.away = True
        charging.take_in(runtime(), here(), Usage("m", 1, 1, 1), by_hand=False)
        assert nightly.breached == ()
        store.away = False
        nightly.check()


def test_usage_that_lands_behind_the_end_is_shared_too_and_stops_nobody(store: Store) -> None:
    runtime().set_options(shared_unavailable="stop")
    with run("nightly", max_usd=1), step("work"):
        late = here()
    for store.away in (False, True):
        charging.take_in(runtime(), late, Usage("m", 1, 1, 3 * 10**9), by_hand=True)
    assert store.spent[RUN] == (4, 6 * 10**9)
    amended = drain_completed_steps()[-1]
    assert (amended.revision, amended.shared_unconsulted_calls) == (3, 1)
    sharing.refresh(runtime(), late)
    assert sharing.admit(runtime(), store, late) is None


def test_a_limit_that_is_broken_twice_is_told_once(store: Store) -> None:
    store.away = True
    runtime().set_options(shared_unavailable="stop")
    with pytest.raises(StepBudgetExceeded), run("nightly", max_usd=1):
        for _ in range(2):
            with pytest.raises(StepStop):
                sharing.admit(runtime(), store, here())


def test_an_answer_that_comes_late_says_nothing() -> None:
    view = SharedView()
    view.told(2, Balance((5, 50), (1, 2)), Balance((7, 7)))
    view.told(1, Balance((4, 40)), None)
    view.missed(1, (9, 9))
    assert (view.tokens, view.nano_usd, view.held) == (5, 50, (1, 2))
    assert view.windows == Balance((7, 7))
    view.missed(3, (1, 1))
    assert (view.tokens, view.nano_usd, view.windows) == (6, 51, None)
    view.told(4, None, None)
    assert (view.tokens, view.nano_usd) == (5, 50)


def test_a_forked_child_tells_the_store(store: Store) -> None:
    child = os.fork()
    if child == 0:
        os._exit(store.forks)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert store.forks == 0


def test_a_step_asks_nobody_for_its_own_figures(store: Store) -> None:
    with run("nightly", max_usd=1), step("work", max_usd=0.5):
        inner = current_step()
        assert inner is not None
        assert inner.remaining_usd == 0.5
    assert store.asked == [(RUN,)]


def test_a_persona_within_its_windows_goes_on_and_the_run_inside_it_refuses(store: Store) -> None:
    store.spent[RUN] = (0, 9 * 10**8)
    with persona("writer", daily_usd=9) as writer:
        writer.check()
        with pytest.raises(StepBudgetExceeded) as stopped, run("nightly", max_usd=1):
            reserve(1, 2 * 10**8)
    assert stopped.value.scope == "run"


def test_a_scope_that_is_left_while_the_store_is_asked_stops_nobody(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(accounts: Any) -> Answer:
        lifecycle.close(runtime(), scope, Verdict("completed"))
        return Answer(False, 1)

    monkeypatch.setattr(store, "read", read)
    runtime().set_options(shared_unavailable="stop")
    with run("nightly", max_usd=1):
        scope = here()
        assert sharing.admit(runtime(), store, scope) is not None
