"""The declarative configuration file with our entry in it: samplers drop what they drop, and accounting is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = """
file_format: "1.0"
resource:
  attributes:
    - {{name: service.name, value: declared}}
tracer_provider:
  sampler: {sampler}
  processors:
    - simple:
        exporter:
          console:
instrumentation/development:
  python:
    otel_steps:
      durability: "off"
      max_tokens: {max_tokens}
"""
PROGRAM = """
import json, sys
from opentelemetry import trace

tracer = trace.get_tracer("emitter")  # before anything is set up
if sys.argv[1:]:
    from opentelemetry.configuration import configure_sdk, load_config_file
    configure_sdk(load_config_file(sys.argv[1]))

import otel_steps
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

def work(flags):
    remote = NonRecordingSpan(SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(flags)))
    with trace.use_span(remote), otel_steps.step("plan", max_tokens=100):
        for _ in range(3):
            with tracer.start_as_current_span(
                "chat", attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
            ) as span:
                span.set_attribute("gen_ai.usage.input_tokens", 60)

for flags in (0, 1):
    try:
        work(flags)
    except otel_steps.StepBudgetExceeded as stopped:
        print("stopped at", stopped.consumed_tokens)
print("counted", [(record.llm_calls, record.total_input_tokens) for record in otel_steps.peek_completed_steps()])
"""


def told(command: list[str], **env: str) -> list[str]:
    """What the program prints, a line an exported span among it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTEST_"))}
    done = subprocess.run(
        command, env={**kept, **env}, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def exported(lines: list[str]) -> list[str]:
    """The names of the exported spans."""
    decoder, text = json.JSONDecoder(), "\n".join(lines)
    names: list[str] = []
    at = text.find("{\n")
    while at >= 0:
        span: Any
        span, end = decoder.raw_decode(text, at)
        names.append(span["name"])
        at = text.find("{\n", end)
    return names


@pytest.mark.parametrize(
    ("sampler", "names"),
    [
        ("{always_on: }", ["chat", "chat", "plan", "chat", "chat", "plan"]),
        ("{always_off: }", []),
        ("{parent_based: {root: {always_off: }}}", ["chat", "chat", "plan"]),
        ("{trace_id_ratio_based: {ratio: 0.5}}", ["chat", "chat", "plan"] * 2),
        ("{parent_based: {root: {trace_id_ratio_based: {ratio: 0.0}}}}", ["chat", "chat", "plan"]),
    ],
)
def test_accounting_is_whole_and_the_export_the_sampler_s_own(sampler: str, names: list[str], tmp_path: Path) -> None:
    file = tmp_path / "otel.yaml"
    file.write_text(FILE.format(sampler=sampler, max_tokens=1000), encoding="utf-8")
    lines = told([sys.executable, "-c", PROGRAM, str(file)])
    assert [line for line in lines if line.startswith(("stopped", "counted"))] == [
        "stopped at 120",
        "stopped at 120",
        "counted [(2, 120), (2, 120)]",
    ]
    assert [name for name in exported(lines) if name in {"chat", "plan"}] == names


@pytest.mark.parametrize("named", [True, False])
def test_automatic_instrumentation_takes_the_file_and_the_variables(named: bool, tmp_path: Path) -> None:
    file = tmp_path / "otel.yaml"
    file.write_text(FILE.format(sampler="{always_off: }", max_tokens=1000), encoding="utf-8")
    env = {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    if named:
        env = {"OTEL_CONFIG_FILE": str(file)}
    instrument = str(Path(sys.executable).with_name("opentelemetry-instrument"))
    lines = told([instrument, sys.executable, "-c", PROGRAM], OTEL_LOGS_EXPORTER="none", **env)
    assert "counted [(2, 120), (2, 120)]" in lines
    assert exported(lines) == []
