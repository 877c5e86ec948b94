"""Checks of what people write: each returns the value as it is kept, or raises DefinitionError with the remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from .bounds import shown
from .errors import DefinitionError

ERROR_BOUNDARIES: Final = ("fail", "continue", "escalate")
SIDE_EFFECT_LEVELS: Final = ("none", "read_only", "workspace_write", "process_exec", "network")


def mistake(field_name: str, value: object, remedy: str, *, where: str = "") -> DefinitionError:
    """A DefinitionError that names the field, the value and what to write instead."""
    return DefinitionError(
        f"{where}{field_name}={shown(value)} is not valid: write {remedy}",
        field=field_name,
        value=value,
        remedy=remedy,
    )


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether `value` is a dict or like one."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether `value` is a list or like one, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def one_of(choices: Sequence[str]) -> str:
    """The remedy for a value outside a closed list."""
    return "one of " + ", ".join(f'"{choice}"' for choice in choices)


def checked_name(field_name: str, value: Any) -> str:
    """A non-empty string, or DefinitionError."""
    if not isinstance(value, str) or not value:
        raise mistake(field_name, value, "a non-empty string")
    return value


def checked_model(value: Any) -> str | None:
    """A model name; empty is no model. DefinitionError for anything but a string or None."""
    if value is None or isinstance(value, str):
        return value or None
    raise mistake("model", value, "a model name, or None")


def checked_tokens(field_name: str, value: Any) -> int | None:
    """An int >= 1 or None, or DefinitionError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise mistake(field_name, value, "an int >= 1 (tokens), or None for no limit")
    return value


def checked_usd(field_name: str, value: Any) -> float | None:
    """A finite number >= 0 as float, or None, or DefinitionError."""
    if value is None:
        return None
    remedy = "a finite number >= 0 (US dollars), or None for no limit"
    if isinstance(value, bool) or not (isinstance(value, int | float) or _is_decimal(value)):
        raise mistake(field_name, value, remedy)
    try:
        amount = float(value)
    except (OverflowError, ValueError):  # an int beyond any float; a signalling NaN
        raise mistake(field_name, value, remedy) from None
    if not math.isfinite(amount) or amount < 0:
        raise mistake(field_name, value, remedy)
    return amount


def checked_choice(field_name: str, value: Any, choices: Sequence[str]) -> str:
    """One of `choices`, or DefinitionError."""
    if not isinstance(value, str) or value not in choices:
        raise mistake(field_name, value, one_of(choices))
    return value


def checked_level(field_name: str, value: Any) -> str | None:
    """A side-effect level or None, or DefinitionError."""
    return None if value is None else checked_choice(field_name, value, SIDE_EFFECT_LEVELS)


def checked_flag(field_name: str, value: Any) -> bool:
    """True or False, or DefinitionError."""
    if not isinstance(value, bool):
        raise mistake(field_name, value, "True or False")
    return value


def _is_decimal(value: object) -> bool:
    from decimal import Decimal  # loaded for what is neither int nor float

    return isinstance(value, Decimal)
