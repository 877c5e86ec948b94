"""What every case runs in: providers with a batch processor and a null exporter, a journal in a folder of its own."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

import otel_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

START = {
    "app.step": "plan",
    "app.persona": "researcher",
    "app.model": "gpt-4o-mini",
    "app.limit": 10_000,
    "app.usd": 1.0,
}
END = (("in", 10), ("out", 5), ("cost", 0.01), ("calls", 1), ("status", "completed"), ("error", ""), ("id", "abcdef"))
REQUEST = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.request.max_tokens": 100,
    "server.address": "api.openai.com",
    "server.port": 443,
}
ANSWER = {
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 5,
}


class NullExporter(SpanExporter):
    """Takes spans and keeps none."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Success, at once."""
        del spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing to end."""


def provider() -> TracerProvider:
    """A provider as people have it: batch processor, here with a null exporter."""
    # a sampler of its own: the default one is shared by all providers, and otel_steps extends that of the one it joins
    made = TracerProvider(sampler=ParentBased(ALWAYS_ON))
    made.add_span_processor(BatchSpanProcessor(NullExporter(), schedule_delay_millis=1000))
    return made


class World:
    """A bare provider and one that otel_steps has joined, with model calls through either."""

    def __init__(self) -> None:
        self.bare: Tracer = provider().get_tracer("bare")
        self.joined = provider()
        self.emitter: Tracer
        self._serial = 0

    def base_step(self) -> None:
        """A bare step span as people write it: 5 attributes at the start, 7 one by one."""
        with self.bare.start_as_current_span("plan", attributes=START) as span:
            for key, value in END:
                span.set_attribute(key, value)

    def base_step_with_calls(self) -> None:
        """The same with three model-call spans inside."""
        with self.bare.start_as_current_span("plan", attributes=START) as span:
            self.call(self.bare)
            self.call(self.bare)
            self.call(self.bare)
            for key, value in END:
                span.set_attribute(key, value)

    def call(self, tracer: Tracer) -> None:
        """One model-call span as the official instrumentations write it; every call has a response id of its own."""
        self._serial += 1
        with tracer.start_as_current_span("chat gpt-4o-mini", attributes=REQUEST) as span:
            span.set_attributes({**ANSWER, "gen_ai.response.id": f"chatcmpl-{self._serial}"})


@contextmanager
def configured(**options: Any) -> Iterator[World]:
    """A world in which otel_steps is configured with `options`; undone afterwards."""
    world = World()
    with tempfile.TemporaryDirectory(prefix="otel-steps-bench-") as folder:
        otel_steps.reset()
        otel_steps.configure(tracer_provider=world.joined, store=folder, **options)
        world.emitter = world.joined.get_tracer("opentelemetry.instrumentation.genai.openai")
        try:
            yield world
        finally:
            otel_steps.reset()
