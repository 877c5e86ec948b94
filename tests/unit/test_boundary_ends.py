"""Ends that are rare: stops of scopes that are gone, woken owners left in odd ways, gates that have nothing to say."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import pytest

from otel_steps import StepBudgetExceeded, StepStop, drain_completed_steps, record_llm_usage, step
from otel_steps.runtime.home import here
from otel_steps.runtime.state import runtime
from otel_steps.runtime.stops import broken_owner, gate, stop_for
from otel_steps.runtime.waking import see_it_wakes

SOON_S = 0.03


@pytest.fixture(autouse=True)
def wake_soon() -> None:
    runtime().set_options(wake_after_s=SOON_S)


def spend(tokens: int = 50) -> None:
    record_llm_usage("M", tokens, 0, 0.0)


async def dies(*amounts: int) -> None:
    for tokens in amounts or (50,):
        with contextlib.suppress(StepStop):
            spend(tokens)


def scope_of(active: Any) -> Any:
    return active._scope


def test_a_stop_of_a_scope_that_is_gone_meets_a_broken_limit_of_this_ones_own() -> None:
    kept: list[StepStop] = []
    with pytest.raises(StepBudgetExceeded), step("gone", max_tokens=10):
        try:
            spend()
        except StepStop as stop:
            kept.append(stop)
    with pytest.raises(StepBudgetExceeded) as stopped, step("plan", max_tokens=20):
        with contextlib.suppress(StepStop):
            spend()
        raise kept[0]
    assert stopped.value.step == "plan"
    assert [record.status for record in drain_completed_steps()] == ["failed", "failed"]


async def test_an_inner_and_an_outer_owner_woken_at_once_leave_as_the_outer_one() -> None:
    with pytest.raises(StepBudgetExceeded) as stopped:
        async with step("outer", max_tokens=100):
            async with step("inner", max_tokens=10, error_boundary="continue"):
                task = asyncio.create_task(dies(20, 100))
                await asyncio.Event().wait()
    await task
    assert stopped.value.step == "outer"
    assert [(record.name, record.status) for record in drain_completed_steps()] == [
        ("inner", "failed"),
        ("outer", "failed"),
    ]
    own = asyncio.current_task()
    assert own is not None
    assert own.cancelling() == 0


async def test_a_group_of_cancellations_alone_is_the_wake() -> None:
    async with step("plan", max_tokens=10, error_boundary="continue") as plan:
        task = asyncio.create_task(dies())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            raise BaseExceptionGroup("of a nursery", [cancelled]) from None
    await task
    assert plan.status == "skipped"


async def test_a_group_of_more_than_cancellations_is_none() -> None:
    with pytest.raises(BaseExceptionGroup):
        async with step("plan", max_tokens=10, error_boundary="continue") as plan:
            task = asyncio.create_task(dies())
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as cancelled:
                raise BaseExceptionGroup("of a nursery", [cancelled, KeyboardInterrupt()]) from None
    await task
    assert plan.status == "cancelled"


@pytest.mark.parametrize("links", [0, 1, 200])
async def test_an_error_of_its_own_that_a_woken_body_raises_leaves_unchanged(links: int) -> None:
    """Nothing behind it, another error behind it, and more of them than anybody follows."""
    behind: BaseException | None = None
    for number in range(links):
        error = KeyError(number)
        error.__context__ = behind
        behind = error
    raised = ValueError("its own")
    raised.__context__ = behind
    with pytest.raises(ValueError) as left:
        async with step("plan", max_tokens=10, error_boundary="continue") as plan:
            task = asyncio.create_task(dies())
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise raised
    await task
    assert left.value is raised
    assert plan.status == "failed"
    assert drain_completed_steps()[0].breached == ("max_tokens",)


def test_a_stop_deep_in_a_group_behind_an_error_is_found() -> None:
    attempt = ConnectionError("attempt")
    with step("plan", max_tokens=10, error_boundary="continue") as plan:
        try:
            spend()
        except StepStop as stop:
            attempt.__cause__ = stop
        raise RuntimeError("client") from ExceptionGroup("retries", [TimeoutError("first"), attempt])
    assert plan.status == "skipped"


def test_gates_say_nothing_outside_scopes_and_beside_broken_ones() -> None:
    block = step("broken", max_tokens=1)
    active = block.__enter__()
    with pytest.raises(StepStop):
        spend()
    apart = step("apart")
    try:
        rt = runtime()
        assert rt.broken
        gate(rt, None)
        assert broken_owner(None) is None
        from otel_steps import suspended

        with suspended(), apart as beside:
            beside.check()
        with pytest.raises(ValueError, match="no broken limit"):
            stop_for(rt, scope_of(beside))
        assert broken_owner(scope_of(active)) is scope_of(active)
    finally:
        with pytest.raises(StepBudgetExceeded):
            block.__exit__(None, None, None)


def test_without_asyncio_a_scope_is_at_home_on_its_thread_and_nobody_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    with pytest.raises(StepBudgetExceeded), step("before", max_tokens=1):
        spend()  # loads what the first broken limit loads, some of which wants asyncio
    monkeypatch.delitem(sys.modules, "asyncio")
    assert here() == threading.get_ident()
    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=1) as plan:
        spend()
    see_it_wakes(scope_of(plan), threading.get_ident(), SOON_S)


def test_an_owner_whose_loop_is_closed_is_not_woken() -> None:
    async def enters() -> Any:
        block = step("plan", max_tokens=1)
        block.__enter__()
        return block

    loop = asyncio.new_event_loop()
    block = loop.run_until_complete(enters())
    loop.close()
    scope = block._entry[1]
    see_it_wakes(scope, scope.home, SOON_S)
    block.__exit__(None, None, None)
    assert [record.status for record in drain_completed_steps()] == ["completed"]
