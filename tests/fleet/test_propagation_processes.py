"""Steps of `carry`-bound functions in other processes hang under the step that sent them there, however it starts."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_steps import (
    StepBudgetExceeded,
    carry,
    drain_completed_steps,
    peek_completed_steps,
    propagation,
    record_llm_usage,
    run,
    step,
)
from otel_steps.runtime.state import runtime

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

METHODS = ["spawn", "fork", "forkserver"]
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def work(tokens: int) -> tuple[int, list[dict[str, Any]]]:
    """What a pool does: a step inside a step, and its receipts beside the result."""
    runtime().tracer_provider = TracerProvider()
    with step("remote"), step("inner"):
        record_llm_usage("model-x", tokens, 0, 0.01)
    return os.getpid(), propagation.receipts()


def hand_on(tokens: int) -> tuple[int, list[dict[str, Any]]]:
    """A process that starts another one, with no step of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(carry(work), tokens).result()


def tell(pipe: Any, function: Any, tokens: int) -> None:
    pipe.send(function(tokens))
    pipe.close()


@pytest.mark.parametrize("method", METHODS)
def test_steps_of_a_pool_of_processes(method: str, spans: InMemorySpanExporter) -> None:
    context: Any = multiprocessing.get_context(method)
    with run("all") as whole, step("call") as calling:
        span = trace.get_current_span().get_span_context()
        with ProcessPoolExecutor(1, context) as pool:
            bound = carry(work)
            told = list(pool.map(bound, [10, 20]))
            own, receipts = bound(5)  # here it runs under the step itself
    assert own == os.getpid()
    assert receipts == []
    for process, remote in told:
        assert process != os.getpid()
        (receipt,) = remote
        assert (receipt["parent_receipt_id"], receipt["run_id"]) == (calling.receipt_id, whole.run_id)
        assert receipt["trace_id"] == f"{span.trace_id:032x}"
    assert [record.name for record in drain_completed_steps()] == ["inner", "remote", "call"]


@pytest.mark.parametrize("method", METHODS)
def test_steps_of_a_process(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    with step("call") as calling:
        child = context.Process(target=carry(tell), args=(theirs, work, 10))
        child.start()
        theirs.close()
        _, (receipt,) = ours.recv()
        child.join(60)
        propagation.absorb(receipt)
    ours.close()
    assert receipt["parent_receipt_id"] == calling.receipt_id
    (call,) = drain_completed_steps()
    assert (call.llm_calls, call.total_llm_calls, call.total_input_tokens, call.total_cost_nano_usd) == (
        (0, 1, 10, 10_000_000)
    )


def test_two_processes_deep() -> None:
    with step("call") as calling, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        _, (receipt,) = pool.submit(carry(hand_on), 10).result()
    assert receipt["parent_receipt_id"] == calling.receipt_id


def test_a_worker_that_is_used_again_forgets_its_caller() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with step("call"):
            _, receipts = pool.submit(carry(work), 10).result()
            assert len(receipts) == 1
        assert pool.submit(work, 10).result()[1] == []
        assert pool.submit(carry(work), 10).result()[1] == []  # bound outside any step


def test_what_a_process_spent_breaks_the_limit_here() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(StepBudgetExceeded, match="max_tokens"), step("call", max_tokens=15):
            for _ in range(3):
                propagation.absorb(pool.submit(carry(work), 10).result()[1])
    assert peek_completed_steps()[-1].total_llm_calls == 2
