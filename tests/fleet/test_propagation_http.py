"""Steps across services: a real FastAPI service under uvicorn, called by each HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from otel_steps import StepBudgetExceeded, configure, drain_completed_steps, propagation, record_llm_usage, run, step
from otel_steps.errors import StepStop
from otel_steps.runtime.state import runtime
from tests.fleet.propagation_world import CLIENTS, Service, services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Service]]:
    """Services with our middleware, with OpenTelemetry's instrumentations of FastAPI and httpx, and with both."""
    with services(
        plain={},
        traced={"otel": True},
        otel_alone={"otel": True, "middleware": False},
        plain_middle={"next": "plain"},
        traced_middle={"otel": True, "next": "traced"},
        stranger={"otel": True, "middleware": False, "propagate": ["named.example"], "next": "traced"},
    ) as started:
        yield started


@pytest.fixture
def plain(running: dict[str, Service]) -> Service:
    """The service with our middleware alone."""
    running["plain"].told()
    return running["plain"]


@pytest.fixture(params=["plain", "traced", "otel_alone"])
def remote(request: pytest.FixtureRequest, running: dict[str, Service]) -> Service:
    """Each of the three."""
    chosen = running[request.param]
    chosen.told()
    return chosen


@pytest.fixture(params=["before ours", "after ours"])
def client_traced(request: pytest.FixtureRequest, spans: InMemorySpanExporter) -> Iterator[None]:
    """OpenTelemetry's instrumentation of httpx in this process, and 127.0.0.1 named."""
    instrumentor = HTTPXClientInstrumentor()
    if request.param == "after ours":
        name("127.0.0.1")
    instrumentor.instrument(tracer_provider=runtime().tracer_provider)
    if request.param == "before ours":
        name("127.0.0.1")
        yield
        name()
    else:
        yield
    instrumentor.uninstrument()


def name(*hosts: str) -> None:
    configure(durability="off", deliver=False, propagate=hosts, tracer_provider=cast("Any", runtime().tracer_provider))


def ancestors(span_id: str, spans: list[dict[str, Any]]) -> list[str | None]:
    """The span ids above a span, as far as the service knows them."""
    parents = {span["span"]: span["parent"] for span in spans}
    found: list[str | None] = []
    at: str | None = span_id
    while at in parents:
        at = parents[at]
        found.append(at)
    return found


@pytest.mark.parametrize("client", CLIENTS)
def test_a_step_in_a_service_hangs_under_its_caller(client: str, remote: Service, spans: InMemorySpanExporter) -> None:
    name("127.0.0.1")
    with run("all") as whole, step("call") as calling:
        CLIENTS[client](f"{remote.url}/work", {"baggage": "tenant=7", "x-mine": "kept"})
        current = trace.get_current_span().get_span_context()
    told = remote.told()
    (receipt,) = told["receipts"]
    assert (receipt["parent_receipt_id"], receipt["run_id"]) == (calling.receipt_id, whole.run_id)
    assert receipt["trace_id"] == f"{current.trace_id:032x}"
    assert f"{current.span_id:016x}" in ancestors(receipt["span_id"], told["spans"])
    (headers,) = told["seen"]
    assert headers["x-mine"] == "kept"
    assert headers["baggage"] == f"tenant=7,otel_steps=1-{whole.run_id}-{calling.receipt_id}"


@pytest.mark.parametrize("client", CLIENTS)
def test_what_a_service_spent_is_in_the_callers_inclusive_totals(client: str, plain: Service) -> None:
    name("127.0.0.1")
    with run("all") as whole, step("outer"), step("call"):
        record_llm_usage("m", 1, 0, 0.001)
        for path in ("/work", "/thread"):
            propagation.absorb(CLIENTS[client](plain.url + path, {}))  # the body tells again what the header told
    call, outer = drain_completed_steps()
    assert (call.llm_calls, call.input_tokens, call.cost_nano_usd) == (1, 1, 1_000_000)
    for receipt in (call, outer):
        assert (receipt.total_llm_calls, receipt.total_input_tokens, receipt.total_cost_nano_usd) == (3, 21, 21_000_000)
    assert (outer.llm_calls, outer.cost_nano_usd) == (0, 0)
    assert whole.totals.cost_nano_usd == 21_000_000


