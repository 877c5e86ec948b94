"""Agents of a fleet: `shared_agent.py URL FOLDER COUNT WHAT [ARGUMENT ...]`.

Each is a process of its own, forked before anything is set up, so that twenty of them begin at once. Agent N writes
what each of its calls cost to FOLDER/N.calls, and how it ended to FOLDER/N.end.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

import otel_steps
from otel_steps import StepBudgetExceeded, record_llm_usage, run, set_price, step

URL, FOLDER, COUNT, WHAT, *WORDS = sys.argv[1:]
CAP = 1000
"""Output tokens of a call at most; at 10 USD per million they cost 0.01 USD."""


@dataclass
class Self:
    """Which agent this process is, and where it writes."""

    number: int = -1
    tell: int = -1


SELF = Self()


def made(nano_usd: int) -> None:
    os.write(SELF.tell, b"%d\n" % nano_usd)


def model_call(tracer: object, output_tokens: int, pause_s: float) -> None:
    """As an instrumentation tells it: the cap at its start, the usage at its end."""
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.request.max_tokens": CAP}
    with tracer.start_as_current_span("chat m", attributes=attributes) as span:  # type: ignore[attr-defined]
        made(output_tokens * 10_000)
        time.sleep(pause_s)
        span.set_attributes({"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": output_tokens})


def spend(admission: Any, max_usd: str, pause_s: str, calls: str = "100000", unavailable: Any = "allow") -> None:
    provider = TracerProvider()
    otel_steps.configure(tracer_provider=provider, shared=URL, shared_unavailable=unavailable, durability="off")
    set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=10)
    tracer = provider.get_tracer("opentelemetry.instrumentation.scripted")
    dice = random.Random(os.getpid())
    try:
        with run("fleet", max_usd=float(max_usd)), step("work", admission=admission):
            for _ in range(int(calls)):
                model_call(tracer, dice.randint(200, CAP), float(pause_s))
    except StepBudgetExceeded as stop:
        end(f"{stop.kind} {stop.scope} {stop.limit}")
    report()


def add(count: str, seconds: str = "0") -> None:
    """By hand, amounts that no float holds exactly in sum."""
    otel_steps.configure(shared=URL, durability="off")
    dice = random.Random(os.getpid())
    held = 0.0
    until = time.monotonic() + float(seconds)
    done = 0
    with run("fleet", max_usd=10.0**6), step("work"):
        while done < int(count) or time.monotonic() < until:
            nano_usd = dice.randint(1, 2_000_000)
            made(nano_usd)
            before = time.perf_counter()
            record_llm_usage("m", 1, 1, nano_usd / 1e9)
            held = max(held, time.perf_counter() - before)
            done += 1
            if float(seconds):
                time.sleep(0.002)
    end(f"held {held:.3f}")
    report()


def die_holding() -> None:
    """Killed in the middle of a call whose worst case is held."""
    provider = TracerProvider()
    otel_steps.configure(tracer_provider=provider, shared=URL, durability="off")
    set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=10)
    tracer = provider.get_tracer("opentelemetry.instrumentation.scripted")
    with run("fleet", max_usd=1.0), step("work", admission="reserve"):
        model_call(tracer, CAP, 0)
        model_call(tracer, CAP, 3600)


def report() -> None:
    (record,) = otel_steps.drain_completed_steps()
    end(f"unconsulted {record.shared_unconsulted_calls} of {record.llm_calls}")


def warm_up() -> None:
    """Load everything once, not in each process."""
    provider = TracerProvider()
    otel_steps.configure(tracer_provider=provider, durability="off")
    tracer = provider.get_tracer("opentelemetry.instrumentation.scripted")
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.request.max_tokens": 1}
    with run("warm", max_usd=1), step("up", admission="reserve"), tracer.start_as_current_span("chat", attributes=told):
        pass
    import_module("redis")
    import_module("otel_steps.shared.link")
    import_module("otel_steps.shared.budgets")
    otel_steps.reset()


def end(line: str) -> None:
    with Path(FOLDER, f"{SELF.number}.end").open("a") as file:
        file.write(line + "\n")


def main() -> None:
    """In the first process: fork the others, let them begin together, and wait for them."""
    warm_up()
    read, write = os.pipe()
    children: list[int] = []
    for SELF.number in range(int(COUNT)):
        if (child := os.fork()) == 0:
            os.close(write)
            os.read(read, 1)
            SELF.tell = os.open(Path(FOLDER, f"{SELF.number}.calls"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            {"spend": spend, "add": add, "die_holding": die_holding}[WHAT](*WORDS)
            return
        children.append(child)
    print(*children, flush=True)
    sys.stdin.readline()
    os.close(write)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main()
