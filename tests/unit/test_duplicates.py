"""A call told twice counts once, and two calls count twice."""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_steps.telemetry.duplicates import GENERATION, GENERATION_IDS, HAND, CountedCall, DuplicateFinder, Verdict
from otel_steps.usage import Usage

if TYPE_CHECKING:
    from otel_steps.runtime.scope import Scope

MS = 1_000_000
_ids = itertools.count(1)


def told(
    scope: str,
    start: int = 0,
    end: int = 100,
    tokens: tuple[int, int] | None = (10, 5),
    *,
    parent: int | None = 1_000_000,
    span: int = 0,
    response_id: str | None = None,
    cached: tuple[int, int] = (0, 0),
    late: bool = False,
    models: tuple[str | None, ...] = (),
    embeds: bool = False,
    where: Scope | None = None,
) -> CountedCall:
    usage = None
    if tokens is not None:
        usage = Usage("m", tokens[0], tokens[1], cache_read_tokens=cached[0], cache_write_tokens=cached[1])
    return CountedCall(
        scope, span or next(_ids), parent, start * MS, end * MS, usage, response_id, late, models, embeds, where
    )


def judge(*reports: CountedCall) -> list[str]:
    finder = DuplicateFinder()
    return [finder.judge(report).value for report in reports]


def test_siblings_of_two_scopes_are_one_call() -> None:
    assert judge(told("a"), told("b", 5, 95)) == ["count", "discard"]


def test_three_scopes_are_one_call() -> None:
    assert judge(told("a"), told("b"), told("c")) == ["count", "discard", "discard"]


def test_one_scope_never_repeats_itself() -> None:
    assert judge(told("a"), told("a"), told("a")) == ["count"] * 3


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nested_spans_are_one_call_in_either_order(order: tuple[int, int]) -> None:
    outer, inner = told("framework", 0, 100, span=7001), told("sdk", 90, 99, parent=7001)
    assert judge(*((outer, inner)[i] for i in order)) == ["count", "discard"]


def test_three_nested_scopes_are_one_call_though_the_middle_was_discarded() -> None:
    reports = [
        told("sdk", 40, 60, parent=7102, span=7103),
        told("framework", 10, 90, parent=7101, span=7102),
        told("wrapper", 0, 4000, span=7101, parent=None),
    ]
    assert judge(*reports) == ["count", "discard", "discard"]


def test_parallel_equal_prompts_told_by_two_scopes_are_as_many_as_there_were() -> None:
    verdicts = judge(*(told(scope, 0, 100) for scope in ("a", "a", "a", "b", "b", "b")))
    assert Counter(verdicts) == {"count": 3, "discard": 3}


def test_other_input_or_too_little_overlap_is_another_call() -> None:
    assert judge(told("a"), told("b", tokens=(11, 5))) == ["count", "count"]
    assert judge(told("a", 0, 100), told("b", 60, 160)) == ["count", "count"]
    assert judge(told("a", 0, 100), told("b", 50, 150)) == ["count", "discard"]


def test_input_is_equal_also_with_cached_tokens_added() -> None:
    assert judge(told("a", tokens=(100, 5)), told("b", tokens=(60, 5), cached=(30, 10))) == ["count", "discard"]
    assert judge(told("b", tokens=(60, 5), cached=(30, 10)), told("a", tokens=(100, 5))) == ["count", "discard"]


def test_the_same_response_id_is_the_same_call_whoever_tells_it() -> None:
    for scope in ("a", "b"):
        again = told(scope, 900, 950, (1, 1), response_id="chatcmpl-CmXqT3nPz7kR")
        assert judge(told("a", response_id="chatcmpl-CmXqT3nPz7kR"), again) == ["count", "discard"]
    by_hand = CountedCall(HAND, usage=Usage("m", 10, 5), response_id="chatcmpl-y")
    assert judge(by_hand, told("a", response_id="chatcmpl-y")) == ["count", "discard"]
    assert judge(told("a", response_id="chatcmpl-y"), by_hand) == ["count", "discard"]


def test_hand_reports_without_an_id_are_calls_of_their_own() -> None:
    assert (
        judge(CountedCall(HAND, usage=Usage("m", 10, 5)), CountedCall(HAND, usage=Usage("m", 10, 5)), told("a"))
        == ["count"] * 3
    )


def test_different_response_ids_of_one_kind_are_different_calls() -> None:
    assert judge(told("a", response_id="msg_1"), told("b", response_id="msg_2")) == ["count", "count"]
    # a gateway's own id beside the provider's
    assert judge(told("a", response_id="msg_1"), told("b", response_id="chatcmpl-2")) == ["count", "discard"]


@pytest.mark.parametrize("weak", ["chatcmpl-17", "chatcmpl-test", "msg_1", "cmpl-0", "resp-mock", "7"])
def test_short_ids_repeat_by_chance(weak: str) -> None:
    one, two = told("a", 0, 9, (10, 5), response_id=weak), told("a", 50, 60, (90, 3), response_id=weak)
    assert judge(one, two) == ["count", "count"]
    again = told("b", 1, 9, (10, 5), response_id=weak)
    assert judge(one, again) == ["count", "discard"]