@pytest.mark.parametrize("client", CLIENTS)
def test_a_host_that_is_not_named_gets_nothing(client: str, plain: Service, spans: InMemorySpanExporter) -> None:
    name("127.0.0.1")
    with run("all"), step("call"):
        CLIENTS[client](f"{plain.alias}/work", {})
    told = plain.told()
    (headers,) = told["seen"]
    assert not {"traceparent", "tracestate", "baggage"} & set(headers)
    assert told["receipts"][0]["parent_receipt_id"] is None
    (call,) = drain_completed_steps()
    assert call.total_llm_calls == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_a_redirect_to_another_host_takes_nothing_along(client: str, plain: Service) -> None:
    name("127.0.0.1")
    with step("call"):
        if client.startswith("httpx"):
            with httpx.Client(follow_redirects=True) as following:
                following.post(f"{plain.url}/redirect?to={plain.alias}/work")
        else:
            CLIENTS[client](f"{plain.url}/redirect?to={plain.alias}/work", {})
    first, second = plain.told()["seen"]
    assert (first["path"], "otel_steps" in first["baggage"]) == ("/redirect", True)
    assert (second["path"], "baggage" in second) == ("/work", False)


def test_an_instrumented_client_keeps_the_entry_to_the_named_hosts(
    plain: Service, spans: InMemorySpanExporter, client_traced: None
) -> None:
    before = context.get_current()
    context.attach(baggage.set_baggage("tenant", "7"))
    try:
        with step("call") as calling:
            _request(plain.url)
            _request(plain.alias)
    finally:
        context.attach(before)
    named, other = plain.told()["seen"]
    assert set(named["baggage"].split(",")) == {"tenant=7", f"otel_steps=1--{calling.receipt_id}"}
    assert other["baggage"] == "tenant=7"
    sent = {f"{span.context.span_id:016x}" for span in spans.get_finished_spans() if span.name == "POST"}
    assert {headers["traceparent"].split("-")[2] for headers in (named, other)} == sent


def _request(url: str) -> None:
    with httpx.Client() as client:
        client.post(f"{url}/work")


@pytest.mark.parametrize("way", ["/forward", "/gateway"])
@pytest.mark.parametrize("kind", ["plain", "traced"])
def test_two_services_deep(way: str, kind: str, running: dict[str, Service], spans: InMemorySpanExporter) -> None:
    last, middle = running[kind], running[f"{kind}_middle"]
    last.told()
    middle.told()
    name("127.0.0.1")
    with run("all") as whole, step("call") as calling:
        _httpx(middle.url + way)
        span = trace.get_current_span().get_span_context()
    (call,) = drain_completed_steps()
    at_last, in_the_middle = last.told(), middle.told()
    (receipt,) = at_last["receipts"]
    assert receipt["run_id"] == whole.run_id
    every = at_last["spans"] + in_the_middle["spans"]
    assert f"{span.span_id:016x}" in ancestors(receipt["span_id"], every)
    if way == "/gateway":
        assert receipt["parent_receipt_id"] == calling.receipt_id
        assert (call.total_llm_calls, call.total_cost_nano_usd) == (1, 10_000_000)
        return
    (between,) = in_the_middle["receipts"]
    assert receipt["parent_receipt_id"] == between["receipt_id"]
    assert between["parent_receipt_id"] == calling.receipt_id
    assert (between["llm_calls"], between["total_llm_calls"], between["total_cost_nano_usd"]) == (1, 2, 15_000_000)
    assert (call.llm_calls, call.total_llm_calls, call.total_cost_nano_usd) == (0, 2, 15_000_000)


def _httpx(url: str) -> Any:
    with httpx.Client() as client:
        return client.post(url)


