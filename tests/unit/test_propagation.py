"""Propagation by hand and as middleware; which hosts are named; what the hooks leave alone."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry import trace

from otel_steps import (
    DefinitionError,
    StepBudgetExceeded,
    completed_step_to_json,
    configure,
    drain_completed_steps,
    propagation,
    record_llm_usage,
    reset,
    run,
    step,
)
from otel_steps.runtime.remote import Caller, enter_call, leave_call
from otel_steps.runtime.state import runtime
from otel_steps.telemetry.celery_tasks import CeleryTasks
from otel_steps.telemetry.hosts import Hosts, checked_hosts
from otel_steps.telemetry.outgoing_clients import changed
from otel_steps.telemetry.patching import put_around
from otel_steps.telemetry.trace_headers import BAGGAGE_MAX, additions, caller_in, lower_case

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

RUN, STEP = "0" * 31 + "1", "0" * 31 + "2"
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
SENT = {"baggage": f"otel_steps=1-{RUN}-{STEP}", "traceparent": TRACEPARENT}


# --- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "meant", "others"),
    [
        ("api.internal", ["http://api.internal", "https://API.internal.:8443"], ["http://x.api.internal", "http://pi"]),
        ("api.internal:443", ["https://api.internal", "http://api.internal:443"], ["http://api.internal"]),
        ("*.internal", ["http://a.internal", "http://a.b.internal:1"], ["http://internal", "http://xinternal"]),
        ("*.internal:8080", ["http://a.internal:8080"], ["http://a.internal"]),
        ("127.0.0.1", ["http://127.0.0.1:9"], ["http://localhost:9", "http://127.0.0.11"]),
        ("[::1]:8000", ["http://[::1]:8000"], ["http://[::1]"]),
        ("::1", ["http://[::1]:8000", "http://[::1]"], ["http://[::2]"]),
    ],
)
def test_which_addresses_a_named_host_means(named: str, meant: list[str], others: list[str]) -> None:
    hosts = Hosts([named])
    for url, expected in [*((url, True) for url in meant), *((url, False) for url in others)]:
        parts = httpx.URL(url)
        assert hosts.name(parts.scheme, parts.host, parts.port) is expected, url
    assert not hosts.name("http", None, 80)
    assert not Hosts()


@pytest.mark.parametrize(
    "value",
    [
        "host",
        b"host",
        7,
        None,
        [""],
        ["*"],
        ["http://api.internal"],
        ["api.internal/path"],
        ["api internal"],
        ["a" * 254],
        ["api.internal:0"],
        ["api.internal:65536"],
        ["api.internal:http"],
        ["[::g]"],
        ["api.*.internal"],
        ["*.*.internal"],
        ["münchen.example"],
        [7],
        ["h"] * 257,
    ],
)
def test_what_is_no_host_is_named_in_an_error(value: Any) -> None:
    with pytest.raises(DefinitionError, match="propagate="):
        configure(propagate=value, durability="off", deliver=False)


def test_hosts_are_kept_as_they_were_written() -> None:
    assert checked_hosts(host for host in ["A.internal", "b:1"]) == ("A.internal", "b:1")


# --- headers ---------------------------------------------------------------------------------------------------------


def test_the_same_caller_is_read_as_was_written(spans: InMemorySpanExporter) -> None:
    headers = {"Baggage": "tenant=7, otel_steps=old ,a=b;prop=1"}
    with run("r") as r, step("a") as a:
        propagation.inject(headers)
        span = trace.get_current_span().get_span_context()
    assert headers["baggage"] == f"tenant=7,a=b;prop=1,otel_steps=1-{r.run_id}-{a.receipt_id}"
    assert set(headers) == {"baggage", "traceparent"}
    with propagation.extract(headers.items()), step("b"):
        pass
    with propagation.extract({name.upper().encode(): value.encode() for name, value in headers.items()}), step("c"):
        pass
    _, *remote = drain_completed_steps()
    assert [(one.parent_receipt_id, one.run_id, one.trace_id) for one in remote] == [
        (a.receipt_id, r.run_id, f"{span.trace_id:032x}")
    ] * 2


def test_without_a_step_nothing_is_told_or_found() -> None:
    headers: dict[str, str] = {}
    propagation.inject(headers)
    assert headers == {}
    with propagation.extract({}), step("a"):
        assert propagation.receipts() == []
    assert drain_completed_steps()[0].parent_receipt_id is None


def test_headers_that_are_there_stay() -> None:
    caller = Caller(RUN, STEP, trace.SpanContext(1, 2, True))
    full = {"baggage": "k=" + "v" * (BAGGAGE_MAX - 10)}
    assert set(additions(full, caller)) == {"traceparent"}
    assert "traceparent" not in additions({"traceparent": "theirs"}, caller)


@pytest.mark.parametrize(
    "baggage",
    [
        "",
        "tenant=7",
        "xotel_steps=1",
        "otel_steps",
        "otel_steps=",
        f"otel_steps={STEP}",
        f"otel_steps=1-{RUN}-{STEP}x",
        "k=" + "v" * BAGGAGE_MAX + f",otel_steps=1-{RUN}-{STEP}",
    ],
)
def test_baggage_that_names_no_caller(baggage: str) -> None:
    assert caller_in({"baggage": baggage}) is None


def test_the_last_of_several_entries_counts_and_may_be_escaped_and_have_properties() -> None:
    caller = caller_in({"baggage": f"otel_steps=1--{RUN}, otel_steps = 1%2D{RUN}%2D{STEP} ;p=1", "traceparent": "x"})
    assert caller is not None
    assert (caller.run_id, caller.receipt_id, caller.span) == (RUN, STEP, None)


def test_headers_of_one_name_are_joined() -> None:
    assert lower_case([(b"Baggage", b"a=1"), ("baggage", "b=2"), ("other", "x")]) == {"baggage": "a=1,b=2"}


def test_headers_are_changed_in_a_copy_whatever_their_case() -> None:
    before: dict[Any, str] = {"BAGGAGE": "a=1", b"TraceParent": "x", "kept": "1"}
    assert changed(before, {"baggage": "b=2", "traceparent": None}) == {"kept": "1", "baggage": "b=2"}
    assert len(before) == 3
    assert changed([("a", "b")], {"c": "d"}) == {"a": "b", "c": "d"}


# --- receipts that come back -----------------------------------------------------------------------------------------


def made_elsewhere() -> list[dict[str, Any]]:
    with propagation.extract(SENT):
        with step("remote"):
            record_llm_usage("m", 10, 5, 0.001)
        told = propagation.receipts()
    drain_completed_steps()
    return told


def test_receipts_are_absorbed_in_every_shape_and_once() -> None:
    (receipt,) = made_elsewhere()
    (other,) = made_elsewhere()
    with step("call") as calling:
        for shape in (receipt, [receipt], (receipt for _ in range(2)), [], [other]):
            propagation.absorb(shape)
    assert calling.llm_calls == 0
    (call,) = drain_completed_steps()
    assert (call.total_llm_calls, call.total_input_tokens, call.total_cost_nano_usd) == (2, 20, 2_000_000)


def test_receipts_of_steps_in_here_count_already() -> None:
    with step("outer"):
        with step("inner"):
            record_llm_usage("m", 10, 5, 0.001)
        propagation.absorb(drain_and_keep())
    assert drain_completed_steps()[-1].total_llm_calls == 1


def drain_and_keep() -> Any:
    (inner,) = runtime().log.peek()
    return completed_step_to_json(inner)


def test_a_receipt_that_breaks_a_limit_stops_at_once() -> None:
    with pytest.raises(StepBudgetExceeded, match="max_tokens"), step("call", max_tokens=14):
        propagation.absorb(made_elsewhere())
        raise AssertionError("the step goes on")


def test_where_no_scope_is_open_a_receipt_goes_on_to_the_caller() -> None:
    receipts = made_elsewhere()
    propagation.absorb(receipts)  # nobody
    before = enter_call(Caller(RUN, STEP))
    propagation.absorb(receipts)
    assert propagation.receipts() == receipts
    leave_call(before)


@pytest.mark.parametrize("value", [None, 7, "text", b"bytes", {}, {"name": 1}, [1], [[]], [{"name": "a"}]])
def test_what_is_no_receipt_is_an_error_and_charges_nothing(value: Any) -> None:
    good = made_elsewhere()
    with step("call"), pytest.raises(DefinitionError, match="receipt="):
        propagation.absorb([*good, *value] if isinstance(value, list) else value)
    assert drain_completed_steps()[-1].total_llm_calls == 0


# --- middleware ------------------------------------------------------------------------------------------------------


async def ask(app: Any, headers: dict[str, str], kind: str = "http") -> dict[str, str]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    await app({"type": kind, "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}, receive, send)
    return {name.decode(): value.decode() for name, value in sent[0].get("headers", ())} if sent else {}


async def application(scope: Any, receive: Any, send: Any) -> None:
    with step("served"):
        record_llm_usage("m", 10, 5, 0.001)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-mine", b"1")]})
    await send({"type": "http.response.body", "body": b""})


async def test_asgi_answers_the_caller_alone() -> None:
    app = propagation.ASGIMiddleware(application)
    told = await ask(app, SENT)
    (record,) = drain_completed_steps()
    assert (record.parent_receipt_id, record.run_id, record.trace_id) == (STEP, RUN, None)
    answer = f"{record.receipt_id};rev=1;calls=1;in=10;out=5;nano_usd=1000000;unpriced=0"
    assert told == {"x-mine": "1", "otel-steps-receipt": answer}
    assert await ask(app, {}) == {"x-mine": "1"}
    assert await ask(propagation.ASGIMiddleware(application, answer=False), SENT) == {"x-mine": "1"}
    assert await ask(app, SENT, "lifespan") == {"x-mine": "1"}
    assert [record.parent_receipt_id for record in drain_completed_steps()] == [None, STEP, None]


async def test_a_request_without_steps_is_answered_without_receipts() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    assert await ask(propagation.ASGIMiddleware(nothing), SENT) == {}


async def test_an_answer_that_cannot_be_told_does_not_cost_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str:
        raise ValueError("broken")

    monkeypatch.setattr(propagation, "to_header", broken)
    monkeypatch.setattr(runtime().faults, "report", lambda *_: None)
    assert await ask(propagation.ASGIMiddleware(application), SENT) == {"x-mine": "1"}


class Streamed:
    """A body that is made while it is sent."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Any:
        with step("streamed"):
            yield b"part"

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("streams", [False, True])
def test_wsgi_does_the_same(streams: bool) -> None:
    body = Streamed()

    def site(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with step("served"):
            record_llm_usage("m", 10, 5, 0.001)
        start_response("200 OK", [("x-mine", "1")])
        return body if streams else [b"part"]

    app = propagation.WSGIMiddleware(site)
    started: list[Any] = []
    environ = {"HTTP_BAGGAGE": SENT["baggage"], "HTTP_TRACEPARENT": TRACEPARENT}
    answer: Any = app(environ, lambda *told: started.append(told))
    assert list(answer) == [b"part"]
    answer.close()
    assert body.closed is streams
    ((_, headers),) = started
    assert [name for name, _ in headers] == ["x-mine", "otel-steps-receipt"]
    records = drain_completed_steps()
    assert [(record.name, record.parent_receipt_id) for record in records] == [
        ("served", STEP),
        ("streamed", STEP),
    ][: 1 + streams]
    assert list(app({}, lambda *told: started.append(told))) == [b"part"]
    assert started[1] == ("200 OK", [("x-mine", "1")])
    assert drain_completed_steps()[0].parent_receipt_id is None
    list(propagation.WSGIMiddleware(site, answer=False)(environ, lambda *told: started.append(told)))
    assert started[2] == ("200 OK", [("x-mine", "1")])


# --- hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_are_there_while_hosts_are_named() -> None:
    before = httpx.HTTPTransport.handle_request
    configure(propagate=["a.internal"], durability="off", deliver=False)
    assert httpx.HTTPTransport.handle_request is not before
    configure(propagate=["b.internal"], durability="off", deliver=False)
    configure(durability="off", deliver=False)
    assert httpx.HTTPTransport.handle_request is before
    configure(propagate=["a.internal"], durability="off", deliver=False)
    reset()
    assert httpx.HTTPTransport.handle_request is before


def test_where_no_host_was_ever_named_the_hooks_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "otel_steps.telemetry.outgoing", raising=False)
    configure(durability="off", deliver=False)
    assert "otel_steps.telemetry.outgoing" not in sys.modules


