"""Answers a customer from the shop's handbook: plan what to look up, then work with a tool. On OpenAI Agents."""

import asyncio
import sys
from pathlib import Path

from agents import Agent, Runner, function_tool

HANDBOOK = Path(__file__).with_name("handbook.txt")
MODEL = "gpt-5.4-mini"


@function_tool
def search(words: str) -> str:
    """Search the handbook for any of some words."""
    wanted = words.lower().split()
    return "\n".join(line for line in HANDBOOK.read_text().splitlines() if any(word in line.lower() for word in wanted))


planner = Agent(name="planner", model=MODEL, instructions="Name the words to look up in our handbook for a customer.")
clerk = Agent(name="clerk", model=MODEL, instructions="Answer from the handbook alone.", tools=[search])


async def plan(question: str) -> str:
    result = await Runner.run(planner, question)
    return str(result.final_output)


async def answer(question: str, plan: str) -> str:
    result = await Runner.run(clerk, f"{question}\nLook up: {plan}")
    return str(result.final_output)


async def support(question: str) -> str:
    return await answer(question, await plan(question))


async def main(questions: list[str]) -> None:
    for asked in questions:
        print(await support(asked))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["May I return sale shoes?"]))
