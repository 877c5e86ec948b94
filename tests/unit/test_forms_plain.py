"""A plain function that gives a coroutine or generator: the scope goes on until that has ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import types
from typing import TYPE_CHECKING, Any

import pytest

from otel_steps import StepBudgetExceeded, current_step, drain_completed_steps, hook, record_llm_usage, step

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator


def others(function: Any) -> Any:
    """A decorator as most are written: a plain function, whatever it is around."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def name() -> str | None:
    active = current_step()
    return None if active is None else active.name


@step("plan", max_tokens=10)
@others
async def plan(tokens: int) -> str | None:
    await asyncio.sleep(0)
    record_llm_usage("M", tokens, 0, 0.0)
    return name()


def ended() -> list[tuple[str, str, int]]:
    return [(record.name, record.status, record.total_input_tokens) for record in drain_completed_steps()]


async def test_the_step_of_a_decorated_coroutine_function_lasts_until_it_was_awaited() -> None:
    waiting: Any = plan(5)
    assert inspect.iscoroutine(waiting)
    assert waiting.__qualname__ == "plan"
    assert name() is None
    assert await waiting == "plan"
    assert ended() == [("plan", "completed", 5)]
    with pytest.raises(StepBudgetExceeded):
        await asyncio.create_task(plan(11))
    assert ended() == [("plan", "failed", 11)]


async def test_such_steps_side_by_side_belong_to_the_step_around_them() -> None:
    async with step("outer"):
        assert await asyncio.gather(plan(1), plan(2), plan(3)) == ["plan"] * 3
        assert name() == "outer"
    assert ended()[-1] == ("outer", "completed", 6)


async def test_hooks_after_the_step_are_given_what_the_coroutine_returned() -> None:
    seen: list[Any] = []

    @hook("PostStep")
    def look(event: Any) -> None:
        seen.append(event["output"])

    await plan(1)
    assert seen == ["plan"]


async def test_what_is_never_begun_ends_its_step_as_cancelled() -> None:
    @step("parts")
    @others
    def parts() -> Generator[int, None, None]:
        yield 1

    @step("pages")
    @others
    async def pages() -> AsyncGenerator[int, None]:
        yield 1

    waiting = plan(1)
    waiting.close()
    del waiting
    parts()
    pages()
    gc.collect()
    assert ended() == [("plan", "cancelled", 0), ("parts", "cancelled", 0), ("pages", "cancelled", 0)]


async def test_what_is_dropped_in_the_middle_cleans_up_inside_its_step() -> None:
    seen: list[str | None] = []

    @step("parts")
    @others
    def parts() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            seen.append(name())

    half = parts()
    next(half)
    del half
    gc.collect()
    assert seen == ["parts"]
    assert ended() == [("parts", "cancelled", 0)]


async def test_a_fallback_stands_for_what_the_coroutine_would_have_returned() -> None:
    @step("plan", max_tokens=10, error_boundary="continue", fallback="short")
    @others
    async def stopped() -> str:
        record_llm_usage("M", 11, 0, 0.0)
        return "long"

    assert await stopped() == "short"


async def test_decorated_generators_are_generators_of_one_step() -> None:
    @step("parts")
    @others
    def parts() -> Generator[str | None, None, None]:
        yield name()
        record_llm_usage("M", 1, 0, 0.0)
        yield name()

    @step("pages")
    @others
    async def pages() -> AsyncGenerator[str | None, None]:
        yield name()
        record_llm_usage("M", 1, 0, 0.0)
        yield name()

    assert list(parts()) == ["parts", "parts"]
    assert [page async for page in pages()] == ["pages", "pages"]
    assert ended() == [("parts", "completed", 1), ("pages", "completed", 1)]


def test_a_generator_that_is_a_plain_functions_value_stays_as_it_is() -> None:
    @step("stream")
    def stream() -> Iterator[int]:
        return (n for n in range(2))

    @step("opened")
    @contextlib.contextmanager
    def opened() -> Iterator[int]:
        yield 1

    numbers = stream()
    assert ended() == [("stream", "completed", 0)]
    assert list(numbers) == [0, 1]
    with opened() as value:
        assert value == 1


async def test_a_generator_that_is_awaited_is_a_coroutine_function() -> None:
    @step("old")
    @types.coroutine
    def old() -> Generator[Any, Any, str | None]:
        yield from asyncio.sleep(0).__await__()
        return name()

    assert await old() == "old"
    assert ended() == [("old", "completed", 0)]
