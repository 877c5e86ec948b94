"""Bounds on what a receipt or a span may carry: 64-bit integers, short names, bounded and valid text."""

from __future__ import annotations

import sys
from typing import Final

INT64_MAX: Final = 2**63 - 1
NAME_MAX_CHARS: Final = 256
ERROR_MAX_BYTES: Final = 4096
NANO_PER_USD: Final = 1_000_000_000


def clamp_int64(value: int) -> int:
    """`value` held within what OTLP can carry; totals themselves never wrap."""
    return value if value <= INT64_MAX else INT64_MAX  # noqa: FURB136 - a dozen times a receipt; min() costs four times it


def name_text(text: str) -> str:
    """A name of at most 256 characters, lone surrogates replaced."""
    if len(text) <= NAME_MAX_CHARS and text.isascii():
        return text
    return valid_text(text[:NAME_MAX_CHARS])


def error_text(text: str) -> str:
    """An error's text of at most 4 KiB of UTF-8, cut at a character, lone surrogates replaced."""
    data = text.encode("utf-8", "replace")
    return data[:ERROR_MAX_BYTES].decode("utf-8", "ignore")


def valid_text(text: str) -> str:
    """`text` with everything that UTF-8 cannot carry replaced by a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def shown(value: object) -> str:
    """`value` as an error message shows it: its repr, shortened; of what has none to show, its type."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - somebody's __repr__, or an int of more digits than Python prints
        return f"<{type(value).__name__}>"
    return text if len(text) <= NAME_MAX_CHARS else f"{text[:NAME_MAX_CHARS]}..."


def usd(nano_usd: int) -> float:
    """US dollars of an exact amount in nano-USD; what no float can hold is the largest one."""
    try:
        return nano_usd / NANO_PER_USD
    except OverflowError:
        return sys.float_info.max


def nano_usd(amount: float) -> int:
    """US dollars as integer nano-USD, to the nearest."""
    try:
        return round(amount * NANO_PER_USD)
    except OverflowError:  # a finite limit nobody reaches, too large for a float of nano-USD
        return int(amount) * NANO_PER_USD
