"""What every test starts with: a fresh runtime, and spans to look at where it asks for them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_steps
from otel_steps.runtime.context import forget
from otel_steps.runtime.state import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Behind a shell's `&` Ctrl-C is ignored, by whatever is started here too: what tests send would be lost.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def fresh_runtime() -> Iterator[None]:
    """Registry, hooks, log, options and current scopes of this test alone."""
    otel_steps.reset()
    yield
    forget()
    otel_steps.reset()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The finished spans of an SDK provider of this test's own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime().tracer_provider = provider
    yield exporter
    provider.shutdown()