def test_a_service_passes_on_no_entry_to_hosts_it_does_not_name(running: dict[str, Service]) -> None:
    running["traced"].told()
    name("127.0.0.1")
    with step("call"):
        for way in ("/gateway", "/forward"):
            httpx.post(running["stranger"].url + way, headers={"baggage": "tenant=7"})
    assert [headers["baggage"] for headers in running["traced"].told()["seen"]] == ["tenant=7", "tenant=7"]


@pytest.mark.parametrize(
    "entry",
    [
        "1-x-y",
        "1--",
        "2-" + "0" * 32 + "-" + "0" * 32,
        "1-" + "g" * 32 + "-" + "0" * 32,
        "1-" + "0" * 33 + "-" + "0" * 32,
        "1-" + "0" * 100_000,
        "%00",
        '"><script>',
    ],
)
def test_a_forged_entry_is_ignored(entry: str, remote: Service) -> None:
    answer = httpx.post(f"{remote.url}/work", headers={"baggage": f"otel_steps={entry}"[:60_000]})
    assert answer.status_code in {200, 400, 431}
    if answer.status_code == 200:
        assert "otel-steps-receipt" not in answer.headers
        assert [receipt["parent_receipt_id"] for receipt in remote.told()["receipts"]] == [None]


def test_much_baggage_of_others_stays_as_it_is(plain: Service) -> None:
    name("127.0.0.1")
    full = ",".join(f"k{number}={'v' * 50}" for number in range(150))[:8180]
    with step("call"):
        httpx.post(f"{plain.url}/work", headers={"baggage": full})
    (headers,) = plain.told()["seen"]
    assert headers["baggage"] == full


def test_everything_spent_for_a_request_comes_back(plain: Service) -> None:
    name("127.0.0.1")
    with step("call"):
        _httpx(f"{plain.url}/several")
    (call,) = drain_completed_steps()
    assert (call.llm_calls, call.total_llm_calls, call.total_input_tokens) == (0, 3, 6)
    assert call.total_cost_nano_usd == 6_000_000


def test_what_is_spent_after_the_response_began_hangs_there_and_does_not_come_back(plain: Service) -> None:
    name("127.0.0.1")
    with step("call") as calling:
        _httpx(f"{plain.url}/stream")
    (call,) = drain_completed_steps()
    assert call.total_llm_calls == 0
    assert [receipt["parent_receipt_id"] for receipt in plain.told()["receipts"]] == [calling.receipt_id]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_cost_that_breaks_the_callers_limit_stops_the_next_call(client: str, plain: Service) -> None:
    name("127.0.0.1")
    with pytest.raises(StepBudgetExceeded) as broken, run("all", max_usd=0.015), step("call"):
        CLIENTS[client](f"{plain.url}/work", {})
        CLIENTS[client](f"{plain.url}/work", {})  # breaks it, and still gives its answer
        with pytest.raises(StepStop):
            CLIENTS[client](f"{plain.url}/work", {})  # a service that answers with costs is called no more
        with pytest.raises(StepStop):
            record_llm_usage("m", 1, 0, 0.0)
    assert (broken.value.scope, broken.value.consumed_cost_usd) == ("run", 0.02)
    assert len(plain.told()["seen"]) == 2


def test_a_call_of_unknown_price_there_breaks_a_dollar_limit_here(plain: Service) -> None:
    name("127.0.0.1")
    with pytest.raises(StepBudgetExceeded, match="max_usd"), step("call", max_usd=1):
        _httpx(f"{plain.url}/unpriced")
    with step("call", max_usd=1, unpriced="allow"):
        _httpx(f"{plain.url}/unpriced")


def test_only_a_named_host_can_charge(plain: Service) -> None:
    name("named.example")
    with step("call") as calling:
        httpx.post(f"{plain.url}/work", headers={"baggage": f"otel_steps=1--{calling.receipt_id}"})
    (call,) = drain_completed_steps()
    assert call.total_llm_calls == 0


def test_without_hosts_the_clients_are_as_they_were(plain: Service) -> None:
    name("127.0.0.1")
    name()
    assert not hasattr(httpx.HTTPTransport.handle_request, "__wrapped__")
    with step("call"):
        _httpx(f"{plain.url}/work")
    assert drain_completed_steps()[0].total_llm_calls == 0
