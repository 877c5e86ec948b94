"""Answers a customer from the shop's handbook: plan what to look up, then work with a tool. On CrewAI."""

import sys
from pathlib import Path
from typing import Any

import crewai.tools
from crewai import Agent, Crew, Task

HANDBOOK = Path(__file__).with_name("handbook.txt")
AGENT: Any = {"llm": "openai/gpt-5.4-mini", "backstory": "You work for a shoe shop.", "goal": "Help the customer."}


@crewai.tools.tool("search")
def search(words: str) -> str:
    """Search the handbook for any of some words."""
    wanted = words.lower().split()
    return "\n".join(line for line in HANDBOOK.read_text().splitlines() if any(word in line.lower() for word in wanted))


def work(agent: Agent, description: str) -> str:
    task = Task(description=description, expected_output="A line or two.", agent=agent)
    return Crew(agents=[agent], tasks=[task]).kickoff().raw


def plan(question: str) -> str:
    return work(Agent(role="planner", **AGENT), f"Name the words to look up in our handbook: {question}")


def answer(question: str, plan: str) -> str:
    return work(Agent(role="clerk", tools=[search], **AGENT), f"{question}\nLook up: {plan}")


def support(question: str) -> str:
    return answer(question, plan(question))


if __name__ == "__main__":
    for asked in sys.argv[1:] or ["May I return sale shoes?"]:
        print(support(asked))
