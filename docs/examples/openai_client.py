"""Answers a customer from the shop's handbook: plan what to look up, then work with a tool. On OpenAI's client."""

import json
import sys
from pathlib import Path
from typing import Any

from openai import OpenAI
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

import otel_steps
from otel_steps import persona, step, tool

OpenAIInstrumentor().instrument()
otel_steps.configure(service_name="support")

HANDBOOK = Path(__file__).with_name("handbook.txt")
MODEL = "gpt-5.4-mini"
WORDS = {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}
SEARCH: Any = {"name": "search", "description": "Search the handbook for any of some words.", "parameters": WORDS}

client = OpenAI()


@tool
def search(words: str) -> str:
    wanted = words.lower().split()
    return "\n".join(line for line in HANDBOOK.read_text().splitlines() if any(word in line.lower() for word in wanted))


@step(max_usd=0.01)
def plan(question: str) -> str:
    prompt = f"Which words should be looked up in our handbook to answer a customer? {question}"
    completion = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
    return completion.choices[0].message.content or ""


@step(max_usd=0.05, error_boundary="continue", fallback="A colleague will answer you.")
def answer(question: str, plan: str) -> str:
    messages: list[Any] = [
        {"role": "system", "content": f"Answer from the handbook alone. Look up: {plan}"},
        {"role": "user", "content": question},
    ]
    while True:
        completion = client.chat.completions.create(
            model=MODEL, messages=messages, tools=[{"type": "function", "function": SEARCH}]
        )
        message = completion.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message)
        for call in message.tool_calls:
            found = search(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": found})


@persona(name="support", run_usd=0.10)
def support(question: str) -> str:
    return answer(question, plan(question))


if __name__ == "__main__":
    for asked in sys.argv[1:] or ["May I return sale shoes?"]:
        print(support(asked))
