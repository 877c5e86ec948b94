"""Definitions from dicts (a file, another runtime): read by a fixed table, never wider than what was written."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, TypeGuard

from .attributes import LOGGER_NAME
from .checks import is_list, is_mapping, mistake
from .definitions import StepDefinition
from .errors import DefinitionError
from .persona_definitions import PersonaBudget, PersonaDefinition, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(LOGGER_NAME)


def step_from_dict(function: str, metadata: Any) -> StepDefinition:
    """A StepDefinition from untrusted `metadata`.

    Unusable limits are no limit, with a warning that names the field; a positive max_tokens that truncates to 0 is a
    DefinitionError. `error_boundary` is kept as given and acts as `fail` unless it is `continue` or `escalate`.
    """
    facts = _mapping(function, "metadata", metadata)
    _warn_unknown(function, "", facts, _STEP_KEYS)
    name = facts.get("name")
    model = facts.get("model")
    boundary = facts.get("error_boundary", "fail")
    return StepDefinition(
        name=name if isinstance(name, str) and name else bare_name(function),
        function=function,
        model=model if isinstance(model, str) and model else None,
        max_tokens=_tokens(function, "max_tokens", facts.get("max_tokens")),
        max_usd=_usd(function, "max_usd", facts.get("max_usd")),
        error_boundary=boundary if isinstance(boundary, str) else "fail",
    )


def persona_from_dict(function: str, metadata: Any) -> PersonaDefinition:
    """A PersonaDefinition from untrusted `metadata`. Raises DefinitionError that names function, field and fault."""
    facts = _mapping(function, "metadata", metadata)
    _warn_unknown(function, "", facts, _PERSONA_KEYS)
    name = facts.get("name")
    stages = facts.get("stages")
    if stages is None:
        stages = ()
    if not is_list(stages):
        raise mistake("stages", stages, "a list of dicts, each with a string `name`", where=f"{function}: ")
    style = facts.get("output_style")
    budget = facts.get("budget")
    try:
        return PersonaDefinition(
            name=name if isinstance(name, str) and name else bare_name(function),
            stages=tuple(_stage(function, index, stage) for index, stage in enumerate(stages)),
            output_style=style if is_mapping(style) else None,
            budget=_budget(function, budget),
        )
    except DefinitionError as error:
        if str(error).startswith(function):
            raise
        raise DefinitionError(
            f"{function}: {error}", field=error.field, value=error.value, remedy=error.remedy
        ) from error


def bare_name(function: str) -> str:
    """The function's own name of `module:qualname`."""
    return function.rpartition(":")[2].rpartition(".")[2] or function


def _mapping(function: str, field: str, value: Any) -> Mapping[str, Any]:
    if not is_mapping(value):
        raise mistake(field, value, "a dict", where=f"{function}: ")
    return value


def _stage(function: str, index: int, value: Any) -> Stage:
    where = f"{function}: stages[{index}]."
    if not is_mapping(value):
        raise mistake(f"stages[{index}]", value, "a dict with a string `name`", where=f"{function}: ")
    if not isinstance(value.get("name"), str) or not value["name"]:
        raise mistake("name", value.get("name"), "a non-empty string", where=where)
    _warn_unknown(function, f"stages[{index}].", value, _STAGE_KEYS)
    tools = value.get("allowed_tools")
    if tools is not None and (not is_list(tools) or any(not isinstance(tool, str) or not tool for tool in tools)):
        raise mistake("allowed_tools", tools, "a list of strings, [] to deny every tool, or null", where=where)
    level = value.get("side_effect_level")
    if level is not None and (not isinstance(level, str) or not level):
        raise mistake("side_effect_level", level, "a non-empty string, or null", where=where)
    route = value.get("on_exit")
    try:
        return Stage(
            value["name"],
            allowed_tools=None if tools is None else list(tools),
            side_effect_level=level,
            max_iterations=_iterations(function, f"stages[{index}].max_iterations", value.get("max_iterations")),
            on_exit=route,
        )
    except DefinitionError as error:
        raise DefinitionError(f"{where}{error}", field=error.field, value=error.value, remedy=error.remedy) from error


def _iterations(function: str, field: str, value: Any) -> int | None:
    if _usable(value):
        return int(value)
    _warn_no_limit(function, field, value)
    return None


def _budget(function: str, value: Any) -> PersonaBudget | None:
    if not is_mapping(value):
        _warn_no_limit(function, "budget", value)
        return None
    _warn_unknown(function, "budget.", value, _BUDGET_KEYS)
    return PersonaBudget(
        run_usd=_usd(function, "budget.run_usd", value.get("run_usd")),
        daily_usd=_usd(function, "budget.daily_usd", value.get("daily_usd")),
        hourly_usd=_usd(function, "budget.hourly_usd", value.get("hourly_usd")),
        max_tokens=_tokens(function, "budget.max_tokens", value.get("max_tokens")),
    )


def _tokens(function: str, field: str, value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value or None
    if not _usable(value):
        _warn_no_limit(function, field, value)
        return None
    if value == 0:
        return None
    if int(value) == 0:
        raise mistake(field, value, "an int >= 1 (tokens); this one truncates to 0", where=f"{function}: ")
    return int(value)


def _usd(function: str, field: str, value: Any) -> float | None:
    if _usable(value):
        return float(value)
    _warn_no_limit(function, field, value)
    return None


def _usable(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value) and value >= 0


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _warn_no_limit(function: str, field: str, value: Any) -> None:
    if value is not None:
        _log.warning(
            "%s: %s=%r is not a limit and is ignored; write %s",
            function,
            field,
            value,
            "a dict" if field == "budget" else "a number",
        )


def _warn_unknown(function: str, prefix: str, facts: Mapping[str, Any], known: frozenset[str]) -> None:
    """A key that nobody reads is most often a misspelt limit."""
    unknown = sorted(f"{prefix}{key}" for key in facts if key not in known)
    if unknown:
        _log.warning("%s: %s is not read; known are %s", function, ", ".join(unknown), ", ".join(sorted(known)))


_STEP_KEYS = frozenset(("name", "function", "model", "max_tokens", "max_usd", "error_boundary"))
_PERSONA_KEYS = frozenset(("name", "function", "stages", "output_style", "budget"))
_BUDGET_KEYS = frozenset(("run_usd", "daily_usd", "hourly_usd", "max_tokens"))
_STAGE_KEYS = frozenset(("name", "allowed_tools", "side_effect_level", "max_iterations", "on_exit"))
