"""OpenSteps: what the open steps have spent so far, kept by a writer and rebuilt by whoever finds it dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ..bounds import clamp_int64, usd

if TYPE_CHECKING:
    from ..record import CompletedStep
    from .lines import Spent

OPEN_MAX: Final = 100_000
"""Steps remembered as open; beyond it the oldest is forgotten (it is never going to be closed)."""
CLOSED_MAX: Final = 10_000
"""Closed steps remembered with their parent, for usage that lands after they closed."""
EARLY_MAX: Final = 10_000
"""Charges remembered that came before the line that opens their step."""


class _Open:
    __slots__ = (
        "around", "cache_read", "cache_write", "calls", "input", "invalid", "model", "nano_usd", "output",
        "price_source", "reasoning", "record", "total_calls", "total_input", "total_nano_usd", "total_output",
        "unconsulted", "unmetered", "unpriced",
    )  # fmt: skip

    def __init__(self, record: CompletedStep, around: _Open | None) -> None:
        self.record = record
        self.around = around
        """The step around this one, where it was known when this one was; it may have closed since."""
        self.model = record.model
        self.price_source = record.price_source
        self.input = record.input_tokens
        self.output = record.output_tokens
        self.nano_usd = record.cost_nano_usd
        self.calls = record.llm_calls
        self.cache_read = record.cache_read_tokens
        self.cache_write = record.cache_write_tokens
        self.reasoning = record.reasoning_tokens
        self.unpriced = record.unpriced_calls
        self.unmetered = record.unmetered_calls
        self.invalid = record.invalid_costs
        self.unconsulted = record.shared_unconsulted_calls
        self.total_input = record.total_input_tokens
        self.total_output = record.total_output_tokens
        self.total_nano_usd = record.total_cost_nano_usd
        self.total_calls = record.total_llm_calls


class OpenSteps:
    """Open steps with spending in them. Not safe for threads by itself: the writer holds its lock around each call."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        # parent of each closed step, in two generations: the older half is forgotten at once, when the younger is full
        self._closed: dict[str, str | None] = {}
        self._closed_before: dict[str, str | None] = {}
        self._early: dict[str, list[Spent]] = {}
        self._early_count = 0

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, record: CompletedStep) -> None:
        """A step is open; its record's totals are from before the charges that follow."""
        if record.receipt_id in self._closed or record.receipt_id in self._closed_before:
            return  # threads race to the journal: the step's end was faster than the charge that announces it
        if len(self._open) >= OPEN_MAX:
            del self._open[next(iter(self._open))]
        around = None if record.parent_receipt_id is None else self._open.get(record.parent_receipt_id)
        self._open[record.receipt_id] = step = _Open(record, around)
        for line in self._early.pop(record.receipt_id, ()):
            self._early_count -= 1
            if line.receipt_id == record.receipt_id and line.elsewhere is None:
                _add_own(step, line)
            self._add_around(record.receipt_id, line)

    def standing(self, line: Spent) -> Spent:
        """`line` as the file it goes into has to tell it: of a step that has closed, on the open one around it.

        Which step is around a closed one may stand in an earlier file, and who finds us dead reads the last one alone.
        """
        receipt_id: str | None = line.receipt_id
        while receipt_id is not None and receipt_id not in self._open:
            closed = self._closed if receipt_id in self._closed else self._closed_before
            receipt_id = closed.get(receipt_id)
        if receipt_id is None or receipt_id == line.receipt_id:
            return line
        return msgspec.structs.replace(line, receipt_id=receipt_id, elsewhere=_calls(line))

    def spent(self, line: Spent) -> None:
        """A call was charged to a step: added to its own totals, and to the inclusive ones of all open around it."""
        step = self._open.get(line.receipt_id)
        if step is None:
            self._add_around(line.receipt_id, line)
            return
        input_tokens, output_tokens, nano_usd = _add_own(step, line) if line.elsewhere is None else _amounts(line)
        calls = _calls(line)
        while True:
            step.total_input += input_tokens
            step.total_output += output_tokens
            step.total_nano_usd += nano_usd
            step.total_calls += calls
            if step.around is None:
                break
            step = step.around
        if step.record.parent_receipt_id is not None:
            self._add_around(step.record.parent_receipt_id, line)

    def closed(self, record: CompletedStep) -> None:
        """A step finished."""
        receipt_id, closed = record.receipt_id, self._closed
        if receipt_id in self._open:
            del self._open[receipt_id]
        closed[receipt_id] = record.parent_receipt_id
        if len(closed) >= CLOSED_MAX // 2:
            self._closed_before, self._closed = closed, {}

    def clear(self) -> None:
        """Forget everything, as a forked child does with its parent's steps."""
        self._open.clear()
        self._closed.clear()
        self._closed_before.clear()
        self._early.clear()
        self._early_count = 0

    def records(self, **changes: str) -> list[CompletedStep]:
        """Each open step as of its last charge, outermost first as they were opened, with `changes` to its fields."""
        return [_record(step, changes) for step in self._open.values()]

    def _add_around(self, receipt_id: str | None, line: Spent) -> None:
        """Add to all from `receipt_id` on, looked up one by one: closed ones are between, or lines are out of order."""
        input_tokens, output_tokens, nano_usd = _amounts(line)
        # bounded by the number of steps, so that damaged lines that name each other as parents cannot loop for ever
        for _ in range(len(self._open) + len(self._closed) + len(self._closed_before) + 1):
            if receipt_id is None:
                return
            step = self._open.get(receipt_id)
            if step is not None:
                step.total_input += input_tokens
                step.total_output += output_tokens
                step.total_nano_usd += nano_usd
                step.total_calls += _calls(line)
                receipt_id = step.record.parent_receipt_id
            elif receipt_id in self._closed:
                receipt_id = self._closed[receipt_id]
            elif receipt_id in self._closed_before:
                receipt_id = self._closed_before[receipt_id]
            else:
                self._remember_early(receipt_id, line)
                return

    def _remember_early(self, receipt_id: str, line: Spent) -> None:
        # threads race to the journal: the line that opens a step may be behind the charge of another thread
        self._early.setdefault(receipt_id, []).append(line)
        self._early_count += 1
        if self._early_count > EARLY_MAX:
            self._early_count -= len(self._early.pop(next(iter(self._early))))


