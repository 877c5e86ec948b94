"""The one price table of the runtime in force: made on first use, with the prices that the environment names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import DefinitionError
from ..runtime import meter
from ..runtime.state import runtime

if TYPE_CHECKING:
    from ..usage import Usage
    from .pricing import PriceTable


def price(usage: Usage) -> None:
    """Price a call by the table in force, as of the call's end."""
    (runtime().price_table or prices()).apply(usage, usage.ended_ns)


def prices() -> PriceTable:
    """The price table in force. A mistake in the environment's prices is warned of once; those are then not used."""
    rt = runtime()
    table: PriceTable | None = rt.price_table
    if table is not None:
        return table
    from .pricing import PriceTable

    with meter.LOCK:
        table = rt.price_table
        if table is None:
            table = PriceTable()
            try:
                table.load_environment(os.environ)
            except DefinitionError as mistake:
                rt.warnings.once("prices", "%s", mistake)
            rt.price_table = table
    return table
