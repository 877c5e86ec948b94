"""An owner whose stop died on another task is woken; one that left in time, or was cancelled from outside, is not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from otel_steps import StepBudgetExceeded, StepStop, carry, drain_completed_steps, record_llm_usage, run, step
from otel_steps.runtime.state import runtime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SOON_S = 0.05


@pytest.fixture(autouse=True)
def wake_soon() -> None:
    runtime().set_options(wake_after_s=SOON_S)


def spend(tokens: int = 50) -> None:
    record_llm_usage("M", tokens, 0, 0.0)


_alive: set[asyncio.Task[Any]] = set()


def background(work: Any) -> None:
    """A task that nobody looks at, as agent runtimes start them; but what it fails of ends the test."""
    task, waiting = asyncio.create_task(work), asyncio.current_task()

    def ended(task: asyncio.Task[Any]) -> None:
        _alive.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, StepStop) and waiting is not None:
            waiting.cancel(f"the task beside it failed: {failure!r}")

    _alive.add(task)
    task.add_done_callback(ended)


async def dies() -> None:
    with contextlib.suppress(StepStop):
        spend()


def own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def test_the_default_is_two_seconds() -> None:
    from otel_steps.runtime.state import Options

    assert Options().wake_after_s == 2.0


async def test_a_woken_owner_fails_the_inner_steps_on_its_task_with_the_stop() -> None:
    started = time.monotonic()
    with pytest.raises(StepBudgetExceeded) as stopped:
        async with run("all", max_tokens=10):
            async with step("outer", error_boundary="continue"):
                async with step("inner", max_tokens=10_000):
                    background(dies())
                    await asyncio.Event().wait()
    assert stopped.value.scope == "run"
    assert SOON_S * 0.5 < time.monotonic() - started < 5
    assert [(record.name, record.status) for record in drain_completed_steps()] == [
        ("inner", "failed"),
        ("outer", "failed"),
    ]
    assert own_task().cancelling() == 0
    await asyncio.sleep(0)


async def test_an_owner_that_left_in_time_is_not_cancelled() -> None:
    with pytest.raises(StepBudgetExceeded):
        async with step("plan", max_tokens=10):
            await asyncio.create_task(dies())
    await asyncio.sleep(SOON_S * 3)
    assert own_task().cancelling() == 0


async def test_many_stops_on_many_tasks_cancel_the_owner_once() -> None:
    cancelled = 0
    with pytest.raises(StepBudgetExceeded):
        async with step("plan", max_tokens=10):
            for _ in range(20):
                background(dies())
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            cancelled = own_task().cancelling()
            await asyncio.sleep(SOON_S * 3)
    assert cancelled == 1
    assert own_task().cancelling() == 0
    await asyncio.sleep(SOON_S * 2)


@pytest.mark.parametrize("before", [True, False], ids=["outside first", "wake first"])
async def test_a_cancellation_from_outside_that_arrives_too_stays_one(before: bool) -> None:
    inside, woken, held = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with step("plan", max_tokens=10, error_boundary="continue"):
            background(dies())
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                if not before:
                    woken.set()
                    with contextlib.suppress(asyncio.CancelledError):
                        await held.wait()

    task = asyncio.create_task(main())
    await inside.wait()
    if before:
        await asyncio.sleep(0)
        time.sleep(SOON_S * 2)  # both timers are due when the loop looks again
        task.cancel()
        await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        await woken.wait()  # asyncio makes one of two cancellations that meet before the task has run
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert task.cancelled()
    assert drain_completed_steps()[0].status == "cancelled"


async def test_a_cancellation_from_outside_alone_stays_one_though_a_limit_is_broken() -> None:
    runtime().set_options(wake_after_s=60.0)

    async def main() -> None:
        async with step("plan", max_tokens=10, error_boundary="continue"):
            background(dies())
            await asyncio.Event().wait()

    task = asyncio.create_task(main())
    await asyncio.sleep(0.01)
    task.cancel("from outside")
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = drain_completed_steps()
    assert (record.status, record.breached) == ("cancelled", ("max_tokens",))


async def test_a_woken_owner_whose_client_turned_the_cancellation_into_an_error_applies_its_boundary() -> None:
    @step(max_tokens=10, error_boundary="continue", fallback="less")
    async def plan() -> None:
        background(dies())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise ConnectionError("closed") from error

    assert await plan() == "less"  # type: ignore[func-returns-value]
    assert own_task().cancelling() == 0


async def test_a_timeout_around_the_step_still_works_after_a_wake() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(StepBudgetExceeded):
            async with step("plan", max_tokens=10):
                background(dies())
                async with asyncio.timeout(20):
                    await asyncio.Event().wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_an_inner_and_an_outer_owner_that_are_both_woken_leave_as_the_outer_one() -> None:
    async def breaks_both() -> None:
        with contextlib.suppress(StepStop):
            spend(20)
        with contextlib.suppress(StepStop):
            spend(100)

    with pytest.raises(StepBudgetExceeded) as stopped:
        async with step("outer", max_tokens=100):
            async with step("inner", max_tokens=10, error_boundary="continue"):
                background(breaks_both())
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
                await asyncio.sleep(SOON_S * 2)
    assert stopped.value.step == "outer"
    assert own_task().cancelling() == 0


async def test_a_generator_between_two_items_does_not_have_its_reader_cancelled() -> None:
    @step(max_tokens=10, error_boundary="continue")
    async def plan() -> AsyncGenerator[int, None]:
        background(dies())
        yield 1
        await asyncio.Event().wait()
        yield 2

    items = []
    async for item in plan():
        items.append(item)
        await asyncio.sleep(SOON_S * 3)  # the reader's own time: not to be cut
    assert items == [1]
    assert own_task().cancelling() == 0


async def test_a_generator_taken_over_by_another_task_wakes_that_one() -> None:
    first_items: list[int] = []

    @step(max_tokens=10, error_boundary="continue")
    async def plan() -> AsyncGenerator[int, None]:
        yield 1
        background(dies())
        await asyncio.Event().wait()

    agen = plan()
    first_items.append(await anext(agen))

    async def reads_on() -> None:
        with pytest.raises(StopAsyncIteration):
            await anext(agen)
        assert own_task().cancelling() == 0

    await asyncio.create_task(reads_on())
    assert own_task().cancelling() == 0


async def test_a_stop_on_a_thread_wakes_the_owners_task() -> None:
    def callback() -> None:
        with contextlib.suppress(StepStop):
            spend()

    with pytest.raises(StepBudgetExceeded):
        async with step("plan", max_tokens=10):
            worker = threading.Thread(target=carry(callback))
            worker.start()
            await asyncio.Event().wait()
    worker.join()


@pytest.mark.parametrize("boundary", ["fail", "continue"])
def test_an_owner_entered_before_its_loop_ran_is_woken(boundary: Any) -> None:
    async def agent() -> None:
        background(dies())
        async with step("inside"):
            await asyncio.Event().wait()

    @step(max_tokens=10, error_boundary=boundary, fallback="less")
    def plan() -> None:
        asyncio.run(agent())

    if boundary == "continue":
        assert plan() == "less"  # type: ignore[func-returns-value]
    else:
        with pytest.raises(StepBudgetExceeded):
            plan()
    inside, owner = drain_completed_steps()
    assert (inside.status, owner.breached) == ("failed", ("max_tokens",))


def test_the_main_task_alone_in_a_loop_inside_the_owner_may_take_its_time_to_clean_up() -> None:
    cleaned = False

    async def agent() -> None:
        nonlocal cleaned
        try:
            spend()
        except StepStop:
            await asyncio.sleep(SOON_S * 3)
            cleaned = True
            raise

    with pytest.raises(StepBudgetExceeded), step("plan", max_tokens=10):
        asyncio.run(agent())
    assert cleaned


async def test_an_anyio_task_group_around_the_owner_survives_a_wake() -> None:
    reached = False
    async with anyio.create_task_group() as group:

        async def owner() -> None:
            nonlocal reached
            with pytest.raises(StepBudgetExceeded):
                async with step("plan", max_tokens=10):
                    async with anyio.create_task_group() as inner:
                        inner.start_soon(dies)
                        await anyio.Event().wait()
            await anyio.sleep(0.01)
            reached = True

        group.start_soon(owner)
    assert reached


async def fails_in_a_group() -> None:
    """Leaves the task's count of cancellations raised for good, before Python 3.13."""
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.wait_for(asyncio.Event().wait(), 0.001))


