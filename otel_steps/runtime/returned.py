"""What steps elsewhere came to, on its way back: how it is written, read, and charged to the step that asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ..bounds import INT64_MAX, clamp_int64
from ..usage import Usage
from . import meter
from .charging import take_in
from .lifecycle import new_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..record import CompletedStep
    from .remote import Caller
    from .scope import Scope
    from .state import Runtime

ITEMS_MAX: Final = 32
"""Receipts told one by one in an answer; those beyond are told as one, under the id of the first of them."""
HEADER_MAX: Final = 8192
"""Characters of an answer that are read."""
KNOWN_MAX: Final = 100_000
"""Receipts remembered as charged; beyond it the oldest is forgotten."""
_ID = re.compile("[0-9a-f]{32}")
_COUNT = re.compile("[0-9]{1,19}")


class Returned(NamedTuple):
    """Inclusive totals of one step elsewhere, with everything that was nested in it."""

    receipt_id: str
    revision: int = 1
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int = 0
    unpriced_calls: int = 0


_PARAMETERS: Final = {"rev": "revision", "calls": "calls", "in": "input_tokens", "out": "output_tokens",
                      "nano_usd": "nano_usd", "unpriced": "unpriced_calls"}  # fmt: skip


def totals_of(receipt: CompletedStep | Returned) -> Returned:
    """What is told of a receipt."""
    if isinstance(receipt, Returned):
        return receipt
    return Returned(
        receipt.receipt_id,
        receipt.revision,
        receipt.total_llm_calls,
        receipt.total_input_tokens,
        receipt.total_output_tokens,
        receipt.total_cost_nano_usd,
    )


def answer_to(runtime: Runtime, caller: Caller) -> list[Returned]:
    """What the work done for `caller` came to so far: an item for each outermost step, and one for the rest."""
    with meter.LOCK:
        items = [totals_of(receipt) for receipt in caller.receipts.values()]
        outside = (caller.calls, caller.input_tokens, caller.output_tokens, caller.nano_usd, caller.unpriced_calls)
    if any(outside):
        items.append(Returned(new_id(runtime, runtime.clock()), 1, *outside))
    if len(items) > ITEMS_MAX:
        together = [sum(amounts) for amounts in zip(*(item[2:] for item in items[ITEMS_MAX - 1 :]), strict=True)]
        items[ITEMS_MAX - 1 :] = [Returned(items[ITEMS_MAX - 1].receipt_id, 1, *together)]
    return items


def to_header(items: Iterable[Returned]) -> str:
    """The items as the value of a response header: `<receipt id>;rev=1;calls=2;in=30;out=10;nano_usd=1500000, ...`."""
    return ", ".join(
        ";".join([item.receipt_id, *(f"{key}={min(getattr(item, name), INT64_MAX)}" for key, name in _WRITTEN)])
        for item in items
    )


_WRITTEN: Final = tuple(_PARAMETERS.items())


def from_header(value: str) -> list[Returned]:
    """The items of a response header; what is not well formed is left out, amounts are held within 64 bits."""
    items: list[Returned] = []
    for part in value[:HEADER_MAX].split(",")[: 2 * ITEMS_MAX]:
        receipt_id, *parameters = (piece.strip() for piece in part.split(";"))
        amounts: dict[str, int] = {}
        for parameter in parameters:
            key, _, count = parameter.partition("=")
            if key in _PARAMETERS and _COUNT.fullmatch(count):
                amounts[_PARAMETERS[key]] = clamp_int64(int(count))
        if _ID.fullmatch(receipt_id):
            items.append(Returned(receipt_id, **amounts))
    return items


def take_back(runtime: Runtime, scope: Scope, items: Iterable[Returned], *, by_hand: bool) -> None:
    """Charge what came back to the inclusive totals of `scope` and all around it; each receipt once.

    A later revision adds what it has more. Own totals stay: the calls are the other steps'. A limit that this breaks
    stops the next call, and with `by_hand` this one, by StepStop.
    """
    for item in items:
        more = _not_yet_charged(runtime, item)
        if more is None:
            continue
        usage = Usage(
            model="(of a step elsewhere)",
            input_tokens=more.input_tokens,
            output_tokens=more.output_tokens,
            cost_nano_usd=more.nano_usd,
            elsewhere=more.calls,
            unpriced=more.unpriced_calls > 0,
        )
        take_in(runtime, scope, usage, by_hand=by_hand)


def _not_yet_charged(runtime: Runtime, item: Returned) -> Returned | None:
    known = runtime.returned
    with meter.LOCK:
        before: Returned | None = known.get(item.receipt_id)
        if before is not None and before.revision >= item.revision:
            return None
        known[item.receipt_id] = item
        if len(known) > KNOWN_MAX:
            del known[next(iter(known))]
    if before is None:
        return item if any(item[2:]) else None
    amounts = [max(now - then, 0) for now, then in zip(item[2:], before[2:], strict=True)]
    return Returned(item.receipt_id, item.revision, *amounts) if any(amounts) else None
