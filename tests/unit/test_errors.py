"""The exception tree: facts, messages, dict forms, marking, and the way across processes."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

import otel_steps
from otel_steps import (
    ApprovalRequired,
    DefinitionError,
    OtelStepsError,
    PersonaPaused,
    StageIterationsExceeded,
    StepBudgetExceeded,
    StepDenied,
    StepEscalated,
    StepStop,
    ToolDenied,
    errors,
    is_step_budget_exhausted,
    mark_escalated,
    persona,
    record_llm_usage,
    run,
    step,
)
from otel_steps.breach import Breach


def broken(boundary: Any = "fail", **limits: Any) -> StepBudgetExceeded:
    @step("plan", error_boundary=boundary, **limits)
    def plan_function() -> None:
        record_llm_usage("M", 30, 32, 0.062)

    with pytest.raises(StepBudgetExceeded) as stopped, persona("worker"):
        plan_function()
    return stopped.value


REFUSAL = Breach(
    scope="step",
    name="plan",
    limit="max_usd",
    limit_value=0.05,
    consumed_tokens=5,
    consumed_cost_nano_usd=10_000_000,
    step="plan",
    projected_tokens=100,
    projected_cost_nano_usd=62_000_000,
)


def test_the_tree() -> None:
    assert issubclass(DefinitionError, ValueError)
    assert issubclass(StepEscalated, StepBudgetExceeded)
    assert issubclass(StepStop, BaseException)
    assert not issubclass(StepStop, Exception)
    for error in (
        DefinitionError,
        StepBudgetExceeded,
        StepDenied,
        ToolDenied,
        ApprovalRequired,
        StageIterationsExceeded,
        PersonaPaused,
    ):
        assert issubclass(error, OtelStepsError)
        assert not issubclass(error, StepStop)


def test_the_facts_of_a_dollar_limit_as_attributes_and_as_a_dict() -> None:
    error = broken(max_usd=0.05)
    facts = {
        "category": "budget_exceeded",
        "kind": "budget_exhausted",
        "reason": "step_budget_exhausted",
        "scope": "step",
        "step": "plan",
        "function": f"{__name__}:broken.<locals>.plan_function",
        "persona": "worker",
        "limit": "max_usd",
        "limit_value": 0.05,
        "consumed_tokens": 62,
        "consumed_cost_usd": 0.062,
        "error_boundary": "fail",
        "message": "step `plan` exceeded its max_usd budget (0.062 > 0.05 USD)",
    }
    told = error.to_dict()
    assert {key: told[key] for key in facts} == facts
    assert {key: getattr(error, key) for key in facts} == facts
    assert str(error) == facts["message"]
    assert json.loads(json.dumps(told)) == told


def test_the_stop_inside_carries_the_same_facts() -> None:
    with pytest.raises(StepBudgetExceeded) as stopped, step("plan", max_tokens=10):
        try:
            record_llm_usage("M", 20, 0, 0.0)
        except StepStop as stop:
            inside = stop.to_dict()
            raise
    assert stopped.value.to_dict() == inside


def test_escalation_changes_the_category_alone() -> None:
    plain, escalated = broken(max_usd=0.05).to_dict(), broken("escalate", max_usd=0.05).to_dict()
    changed = {key for key in plain if plain[key] != escalated[key]}
    assert changed == {"category", "escalated", "error_boundary"}
    assert (escalated["category"], escalated["escalated"]) == ("handoff_escalation", True)


@pytest.mark.parametrize("kind", ["run", "persona"])
def test_a_limit_of_a_run_or_persona_names_the_step_where_it_broke(kind: str) -> None:
    scope = run("all", max_usd=0.05) if kind == "run" else persona("all", run_usd=0.05)
    with pytest.raises(StepBudgetExceeded) as stopped, scope:
        with step("outer"), step("inner"):
            record_llm_usage("M", 30, 32, 0.062)
    error = stopped.value
    assert (error.scope, error.step, error.function) == (kind, "inner", None)
    assert error.limit == ("max_usd" if kind == "run" else "run_usd")
    assert str(error) == f"{kind} `all` exceeded its {error.limit} budget (0.062 > 0.05 USD)"
    with pytest.raises(StepBudgetExceeded) as outside, run("all", max_tokens=1):
        record_llm_usage("M", 30, 32, 0.0)
    assert (outside.value.step, outside.value.function) == (None, None)


def test_a_refusal_is_terminal_and_tells_the_projected_amounts() -> None:
    error = StepBudgetExceeded(REFUSAL)
    assert (error.kind, error.reason, error.category) == ("terminal", "budget_exceeded", "budget_exceeded")
    assert (error.projected_tokens, error.projected_cost_usd) == (100, 0.062)
    assert str(error) == "step `plan` has no room left in its max_usd budget for this call (projected 0.062 > 0.05 USD)"
    assert error.to_dict()["projected_cost_usd"] == 0.062
    assert is_step_budget_exhausted(error)
    assert is_step_budget_exhausted(error.to_dict())


def test_exhaustion_is_told_from_everything_else() -> None:
    error = broken(max_tokens=10)
    stop = StepStop(error.breach)
    for yes in (error, stop, StepEscalated(error.breach), error.to_dict(), stop.to_dict()):
        assert is_step_budget_exhausted(yes)
    for no in (
        ValueError(),
        None,
        {"category": [], "kind": {}, "reason": []},
        "budget_exceeded",
        {},
        {"category": "budget_exceeded"},
        ToolDenied("t", "r"),
        [],
    ):
        assert not is_step_budget_exhausted(no)


@pytest.mark.parametrize("refused", [False, True])
def test_marking_escalates_objects_and_dicts_and_keeps_the_facts(refused: bool) -> None:
    error = StepBudgetExceeded(REFUSAL, result="partial") if refused else broken(max_usd=0.05)
    for form in (error, StepStop(error.breach), StepEscalated(error.breach)):
        marked = mark_escalated(form, step="other", function="m:other")
        assert isinstance(marked, StepEscalated)
        assert (marked.step, marked.function) == ("other", "m:other")
        assert (marked.kind, marked.reason, marked.limit) == (error.kind, error.reason, error.limit)
        assert is_step_budget_exhausted(marked)
    assert mark_escalated(error).result == error.result
    assert mark_escalated(error).step == error.step
    told = error.to_dict()
    marked_dict = mark_escalated(told, step="other")
    assert marked_dict == {**told, "category": "handoff_escalation", "escalated": True, "step": "other"}
    assert told["category"] == "budget_exceeded"
    assert is_step_budget_exhausted(marked_dict)
    for wrong in (ValueError(), {}, None):
        with pytest.raises(TypeError):
            mark_escalated(wrong)


def every_error() -> list[BaseException]:
    breach = broken(max_usd=0.05).breach
    return [
        OtelStepsError("plain"),
        DefinitionError("wrong", field="max_tokens", value=-1, remedy="an int"),
        StepBudgetExceeded(breach, result={"partial": [1]}),
        StepEscalated(REFUSAL, result="x"),
        StepStop(breach, owner=object()),
        StepDenied("plan", "PreStep", "no"),
        StepDenied("plan", "policy", "too deep"),
        ToolDenied("edit", "not allowed", step="plan"),
        ApprovalRequired("deploy", step="plan"),
        StageIterationsExceeded("plan", "worker", 3),
        PersonaPaused("worker", "lunch"),
    ]


def test_every_public_error_is_among_those_that_are_pickled_here() -> None:
    public = {
        value
        for key, value in vars(errors).items()
        if key in otel_steps.__all__ and isinstance(value, type) and issubclass(value, BaseException)
    }
    assert public == {type(error) for error in every_error()}


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_errors_cross_processes_whole(again: Any) -> None:
    for error in every_error():
        error.add_note("seen by the supervisor")
        twin = again(error)
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.args == error.args
        expected = {key: value for key, value in vars(error).items() if key != "owner"}
        assert {key: value for key, value in vars(twin).items() if key != "owner"} == expected
        assert getattr(twin, "category", None) == getattr(error, "category", None)


def test_a_result_that_cannot_be_pickled_does_not_keep_the_error_back() -> None:
    error = StepBudgetExceeded(REFUSAL, result=(item for item in ()))
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.result, twin.breach) == (None, error.breach)


def test_a_message_is_short_whatever_the_names_are() -> None:
    with pytest.raises(StepBudgetExceeded) as stopped, step("n" * 100_000, max_tokens=1):
        record_llm_usage("M", 2, 0, 0.0)
    assert len(str(stopped.value)) < 400
    with pytest.raises(StepBudgetExceeded) as stopped, step("plan", max_usd=1):
        record_llm_usage("m" * 100_000, 2, 0)
    assert len(str(stopped.value)) < 1000
