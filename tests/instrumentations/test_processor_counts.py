"""What is counted of calls at the same time, by real spans of several emitters, which all say the same of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import otel_steps
from otel_steps import drain_completed_steps, run, step
from tests.instrumentations.emitting import REQUEST, usage

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.trace import Tracer


@pytest.fixture
def provider(tmp_path: Path) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    otel_steps.configure(tracer_provider=made, store=tmp_path)
    return made


async def ask(tracer: Tracer, model: str, seconds: float, **more: Any) -> None:
    """One call of 10 + 5 tokens without a response id."""
    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model, **more}
    with tracer.start_as_current_span(f"chat {model}", attributes=asked) as span:
        await asyncio.sleep(seconds)
        told = usage(10, output=5)
        del told["gen_ai.response.id"]
        span.set_attributes({**told, "gen_ai.response.model": model})


async def test_a_stream_of_claude_around_a_call_of_gpt_counts_beside_it(provider: TracerProvider) -> None:
    openai, anthropic = provider.get_tracer("sdk.openai"), provider.get_tracer("com.anthropic.sdk.python")
    with step("plan"):
        await asyncio.gather(ask(anthropic, "claude-sonnet-4-5", 0.05), ask(openai, "gpt-4o-mini", 0.04))
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.duplicates_discarded) == (2, 20, 0)
    assert (record.unmetered_calls, record.unpriced_calls) == (0, 0)


async def test_fifty_parallel_calls_alike_told_by_two_emitters_are_fifty(provider: TracerProvider) -> None:
    async def twice() -> None:
        told = {**REQUEST, **usage(10, output=5)}
        del told["gen_ai.response.id"]
        both = [provider.get_tracer(name).start_span("chat", attributes=told) for name in ("framework", "sdk")]
        await asyncio.sleep(0.02)
        for span in both:
            span.end()

    with step("plan"):
        await asyncio.gather(*(twice() for _ in range(50)))
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.duplicates_discarded) == (50, 500, 50)


async def test_branches_that_ask_the_same_by_other_means_are_as_many_calls(provider: TracerProvider) -> None:
    async def branch(name: str) -> None:
        with step(name):
            await ask(provider.get_tracer(f"emitter.{name}"), "gpt-4o-mini", 0.02)

    with run("all") as running:
        await asyncio.gather(branch("left"), branch("right"), branch("middle"))
    assert running.totals.llm_calls == 3


async def test_an_embedding_beside_a_call_of_as_many_tokens_counts_too(provider: TracerProvider) -> None:
    embed = {"gen_ai.operation.name": "embeddings"}
    with step("plan"):
        await asyncio.gather(
            ask(provider.get_tracer("framework"), "gpt-4o-mini", 0.02),
            ask(provider.get_tracer("sdk"), "my-deployment", 0.02, **embed),
        )
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.duplicates_discarded) == (2, 0)


def test_sums_on_an_unmarked_span_around_tools_are_no_call(provider: TracerProvider) -> None:
    tracer = provider.get_tracer("sdk")
    with step("plan"), provider.get_tracer("crew").start_as_current_span("kickoff") as crew:
        for tokens in (10, 20):
            with tracer.start_as_current_span("work"), tracer.start_as_current_span("more work"):
                with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}) as span:
                    span.set_attributes(usage(tokens, output=1))
        crew.set_attributes({"gen_ai.request.model": "gpt-4o-mini", "gen_ai.usage.input_tokens": 30})
        crew.set_attribute("gen_ai.usage.output_tokens", 2)
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.duplicates_discarded) == (2, 30, 1)


def test_usage_that_a_span_tells_in_an_event_is_read(provider: TracerProvider) -> None:
    with step("plan"), provider.get_tracer("sdk").start_as_current_span("chat", attributes=REQUEST) as span:
        span.add_event("gen_ai.client.inference.operation.details", usage(10, output=5))
        span.add_event("first token")
    (record,) = drain_completed_steps()
    assert (record.llm_calls, record.input_tokens, record.output_tokens, record.unmetered_calls) == (1, 10, 5, 0)
