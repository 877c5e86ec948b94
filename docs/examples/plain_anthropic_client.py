"""Answers a customer from the shop's handbook: plan what to look up, then work with a tool. On Anthropic's client."""

import sys
from pathlib import Path
from typing import Any

from anthropic import Anthropic

HANDBOOK = Path(__file__).with_name("handbook.txt")
ASKED: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 1_000}
WORDS = {"type": "object", "properties": {"words": {"type": "string"}}, "required": ["words"]}
SEARCH: Any = {"name": "search", "description": "Search the handbook for any of some words.", "input_schema": WORDS}

client = Anthropic()


def search(words: str) -> str:
    wanted = words.lower().split()
    return "\n".join(line for line in HANDBOOK.read_text().splitlines() if any(word in line.lower() for word in wanted))


def text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def plan(question: str) -> str:
    prompt = f"Which words should be looked up in our handbook to answer a customer? {question}"
    return text(client.messages.create(**ASKED, messages=[{"role": "user", "content": prompt}]))


def answer(question: str, plan: str) -> str:
    system = f"Answer from the handbook alone. Look up: {plan}"
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        message = client.messages.create(**ASKED, system=system, messages=messages, tools=[SEARCH])
        messages.append({"role": "assistant", "content": message.content})
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": search(**block.input)}
            for block in message.content
            if block.type == "tool_use"
        ]
        if not results:
            return text(message)
        messages.append({"role": "user", "content": results})


def support(question: str) -> str:
    return answer(question, plan(question))


if __name__ == "__main__":
    for asked in sys.argv[1:] or ["May I return sale shoes?"]:
        print(support(asked))