def test_two_local_servers_that_count_their_answers_alike_are_two() -> None:
    one, two = told("a", 0, 9, (10, 5), response_id="chatcmpl-1"), told("b", 50, 60, (90, 3), response_id="chatcmpl-1")
    assert judge(one, two) == ["count", "count"]
    one = told("a", response_id="1", models=("gpt-4o",))
    assert judge(one, told("b", response_id="1", models=("claude-sonnet-4-5",))) == ["count", "count"]
    by_hand = CountedCall(HAND, usage=Usage("m", 90, 3), response_id="1")
    assert judge(one, by_hand) == ["count", "discard"]  # whoever writes an id by hand means it


def test_a_second_span_of_the_same_scope_around_the_call_repeats_it() -> None:
    inner, outer = told("adk", 10, 90, parent=7201), told("adk", 0, 100, span=7201)
    assert judge(inner, outer) == ["count", "discard"]
    inner, outer = told("adk", 10, 90, (10, 5), parent=7202), told("adk", 0, 100, (10, 50), span=7202)
    assert judge(inner, outer) == ["count", "count"]


def test_a_parent_that_sums_its_children_repeats_them() -> None:
    children = [told("sdk", 10, 40, (10, 5), parent=7301), told("sdk", 50, 90, (12, 7), parent=7301)]
    assert judge(*children, told("framework", 0, 100, (22, 12), span=7301)) == ["count", "count", "discard"]


def test_a_failed_attempt_that_was_billed_counts_and_the_retry_too() -> None:
    attempts = [told("sdk", 0, 40, (10, 5), parent=7401), told("sdk", 50, 90, (10, 6), parent=7401)]
    assert judge(*attempts, told("framework", 0, 100, (10, 6), span=7401)) == ["count", "count", "discard"]


def test_a_parent_completes_the_call_that_its_child_told_without_usage() -> None:
    assert judge(told("sdk", 5, 90, None, parent=7501), told("framework", 0, 100, span=7501)) == ["count", "complete"]
    # of a failed attempt and a good one, the parent repeats the good one
    attempts = [told("sdk", 0, 10, None, parent=7502), told("sdk", 20, 90, parent=7502)]
    assert judge(*attempts, told("framework", 0, 100, span=7502)) == ["count", "count", "discard"]


def test_a_failure_told_by_two_scopes_is_one_call_without_usage() -> None:
    assert judge(told("sdk", 5, 90, None, parent=7601), told("framework", 0, 100, None, span=7601)) == [
        "count",
        "discard",
    ]
    assert judge(told("a", 0, 100, None), told("b", 0, 100, None)) == ["count", "discard"]


def test_a_stream_told_as_a_request_and_then_a_log_span_is_one_call() -> None:
    request, log = told("logfire.openai", 0, 1, None), told("logfire.openai", 1, 50, late=True)
    assert judge(request, log) == ["count", "complete"]
    without = told("logfire.openai", 1, 50, None, late=True)
    assert judge(request, without) == ["count", "discard"]
    assert judge(log) == ["count"]


def test_a_stream_told_by_another_scope_too_is_still_one_call_in_any_order() -> None:
    for order in itertools.permutations(range(2)):
        request = told("logfire.openai", 0, 1, None, span=7701)
        others = [told("logfire.openai", 1, 50, late=True), told("sdk", 0, 50, parent=7701)]
        assert sorted(judge(request, *(others[i] for i in order))) == ["complete", "count", "discard"]


def test_parallel_streams_are_as_many_calls_as_requests() -> None:
    requests = [told("logfire.openai", 0, 1, None) for _ in range(3)]
    logs = [told("logfire.openai", 1, 50, late=True) for _ in range(3)]
    assert Counter(judge(*requests, *logs)) == {"count": 3, "complete": 3}


def test_a_report_without_length_may_come_a_moment_after_the_call() -> None:
    assert judge(told("sdk", 0, 50), told("logger", 60, 60)) == ["count", "discard"]
    assert judge(told("sdk", 0, 50), told("logger", 5000, 5000)) == ["count", "count"]


def test_memory_stays_bounded_and_a_forgotten_call_is_still_known_by_its_id() -> None:
    finder = DuplicateFinder()
    for n in range(GENERATION * 5):
        assert finder.judge(told("a", n, n + 1, (n, 1), response_id=f"chatcmpl-n{n}")) is Verdict.COUNT
    for memory in (finder._new, finder._old):
        assert memory.size <= GENERATION
        assert len(memory.spans) <= GENERATION
        assert sum(map(len, memory.children.values())) <= GENERATION
        assert len(memory.alike) <= GENERATION
    assert len(finder._ids) + len(finder._old_ids) <= 2 * GENERATION_IDS
    assert finder.judge(told("b", response_id="chatcmpl-n0")) is Verdict.DISCARD


