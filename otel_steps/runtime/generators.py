"""A scope around a generator: current only while its body runs, open from the first `next` to its end."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from .asking import drive, drive_async
from .boundary import judge_raise, judge_return
from .context import activate, deactivate, reactivate
from .kinds import unwatched
from .leaving import end, end_async, fallback_value, post_step
from .state import runtime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from .plan import Plan


def around_generator(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    """A generator function that runs `function`'s generator inside the scope of `plan`."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        rt = runtime()
        admission = plan.admission(rt)
        if admission is None:
            scope = plan.open(rt)
        else:
            scope, args, kwargs = drive(admission(args, kwargs))
        place = activate(scope)
        try:
            inner = function(*args, **kwargs)
            resume, value = inner.send, None
            while True:
                try:
                    item = resume(value)
                except StopIteration as done:
                    result = done.value
                    break
                deactivate(scope, place)  # what the body left current, an inner step or span too, waits in the scope
                try:
                    value = yield item
                    resume = inner.send
                except GeneratorExit:
                    reactivate(scope, place)
                    inner.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in from outside: the body's to handle
                    resume, value = inner.throw, error
                reactivate(scope, place)
            if rt.hooks.any("PostStep"):
                result = drive(post_step(rt, scope, result, args, kwargs))
        except BaseException as error:  # stops and cancellations too: the boundary says what becomes of them
            verdict = judge_raise(scope, error)
            end(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error from error
            if not verdict.skip:
                raise
        else:
            verdict = judge_return(rt, scope, result)
            end(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error
            if not verdict.skip:
                return result
        return fallback_value(plan.fallback, verdict.stopped)

    return wrapper


def around_async_generator(function: Callable[..., Any], plan: Plan) -> Callable[..., Any]:
    """An async generator function that runs `function`'s generator inside the scope of `plan`."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        rt = runtime()
        admission = plan.admission(rt)
        if admission is None:
            scope = plan.open(rt)
        else:
            scope, args, kwargs = await drive_async(admission(args, kwargs))
        place = activate(scope)
        try:
            inner = function(*args, **kwargs)
            resume, value = unwatched(inner), None
            while True:
                try:
                    item = await resume(value)
                except StopAsyncIteration:
                    break
                deactivate(scope, place)  # what the body left current, an inner step or span too, waits in the scope
                try:
                    value = yield item
                    resume = inner.asend
                except GeneratorExit:
                    reactivate(scope, place)
                    await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in from outside: the body's to handle
                    resume, value = inner.athrow, error
                reactivate(scope, place)
            if rt.hooks.any("PostStep"):
                await drive_async(post_step(rt, scope, None, args, kwargs))
        except BaseException as error:  # stops and cancellations too: the boundary says what becomes of them
            verdict = judge_raise(scope, error)
            await end_async(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error from error
            if not verdict.skip:
                raise
        else:
            verdict = judge_return(rt, scope, None)
            await end_async(rt, scope, place, verdict)
            if verdict.error is not None:
                raise verdict.error
            if not verdict.skip:
                return
        told = fallback_value(plan.fallback, verdict.stopped)  # an async generator has no value to give back
        if inspect.isawaitable(told):
            await told

    return wrapper
