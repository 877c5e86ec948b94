"""How each peer is set up for `peers`: its decorator of functions, and one model call as its users have it.

Each as its documentation sets it up for production: batches in the background, and what it records of arguments and
results by default. Nothing is behind it: those on OpenTelemetry export to a null exporter through a batch processor, as
the bare span does; the others send to a server in another process that takes everything. Their reports of their own use
are off. Imports are inside the functions, since a process imports one peer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from .world import ANSWER, REQUEST, NullExporter, World, configured

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


class Setup(NamedTuple):
    """A peer that is set up."""

    decorate: Callable[[Any], Any]
    call: Callable[[], None]
    """One model call: an instrumentation's span, or what the peer has instead of one."""


def _spans_of_clients(world: World) -> Callable[[], None]:
    tracer = trace.get_tracer("opentelemetry.instrumentation.genai.openai")
    return lambda: world.call(tracer)


def _processor() -> BatchSpanProcessor:
    return BatchSpanProcessor(NullExporter(), schedule_delay_millis=1000)


def otel_steps(stack: ExitStack, url: str) -> Setup:
    """Persona, limits, meter, prices, and the journal on disk."""
    from otel_steps import persona, step

    world = stack.enter_context(configured())
    stack.enter_context(persona("researcher"))
    return Setup(
        step(name="plan", model="gpt-4o-mini", max_tokens=10_000, max_usd=1.0), lambda: world.call(world.emitter)
    )


def logfire(stack: ExitStack, url: str) -> Setup:
    """Nothing is sent; spans go through a processor beside its own."""
    import logfire

    logfire.configure(send_to_logfire=False, console=False, metrics=False, additional_span_processors=[_processor()])
    return Setup(logfire.instrument("plan"), _spans_of_clients(World()))


def traceloop(stack: ExitStack, url: str) -> Setup:
    """Its `workflow`; no instrumentation is on, since no client is called."""
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import workflow

    Traceloop.init("bench", exporter=NullExporter(), disable_batch=False, telemetry_enabled=False, instruments=set())
    return Setup(workflow(name="plan"), _spans_of_clients(World()))


def openinference(stack: ExitStack, url: str) -> Setup:
    """The `chain` of its tracer."""
    from openinference.instrumentation import TracerProvider

    made = TracerProvider()
    made.add_span_processor(_processor())
    trace.set_tracer_provider(made)
    return Setup(made.get_tracer("bench").chain(name="plan"), _spans_of_clients(World()))


def langfuse(stack: ExitStack, url: str) -> Setup:
    """A client with nobody's keys, and its own processor."""
    from langfuse import Langfuse, observe

    Langfuse(public_key="pk", secret_key="sk", base_url=url, span_exporter=NullExporter())
    return Setup(observe(name="plan"), _spans_of_clients(World()))


def mlflow(stack: ExitStack, url: str) -> Setup:
    """A tracking server, logging in the background."""
    import mlflow
    from mlflow.entities import SpanType
    from mlflow.entities.trace_location import MlflowExperimentLocation
    from mlflow.tracing.constant import SpanAttributeKey

    mlflow.set_tracking_uri(url)
    mlflow.tracing.set_destination(MlflowExperimentLocation("0"))

    def call() -> None:
        with mlflow.start_span("chat gpt-4o-mini", span_type=SpanType.CHAT_MODEL) as span:
            span.set_attributes({**REQUEST, **ANSWER, SpanAttributeKey.CHAT_USAGE: USAGE})

    return Setup(mlflow.trace(name="plan"), call)


def langsmith(stack: ExitStack, url: str) -> Setup:
    """A client that batches in the background."""
    from langsmith import Client, get_current_run_tree, traceable, tracing_context

    stack.enter_context(tracing_context(enabled=True, client=Client(url, api_key="nobody's")))
    model = {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini"}

    @traceable(run_type="llm", name="chat gpt-4o-mini", metadata={**REQUEST, **model})
    def call() -> None:
        run = get_current_run_tree()
        if run is not None:
            run.set(usage_metadata=USAGE)
            run.add_metadata(ANSWER)

    return Setup(traceable(name="plan"), call)


def ddtrace(stack: ExitStack, url: str) -> Setup:
    """LLM Observability through an agent; no integration is on, since no client is called."""
    os.environ |= {
        "DD_TRACE_AGENT_URL": url,
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    }
    from ddtrace.llmobs import LLMObs
    from ddtrace.llmobs.decorators import task

    LLMObs.enable(ml_app="bench", integrations_enabled=False, agentless_enabled=False)

    def call() -> None:
        with LLMObs.llm(model_name="gpt-4o-mini", model_provider="openai", name="chat gpt-4o-mini"):
            LLMObs.annotate(metadata={**REQUEST, **ANSWER}, metrics=USAGE)

    return Setup(task(name="plan"), call)
