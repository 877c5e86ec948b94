"""A Celery application whose tasks are steps: `celery -A tests.fleet.propagation_tasks worker`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_steps import configure, propagation, record_llm_usage, step

app: Any = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)


def set_up() -> None:
    """What a worker's process does at its start."""
    trace.set_tracer_provider(TracerProvider())
    configure(durability="off", deliver=False, propagate=["127.0.0.1"])
    if os.environ.get("WITH_OTEL") == "before":
        instrument()


def instrument() -> None:
    from opentelemetry.instrumentation.celery import CeleryInstrumentor

    CeleryInstrumentor().instrument()


@app.task(name="summarize")
def summarize(tokens: int) -> list[dict[str, Any]]:
    with step("remote"):
        record_llm_usage("model-x", tokens, 0, 0.01)
    return propagation.receipts()


@app.task(name="outer")
def outer(tokens: int) -> None:
    summarize.delay(tokens)


@app.task(name="again", bind=True, max_retries=1, default_retry_delay=0)
def again(self: Any, tokens: int) -> list[dict[str, Any]]:
    if not self.request.retries:
        raise self.retry()
    return summarize.run(tokens)  # type: ignore[no-any-return]


if os.environ.get("IS_WORKER"):
    if os.environ.get("WITH_OTEL") == "after":
        instrument()
    set_up()
