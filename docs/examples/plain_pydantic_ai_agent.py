"""Answers a customer from the shop's handbook: plan what to look up, then work with a tool. On Pydantic AI."""

import sys
from pathlib import Path

from pydantic_ai import Agent

HANDBOOK = Path(__file__).with_name("handbook.txt")
MODEL = "openai-chat:gpt-5.4-mini"

planner = Agent(MODEL, name="planner", instructions="Name the words to look up in our handbook for a customer.")
clerk = Agent(MODEL, name="clerk", instructions="Answer from the handbook alone.")


@clerk.tool_plain
def search(words: str) -> str:
    """Search the handbook for any of some words."""
    wanted = words.lower().split()
    return "\n".join(line for line in HANDBOOK.read_text().splitlines() if any(word in line.lower() for word in wanted))


def plan(question: str) -> str:
    return planner.run_sync(question).output


def answer(question: str, plan: str) -> str:
    return clerk.run_sync(f"{question}\nLook up: {plan}").output


def support(question: str) -> str:
    return answer(question, plan(question))


if __name__ == "__main__":
    for asked in sys.argv[1:] or ["May I return sale shoes?"]:
        print(support(asked))
