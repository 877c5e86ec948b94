"""Two calls that look alike are two: what tells them apart, and what does not."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from otel_steps.runtime.scope import Scope
from otel_steps.telemetry.duplicates import DuplicateFinder
from otel_steps.telemetry.model_lines import are_other_models
from tests.unit.test_duplicates import judge, told

GPT, CLAUDE = ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"), ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_calls_of_two_vendors_at_the_same_time_are_two(order: tuple[int, int]) -> None:
    reports = told("sdk.anthropic", 0, 90, models=CLAUDE), told("sdk.openai", 5, 95, models=GPT)
    assert judge(*(reports[i] for i in order)) == ["count", "count"]


def test_each_of_them_told_by_a_framework_too_is_still_two() -> None:
    for seed in range(40):
        reports = [
            told(scope, 0, 90 + n, models=models)
            for n, models in enumerate((GPT, CLAUDE))
            for scope in ("framework", "sdk." + models[1][:3])
        ]
        random.Random(seed).shuffle(reports)
        assert Counter(judge(*reports)) == {"count": 2, "discard": 2}


def test_a_call_and_an_embedding_of_as_many_tokens_are_two() -> None:
    chat, embedding = told("a", tokens=(10, 0)), told("b", tokens=(10, 0), embeds=True)
    assert judge(chat, embedding) == ["count", "count"]
    assert judge(told("a", tokens=(10, 0), span=8101), told("b", tokens=(10, 0), parent=8101, embeds=True)) == [
        "count",
        "count",
    ]
    assert judge(embedding, told("a", tokens=(10, 0), embeds=True)) == ["count", "discard"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt-4o", "claude-sonnet-4-5"),
        ("gpt-4o", "gpt-4o-mini"),
        ("claude-haiku-4-5", "anthropic/claude-sonnet-4-5"),
        ("gemini-2.5-flash", "gemini-2.5-flash-lite"),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "gpt-4.1"),
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("openai/o3", "groq/llama-3.3-70b-versatile"),
        ("mistral-large-latest", "command-r-plus"),
    ],
)
def test_models_of_other_vendors_or_sizes_are_told_apart(one: str, other: str) -> None:
    assert are_other_models((one,), (other,))
    assert are_other_models((other,), (None, one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4.1", "my-gpt-4-1-deployment"),
        (
            "claude-sonnet-4-5",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("openrouter/auto", "claude-sonnet-4-5"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/x1y2", "claude-sonnet-4-5"),
        ("gpt-5", "gpt-5-chat-latest"),
        ("llama3.3", "llama-3.3-70b-instruct"),
        ("deepseek-r1-distill-llama-70b", "llama-70b"),
        ("ChatOpenAI", "claude-sonnet-4-5"),
        ("production", "gpt-4o"),
        ("", "gpt-4o"),
    ],
)
def test_other_spellings_are_no_other_model(one: str, other: str) -> None:
    assert not are_other_models((one,), (other,))
    assert not are_other_models((other,), (one,))


def test_what_was_asked_for_and_what_answered_both_name_the_model() -> None:
    asked, answered = ("gpt-4o",), ("claude-sonnet-4-5", "gpt-4o")  # a router's fallback
    assert judge(told("router", models=answered), told("framework", models=asked)) == ["count", "discard"]


def test_a_router_around_the_sdk_of_another_vendor_is_one_call() -> None:
    inner, outer = told("sdk", 5, 90, parent=8201, models=CLAUDE), told("router", 0, 100, span=8201, models=("gpt-4o",))
    assert judge(inner, outer) == ["count", "discard"]


def test_calls_in_two_branches_are_two_and_in_a_step_around_them_one() -> None:
    root = Scope("root", None, None, None)
    left, right = Scope("left", root, None, None), Scope("right", root, None, None)
    assert judge(told("a", where=left), told("b", where=right)) == ["count", "count"]
    assert judge(told("a", where=left), told("b", where=left)) == ["count", "discard"]
    assert judge(told("a", where=left), told("b", where=root)) == ["count", "discard"]


def test_a_short_call_in_the_middle_of_a_long_stream_is_another_one() -> None:
    stream = told("a", 0, 60_000)
    assert judge(told("b", 20_000, 20_500), stream) == ["count", "count"]
    # a duplicate covers the call from its first byte on, or the last attempt alone
    assert judge(told("b", 10, 500), told("a", 0, 60_000)) == ["count", "discard"]
    assert judge(told("b", 58_000, 59_990), stream) == ["count", "discard"]


@pytest.mark.parametrize("scopes", [("a",), ("a", "b")])
def test_fifty_calls_alike_at_the_same_time_are_fifty(scopes: tuple[str, ...]) -> None:
    for seed in range(10):
        dice = random.Random(seed)
        calls = [(dice.randint(0, 5), dice.randint(80, 120)) for _ in range(50)]
        reports = [told(scope, start, end) for start, end in calls for scope in scopes]
        dice.shuffle(reports)
        assert Counter(judge(*reports))["count"] == 50


def test_a_thousand_calls_alike_told_by_one_scope_after_the_other_are_a_thousand() -> None:
    dice = random.Random(5)
    calls = [(dice.randint(0, 200), 1000 + dice.randint(0, 900)) for _ in range(1000)]
    reports = [told(scope, start, end) for scope in ("a", "b") for start, end in sorted(calls, key=lambda c: c[1])]
    assert Counter(judge(*reports)) == {"count": 1000, "discard": 1000}


def test_an_aggregate_that_nothing_marks_repeats_what_is_deep_inside_it() -> None:
    finder = DuplicateFinder()
    calls = [told("sdk", 10, 40, (10, 5), parent=8301), told("sdk", 50, 90, (12, 7), parent=8302)]
    assert [finder.judge(call).value for call in calls] == ["count", "count"]
    finder.pass_on(8301, 8303)  # two tools' spans
    finder.pass_on(8302, 8303)
    finder.pass_on(8303, 8304)  # their chain's
    assert finder.judge(told("agents", 0, 100, (22, 12), span=8304, parent=8305)).value == "discard"
    assert finder.judge(told("agents", 0, 101, (22, 12), span=8305, parent=None)).value == "discard"


def test_a_span_between_the_framework_and_the_sdk_changes_nothing() -> None:
    finder = DuplicateFinder()
    assert finder.judge(told("sdk", 10, 20, parent=8401)).value == "count"
    finder.pass_on(8401, 8402)
    assert finder.judge(told("framework", 0, 3000, span=8402)).value == "discard"


def test_a_late_report_finds_its_request_though_the_span_around_both_has_ended() -> None:
    finder = DuplicateFinder()
    assert finder.judge(told("logfire.openai", 0, 1, None, parent=8501)).value == "count"
    finder.pass_on(8501, 8502)
    assert finder.judge(told("logfire.openai", 1, 50, late=True, parent=8501)).value == "complete"


def test_cached_answers_with_the_first_one_s_id_are_told_and_charged_once() -> None:
    first, again = (told("router", n, n + 9, response_id="chatcmpl-CmXqT3nPz7kR") for n in (0, 500))
    assert judge(first, again) == ["count", "discard"]


def test_two_attempts_that_were_both_billed_are_two_though_all_is_equal() -> None:
    attempts = [told("sdk", 0, 40, parent=8601), told("sdk", 50, 90, parent=8601)]
    assert judge(*attempts, told("framework", 0, 100, span=8601)) == ["count", "count", "discard"]