class Client:
    def send(self, value: int) -> int:
        return value


class Derived(Client):
    pass


def test_a_wrapper_stays_under_one_of_somebody_else_and_goes_where_it_can() -> None:
    def double(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        return 2 * wrapped(*args, **kwargs)

    original = vars(Client)["send"]
    take_out = put_around(Client, "send", double)
    assert Client().send(2) == 4
    theirs = put_around(Client, "send", double)
    assert not take_out()
    assert Client().send(2) == 8
    assert theirs()
    assert take_out()
    assert vars(Client)["send"] is original
    assert take_out()  # again
    inherited = put_around(Derived, "send", double)
    assert (Derived().send(2), Client().send(2)) == (4, 2)
    assert inherited()
    assert "send" not in vars(Derived)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://broker.internal:6379/0", True),
        ("redis://user:secret@broker.internal/0", True),
        ("amqp://broker.internal;amqp://other.internal", False),
        (["amqp://broker.internal", "amqp://broker.internal:1"], True),
        ("sqs://", False),
        ("filesystem://", False),
        (None, False),
    ],
)
def test_every_broker_of_a_task_must_be_named(url: Any, named: bool) -> None:
    tasks = CeleryTasks(Hosts(["broker.internal"]).name)
    sent: list[dict[str, Any]] = []
    app = SimpleNamespace(conf=SimpleNamespace(broker_write_url=url, broker_url=None))
    send: Any = getattr(tasks, "_send")  # noqa: B009 - what is put around Celery.send_task
    with step("a"):
        send(lambda **kwargs: sent.append(kwargs), app, (), {"headers": {"baggage": "tenant=7"}})
    assert ("otel_steps=" in sent[0]["headers"]["baggage"]) is named
    assert sent[0]["headers"]["baggage"].startswith("tenant=7")
