"""Answers a customer from the shop's handbook: plan what to look up, then work with a tool. On LangGraph."""

import sys
from pathlib import Path
from typing import Any, TypedDict

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

import otel_steps
from otel_steps import persona, step, tool

LangChainInstrumentor().instrument()
otel_steps.configure(service_name="support")

HANDBOOK = Path(__file__).with_name("handbook.txt")

model = ChatOpenAI(model="gpt-5.4-mini")


class State(TypedDict, total=False):
    question: str
    plan: str
    answer: str


@tool
def search(words: str) -> str:
    """Search the handbook for any of some words."""
    wanted = words.lower().split()
    return "\n".join(line for line in HANDBOOK.read_text().splitlines() if any(word in line.lower() for word in wanted))


@step(max_usd=0.01)
def plan(state: State) -> State:
    prompt = f"Which words should be looked up in our handbook to answer a customer? {state['question']}"
    return {"plan": model.invoke(prompt).text}


@step(max_usd=0.05, error_boundary="continue", fallback={"answer": "A colleague will answer you."})
def answer(state: State) -> State:
    agent = create_agent(model, tools=[search], system_prompt="Answer from the handbook alone.")
    done = agent.invoke({"messages": [("user", f"{state['question']}\nLook up: {state['plan']}")]})
    return {"answer": done["messages"][-1].text}


@persona(name="support", run_usd=0.10)
def support(question: str) -> str:
    graph: Any = StateGraph(State).add_sequence([plan, answer]).add_edge(START, "plan").compile()
    return graph.invoke({"question": question})["answer"]


if __name__ == "__main__":
    for asked in sys.argv[1:] or ["May I return sale shoes?"]:
        print(support(asked))
