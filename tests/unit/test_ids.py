"""Ids of receipts and runs: sortable by time, and of the random numbers that set-up or a test chose."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from otel_steps.runtime import state
from otel_steps.runtime.lifecycle import new_id
from otel_steps.runtime.state import Defaults, Runtime

if TYPE_CHECKING:
    import pytest


def test_ids_are_of_version_7_and_sort_by_time() -> None:
    runtime = Runtime()
    ids = [new_id(runtime, 1_764_000_000_000_000_000 + nanos) for nanos in range(0, 4_000_000, 1000)]
    assert all(len(one) == 32 and one[12] == "7" and one[16] in "89ab" for one in ids)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_the_first_id_loads_what_makes_them_and_leaves_what_others_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, chosen = Defaults(), Runtime()
    first = fresh.random_bits
    chosen.random_bits = lambda bits: 5
    monkeypatch.setattr(state, "defaults", fresh)
    monkeypatch.setattr(state, "_runtime", chosen)
    assert first(8) < 256
    assert fresh.random_bits == random.getrandbits
    assert new_id(chosen, 0).endswith("8000000000000005")