def test_the_hundred_thousandth_call_costs_what_the_first_ones_did() -> None:
    finder = DuplicateFinder()

    def per_call(count: int, first: int) -> float:
        reports = [
            told(scope, first + n * 10, first + n * 10 + 9) for n in range(count // 2) for scope in ("framework", "sdk")
        ]
        gc.disable()
        try:
            started = time.thread_time()
            for report in reports:
                finder.judge(report)
            return (time.thread_time() - started) / count
        finally:
            gc.enable()

    # of many short rounds the quickest is the one that nothing else on the machine has slowed
    rounds = [per_call(1_000, index * 10_000) for index in range(100)]
    assert min(rounds[50:]) < 1.3 * min(rounds[10:50])


def test_threads_count_each_call_once() -> None:
    finder = DuplicateFinder()
    verdicts: Counter[Verdict] = Counter()
    lock = threading.Lock()

    def work(scope: str) -> None:
        mine = Counter(finder.judge(told(scope, n * 10, n * 10 + 9, response_id=f"resp_{n}")) for n in range(500))
        with lock:
            verdicts.update(mine)

    threads = [threading.Thread(target=work, args=(scope,)) for scope in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {Verdict.COUNT: 500, Verdict.DISCARD: 1000}


def test_equal_calls_at_once_are_all_counted_though_spans_inside_end_before_those_around_them() -> None:
    finder = DuplicateFinder()
    wrappers = {span: told("framework", 0, 10, (100, 0), parent=42, span=span) for span in (10, 20, 30, 40, 50)}
    clients = {span + 1: told("client", 0, 10, (100, 0), parent=span, span=span + 1) for span in wrappers}
    reports = wrappers | clients
    order = (10, 11, 30, 41, 50, 51, 31, 40, 20, 21)  # 41 is told before its own wrapper, and taken for 30's
    verdicts = Counter(finder.judge(reports[span]) for span in order)
    assert verdicts == {Verdict.COUNT: 5, Verdict.DISCARD: 5}


@pytest.mark.parametrize("outer_first", [False, True])
def test_a_scope_that_tells_a_call_twice_around_another_scope_is_one_call(outer_first: bool) -> None:
    finder = DuplicateFinder()
    reports = [
        told("framework", 1, 9, (100, 5), parent=11, span=12),
        told("client", 1, 9, (100, 5), parent=10, span=11),
        told("framework", 0, 10, (100, 5), parent=42, span=10),
    ]
    verdicts = [finder.judge(report) for report in (reversed(reports) if outer_first else reports)]
    assert verdicts == [Verdict.COUNT, Verdict.DISCARD, Verdict.DISCARD]


@dataclass(frozen=True)
class TrueCall:
    start: int
    length: int
    inputs: int
    outputs: int
    cached: int


@st.composite
def calls_and_reports(draw: st.DrawFn) -> tuple[int, list[CountedCall]]:
    """True calls, each told by the same one to three scopes, nested or as siblings, in any order that time allows."""
    scopes = draw(st.integers(1, 3))
    nested = draw(st.booleans())
    with_ids = draw(st.booleans())
    calls = draw(
        st.lists(
            st.builds(
                TrueCall,
                start=st.integers(0, 3_000),
                length=st.integers(10, 500),
                inputs=st.integers(1, 4),
                outputs=st.integers(0, 3),
                cached=st.integers(0, 2),
            ),
            min_size=1,
            max_size=8,
        )
    )
    reports: list[tuple[float, CountedCall]] = []
    for number, call in enumerate(calls):
        outer: int | None = 42
        for scope in range(scopes):
            # a wrapper starts a little earlier and ends a little later than what it wraps
            margin = (scopes - 1 - scope) * draw(st.integers(0, 1)) if nested else draw(st.integers(0, 1))
            span = next(_ids)
            exclusive = call.cached > 0 and scope == 1
            report = told(
                f"scope{scope}",
                call.start - margin,
                call.start + call.length + margin,
                (call.inputs * 100 - (call.cached if exclusive else 0), call.outputs),
                parent=outer,
                span=span,
                cached=(call.cached, 0),
                response_id=f"chatcmpl-call{number}" if with_ids else None,
            )
            reports.append((report.end_ns + draw(st.floats(0, 0.5)), report))
            if nested:
                outer = span
    reports.sort(key=lambda pair: pair[0])
    return len(calls), [report for _, report in reports]


@settings(max_examples=400, deadline=None)
@given(calls_and_reports())
def test_the_count_is_the_truth(case: tuple[int, list[CountedCall]]) -> None:
    truth, reports = case
    finder = DuplicateFinder()
    assert Counter(finder.judge(report) for report in reports)[Verdict.COUNT] == truth


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 3)), max_size=20))
def test_calls_of_one_scope_are_never_fewer_than_told(spans: list[tuple[int, int, int]]) -> None:
    finder = DuplicateFinder()
    assert all(
        finder.judge(told("only", start, start + length, (tokens, tokens))) is Verdict.COUNT
        for start, length, tokens in spans
    )
