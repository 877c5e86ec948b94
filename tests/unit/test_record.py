"""CompletedStep: one record in log, JSON, schema and span."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_steps import (
    CapabilityPolicy,
    CompletedStep,
    Stage,
    StepBudgetExceeded,
    ToolDenied,
    completed_step_to_json,
    drain_completed_steps,
    peek_completed_steps,
    persona,
    record_llm_usage,
    run,
    step,
    tool,
)
from otel_steps.bounds import INT64_MAX
from otel_steps.record import STATUSES, json_schema, parse_rfc3339, record_attributes, rfc3339, span_attributes, to_line
from otel_steps.runtime.ledger import run_receipt_schema
from otel_steps.runtime.log import CompletedLog

SEED_KEYS = ["name", "function", "model", "input_tokens", "output_tokens", "cost_usd", "llm_calls", "status", "error"]
KEYS_OF_OURS = """
schema receipt_id revision persona run_id trace_id span_id parent_receipt_id started_at ended_at cost_nano_usd
total_input_tokens total_output_tokens total_cost_usd total_cost_nano_usd total_llm_calls cache_read_tokens
cache_write_tokens reasoning_tokens max_tokens max_usd breached error_boundary unpriced_calls unmetered_calls
invalid_costs duplicates_discarded shared_unconsulted_calls price_source tools_called tools_denied stage next_stage
"""
OUR_KEYS = KEYS_OF_OURS.split()


def one() -> CompletedStep:
    (record,) = drain_completed_steps()
    return record


def test_the_keys_in_order() -> None:
    with step("plan"):
        pass
    assert list(completed_step_to_json(one())) == [*SEED_KEYS, *OUR_KEYS]


def test_a_record_told_in_full() -> None:
    with run("nightly") as r, persona("coder"), step("outer", model="gpt", max_tokens=100, max_usd=1) as s:
        record_llm_usage("gpt-4o", 10, 5, 0.25, cache_read_tokens=2, cache_write_tokens=3, reasoning_tokens=4)
        with step("inner"):
            record_llm_usage("haiku", 1, 1, 0.5)
    inner, outer = drain_completed_steps()
    told = completed_step_to_json(outer)
    for key in ("receipt_id", "started_at", "ended_at", "trace_id", "span_id"):
        told.pop(key)
    assert told == {
        "name": "outer",
        "function": None,
        "model": "gpt-4o",
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_usd": 0.25,
        "llm_calls": 1,
        "status": "completed",
        "error": None,
        "schema": 1,
        "revision": 1,
        "persona": "coder",
        "run_id": r.run_id,
        "parent_receipt_id": None,
        "cost_nano_usd": 250_000_000,
        "total_input_tokens": 11,
        "total_output_tokens": 6,
        "total_cost_usd": 0.75,
        "total_cost_nano_usd": 750_000_000,
        "total_llm_calls": 2,
        "cache_read_tokens": 2,
        "cache_write_tokens": 3,
        "reasoning_tokens": 4,
        "max_tokens": 100,
        "max_usd": 1.0,
        "breached": [],
        "error_boundary": "fail",
        "unpriced_calls": 0,
        "unmetered_calls": 0,
        "invalid_costs": 0,
        "duplicates_discarded": 0,
        "shared_unconsulted_calls": 0,
        "price_source": "reported",
        "tools_called": [],
        "tools_denied": [],
        "stage": None,
        "next_stage": None,
    }
    assert inner.parent_receipt_id == outer.receipt_id == s.receipt_id


def test_the_model_is_the_last_reported_else_the_declared_else_none() -> None:
    for declared, reported, expected in (
        ("m0", [], "m0"),
        ("m0", ["m1", ""], "m1"),
        (None, ["m1", "m2"], "m2"),
        (None, [""], None),
    ):
        with step("plan", model=declared):
            for model in reported:
                record_llm_usage(model, 1, 1, 0)
        record = one()
        assert (record.model, record.llm_calls) == (expected, len(reported))


def test_receipt_ids_sort_by_time_and_are_unique() -> None:
    for _ in range(200):
        with step("plan"):
            pass
    ids = [record.receipt_id for record in drain_completed_steps()]
    assert len(set(ids)) == 200
    times = [int(receipt_id[:12], 16) for receipt_id in ids]
    assert times == sorted(times)


def test_texts_are_bounded_and_valid() -> None:
    name = "é\ud800" * 500
    with pytest.raises(ValueError), step(name):
        raise ValueError("ü\ud800" * 5000)
    record = one()
    assert len(record.name) <= 256
    assert record.error is not None
    assert len(record.error.encode()) <= 4096
    assert record.error.startswith("ValueError: ü?")
    assert json.loads(to_line(record)) == completed_step_to_json(record)


def test_an_error_whose_text_fails_still_has_its_name() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(Mute), step("plan"):
        raise Mute
    assert one().error == "Mute"


def test_integers_are_clamped_to_what_otlp_carries(spans: InMemorySpanExporter) -> None:
    with step("plan", max_tokens=10**30):
        for _ in range(3):
            record_llm_usage("m", INT64_MAX, INT64_MAX, 1e300)
    record = one()
    assert record.input_tokens == record.total_output_tokens == record.max_tokens == INT64_MAX
    assert record.cost_nano_usd <= INT64_MAX
    assert CompletedStep.from_span(spans.get_finished_spans()[0]) == record


# --- JSON and its schema


def schema() -> Any:
    return jsonschema.Draft202012Validator(json_schema())


def test_the_schema_is_valid_and_every_record_satisfies_it() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    end_in_every_way()
    for record in drain_completed_steps():
        schema().validate(completed_step_to_json(record))
        schema().validate(json.loads(json.dumps(completed_step_to_json(record))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "done"),
        ("input_tokens", "1"),
        ("receipt_id", "x"),
        ("started_at", "now"),
        ("breached", "max_usd"),
        ("cost_nano_usd", 0.5),
        ("name", None),
    ],
)
def test_the_schema_refuses_what_is_no_record(field: str, value: Any) -> None:
    with step("plan"):
        pass
    told = {**completed_step_to_json(one()), field: value}
    with pytest.raises(jsonschema.ValidationError):
        schema().validate(told)


@pytest.mark.parametrize(
    ("file", "made"), [("completed-step", json_schema), ("run-receipt", run_receipt_schema)], ids=["step", "run"]
)
def test_the_schemas_in_the_docs_are_the_generated_ones(file: str, made: Any) -> None:
    path = Path(__file__).parents[2] / "docs" / "reference" / f"{file}.schema.json"
    expected = json.dumps(made(), indent=2) + "\n"
    assert path.read_text(encoding="utf-8") == expected, f"write {made.__module__}.{made.__name__}() to {path}"


def test_the_schema_names_every_field() -> None:
    (definition,) = json_schema()["$defs"].values()
    assert list(definition["properties"]) == [*SEED_KEYS, *OUR_KEYS]


@given(st.integers(min_value=0, max_value=INT64_MAX))
def test_times_come_back(time_ns: int) -> None:
    assert parse_rfc3339(rfc3339(time_ns % (253402300800 * 10**9))) == time_ns % (253402300800 * 10**9)


@pytest.mark.parametrize("text", ["", "2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000000"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_rfc3339(text)


# --- the record and its span


@tool
def read() -> None: ...


@tool
def write() -> None: ...


def end_in_every_way() -> None:
    """One step of each status that a living process gives, with as much on them as there is."""
    stages = [Stage("plan", allowed_tools=["read"], on_exit={"on_complete": "review", "on_failure": "repair"})]

    def body(tokens: int, error: BaseException | None = None) -> None:
        record_llm_usage("gpt-4o", 3, 2, 0.001, cache_read_tokens=1, cache_write_tokens=1, reasoning_tokens=1)
        record_llm_usage("mystery-model", 1, 1)
        record_llm_usage("gpt-4o", 1, 1, float("nan"))
        read()
        with contextlib.suppress(ToolDenied):
            write()
        with step("inner"):
            record_llm_usage("gpt-4o", tokens, 0, 0)
        if error is not None:
            raise error

    options: dict[str, Any] = {"max_tokens": 100, "max_usd": 5.5, "unpriced": "allow", "model": "gpt-4o"}
    with run("nightly", policy=CapabilityPolicy(tools=["read", "list"])), persona("coder", stages=stages):
        step("plan", **options)(lambda: body(1))()
        step("plan", error_boundary="continue", **options)(lambda: body(1000))()
        for boundary in ("fail", "escalate"):
            with pytest.raises(StepBudgetExceeded), step("plan", error_boundary=boundary, **options):
                body(1000)
        for error in (ValueError("bad\nline"), KeyboardInterrupt()):
            with pytest.raises(type(error)), step("plan", **options):
                body(1, error)
    with step("bare"):
        pass


def test_a_record_is_rebuilt_from_its_span_for_every_status(spans: InMemorySpanExporter) -> None:
    end_in_every_way()
    records = {record.span_id: record for record in drain_completed_steps()}
    assert {record.status for record in records.values()} == {
        "completed",
        "skipped",
        "failed",
        "escalated",
        "cancelled",
    }
    rebuilt = 0
    for span in spans.get_finished_spans():
        if "otel_steps.receipt_id" not in (span.attributes or {}):
            with pytest.raises(ValueError, match="not a step's"):
                CompletedStep.from_span(span)
            continue
        record = CompletedStep.from_span(span)
        assert record == records[record.span_id]
        rebuilt += 1
    assert rebuilt == len(records)


def test_span_status_and_error_type(spans: InMemorySpanExporter) -> None:
    end_in_every_way()
    seen: dict[str, tuple[str, str | None, Any]] = {}
    for span in spans.get_finished_spans():
        attributes = dict(span.attributes or {})
        if span.name == "plan":
            status = str(attributes["otel_steps.status"])
            seen.setdefault(
                status, (span.status.status_code.name, span.status.description, attributes.get("error.type"))
            )
    assert seen["completed"] == ("OK", None, None)
    assert seen["skipped"][::2] == ("UNSET", None)
    assert seen["cancelled"][0] == "UNSET"
    assert seen["failed"][0] == seen["escalated"][0] == "ERROR"
    assert seen["failed"][2] == "StepBudgetExceeded"
    assert seen["escalated"][2] == "StepEscalated"
    assert all("\n" not in (description or "") for _, description, _ in seen.values())


def test_the_span_leaves_out_what_is_at_its_default(spans: InMemorySpanExporter) -> None:
    with step("bare"):
        pass
    (span,) = spans.get_finished_spans()
    assert set(span.attributes) == {
        "otel_steps.name",
        "otel_steps.receipt_id",
        "otel_steps.status",
    }


def test_the_log_record_leaves_out_none_and_keeps_types() -> None:
    with step("plan", max_usd=1):
        pass
    record = one()
    attributes = record_attributes(record)
    told = {f"otel_steps.{key}": value for key, value in completed_step_to_json(record).items() if value is not None}
    assert {key: list(v) if isinstance(v, tuple) else v for key, v in attributes.items()} == told
    assert type(attributes["otel_steps.max_usd"]) is float
    assert type(attributes["otel_steps.input_tokens"]) is int


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, INT64_MAX) | st.just(0)
USD = st.floats(0, 1e12, allow_nan=False)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: COUNT,
    float: USD,
    str | None: st.none() | TEXT,
    int | None: st.none() | COUNT,
    float | None: st.none() | USD,
    tuple[str, ...]: st.lists(TEXT, max_size=3).map(tuple),
}  # type: ignore[assignment, dict-item]
OF_THE_SPAN = {"schema", "revision", "trace_id", "span_id", "started_at", "ended_at"}
RECORDS = st.fixed_dictionaries(
    {
        info.name: FIELDS[info.type]
        for info in msgspec.structs.fields(CompletedStep)
        if info.name not in {*OF_THE_SPAN, "receipt_id", "parent_receipt_id", "status", "name"}
    }
    | {
        "name": TEXT.filter(bool),
        "receipt_id": st.just("0" * 32),
        "parent_receipt_id": st.none() | st.just("f" * 32),
        "status": st.sampled_from(STATUSES),
    }
)


@given(RECORDS, st.integers(0, 2**62), st.integers(0, 10**15))
def test_any_record_comes_back_from_a_real_span(fields: dict[str, Any], started_ns: int, took_ns: int) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span = provider.get_tracer("test").start_span("plan", start_time=started_ns)
    context = span.get_span_context()
    record = CompletedStep(
        **fields,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        started_at=rfc3339(started_ns),
        ended_at=rfc3339(started_ns + took_ns),
    )
    span.set_attributes(span_attributes(record))
    span.end(started_ns + took_ns)
    (finished,) = exporter.get_finished_spans()
    assert CompletedStep.from_span(finished) == record
    assert msgspec.json.decode(to_line(record), type=CompletedStep) == record
    assert json.loads(json.dumps(completed_step_to_json(record))) == json.loads(to_line(record))


def test_a_step_with_many_attributes_of_others_still_comes_back(spans: InMemorySpanExporter) -> None:
    from opentelemetry import trace

    with persona("coder"), step("plan", model="gpt"):
        for i in range(200):
            trace.get_current_span().set_attribute(f"app.{i}", i)
    assert CompletedStep.from_span(spans.get_finished_spans()[0]) == one()


# --- the log


def test_drain_takes_and_peek_copies() -> None:
    with step("a"), step("b"):
        pass
    assert [record.name for record in peek_completed_steps()] == ["b", "a"]
    peek_completed_steps().clear()
    assert [record.name for record in drain_completed_steps()] == ["b", "a"]
    assert drain_completed_steps() == peek_completed_steps() == []


def test_the_log_is_bounded_and_counts_what_it_dropped() -> None:
    with step("a"):
        pass
    record = one()
    log = CompletedLog(3)
    for _ in range(5):
        log.append(record)
    assert (len(log.peek()), log.dropped) == (3, 2)
    log.drain()
    assert (log.peek(), log.dropped) == ([], 2)
    log.append(record)
    assert log.dropped == 2


def test_the_count_is_exact_across_threads() -> None:
    with step("a"):
        pass
    record, log, taken = one(), CompletedLog(50), []

    def work() -> None:
        for i in range(2000):
            log.append(record)
            if i % 100 == 0:
                taken.append(len(log.drain()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) + len(log.peek()) + log.dropped == 8000


# --- forgotten and out-of-order closes


def test_closing_a_step_closes_what_was_left_open_in_it_innermost_first(spans: InMemorySpanExporter) -> None:
    with step("outer"):
        step("first").__enter__()
        persona("coder").__enter__()
        step("second").__enter__()
        step("third").__enter__()
    assert [(record.name, record.status) for record in drain_completed_steps()] == [
        ("third", "cancelled"),
        ("second", "cancelled"),
        ("first", "cancelled"),
        ("outer", "completed"),
    ]
    assert [span.name for span in spans.get_finished_spans()] == [
        "third",
        "second",
        "invoke_agent coder",
        "first",
        "outer",
    ]


def test_after_a_forgotten_close_nothing_is_current(spans: InMemorySpanExporter) -> None:
    from opentelemetry import trace

    from otel_steps import current_persona, current_step

    with step("outer"):
        persona("coder").__enter__()
        step("inner").__enter__()
    assert current_step() is None
    assert current_persona() is None
    assert not trace.get_current_span().get_span_context().is_valid


def test_an_out_of_order_close_is_closed_once() -> None:
    a, b = step("a"), step("b")
    a.__enter__()
    active = b.__enter__()
    a.__exit__(None, None, None)
    assert active.status == "cancelled"
    b.__exit__(None, None, None)
    assert [record.name for record in drain_completed_steps()] == ["b", "a"]


def test_a_run_closes_what_is_open_in_it() -> None:
    with run("nightly") as r:
        step("forgotten").__enter__()
    assert [s.outcome for s in r.receipt().steps] == ["cancelled"]
    gc.collect()
    assert one().status == "cancelled"
