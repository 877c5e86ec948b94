"""What open steps have spent, rebuilt from lines in any order threads may write them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from otel_steps.receipts import open_steps
from otel_steps.receipts.lines import Spent, spent_of
from otel_steps.receipts.open_steps import OpenSteps
from tests.faults.records import opened, usage

if TYPE_CHECKING:
    from otel_steps.record import CompletedStep


@dataclass
class Node:
    record: CompletedStep
    parent: Node | None
    own: list[int] = field(default_factory=list)
    total: list[int] = field(default_factory=list)
    closed: bool = False


def charge(node: Node, tokens: int) -> Spent:
    return spent_of(node.record.receipt_id, usage(tokens, 0, tokens * 7), 1)


@given(st.integers(0, 2**32), st.booleans())
def test_totals_are_the_sums_of_the_calls_whatever_closed_in_between(seed: int, snapshots: bool) -> None:
    rng = random.Random(seed)
    steps = OpenSteps()
    nodes: list[Node] = []
    for _ in range(60):
        what = rng.random()
        if what < 0.3 or not nodes:
            parent = rng.choice([*nodes, None])
            if parent is not None and parent.closed:
                parent = None
            node = Node(opened(parent=parent.record if parent else None), parent)
            nodes.append(node)
            steps.opened(node.record)
        elif what < 0.8:
            node = rng.choice(nodes)
            tokens = rng.randrange(100)
            steps.spent(charge(node, tokens))
            node.own.append(tokens)
            around: Node | None = node
            while around is not None:
                around.total.append(tokens)
                around = around.parent
        elif what < 0.9:
            node = rng.choice(nodes)
            node.closed = True
            steps.closed(node.record)
        elif snapshots and not any(node.closed for node in nodes):
            # a new file begins with what is open; who reads it knows nothing of what was before
            fresh = OpenSteps()
            for record in steps.records():
                fresh.opened(record)
            steps = fresh
    found = {record.receipt_id: record for record in steps.records()}
    assert set(found) == {node.record.receipt_id for node in nodes if not node.closed}
    for node in nodes:
        if not node.closed:
            record = found[node.record.receipt_id]
            assert record.input_tokens == sum(node.own)
            assert record.cost_nano_usd == 7 * sum(node.own)
            assert record.llm_calls == len(node.own)
            assert record.total_input_tokens == sum(node.total)
            assert record.total_cost_nano_usd == 7 * sum(node.total)
            assert record.total_llm_calls == len(node.total)


@given(st.permutations(range(5)))
def test_a_charge_may_be_behind_or_before_the_line_that_opens_its_step(order: list[int]) -> None:
    root = opened("root")
    leaf = opened("leaf", root)
    steps = OpenSteps()
    lines = [
        lambda: steps.opened(root),
        lambda: steps.opened(leaf),
        lambda: steps.spent(spent_of(leaf.receipt_id, usage(1, 0), 1)),
        lambda: steps.spent(spent_of(leaf.receipt_id, usage(10, 0), 1)),
        lambda: steps.spent(spent_of(root.receipt_id, usage(100, 0), 1)),
    ]
    for index in order:
        lines[index]()
    totals = {record.name: (record.input_tokens, record.total_input_tokens) for record in steps.records()}
    assert totals == {"root": (100, 111), "leaf": (11, 11)}


def test_a_step_whose_end_was_faster_than_the_line_that_opens_it_is_not_open() -> None:
    steps = OpenSteps()
    step = opened()
    steps.closed(step)
    steps.opened(step)
    assert len(steps) == 0


def test_a_record_says_everything_that_calls_said() -> None:
    steps = OpenSteps()
    step = opened(input_tokens=5, total_input_tokens=50, model="declared")
    steps.opened(step)
    steps.spent(spent_of(step.receipt_id, usage(1, 2, None, cache_read_tokens=3, reasoning_tokens=4), 1))
    bad = usage(-5, 2, -7, cache_write_tokens=6, invalid_cost=True, metered=True)
    bad.model = ""
    steps.spent(spent_of(step.receipt_id, bad, 1))
    steps.spent(spent_of(step.receipt_id, usage(0, 0, None, metered=False), 1))
    steps.spent(spent_of(step.receipt_id, usage(0, 0, 0, unconsulted=True), 1))
    (record,) = steps.records(status="interrupted")
    assert record.shared_unconsulted_calls == 1
    assert (record.input_tokens, record.output_tokens, record.total_input_tokens) == (6, 4, 51)
    assert (record.cache_read_tokens, record.cache_write_tokens, record.reasoning_tokens) == (3, 6, 4)
    assert (record.unpriced_calls, record.unmetered_calls, record.invalid_costs) == (1, 1, 1)
    assert (record.model, record.price_source, record.llm_calls) == ("m", "reported", 4)


def test_totals_beyond_what_otlp_carries_are_held_there() -> None:
    steps = OpenSteps()
    step = opened()
    steps.opened(step)
    for _ in range(3):
        steps.spent(spent_of(step.receipt_id, usage(2**62, 0, 2**62), 1))
    (record,) = steps.records()
    assert record.input_tokens == record.cost_nano_usd == 2**63 - 1


def test_what_is_remembered_is_bounded() -> None:
    steps = OpenSteps()
    for _ in range(open_steps.EARLY_MAX + 10):
        steps.spent(spent_of("nobody", usage(), 1))
    root = opened("root")
    steps.opened(root)
    for _ in range(open_steps.CLOSED_MAX * 2):
        leaf = opened(parent=root)
        steps.opened(leaf)
        steps.spent(spent_of(leaf.receipt_id, usage(1, 0), 1))
        steps.closed(leaf)
    (record,) = steps.records()
    assert record.total_input_tokens == open_steps.CLOSED_MAX * 2


def test_parents_that_name_each_other_end() -> None:
    steps = OpenSteps()
    first, second = opened(receipt_id="1", parent_receipt_id="2"), opened(receipt_id="2", parent_receipt_id="1")
    steps.opened(first)
    steps.opened(second)
    steps.spent(spent_of("1", usage(), 1))


def test_what_came_back_from_elsewhere_is_in_the_inclusive_totals_alone() -> None:
    outer = opened()
    inner = opened(parent=outer)
    steps = OpenSteps()
    back = usage(30, 10, 700)
    back.elsewhere = 3
    steps.spent(spent_of(inner.receipt_id, back, 1))  # before the line that opens it, as threads may write
    steps.opened(outer)
    steps.opened(inner)
    steps.spent(spent_of(inner.receipt_id, back, 2))
    for record in steps.records():
        assert (record.llm_calls, record.input_tokens, record.cost_nano_usd, record.model) == (0, 0, 0, inner.model)
        assert (record.total_llm_calls, record.total_input_tokens, record.total_cost_nano_usd) == (6, 60, 1400)
