"""Services, each in a process of its own: FastAPI under uvicorn, with steps in them, and what they were told.

    python propagation_service.py '{"last": {"otel": true, "middleware": true, "propagate": [], "next": null}, ...}'

It prints a JSON object of their ports. `next` names the one that a service calls.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, StreamingResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_steps
from otel_steps import propagation, record_llm_usage, run, step

app = FastAPI()
seen: list[dict[str, str]] = []
exporter = InMemorySpanExporter()
settings: dict[str, Any] = {}


def spend(tokens: int, usd: float | None) -> None:
    with step("remote"):
        record_llm_usage("model-x", tokens, 0, usd)


@app.middleware("http")
async def note(request: Request, call_next: Any) -> Any:
    if not request.url.path.startswith("/-/"):
        seen.append(dict(request.headers) | {"path": request.url.path})
    return await call_next(request)


@app.post("/work")
async def work(tokens: int = 10, usd: float = 0.01) -> Any:
    spend(tokens, usd)
    return propagation.receipts()


@app.post("/thread")
def in_a_thread(tokens: int = 10, usd: float = 0.01) -> Any:
    spend(tokens, usd)
    return propagation.receipts()


@app.post("/unpriced")
async def unpriced() -> None:
    spend(10, None)


@app.post("/several")
async def several() -> None:
    spend(1, 0.001)
    with run("handling"):
        record_llm_usage("model-x", 2, 0, 0.002)
        spend(3, 0.003)


@app.post("/stream")
async def stream() -> StreamingResponse:
    async def body() -> Any:
        yield b"begun"  # the head of the response is out when this is taken
        spend(10, 0.01)
        yield b"done"

    return StreamingResponse(body())


@app.post("/forward")
@app.post("/gateway")
async def forward(request: Request) -> Any:
    async with httpx.AsyncClient() as client:
        if request.url.path == "/gateway":
            return (await client.post(settings["next"])).json()
        with step("middle"):
            record_llm_usage("model-x", 5, 0, 0.005)
            return (await client.post(settings["next"])).json()


@app.post("/redirect")
async def redirect(to: str) -> RedirectResponse:
    return RedirectResponse(to, status_code=307)


@app.get("/-/told")
def told() -> dict[str, Any]:
    """What was seen, receipts and spans since it was asked for last."""
    spans = [
        {"name": span.name, "span": f"{span.context.span_id:016x}", "trace": f"{span.context.trace_id:032x}",
         "parent": None if span.parent is None else f"{span.parent.span_id:016x}"}
        for span in exporter.get_finished_spans()
        if span.context is not None
    ]  # fmt: skip
    exporter.clear()
    headers = list(seen)
    seen.clear()
    receipts = [otel_steps.completed_step_to_json(receipt) for receipt in otel_steps.drain_completed_steps()]
    return {"seen": headers, "receipts": receipts, "spans": spans}


def serve(chosen: dict[str, Any], listening: socket.socket) -> None:
    settings.update(chosen)
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    otel_steps.configure(durability="off", deliver=False, propagate=settings["propagate"])
    if settings["middleware"]:
        app.add_middleware(propagation.ASGIMiddleware)
    if settings["otel"]:
        FastAPIInstrumentor.instrument_app(app)
        HTTPXClientInstrumentor().instrument()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def main() -> None:
    chosen: dict[str, dict[str, Any]] = json.loads(sys.argv[1])
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in chosen}
    ports = {name: listening.getsockname()[1] for name, listening in sockets.items()}
    for name, settings_of in chosen.items():
        if settings_of["next"]:
            settings_of["next"] = f"http://127.0.0.1:{ports[settings_of['next']]}/work"
        if os.fork() == 0:
            serve(settings_of, sockets[name])
            os._exit(0)
    print(json.dumps(ports), flush=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main()
