"""The keys of the steps file: what each holds, checked by the reader and told by the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ..checks import ERROR_BOUNDARIES, SIDE_EFFECT_LEVELS, one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Key:
    """One key: what may be written (`remedy`), whether a value is that, and what it does (`words`)."""

    remedy: str
    allows: Callable[[Any], bool]
    words: str


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value) and value >= 0


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def _is_tokens(value: Any) -> bool:
    return _is_amount(value) and (value == 0 or value >= 1)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))  # pyright: ignore[reportUnknownArgumentType]


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_table, value))  # pyright: ignore[reportUnknownArgumentType]


def _text(words: str) -> Key:
    return Key("a non-empty text", _is_text, words)


def _usd(words: str) -> Key:
    return Key("a number >= 0 (US dollars)", _is_amount, words)


def _tokens(words: str) -> Key:
    return Key("a number of tokens >= 1, or 0 for no limit", _is_tokens, words)


def _price(words: str) -> Key:
    return Key("a number >= 0 (US dollars per million tokens)", _is_amount, words)


def _choice(choices: tuple[str, ...], words: str) -> Key:
    return Key(one_of(choices), lambda value: isinstance(value, str) and value in choices, words)


RUN: Final[Mapping[str, Key]] = {
    "name": _text("name of the run around the program; default: the program's own"),
    "max_usd": _usd("limit over everything that the program does, US dollars; 0 stops at the first paid call"),
    "max_tokens": Key("a number of tokens >= 1", _is_limit, "the same in input and output tokens together"),
}

STEP: Final[Mapping[str, Key]] = {
    "name": _text("name of the step; default: the function's"),
    "model": _text("the model it is meant for, told by `default_model()` and on the receipt"),
    "max_tokens": _tokens("limit of each call of the function, input and output tokens together"),
    "max_usd": _usd("the same in US dollars; 0 stops at the first paid call"),
    "error_boundary": _choice(ERROR_BOUNDARIES, "what its caller gets when a limit broke; default: fail"),
}

PERSONA: Final[Mapping[str, Key]] = {
    "name": _text("name of the persona; default: the function's"),
    "stages": Key("a list of tables", _is_tables, "limits on tools and side effects for steps of the same names"),
    "output_style": Key("a table", _is_table, "`name` and `instructions`, for the agent to read"),
    "budget": Key("a table", _is_table, "limits of the persona"),
}

BUDGET: Final[Mapping[str, Key]] = {
    "run_usd": _usd("limit of one call of the function, US dollars"),
    "daily_usd": _usd("limit of a UTC day over all processes of the store, US dollars"),
    "hourly_usd": _usd("limit of a UTC hour, the same way"),
    "max_tokens": _tokens("limit of one call of the function, input and output tokens together"),
}

STAGE: Final[Mapping[str, Key]] = {
    "name": _text("name of the step"),
    "allowed_tools": Key(
        "a list of tool names or globs, [] to deny every tool", _is_texts, "the only tools it may call"
    ),
    "side_effect_level": _choice(SIDE_EFFECT_LEVELS, "the most that its tools may do"),
    "max_iterations": Key("a number >= 0", _is_amount, "how often the step may be entered in one call of the persona"),
    "on_exit": Key("a table", _is_table, "`on_complete` and `on_failure`: the next stage, named on the receipt"),
}

PRICE: Final[Mapping[str, Key]] = {
    "input_usd_per_mtok": _price("price of a million input tokens; needed"),
    "output_usd_per_mtok": _price("price of a million output tokens; needed"),
    "cache_read_usd_per_mtok": _price("price of a million tokens read from a cache; default: as input"),
    "cache_write_usd_per_mtok": _price("price of a million tokens written to a cache; default: as input"),
    "provider": _text("hold for calls of this provider only"),
}

TABLES: Final[Mapping[str, str]] = {
    "run": "the run around the whole program",
    "steps": 'one table a function that is to be a step, such as `[steps."agent:plan"]`',
    "personas": 'one table a function that is to be a persona, such as `[personas."agent:main"]`',
    "prices": 'one table a model, such as `[prices."my-model"]`; a list of tables for several providers',
}

SUB_TABLES: Final = ("stages", "budget")
"""What a misspelt key may have been meant as, beside the keys of its own table."""
