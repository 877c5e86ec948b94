"""Callers elsewhere: how one is named, found, put under, and what goes back to it."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_steps import (
    StepBudgetExceeded,
    carry,
    current_step,
    drain_completed_steps,
    persona,
    record_llm_usage,
    run,
    step,
    suspended,
)
from otel_steps.runtime import remote, returned
from otel_steps.runtime.remote import Caller, Under, caller_here, caller_to_tell, enter_call, leave_call, read_entry
from otel_steps.runtime.returned import Returned, answer_to, from_header, take_back, to_header, totals_of
from otel_steps.runtime.state import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

RUN, STEP = "0" * 31 + "1", "0" * 31 + "2"
SPAN = SpanContext(0xA, 0xB, True, TraceFlags(1))


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """The context of this test alone."""
    before = otel_context.get_current()
    yield
    otel_context.attach(before)


def with_entry(value: object) -> None:
    otel_context.attach(baggage.set_baggage("otel_steps", value))


@given(st.none() | st.just(RUN), st.none() | st.just(STEP))
def test_an_entry_names_what_it_was_written_for(run_id: str | None, receipt_id: str | None) -> None:
    found = read_entry(Caller(run_id, receipt_id).entry)
    if run_id is None and receipt_id is None:
        assert found is None
    else:
        assert found is not None
        assert (found.run_id, found.receipt_id) == (run_id, receipt_id)


@given(st.text() | st.binary() | st.none() | st.from_regex(r"[12]-[0-9a-g]{0,40}-[0-9a-f]{0,40}", fullmatch=True))
def test_no_value_of_an_entry_is_an_error(value: object) -> None:
    found = read_entry(value)
    if found is not None:
        assert found.entry == value


@pytest.mark.parametrize("kind", ["step", "persona", "run"])
def test_the_outermost_scope_hangs_under_the_caller_in_the_baggage(kind: str) -> None:
    with_entry(f"1-{RUN}-{STEP}")
    around: Any = {"step": lambda: step("a"), "persona": lambda: persona("p"), "run": lambda: run("r")}[kind]()
    with around as outermost, step("b"), step("c"):
        pass
    c, b, *rest = drain_completed_steps()
    own_run = outermost.run_id if kind == "run" else RUN
    assert (c.run_id, b.run_id, c.parent_receipt_id) == (own_run, own_run, b.receipt_id)
    assert b.parent_receipt_id == (rest[0].receipt_id if rest else STEP)
    assert [(record.parent_receipt_id, record.run_id) for record in rest] == [(STEP, RUN)][: len(rest)]


def test_what_is_no_entry_is_ignored_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with_entry("x" * 1000)
    for _ in range(2):
        with step("a"):
            pass
    assert [record.parent_receipt_id for record in drain_completed_steps()] == [None, None]
    assert [record.message for record in caplog.records] == [
        "a baggage entry `otel_steps` that names no step was ignored"
    ]


def test_a_context_without_our_entry_names_nobody() -> None:
    otel_context.attach(baggage.set_baggage("tenant", "7"))
    assert caller_here(runtime()) is None
    assert caller_to_tell(runtime()) is None


def test_without_the_baggage_module_there_is_no_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    with_entry(f"1-{RUN}-{STEP}")
    monkeypatch.delitem(remote.sys.modules, "opentelemetry.baggage")
    assert caller_here(runtime()) is None


def test_inside_a_step_the_entry_is_not_in_the_context_any_more(spans: InMemorySpanExporter) -> None:
    with_entry(f"1-{RUN}-{STEP}")
    otel_context.attach(baggage.set_baggage("tenant", "7"))
    with step("a"):
        assert baggage.get_all() == {"tenant": "7"}
    assert len(spans.get_finished_spans()) == 1


def test_the_callers_span_is_the_parent_where_none_is_current(spans: InMemorySpanExporter) -> None:
    with Under(Caller(RUN, STEP, SPAN)):
        assert trace.get_current_span().get_span_context() == SPAN
        with step("a"):
            pass
    before = enter_call(Caller(RUN, STEP, SPAN))
    with step("b"):
        pass
    other = SpanContext(0xC, 0xD, False, TraceFlags(1))
    otel_context.attach(trace.set_span_in_context(NonRecordingSpan(other)))
    with step("c"):
        pass
    leave_call(before)
    parents = [span.parent.span_id if span.parent else None for span in spans.get_finished_spans()]
    assert parents == [0xB, 0xB, 0xD]
    assert {record.parent_receipt_id for record in drain_completed_steps()} == {STEP}


def test_without_an_sdk_a_step_under_a_caller_has_no_span_of_its_own() -> None:
    runtime().tracer_provider = trace.NoOpTracerProvider()
    with Under(Caller(RUN, STEP, SPAN)), step("a"):
        pass
    (record,) = drain_completed_steps()
    assert (record.parent_receipt_id, record.span_id) == (STEP, None)


def test_under_nobody_nothing_is_different() -> None:
    before = otel_context.get_current()
    with Under(None):
        assert otel_context.get_current() is before
        with step("a"):
            pass
    assert drain_completed_steps()[0].parent_receipt_id is None


def test_leaving_a_call_puts_back_only_what_is_still_its_own() -> None:
    outer, inner = Under(Caller(RUN, STEP, SPAN)), Under(Caller(None, STEP, SPAN))
    outer.__enter__()
    inner.__enter__()
    theirs = otel_context.set_value("theirs", 1)
    otel_context.attach(theirs)
    outer.__exit__(None, None, None)  # out of order
    assert otel_context.get_current() is theirs
    known = caller_here(runtime())
    assert known is not None
    assert known.run_id is None
    leave_call(None)


def test_where_the_scopes_are_left_nobody_called() -> None:
    before = enter_call(Caller(RUN, STEP))
    with suspended(), step("a"):
        assert caller_to_tell(runtime()) is not None  # the step itself
    with suspended():
        assert caller_to_tell(runtime()) is None
    leave_call(before)
    assert drain_completed_steps()[0].parent_receipt_id is None


def test_what_is_told_to_services_called_from_here(spans: InMemorySpanExporter) -> None:
    def told() -> tuple[str | None, str | None, int | None] | None:
        caller = caller_to_tell(runtime())
        if caller is None:
            return None
        return caller.run_id, caller.receipt_id, None if caller.span is None else caller.span.span_id

    assert told() is None
    with persona("p"):
        assert told() is None  # no step and no run to hang under
    with run("r") as r:
        known = told()
        assert known is not None
        assert known[:2] == (r.run_id, None)
        with step("a") as a:
            span = trace.get_current_span().get_span_context()
            assert told() == (r.run_id, a.receipt_id, span.span_id)
    before = enter_call(Caller(RUN, STEP, SPAN))
    assert told() == (RUN, STEP, SPAN.span_id)
    with persona("p"):
        assert told() == (RUN, STEP, trace.get_current_span().get_span_context().span_id)
    other = SpanContext(0xC, 0xD, False, TraceFlags(1))
    otel_context.attach(trace.set_span_in_context(NonRecordingSpan(other)))
    assert told() == (RUN, STEP, 0xD)
    leave_call(before)


def test_a_caller_goes_to_another_process_by_its_ids() -> None:
    for span in (None, SPAN, SpanContext(0xA, 0xB, False, TraceFlags(1))):
        caller = pickle.loads(pickle.dumps(Caller(RUN, STEP, span)))
        assert (caller.run_id, caller.receipt_id) == (RUN, STEP)
        assert caller.span == (None if span is None else SPAN)


def where() -> tuple[str | None, list[str | None]]:
    active = current_step()
    with step("inner"):
        pass
    return None if active is None else active.name, [record.parent_receipt_id for record in drain_completed_steps()]


class Worker:
    work = carry(lambda self: type(self).__name__)


def test_a_carried_function_goes_by_value_to_a_thread_and_by_ids_to_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with step("a") as a:
        bound = carry(where)
        sent = pickle.loads(pickle.dumps(bound))
    drain_completed_steps()
    with suspended():
        assert pickle.loads(pickle.dumps(carry(where)))()[1] == [None]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(sent()))
    thread.start()
    thread.join()
    assert found == [(None, [a.receipt_id])]
    assert bound()[1] == [None]  # its step has ended: here nothing is around
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert bound()[1] == [a.receipt_id]  # as in a forked child
    assert bound.__name__ == "where"


def test_a_carried_function_that_is_handed_on_keeps_its_caller() -> None:
    before = enter_call(Caller(RUN, STEP))
    sent = pickle.loads(pickle.dumps(carry(where)))
    leave_call(before)
    assert sent()[1] == [STEP]


def test_a_carried_function_is_a_method_too() -> None:
    assert Worker().work() == "Worker"
    assert callable(Worker.work)


# --- what comes back -------------------------------------------------------------------------------------------------


def returned_items(caller: Caller) -> list[tuple[int, ...]]:
    return [tuple(item[2:]) for item in answer_to(runtime(), caller)]


def test_what_was_spent_for_a_caller() -> None:
    caller = Caller(RUN, STEP)
    assert answer_to(runtime(), caller) == []
    with Under(caller):
        with step("a"):
            record_llm_usage("m", 10, 5, 0.001)
            with step("b"):
                record_llm_usage("m", 1, 0, 0.002)
        with persona("p"):
            record_llm_usage("m", 3, 0, None)  # outside any step, and nobody knows its price
            record_llm_usage("m", 4, 0, 0.004)
    assert returned_items(caller) == [(2, 11, 5, 3_000_000, 0), (2, 7, 0, 4_000_000, 1)]


def test_calls_that_came_back_here_go_on_to_the_caller() -> None:
    caller = Caller(RUN, STEP)
    with Under(caller), run("r"):
        scope: Any = remote.current_scope()
        take_back(runtime(), scope, [Returned(STEP, 1, 2, 3, 4, 5, 1)], by_hand=True)
    caller.finished(Returned(RUN, 1, 1, 1, 1, 1))
    assert returned_items(caller) == [(1, 1, 1, 1, 0), (2, 3, 4, 5, 0)]


def test_many_steps_are_told_as_one_from_a_bound_on(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller(RUN, STEP)
    for number in range(100):
        caller.finished(Returned(f"{number:032x}", 1, 1, 2, 3, 4))
    items = answer_to(runtime(), caller)
    assert len(items) == returned.ITEMS_MAX
    assert [sum(column) for column in zip(*(item[2:] for item in items), strict=True)] == [100, 200, 300, 400, 0]
    assert from_header(to_header(items)) == items
    monkeypatch.setattr(remote, "FINISHED_MAX", 10)
    for number in range(200):
        caller.finished(Returned(f"{number:032x}"))
    assert len(caller.receipts) <= 100


AMOUNTS = st.integers(0, 2**63 - 1)


@given(st.lists(st.builds(Returned, st.just(STEP), *[AMOUNTS] * 6), max_size=returned.ITEMS_MAX))
def test_a_header_tells_what_was_written(items: list[Returned]) -> None:
    assert from_header(to_header(items)) == items


@given(st.text(alphabet="0123456789abcdef;,= revcalsinout_usd-.eE\x00é", max_size=200))
def test_no_header_is_an_error(text: str) -> None:
    for item in from_header(text):
        assert all(0 <= amount < 2**63 for amount in item[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{STEP}", [Returned(STEP)]),
        (f"{STEP};calls=1;later=2", [Returned(STEP, calls=1)]),
        (f"{STEP};calls=-1;in=1.5;out=1e3;nano_usd=99999999999999999999", [Returned(STEP)]),
        (f"{STEP};nano_usd=9999999999999999999", [Returned(STEP, nano_usd=2**63 - 1)]),
        (f"{STEP};calls", [Returned(STEP)]),
        ("nothing, ;, ,", []),
        (f"{STEP.upper()[:-1]}G", []),
    ],
)
def test_what_is_not_well_formed_is_left_out(text: str, expected: list[Returned]) -> None:
    assert from_header(text) == expected


def test_totals_that_come_back_are_inclusive_ones_and_counted_once() -> None:
    with run("r") as r, step("a"), step("own", inclusive=False, max_tokens=1):
        scope: Any = remote.current_scope()
        for _ in range(2):
            take_back(runtime(), scope, [Returned(STEP, 1, 2, 30, 10, 1000)], by_hand=True)
        take_back(runtime(), scope, [Returned(STEP, 2, 3, 31, 10, 900)], by_hand=True)  # amended: one call more
        take_back(runtime(), scope, [Returned(STEP, 3, 3, 31, 10, 900), Returned(RUN)], by_hand=True)
    own, a = drain_completed_steps()
    assert (own.status, own.llm_calls, own.input_tokens, own.model) == ("completed", 0, 0, None)
    for record in (own, a):
        assert (record.total_llm_calls, record.total_input_tokens, record.total_output_tokens) == (3, 31, 10)
        assert record.total_cost_nano_usd == 1000
    assert r.totals.llm_calls == 3


def test_receipts_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(returned, "KNOWN_MAX", 3)
    with step("a"):
        scope: Any = remote.current_scope()
        take_back(runtime(), scope, [Returned(f"{number:032x}", calls=1) for number in range(5)], by_hand=True)
    assert list(runtime().returned) == [f"{number:032x}" for number in range(2, 5)]


@pytest.mark.parametrize("allowed", [False, True])
def test_calls_of_unknown_price_elsewhere_break_a_dollar_limit(allowed: bool) -> None:
    def spend() -> None:
        with step("a", max_usd=1, unpriced="allow" if allowed else None):
            scope: Any = remote.current_scope()
            take_back(runtime(), scope, [Returned(STEP, 1, 1, 1, 1, 0, 1)], by_hand=True)

    if allowed:
        spend()
    else:
        with pytest.raises(StepBudgetExceeded, match="elsewhere"):
            spend()


def test_what_comes_back_after_a_step_closed_amends_its_receipt() -> None:
    with step("a"):
        scope: Any = remote.current_scope()
    take_back(runtime(), scope, [Returned(STEP, 1, 1, 10, 0, 5)], by_hand=False)
    first, second = drain_completed_steps()
    assert (first.revision, second.revision, second.total_llm_calls, second.llm_calls) == (1, 2, 1, 0)


def test_what_is_told_of_a_receipt_is_inclusive() -> None:
    with step("a"), step("b"):
        record_llm_usage("m", 1, 2, 0.001)
    _, a = drain_completed_steps()
    assert totals_of(a) == Returned(a.receipt_id, 1, 1, 1, 2, 1_000_000)
