"""Measuring in pairs: the same moment of the same machine for both sides, medians and quartiles over many turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

Work = Callable[[], object]
Clock = Callable[[], int]


@dataclass(frozen=True)
class Figure:
    """One row: what was measured, its median and quartiles, the unit, and the target where there is one."""

    name: str
    median: float
    low: float
    high: float
    unit: str
    target: float | None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the median is within the target; None without one."""
        return None if self.target is None else self.median <= self.target

    def noted(self, text: str) -> Figure:
        """The same with `text` behind its note."""
        return replace(self, note=f"{self.note}; {text}" if self.note else text)


def per_call_us(work: Work, calls: int, clock: Clock = time.perf_counter_ns) -> float:
    """Microseconds that one call of `work` takes, over `calls` of them, by the `clock`'s nanoseconds."""
    started = clock()
    for _ in range(calls):
        work()
    return (clock() - started) / calls / 1000


def ratio(
    name: str,
    ours: Work,
    base: Work,
    target: float | None,
    *,
    calls: int = 400,
    turns: int = 25,
    clock: Clock = time.perf_counter_ns,
) -> Figure:
    """How many times the base ours takes, measured in turn, the garbage collector off as in timeit."""
    pairs = _in_turn(ours, base, calls, turns, clock)
    values = [mine / other for mine, other in pairs]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return _figure(name, values, "x", target, f"{mine:.1f} us beside {other:.1f} us")


def difference(
    name: str, ours: Work, base: Work, target: float, *, each: int = 1, calls: int = 400, turns: int = 25
) -> Figure:
    """How many microseconds ours takes beyond the base, by `each` (the number of things in one call)."""
    pairs = _in_turn(ours, base, calls, turns)
    values = [(mine - other) / each for mine, other in pairs]
    mine, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return _figure(name, values, "us", target, f"{mine:.1f} us beside {other:.1f} us")


def absolute(name: str, work: Work, target: float, *, each: int = 1, calls: int = 400, turns: int = 25) -> Figure:
    """Microseconds of one call of `work`, by `each`."""
    per_call_us(work, calls)
    gc.collect()
    gc.disable()
    try:
        values = [per_call_us(work, calls) / each for _ in range(turns)]
    finally:
        gc.enable()
    return _figure(name, values, "us", target)


def of_values(name: str, values: list[float], unit: str, target: float | None, note: str = "") -> Figure:
    """A figure of values measured elsewhere."""
    return _figure(name, values, unit, target, note)


def _in_turn(
    ours: Work, base: Work, calls: int, turns: int, clock: Clock = time.perf_counter_ns
) -> list[tuple[float, float]]:
    per_call_us(ours, calls)
    per_call_us(base, calls)
    pairs: list[tuple[float, float]] = []
    for turn in range(turns):
        gc.collect()
        gc.disable()
        try:
            if turn % 2:
                mine, other = per_call_us(ours, calls, clock), per_call_us(base, calls, clock)
            else:
                other, mine = per_call_us(base, calls, clock), per_call_us(ours, calls, clock)
        finally:
            gc.enable()
        pairs.append((mine, other))
    return pairs


def _figure(name: str, values: list[float], unit: str, target: float | None, note: str = "") -> Figure:
    if len(values) < 2:
        return Figure(name, values[0], values[0], values[0], unit, target, note)
    low, median, high = statistics.quantiles(values, n=4)
    return Figure(name, median, low, high, unit, target, note)
