"""Each agent of docs/examples, edited and not, on its framework: receipts, exit code, and nothing sent once stopped."""

from __future__ import annotations

import difflib
import json
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import pytest

from otel_steps.testing.provider import ScriptedProvider
from tests.matrix.environments import ROOT, python_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from otel_steps.testing.provider import Request

FOLDER = ROOT / "docs" / "examples"
HOW_TO = ROOT / "docs" / "how-to"
QUESTIONS = ("May I return sale shoes?", "Tell me everything.")
"""The scripted model answers the first; it works on the second until somebody stops it."""
ANSWER, FALLBACK = "Sale items can be exchanged, and are not refunded.", "A colleague will answer you."
STOPPED = "otel_steps.errors.StepBudgetExceeded: step `answer` exceeded its max_usd budget"
TIMEOUT_S = 120.0
AT_ONCE = 2
INSTRUMENTATIONS = {"openai", "anthropic", "langchain", "openai_agents", "litellm", "crewai", "threading"}
"""By these names the environments' instrumentations are left out of a run."""
LESS_NOISE = {"NO_PROXY": "*", "no_proxy": "*", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

Form = Literal["edited", "plain"]


@dataclass(frozen=True)
class Example:
    """One agent: its file, the page that shows it, its environment, and who tells of its calls there."""

    name: str
    page: str
    environment: str
    told_by: frozenset[str]


EXAMPLES = (
    Example("openai_client", "openai", "clients", frozenset({"openai"})),
    Example("anthropic_client", "anthropic", "clients", frozenset({"anthropic"})),
    Example("openai_agents", "openai-agents", "clients", frozenset({"openai", "openai_agents"})),
    Example("langgraph_agent", "langgraph", "clients", frozenset({"langchain"})),
    Example("pydantic_ai_agent", "pydantic-ai", "clients", frozenset()),
    Example("litellm_agent", "litellm", "litellm", frozenset({"litellm"})),
    Example("crewai_agent", "crewai", "crewai", frozenset({"openai", "crewai"})),
)
FORMS: tuple[Form, ...] = ("edited", "plain")


@dataclass(frozen=True)
class Ended:
    """What a run came to: its exit code and output, what the provider was asked, and the receipts in the journal."""

    code: int
    out: str
    err: str
    requests: list[Request]
    receipts: list[dict[str, Any]]


def run(example: Example, form: Form, folder: Path) -> Ended:
    """Ask the example both questions, in a process and a home of its own."""
    python = python_of(example.environment)
    if form == "edited":
        command = [python, str(FOLDER / f"{example.name}.py")]
    else:
        under = "from otel_steps.cli import main; main()"
        steps, program = FOLDER / "steps.toml", FOLDER / f"plain_{example.name}.py"
        command = [python, "-c", under, "run", "--steps", str(steps), str(program)]
    script = runpy.run_path(str(FOLDER / "scripted_model.py"))
    home, store = folder / "home", folder / "store"
    home.mkdir(parents=True)
    with ScriptedProvider(script["reply"]) as provider:
        done = subprocess.run(
            [*command, *QUESTIONS],
            cwd=home,
            env=environment() | LESS_NOISE | script["QUIET"] | provider.environment
            | {
                "HOME": str(home),
                "PYTHONPATH": str(ROOT),
                "OTEL_STEPS_STORE": str(store),
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ",".join(sorted(INSTRUMENTATIONS - example.told_by)),
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
        requests = provider.requests
    return Ended(done.returncode, done.stdout, done.stderr, requests, receipts_in(store))


def environment() -> dict[str, str]:
    """Ours, without what is set for other programs."""
    foreign = ("OTEL_", "OPENAI_", "ANTHROPIC_", "PYTEST_", "CREWAI_", "XDG_", "LITELLM_", "LANG")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def receipts_in(store: Path) -> list[dict[str, Any]]:
    """The journal's receipts, each in its latest revision, in the order in which their steps ended."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(store.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            if told["kind"] == "receipt":
                found[told["receipt_id"]] = told
    return sorted(found.values(), key=lambda receipt: str(receipt["ended_at"]))


Runs = dict[tuple[Example, Form], "Future[Ended]"]


@pytest.fixture(scope="session")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """What the tests of this session ask for, some runs at once, so that none is waited for alone."""
    items: list[Any] = request.session.items
    parameters: list[dict[str, Any]] = [item.callspec.params for item in items if hasattr(item, "callspec")]
    asked: list[tuple[Example, Form]] = [(one["example"], one["form"]) for one in parameters if "form" in one]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            (example, form): pool.submit(run, example, form, tmp_path_factory.mktemp(f"{example.name}-{form}"))
            for example, form in asked
        }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_counted_and_stopped(example: Example, form: Form, runs: Runs) -> None:
    ended = runs[example, form].result()
    lines = [line for line in ended.out.splitlines() if line in {ANSWER, FALLBACK}]
    if form == "edited":
        assert (ended.code, lines) == (0, [ANSWER, FALLBACK]), ended.out + ended.err
    else:
        assert (ended.code, lines) == (1, [ANSWER]), ended.out + ended.err
        assert STOPPED in ended.err

    last = "skipped" if form == "edited" else "failed"
    assert [(receipt["name"], receipt["status"], receipt["breached"]) for receipt in ended.receipts] == [
        ("plan", "completed", []),
        ("answer", "completed", []),
        ("plan", "completed", []),
        ("answer", last, ["max_usd"]),
    ]
    assert {receipt["persona"] for receipt in ended.receipts} == {"support"}
    assert [figures(receipt) for receipt in ended.receipts] == truth(ended.requests)


def figures(receipt: dict[str, Any]) -> tuple[int, int, int]:
    """Calls, input and output tokens of a receipt that misses none."""
    assert (receipt["unmetered_calls"], receipt["unpriced_calls"]) == (0, 0)
    return receipt["llm_calls"], receipt["input_tokens"], receipt["output_tokens"]


def truth(requests: list[Request]) -> list[tuple[int, int, int]]:
    """The same of each step in turn, from the provider's log: plans are made without tools, answers with them.

    The last step's limit breaks at its second call, so that a third one in the log is one that was not refused.
    """
    steps = [list(calls) for _, calls in groupby(requests, key=lambda request: bool(request.body.get("tools")))]
    assert [len(calls) for calls in steps] == [1, 2, 1, 2]
    return [
        (
            len(calls),
            sum(request.input_tokens for request in calls),
            sum(request.output_tokens for request in calls),
        )
        for calls in steps
    ]


def test_the_scripted_model_is_put_in_place_of_the_real_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "scripted_model.py"), sys.executable, str(FOLDER / "openai_client.py")],
        cwd=tmp_path,
        env=environment() | {"OTEL_STEPS_STORE": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{ANSWER}\n"), done.stderr
    assert [json.loads(line)["input_tokens"] for line in done.stderr.splitlines()] == [1_200, 1_300, 1_500]


def change(example: Example) -> str:
    """What is to be done to the plain agent, as the pages show it: each change with a line around it."""
    before, after = (
        (FOLDER / f"{prefix}{example.name}.py").read_text(encoding="utf-8").splitlines() for prefix in ("plain_", "")
    )
    lines = list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]
    return "\n".join("@@" if line.startswith("@@") else line.rstrip() for line in lines)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_change_is_of_ten_lines_and_on_its_page(example: Example) -> None:
    shown = change(example)
    added = [line for line in shown.splitlines() if line.startswith("+") and line != "+"]
    assert len(added) <= 10
    assert not [line for line in shown.splitlines() if line.startswith("-")]
    assert f"```diff\n{shown}\n```\n" in (HOW_TO / f"{example.page}.md").read_text(encoding="utf-8")


def test_the_pages_have_one_shape() -> None:
    headings = {
        example.page: [
            line
            for line in (HOW_TO / f"{example.page}.md").read_text(encoding="utf-8").splitlines()
            if line.startswith("## ")
        ]
        for example in EXAMPLES
    }
    first = headings[EXAMPLES[0].page]
    assert len(first) > 3
    assert {page: found for page, found in headings.items() if found != first} == {}


def test_the_steps_file_is_shown_as_it_is() -> None:
    shown = (FOLDER / "steps.toml").read_text(encoding="utf-8").strip()
    assert f"```toml\n{shown}\n```\n" in (FOLDER / "README.md").read_text(encoding="utf-8")