async def test_a_group_that_failed_before_on_the_task_does_not_hide_that_the_stop_woke_it() -> None:
    await fails_in_a_group()
    with pytest.raises(StepBudgetExceeded):
        async with step("limited", max_tokens=10):
            background(dies())
            await asyncio.Event().wait()
    with pytest.raises(StepBudgetExceeded):
        async with step("inside", max_tokens=10):
            await fails_in_a_group()
            background(dies())
            await asyncio.Event().wait()


async def test_a_cleanup_after_a_cancellation_from_outside_that_the_waking_breaks_off_stays_a_cancellation() -> None:
    async def cleans_up_slowly() -> None:
        async with step("limited", max_tokens=10):
            background(dies())
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.Event().wait()

    task = asyncio.create_task(cleans_up_slowly())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert drain_completed_steps()[0].status == "cancelled"


async def test_an_outer_limit_that_woke_the_task_first_is_not_absorbed_by_an_inner_one() -> None:
    async def breaks_both() -> None:
        with contextlib.suppress(StepStop):
            spend(50)

    with pytest.raises(StepBudgetExceeded) as stopped:
        async with step("outer", max_tokens=10):
            background(breaks_both())
            async with step("inner", max_tokens=10, error_boundary="continue"):
                await asyncio.Event().wait()
    assert stopped.value.step == "outer"
    assert [record.status for record in drain_completed_steps()] == ["failed", "failed"]


async def test_a_cancellation_that_does_not_say_why_is_taken_for_the_waking_where_no_other_came() -> None:
    with pytest.raises(StepBudgetExceeded):
        async with step("limited", max_tokens=10):
            background(dies())
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise asyncio.CancelledError from None