def _calls(line: Spent) -> int:
    """How many model calls a line tells of: one, or those of steps elsewhere whose totals came back."""
    return 1 if line.elsewhere is None else max(0, line.elsewhere)


def _amounts(line: Spent) -> tuple[int, int, int]:
    """Tokens in and out, and nano-USD; what a damaged or foreign line has below zero is none."""
    input_tokens, output_tokens, nano_usd = line.input_tokens, line.output_tokens, line.cost_nano_usd or 0
    if input_tokens < 0 or output_tokens < 0 or nano_usd < 0:
        return max(0, input_tokens), max(0, output_tokens), max(0, nano_usd)
    return input_tokens, output_tokens, nano_usd


def _add_own(step: _Open, line: Spent) -> tuple[int, int, int]:
    input_tokens, output_tokens, nano_usd = _amounts(line)
    step.input += input_tokens
    step.output += output_tokens
    step.nano_usd += nano_usd
    step.calls += 1
    if line.cache_read_tokens > 0:
        step.cache_read += line.cache_read_tokens
    if line.cache_write_tokens > 0:
        step.cache_write += line.cache_write_tokens
    if line.reasoning_tokens > 0:
        step.reasoning += line.reasoning_tokens
    if not line.metered:
        step.unmetered += 1
    elif line.cost_nano_usd is None:
        step.unpriced += 1
    if line.invalid_cost:
        step.invalid += 1
    if line.unconsulted:
        step.unconsulted += 1
    if line.model:
        step.model = line.model
    if line.price_source:
        step.price_source = line.price_source
    return input_tokens, output_tokens, nano_usd


def _record(step: _Open, changes: dict[str, str]) -> CompletedStep:
    nano_usd = clamp_int64(step.nano_usd)
    total_nano_usd = clamp_int64(step.total_nano_usd)
    return msgspec.structs.replace(
        step.record,
        model=step.model,
        price_source=step.price_source,
        input_tokens=clamp_int64(step.input),
        output_tokens=clamp_int64(step.output),
        cost_usd=usd(nano_usd),
        cost_nano_usd=nano_usd,
        llm_calls=step.calls,
        cache_read_tokens=clamp_int64(step.cache_read),
        cache_write_tokens=clamp_int64(step.cache_write),
        reasoning_tokens=clamp_int64(step.reasoning),
        unpriced_calls=step.unpriced,
        unmetered_calls=step.unmetered,
        invalid_costs=step.invalid,
        shared_unconsulted_calls=step.unconsulted,
        total_input_tokens=clamp_int64(step.total_input),
        total_output_tokens=clamp_int64(step.total_output),
        total_cost_usd=usd(total_nano_usd),
        total_cost_nano_usd=total_nano_usd,
        total_llm_calls=step.total_calls,
        **changes,
    )
