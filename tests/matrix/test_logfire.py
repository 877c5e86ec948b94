"""Logfire's own provider and streams, for real: configured again, sampled out, and told of late."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.matrix.environments import ROOT, python_of

CONFIGURED = """
import json, sys
import logfire, otel_steps
from opentelemetry import trace

again, inside, sampled = (word in sys.argv for word in ("again", "inside", "sampled"))
options = {"send_to_logfire": False, "console": False}
if sampled:
    options["sampling"] = logfire.SamplingOptions(head=0.0)
logfire.configure(**options)
tracer = trace.get_tracer("emitter")
otel_steps.configure(durability="off", deliver=False)
stopped = []

def work(name):
    try:
        with otel_steps.step(name, max_tokens=100):
            for _ in range(3):
                with tracer.start_as_current_span(
                    "chat", attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
                ) as span:
                    span.set_attribute("gen_ai.usage.input_tokens", 60)
    except otel_steps.StepBudgetExceeded as error:
        stopped.append(error.consumed_tokens)

work("first")
with otel_steps.step("around") if inside else otel_steps.suspended():
    if again:
        logfire.configure(service_name="again", **options)
    work("second")
work("third")
tokens = {record.name: record.total_input_tokens for record in otel_steps.peek_completed_steps()}
print(json.dumps({"stopped": stopped, "tokens": tokens}))
"""
STREAMS = """
import json, logging, sys
import logfire, openai, otel_steps
from otel_steps.testing.provider import Reply, ScriptedProvider

logfire.configure(send_to_logfire=False, console=False)
logfire.instrument_openai()
warned = []
handler = logging.Handler()
handler.emit = lambda record: warned.append(record.getMessage())
logging.getLogger("otel_steps").addHandler(handler)
otel_steps.configure(durability="off", deliver=False, unmetered="stop")
seen, error = [], None
with ScriptedProvider() as provider:
    client = openai.OpenAI(base_url=provider.openai_url, api_key="none", max_retries=0)
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    if "asks" in sys.argv:
        asked["stream_options"] = {"include_usage": True}
    try:
        with otel_steps.step("plan", max_usd=1.0) as plan:
            for _ in range(3):
                stream = client.chat.completions.create(**asked)
                seen.append(list(plan.breached))
                for _ in stream:
                    pass
    except otel_steps.StepBudgetExceeded as stopped:
        error = str(stopped)
    calls = len(provider.requests)
    truth = sum(request.input_tokens for request in provider.requests)
record = otel_steps.peek_completed_steps()[-1]
print(json.dumps({"calls": [calls, record.llm_calls], "tokens": [truth, record.input_tokens], "breached": seen,
                  "unmetered": record.unmetered_calls, "error": error, "warned": warned}))
"""


def told(program: str, *words: str) -> dict[str, Any]:
    """What the program says, in the environment that logfire is in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTEST_"))}
    done = subprocess.run(
        [python_of("clients"), "-c", program, *words],
        env={**kept, "PYTHONPATH": str(ROOT), "NO_PROXY": "*"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


@pytest.mark.parametrize("words", [(), ("again",), ("again", "inside"), ("sampled",), ("again", "inside", "sampled")])
def test_steps_are_metered_and_stopped_though_logfire_is_configured_again(words: tuple[str, ...]) -> None:
    facts = told(CONFIGURED, *words)
    assert facts["stopped"] == [120] * 3
    around = {"around": 120} if "inside" in words else {}
    assert facts["tokens"] == {"first": 120, "second": 120, "third": 120, **around}


def test_a_stream_is_not_stopped_as_unmetered_before_its_usage_is_told() -> None:
    facts = told(STREAMS, "asks")
    assert (facts["calls"], facts["error"], facts["warned"]) == ([3, 3], None, [])
    assert facts["tokens"][0] == facts["tokens"][1] > 0
    assert (facts["unmetered"], facts["breached"]) == (0, [[]] * 3)


def test_a_stream_without_usage_stops_the_next_call() -> None:
    facts = told(STREAMS)
    assert (facts["calls"], facts["unmetered"]) == ([1, 1], 1)
    assert "ended without usage" in facts["error"]
