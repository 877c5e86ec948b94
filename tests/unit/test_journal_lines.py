"""The lines of the journal: what is written reads back, and damage costs one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_steps.receipts import lines
from otel_steps.receipts.scanning import Findings, raw_lines, read_lines, recover_line
from tests.faults.records import receipt, usage

if TYPE_CHECKING:
    from otel_steps.record import CompletedStep

TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=3))
def test_any_text_makes_a_line_that_reads_back(name: str, error: str, tools: list[str]) -> None:
    record = receipt(name, error=error, tools_called=tuple(tools))
    line = lines.receipt_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    back = lines.parse(line[:-1])
    assert isinstance(back, lines.Receipt)
    assert back.record.name == name.encode("utf-8", "replace").decode()
    assert back.record.receipt_id == record.receipt_id
    assert json.loads(line)["kind"] == "receipt"


@pytest.mark.parametrize("filler", ["x", "\x01", "😀", "\ud800", '"'])
def test_no_line_is_longer_than_the_bound(filler: str) -> None:
    record = receipt(
        filler * 100_000,
        error=filler * 100_000,
        function=filler * 100_000,
        tools_called=(filler * 1000,) * 1000,
        tools_denied=(filler * 1000,) * 1000,
        breached=(filler * 1000,) * 1000,
        input_tokens=2**80,
    )
    line = lines.receipt_line(record)
    assert len(line) <= lines.LINE_MAX_BYTES
    back = lines.parse(line[:-1])
    assert isinstance(back, lines.Receipt)
    assert back.record.receipt_id == record.receipt_id
    assert len(lines.set_aside_line(record, "refused", filler * 10_000, "")) <= 2 * lines.LINE_MAX_BYTES


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_carry_does_not_spoil_the_line(number: float) -> None:
    back = lines.parse(lines.receipt_line(receipt(cost_usd=number, input_tokens=3))[:-1])
    assert isinstance(back, lines.Receipt)
    assert (back.record.cost_usd, back.record.input_tokens) == (0.0, 3)


def test_a_charge_reads_back_and_is_small() -> None:
    spent = lines.spent_of("r1", usage(7, 3, None, metered=False), 1_893_456_000_000_000_000)
    line = lines.spent_line(spent)
    assert lines.parse(line[:-1]) == spent
    assert len(line) < 250


def test_a_charge_with_a_lone_surrogate_is_written() -> None:
    bad = usage()
    bad.model = "m\ud800"
    back = lines.parse(lines.spent_line(lines.spent_of("r1", bad, 1))[:-1])
    assert isinstance(back, lines.Spent)
    assert back.model == "m?"


def test_a_resource_of_any_values_makes_a_header() -> None:
    resource = {
        "a": 1,
        "b": 2.5,
        "c": True,
        "d": ("x", "y"),
        "e": b"\xff",
        "f\ud800": "\ud800",
        "g": math.nan,
        "h": object(),
    }
    back = lines.parse(lines.header_line(lines.Header(writer="w", resource=resource))[:-1])
    assert isinstance(back, lines.Header)
    assert back.resource["a"] == 1
    assert back.resource["d"] == ["x", "y"]


def test_a_line_of_a_newer_schema_is_passed_over_whatever_became_of_its_fields() -> None:
    record = json.loads(lines.receipt_line(receipt()))
    for changed in ({**record, "schema": 99}, {**record, "schema": 99, "input_tokens": {"new": "shape"}}):
        findings = Findings()
        assert recover_line(json.dumps(changed).encode(), findings, Path("f")) == []
        assert (findings.newer, findings.damaged) == (1, 0)


def test_a_line_rewritten_by_another_tool_is_read() -> None:
    record = receipt("plan", error="e")
    fields = json.loads(lines.receipt_line(record))
    rewritten = json.dumps(dict(sorted(fields.items())), indent=None, separators=(", ", ": ")).encode()
    assert lines.parse(rewritten) == lines.Receipt(record)


def _journal(records: list[CompletedStep]) -> list[bytes]:
    return [lines.header_line(lines.Header(writer="w")), *(lines.receipt_line(record) for record in records)]


@settings(max_examples=300)
@given(st.data())
def test_a_torn_line_costs_itself_alone(data: st.DataObject) -> None:
    records = [receipt(f"s{n}", error="x\n{") for n in range(4)]
    parts = _journal(records)
    torn = data.draw(st.integers(1, 3))
    cut = data.draw(st.integers(0, len(parts[torn]) - 1))
    glued = parts[torn][:cut]  # its end is missing, line end included: the next line follows in the same line
    content = b"".join([*parts[:torn], glued, *parts[torn + 1 :]])
    findings = Findings()
    read = _read(content, findings)
    # a line that lacks nothing but its end is whole
    lost = [] if cut == len(parts[torn]) - 1 else [records[torn - 1]]
    assert read == [record for record in records if record not in lost]
    assert findings.damaged == (1 if lost and cut else 0)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_byte_costs_one_line_at_most(data: st.DataObject) -> None:
    records = [receipt(f"s{n}") for n in range(4)]
    content = bytearray(b"".join(_journal(records)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    findings = Findings()
    read = _read(bytes(content), findings)
    assert sum(record in read for record in records) >= 3


@pytest.mark.parametrize("size", [0, 1, 4096, 3 << 20])
def test_what_is_no_journal_at_all_is_passed_over_in_bounded_memory(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\0" * size + b"\n" + lines.receipt_line(receipt("after")))
    findings = Findings()
    names = [line.record.name for line, _ in read_lines(path, findings) if isinstance(line, lines.Receipt)]
    assert names == ["after"]
    assert all(sum(map(len, stretch)) < 3 << 20 for stretch, _, _ in raw_lines(path))


def _read(content: bytes, findings: Findings) -> list[CompletedStep]:
    found: list[CompletedStep] = []
    for line in content.split(b"\n"):
        for entry in recover_line(line, findings, Path("f")) if line else []:
            if isinstance(entry, lines.Receipt):
                found.append(entry.record)
    return found


def test_a_model_name_of_any_length_makes_a_short_line_of_its_call() -> None:
    long = usage()
    long.model = "m" * 100_000
    spent = lines.spent_of("r1", long, 1)
    assert len(lines.spent_line(spent)) < 1024
