"""Definitions: what a decorator refuses where it is written, and value objects that stay what they are."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from decimal import Decimal
from typing import Any

import pytest

from otel_steps import (
    DefinitionError,
    OtelStepsError,
    PersonaDefinition,
    Stage,
    StepBudgetExceeded,
    StepDefinition,
    carry,
    configure,
    drain_completed_steps,
    persona,
    record_llm_usage,
    restore_active_context,
    run,
    set_price,
    step,
    tool,
)
from otel_steps.bounds import shown
from otel_steps.persona_definitions import PersonaBudget

NAN, INF = float("nan"), float("inf")
BAD_TOKENS = [0, -1, 1.5, 100.0, NAN, INF, "100", True, False, [], Decimal(5)]
BAD_USD = [-1, -0.01, NAN, INF, -INF, "1", True, False, [], Decimal("NaN"), Decimal(-1), 10**400]


def refused(field: str, value: Any, make: Any) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error, OtelStepsError)
    assert field in str(error)
    assert shown(value) in str(error)
    assert error.field == field
    assert error.remedy
    assert error.remedy in str(error)


@pytest.mark.parametrize("value", BAD_TOKENS, ids=repr)
def test_max_tokens_must_be_an_int_of_at_least_one(value: Any) -> None:
    refused("max_tokens", value, lambda: step(max_tokens=value))
    refused("max_tokens", value, lambda: step("x", max_tokens=value))
    refused("max_tokens", value, lambda: step(lambda: 1, max_tokens=value))  # type: ignore[call-overload]
    refused("max_tokens", value, lambda: persona("x", max_tokens=value))
    refused("max_tokens", value, lambda: run("x", max_tokens=value))
    refused("max_tokens", value, lambda: StepDefinition("x", max_tokens=value))
    refused("max_tokens", value, lambda: PersonaBudget(max_tokens=value))


@pytest.mark.parametrize("value", BAD_USD, ids=lambda value: repr(value)[:12])
def test_dollars_must_be_a_finite_number_of_at_least_zero(value: Any) -> None:
    refused("max_usd", value, lambda: step("x", max_usd=value))
    refused("max_usd", value, lambda: run("x", max_usd=value))
    refused("max_usd", value, lambda: StepDefinition("x", max_usd=value))
    for field in ("run_usd", "daily_usd", "hourly_usd"):
        refused(field, value, lambda field=field: persona("x", **{field: value}))


@pytest.mark.parametrize("value", [0, 0.0, -0.0, 1, 0.05, Decimal("0.05"), 1e300, 10**300])
def test_dollars_that_are_limits(value: Any) -> None:
    assert StepDefinition("x", max_usd=value).max_usd == float(value)
    with step("x", max_usd=value), persona("p", run_usd=value), run("r", max_usd=value):
        record_llm_usage("m", 1, 1, 0)


def test_zero_dollars_stop_at_the_first_paid_call() -> None:
    with step("free", max_usd=0):
        record_llm_usage("m", 1, 1, 0)
    with pytest.raises(StepBudgetExceeded), step("paid", max_usd=0):
        record_llm_usage("m", 1, 1, 1e-9)


@pytest.mark.parametrize("value", ["retry", "FAIL", "", None, 3, True, ["fail"]], ids=repr)
def test_an_unknown_boundary_is_refused_at_the_decorator(value: Any) -> None:
    refused("error_boundary", value, lambda: step("x", error_boundary=value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("admission", "pre"),
        ("admission", None),
        ("unpriced", "ignore"),
        ("unpriced", True),
        ("inclusive", 1),
        ("inclusive", None),
        ("approval", "yes"),
        ("model", 3),
        ("model", True),
    ],
)
def test_other_options_of_a_step_are_checked(field: str, value: Any) -> None:
    refused(field, value, lambda: step("x", **{field: value}))


@pytest.mark.parametrize("value", ["", 3, True, b"x"], ids=repr)
def test_a_name_is_a_string_that_says_something(value: Any) -> None:
    for make in (
        lambda: step(name=value),
        lambda: persona(name=value),
        lambda: run(value),
        lambda: Stage(value),
        lambda: StepDefinition(value),
        lambda: PersonaDefinition(value),
        lambda: tool(name=value),
    ):
        refused("name", value, make)
    if isinstance(value, str):
        refused("name", value, lambda: step(value))


def test_two_names_are_one_too_many() -> None:
    refused("name", "b", lambda: step("a", name="b"))
    refused("name", "b", lambda: persona("a", name="b"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allowed_tools", "read"),
        ("allowed_tools", 3),
        ("allowed_tools", {"read": 1}),
        ("side_effect_level", "readonly"),
        ("side_effect_level", ""),
        ("side_effect_level", True),
        ("side_effect_level", 1),
        ("max_iterations", -1),
        ("max_iterations", 1.0),
        ("max_iterations", True),
        ("max_iterations", "3"),
        ("on_exit", "next"),
        ("on_exit", ["next"]),
    ],
)
def test_a_stage_is_checked(field: str, value: Any) -> None:
    refused(field, value, lambda: Stage("x", **{field: value}))


@pytest.mark.parametrize("value", [["read", ""], ["read", 3], [None]], ids=repr)
def test_allowed_tools_are_strings(value: list[Any]) -> None:
    with pytest.raises(DefinitionError, match="allowed_tools"):
        Stage("x", allowed_tools=value)


def test_a_duplicate_stage_name_is_refused() -> None:
    refused("stages", "a", lambda: persona("p", stages=[Stage("a"), Stage("b"), Stage("a")]))
    refused("stages", "a", lambda: PersonaDefinition("p", (Stage("a"), Stage("a"))))


@pytest.mark.parametrize("value", ["a", {"name": "a"}, 3, [{"name": "a"}], ["a"]], ids=repr)
def test_stages_are_a_list_of_stages(value: Any) -> None:
    with pytest.raises(DefinitionError, match="stages"):
        persona("p", stages=value)


@pytest.mark.parametrize(("field", "value"), [("policy", {"tools": []}), ("output_style", "terse")])
def test_other_options_of_a_persona_are_checked(field: str, value: Any) -> None:
    refused(field, value, lambda: persona("p", **{field: value}))
    if field == "policy":
        refused(field, value, lambda: run("r", policy=value))


@pytest.mark.parametrize("value", [NAN, INF, -1, True, "1", None], ids=repr)
def test_garbage_in_set_price_is_refused(value: Any) -> None:
    with pytest.raises(DefinitionError):
        set_price("m", input_usd_per_mtok=value, output_usd_per_mtok=1)
    with pytest.raises(DefinitionError):
        set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=value)
    if value is not None:
        with pytest.raises(DefinitionError):
            set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=1, cache_read_usd_per_mtok=value)
        with pytest.raises(DefinitionError):
            set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=1, cache_write_usd_per_mtok=value)


def test_unknown_keywords_are_pythons_own_type_error() -> None:
    for make in (
        lambda: step("x", max_token=3),  # type: ignore[call-overload]
        lambda: persona("x", max_usd=3),  # type: ignore[call-overload]
        lambda: run("x", budget=3),  # type: ignore[call-arg]
        lambda: Stage("x", tools=[]),  # type: ignore[call-arg]
        lambda: tool(level="none"),  # type: ignore[call-overload]
        lambda: configure(endpont="x"),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError):
            make()


def test_an_empty_model_is_no_model() -> None:
    assert StepDefinition("x", model="").model is None
    with step("x", model=""):
        pass
    assert drain_completed_steps()[0].model is None


def test_definitions_are_frozen_hashable_copyable_and_compare_by_value() -> None:
    made = [
        lambda: StepDefinition("x", "m:f", "gpt", 10, 0.5, "continue"),
        lambda: Stage(
            "s", allowed_tools=["a"], side_effect_level="none", max_iterations=2, on_exit={"on_complete": "t"}
        ),
        lambda: PersonaDefinition("p", (Stage("s"),), {"name": "terse"}, PersonaBudget(run_usd=1)),
    ]
    for make in made:
        value = make()
        assert value == make()
        assert hash(value) == hash(make())
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.name = "other"


def test_definitions_do_not_follow_what_they_were_made_of() -> None:
    tools, route, style, stages = ["a"], {"on_complete": "t"}, {"name": "terse"}, [Stage("s")]
    stage = Stage("s", allowed_tools=tools, on_exit=route)
    definition = PersonaDefinition("p", stages, style)  # type: ignore[arg-type]
    tools.append("b")
    route["on_complete"] = "u"
    style["name"] = "long"
    stages.append(Stage("t"))
    assert stage.allowed_tools == ("a",)
    assert stage.on_exit == {"on_complete": "t"}
    assert stage.next_stage(failed=False) == "t"
    assert definition.output_style == {"name": "terse"}
    assert [s.name for s in definition.stages] == ["s"]
    with pytest.raises(TypeError):
        stage.on_exit["on_complete"] = "u"  # type: ignore[index]


def test_persona_definition_refuses_a_budget_of_another_shape() -> None:
    refused("budget", {"run_usd": 1}, lambda: PersonaDefinition("p", budget={"run_usd": 1}))  # type: ignore[arg-type]


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("value", [-(10**5000), "7" * 10_000_000, Unprintable()], ids=["digits", "long", "no repr"])
def test_a_mistake_is_told_shortly_whatever_the_value_is(value: Any) -> None:
    text: Any = "7" if isinstance(value, int) else value
    for wrong in (
        lambda: step(max_tokens=value),
        lambda: step(max_usd=value),
        lambda: set_price("m", input_usd_per_mtok=value, output_usd_per_mtok=1),
        lambda: record_llm_usage("m", text, 0, 0),
    ):
        with pytest.raises(DefinitionError) as told:
            wrong()
        assert len(str(told.value)) < 500


def test_what_cannot_be_carried_or_restored_is_a_mistake_that_is_told() -> None:
    not_a_function: Any = 3
    with pytest.raises(DefinitionError, match="function=3 "):
        carry(not_a_function)
    with pytest.raises(DefinitionError, match="snapshot=3 "):
        restore_active_context(not_a_function)
