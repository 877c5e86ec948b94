"""Tasks, threads and processes: one meter for all branches, nothing lost, nothing inherited by a child."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_steps import (
    StepBudgetExceeded,
    carry,
    current_persona,
    current_policy,
    current_step,
    default_model,
    drain_completed_steps,
    peek_completed_steps,
    persona,
    record_llm_usage,
    run,
    step,
)
from otel_steps.runtime import meter
from otel_steps.runtime.state import runtime

if TYPE_CHECKING:
    from collections.abc import Callable


def spend(tokens: int = 1) -> None:
    record_llm_usage("M", tokens, 0, 0.0)


# --- branches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_branches_of_tasks_and_threads_share_one_meter(backend: str) -> None:
    async def branch(depth: int) -> None:
        async with step(f"branch {depth}"):
            await anyio.sleep(0)
            spend()
            await anyio.to_thread.run_sync(spend)
            if depth:
                async with anyio.create_task_group() as group:
                    group.start_soon(branch, depth - 1)
                    group.start_soon(branch, depth - 1)

    async def main() -> None:
        async with run("all", max_tokens=1000) as active:
            await branch(4)
            assert active.totals.llm_calls == 62

    anyio.run(main, backend=backend)
    records = drain_completed_steps()
    assert sum(record.input_tokens for record in records) == 62
    by_name = {record.name: record.total_input_tokens for record in records}
    assert by_name == {f"branch {depth}": 2 * (2 ** (depth + 1) - 1) for depth in range(5)}


async def test_gather_in_one_step_keeps_the_steps_of_its_branches_apart() -> None:
    async def branch(index: int) -> None:
        async with step(f"branch {index}") as active:
            for _ in range(index):
                await asyncio.sleep(0)
                spend()
                assert current_step() is active

    async with step("all") as around:
        await asyncio.gather(*(branch(index) for index in range(20)))
        assert current_step() is around
    records = drain_completed_steps()
    assert {record.name: record.input_tokens for record in records if record.name != "all"} == {
        f"branch {index}": index for index in range(20)
    }
    assert records[-1].total_input_tokens == sum(range(20))
    assert {record.parent_receipt_id for record in records[:-1]} == {records[-1].receipt_id}


def test_first_children_opened_by_many_threads_at_once_are_all_closed_with_their_parent() -> None:
    for _ in range(50):
        outer = step("outer")
        outer.__enter__()
        start = threading.Barrier(4)

        def open_one(start: threading.Barrier = start) -> None:
            start.wait()
            step("left open").__enter__()

        threads = [threading.Thread(target=carry(open_one)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outer.__exit__(None, None, None)
        assert [record.status for record in drain_completed_steps()] == ["cancelled"] * 4 + ["completed"]


def test_a_limit_that_breaks_while_its_scope_is_left_leaves_nothing_behind() -> None:
    class Gate:
        def __init__(self) -> None:
            self.inside: set[Any] = set()

        def limit_broke(self, owner: Any) -> None:
            self.inside.add(owner)

        def scope_left(self, owner: Any) -> None:
            self.inside.discard(owner)

    gate = runtime().gate = Gate()
    with ThreadPoolExecutor(3) as pool:
        for _ in range(300):
            try:
                with step("plan", max_tokens=1):
                    futures = [pool.submit(carry(spend), 2) for _ in range(2)]
            except StepBudgetExceeded:
                pass
            for future in futures:
                future.exception()
    assert gate.inside == set()
    assert runtime().broken == {}


async def test_cancellation_from_outside_stays_a_cancellation() -> None:
    inside = asyncio.Event()

    async def main() -> None:
        async with run("all"), step("plan", max_tokens=10, error_boundary="continue"):
            inside.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(main())
    await inside.wait()
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert drain_completed_steps()[0].status == "cancelled"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), step("slow"):
            await asyncio.sleep(3600)
    assert drain_completed_steps()[0].status == "cancelled"


# --- processes -------------------------------------------------------------------------------------------------------


def in_child() -> dict[str, Any]:
    """What a child process finds, and whether steps of its own work there."""
    found: dict[str, Any] = {
        "current": [current_step() is None, current_persona(), default_model(), current_policy()],
        "records": len(peek_completed_steps()),
        "left": [len(runtime().span_scopes), len(runtime().broken), len(runtime().tool_spans)],
    }
    spend(1000)  # nobody's
    try:
        with step("of the child", max_tokens=10):
            spend(11)
    except StepBudgetExceeded as stopped:
        found["stopped"] = [stopped.step, stopped.scope]
    found["statuses"] = [[record.status, record.parent_receipt_id] for record in drain_completed_steps()]
    return found


EXPECTED = {
    "current": [True, None, None, None],
    "records": 0,
    "left": [0, 0, 0],
    "stopped": ["of the child", "step"],
    "statuses": [["failed", None]],
}


def tell(pipe: Any, work: Callable[[], Any]) -> None:
    pipe.send(work())
    pipe.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("traced", [False, True])
def test_a_child_process_inherits_no_open_steps(method: str, carried: bool, traced: bool) -> None:
    if traced:
        runtime().tracer_provider = TracerProvider()
    with step("before"):
        pass
    context: Any = multiprocessing.get_context(method)
    with run("all", max_tokens=100_000), persona("worker"), step("plan", model="m", max_tokens=10_000) as active:
        ours, theirs = context.Pipe()
        child = context.Process(target=tell, args=(theirs, carry(in_child) if carried else in_child))
        child.start()
        answer = ours.recv() if ours.poll(60) else None
        child.join(60)
        above = active.receipt_id if carried else None  # by its id: the step itself is not there
        assert (child.exitcode, answer) == (0, EXPECTED | {"statuses": [["failed", above]]})
        assert active.llm_calls == 0
        spend()
        assert current_step() is active
    assert [(record.name, record.status) for record in drain_completed_steps()] == [
        ("before", "completed"),
        ("plan", "completed"),
    ]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_meter_does_not_block_the_child() -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with meter.LOCK, runtime().log._lock:
            held.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(in_child()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert json.loads(pipe.read()) == EXPECTED
    release.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_that_unwinds_through_its_parents_blocks_writes_no_receipt_of_theirs() -> None:
    read, write = os.pipe()
    block = step("plan", max_tokens=10)
    with block:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                block.__exit__(None, None, None)
                os.write(write, json.dumps([record.name for record in drain_completed_steps()]).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        with os.fdopen(read) as pipe:
            assert json.loads(pipe.read()) == []
        assert os.waitpid(child, 0)[1] == 0
    assert [record.name for record in drain_completed_steps()] == ["plan"]


def budgeted(tokens: int) -> str:
    @step(max_tokens=10)
    def work() -> str:
        spend(tokens)
        return "done"

    return work()


def test_errors_of_steps_come_back_whole_from_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(budgeted, 5).result(60) == "done"
        with pytest.raises(StepBudgetExceeded) as stopped, step("around"):
            pool.submit(budgeted, 50).result(60)
    assert (stopped.value.consumed_tokens, stopped.value.step) == (50, "work")
    assert drain_completed_steps()[0].status == "failed"


_NO_SDK_CHILD = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Blocker())
import asyncio
import otel_steps as o

@o.persona("worker", daily_usd=10.0, stages=[o.Stage("plan", allowed_tools=["read"])])
async def main():
    @o.step(max_tokens=10, error_boundary="continue", fallback="less")
    async def plan():
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(call())
        return "whole"
    async def call():
        await asyncio.sleep(0)
        task = asyncio.current_task()
        o.record_llm_usage("gpt-4o-mini", 6, 0, response_id=f"chatcmpl-0123456789abcdef{id(task)}")
    assert await plan() == "less"
    @o.step
    def gen():
        yield 1
        o.emit_handoff("someone")
    assert list(gen()) == [1]
    with o.suspended():
        assert o.current_step() is None
asyncio.run(main())
assert [record.status for record in o.drain_completed_steps()] == ["skipped", "completed"]
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
print("held")
"""


def test_all_of_it_works_where_the_sdk_cannot_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _NO_SDK_CHILD], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "held", "")


def test_user_spans_in_branches_hang_under_the_step_of_their_branch() -> None:
    provider = TracerProvider()
    runtime().tracer_provider = provider
    tracer = provider.get_tracer("user")

    def work() -> tuple[int, int]:
        with tracer.start_as_current_span("mine") as mine:
            here = current_step()
            assert here is not None
            parent: Any = mine.parent  # type: ignore[attr-defined]
            return parent.span_id, parent.trace_id

    with ThreadPoolExecutor(2) as pool, step("plan"):
        span = trace.get_current_span().get_span_context()
        assert pool.submit(carry(work)).result() == (span.span_id, span.trace_id)
