"""Reservation: calls whose cap is known never pass a limit, however many are in flight, and nothing stays held."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_steps import StepBudgetExceeded, StepStop, carry, drain_completed_steps, persona, record_llm_usage, run, step
from otel_steps.runtime import meter, remaining
from otel_steps.runtime.charging import reserve_or_stop, take_in
from otel_steps.runtime.context import current_scope
from otel_steps.runtime.state import runtime
from otel_steps.usage import Usage

if TYPE_CHECKING:
    from otel_steps.runtime.meter import Reservation
    from otel_steps.runtime.scope import Scope


def here() -> Scope:
    scope = current_scope()
    assert scope is not None
    return scope


def begin(tokens: int, nano_usd: int = 0) -> Reservation:
    return reserve_or_stop(runtime(), here(), tokens, nano_usd)


def finish(held: Reservation, tokens: int, nano_usd: int = 0) -> None:
    usage = Usage(model="M", input_tokens=tokens, cost_nano_usd=nano_usd)
    take_in(runtime(), here(), usage, by_hand=False, reservation=held)


def test_a_call_that_would_not_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(StepBudgetExceeded) as refused, step("plan", max_tokens=100, max_usd=1, admission="reserve"):
        record_llm_usage("M", 40, 20, 0.5)
        begin(41, 100)
    error = refused.value
    assert (error.kind, error.reason, error.category) == ("terminal", "budget_exceeded", "budget_exceeded")
    assert (error.limit, error.limit_value) == ("max_tokens", 100)
    assert (error.consumed_tokens, error.projected_tokens) == (60, 101)
    assert (error.consumed_cost_usd, error.projected_cost_usd) == (0.5, 0.5000001)
    message = "step `plan` has no room left in its max_tokens budget for this call (projected 101 > 100 tokens)"
    assert str(error) == message
    (record,) = drain_completed_steps()
    assert (record.status, record.breached, record.llm_calls) == ("failed", ("max_tokens",), 1)


def test_dollars_refuse_too_and_both_limits_are_listed() -> None:
    with pytest.raises(StepBudgetExceeded) as refused, step("plan", max_tokens=10, max_usd=0.05, admission="reserve"):
        begin(11, 62_000_000)
    assert refused.value.breached == ("max_tokens", "max_usd")
    with pytest.raises(StepBudgetExceeded, match=r"projected 0\.062 > 0\.05 USD"), step("plan", max_usd=0.05):
        begin(11, 62_000_000)


def test_a_call_that_fits_exactly_is_admitted() -> None:
    with step("plan", max_tokens=100, max_usd=1, admission="reserve") as active:
        held = begin(100, 10**9)
        assert (active.remaining_tokens, active.remaining_usd) == (0, 0.0)
        finish(held, 70, 10**8)
        assert (active.remaining_tokens, active.remaining_usd) == (30, 0.9)
    assert drain_completed_steps()[0].breached == ()


@pytest.mark.parametrize("boundary", ["continue", "escalate"])
def test_a_refusal_is_a_stop_of_the_scope_that_refused(boundary: str) -> None:
    @step(max_tokens=10, admission="reserve", error_boundary=boundary, fallback="less")  # type: ignore[arg-type]
    def plan() -> str:
        begin(11)
        return "whole"

    with run("outer", max_tokens=1000):
        if boundary == "continue":
            assert plan() == "less"
        else:
            with pytest.raises(StepBudgetExceeded) as refused:
                plan()
            assert (refused.value.kind, refused.value.category) == ("terminal", "handoff_escalation")


def test_a_scope_further_out_that_has_no_room_refuses_as_itself() -> None:
    with pytest.raises(StepBudgetExceeded) as refused, run("all", max_tokens=50):
        with step("plan", max_tokens=100, admission="reserve", error_boundary="continue"):
            begin(60)
    assert (refused.value.scope, refused.value.step, refused.value.limit_value) == ("run", "plan", 50)


def test_a_limit_that_looks_at_its_own_calls_only_holds_no_room_for_nested_ones() -> None:
    with step("outer", max_tokens=10, inclusive=False, admission="reserve") as outer:
        with step("inner"):
            begin(1000).settle()
        assert outer.remaining_tokens == 10


def test_a_broken_scope_admits_nothing_more() -> None:
    with pytest.raises(StepBudgetExceeded) as stopped, step("plan", max_tokens=100, admission="reserve"):
        with pytest.raises(StepStop):
            record_llm_usage("M", 101, 0, 0.0)
        begin(0)
    assert stopped.value.kind == "budget_exhausted"


def test_settling_twice_gives_back_once() -> None:
    with step("plan", max_tokens=100) as active:
        held = begin(60)
        held.settle()
        held.settle()
        assert active.remaining_tokens == 100
        held = begin(60)
        finish(held, 10)
        held.settle()
        assert active.remaining_tokens == 90


def test_settling_after_the_step_closed_leaves_the_outer_scope_right() -> None:
    with run("all", max_tokens=100) as active:
        with step("plan", max_tokens=100):
            held = begin(60)
        assert active.remaining_tokens == 40
        held.settle()
        assert active.remaining_tokens == 100


@pytest.mark.parametrize("seed", range(3))
def test_fifty_threads_never_pass_the_limit(seed: int) -> None:
    source = random.Random(seed)
    limit, cap = 1_000, 30
    highest = 0

    def call(actual: int) -> bool:
        nonlocal highest
        try:
            held = begin(cap, cap * 1000)
        except StepStop:
            return False
        time.sleep(0.0005)
        finish(held, actual, actual * 1000)
        highest = max(highest, here().spent_tokens())
        return True

    admitted: list[bool] = []
    amounts = [source.randint(0, cap) for _ in range(400)]
    block = step("plan", max_tokens=limit, max_usd=limit * 1000 / 1e9, admission="reserve", error_boundary="continue")
    with block as active, ThreadPoolExecutor(50) as pool:
        admitted = list(pool.map(carry(call), amounts))
        assert remaining.remaining_tokens(here()) == limit - active.input_tokens
    assert highest <= limit
    (record,) = drain_completed_steps()
    assert (record.total_input_tokens, record.llm_calls) == (active.input_tokens, sum(admitted))
    assert record.total_input_tokens <= limit
    assert record.status == "skipped"


async def test_fifty_tasks_never_pass_the_limit_and_the_room_of_failed_calls_comes_back() -> None:
    source = random.Random(50)
    limit, cap = 1_000, 20
    admitted = 0

    async def call() -> None:
        nonlocal admitted
        held = begin(cap)
        admitted += 1
        try:
            await asyncio.sleep(source.random() / 1000)
            if source.random() < 0.3:
                raise ConnectionError
            finish(held, source.randint(0, cap))
        finally:
            held.settle()

    async with step("plan", max_tokens=limit, admission="reserve") as active:
        await asyncio.gather(*(call() for _ in range(50)), return_exceptions=True)
        assert admitted == 50
        assert here().reserved_tokens == 0
        assert active.remaining_tokens == limit - active.input_tokens
    with pytest.raises(StepBudgetExceeded):
        async with step("plan", max_tokens=limit, admission="reserve") as active:
            await asyncio.gather(*(call() for _ in range(200)), return_exceptions=True)
    assert active.input_tokens <= limit


def test_charge_and_settling_are_one() -> None:
    """Between the two another thread could otherwise take the room of a call that is about to be counted."""
    limit = 100
    seen: list[int] = []
    stop = threading.Event()

    def watch(scope: Scope) -> None:
        while not stop.is_set():
            with meter.LOCK:
                seen.append(scope.spent_tokens() + scope.reserved_tokens)

    with run("all", max_tokens=limit), step("plan", admission="reserve"):
        scope = here().limited[0]
        watcher = threading.Thread(target=watch, args=(scope,))
        watcher.start()
        held = begin(limit)
        finish(held, limit)
        stop.set()
        watcher.join()
    assert set(seen) <= {0, limit}


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from(["finish", "fail", "leave open"])),
        max_size=20,
    ),
    st.integers(1, 100),
    st.integers(1, 100),
)
def test_what_is_held_is_what_is_in_flight_and_no_limit_is_passed(
    calls: list[tuple[int, int, str]], inner_limit: int, outer_limit: int
) -> None:
    in_flight: list[tuple[Reservation, int]] = []
    refused = False
    stopped: StepBudgetExceeded | None = None
    try:
        with persona("outer", max_tokens=outer_limit), step("plan", max_tokens=inner_limit, admission="reserve"):
            inner = here()
            outer = inner.limited[-1]
            for cap, actual, end in calls:
                try:
                    held = begin(cap)
                except StepStop:
                    refused = True
                    raise
                if end == "finish":
                    finish(held, min(actual, cap))
                elif end == "fail":
                    held.settle()
                else:
                    in_flight.append((held, cap))
                for scope in (inner, outer):
                    assert scope.reserved_tokens == sum(cap for _, cap in in_flight)
                    assert scope.spent_tokens() + scope.reserved_tokens <= (scope.max_tokens or 0)
    except StepBudgetExceeded as error:
        stopped = error
    assert (stopped is not None) == refused
    assert stopped is None or stopped.kind == "terminal"
    for held, _ in in_flight:
        held.settle()
    assert (inner.reserved_tokens, outer.reserved_tokens) == (0, 0)
    drain_completed_steps()
