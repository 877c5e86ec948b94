"""Building the receipt of a step from its scope, and amending the receipt of a closed one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from ..bounds import INT64_MAX, clamp_int64, error_text, name_text, usd
from .remote import parent_receipt_id_of, run_id_of

if TYPE_CHECKING:
    from types import ModuleType

    from ..record import CompletedStep
    from .scope import StepScope


def build(scope: StepScope, status: str, error: str | None, ended_ns: int, revision: int = 1) -> CompletedStep:
    """The record of `scope` as its totals stand now; texts bounded, integers clamped to int64."""
    made = record_module()
    rfc3339 = made.rfc3339
    definition = scope.definition
    counts: tuple[int, ...] = (
        scope.input_tokens,
        scope.output_tokens,
        scope.cost_nano_usd,
        scope.total_input,
        scope.total_output,
        scope.total_nano_usd,
        scope.cache_read_tokens,
        scope.cache_write_tokens,
        scope.reasoning_tokens,
    )
    if max(counts) > INT64_MAX:
        counts = tuple(map(clamp_int64, counts))
    span_context = None if scope.span is None else scope.span.get_span_context()
    stage = scope.stage
    step: CompletedStep = made.CompletedStep(
        name=name_text(scope.name),
        function=None if definition.function is None else name_text(definition.function),
        model=None if scope.model is None else name_text(scope.model),
        input_tokens=counts[0],
        output_tokens=counts[1],
        cost_usd=usd(scope.cost_nano_usd),
        llm_calls=scope.llm_calls,
        status=status,
        error=None if error is None else error_text(error),
        receipt_id=scope.receipt_id,
        revision=revision,
        persona=None if scope.persona is None else name_text(scope.persona.name),
        run_id=run_id_of(scope),
        trace_id=None if span_context is None else span_context.trace_id.to_bytes(16, "big").hex(),
        span_id=None if span_context is None else span_context.span_id.to_bytes(8, "big").hex(),
        parent_receipt_id=parent_receipt_id_of(scope),
        started_at=rfc3339(scope.started_ns),
        ended_at=rfc3339(ended_ns),
        cost_nano_usd=counts[2],
        total_input_tokens=counts[3],
        total_output_tokens=counts[4],
        total_cost_usd=usd(scope.total_nano_usd),
        total_cost_nano_usd=counts[5],
        total_llm_calls=scope.total_calls,
        cache_read_tokens=counts[6],
        cache_write_tokens=counts[7],
        reasoning_tokens=counts[8],
        max_tokens=None if definition.max_tokens is None else clamp_int64(definition.max_tokens),
        max_usd=definition.max_usd,
        breached=scope.breached,
        error_boundary=name_text(definition.error_boundary),
        unpriced_calls=scope.unpriced_calls,
        unmetered_calls=scope.unmetered_calls,
        invalid_costs=scope.invalid_costs,
        duplicates_discarded=scope.duplicates_discarded,
        shared_unconsulted_calls=scope.shared_unconsulted_calls,
        price_source=scope.price_source,
        tools_called=() if scope.tools_called is None else tuple(scope.tools_called),
        tools_denied=() if scope.tools_denied is None else tuple(scope.tools_denied),
        stage=None if stage is None else name_text(stage.name),
        next_stage=_next_stage(scope, status),
    )
    return step


def amended(scope: StepScope) -> tuple[CompletedStep, CompletedStep]:
    """A closed step's receipt and its next revision: totals as they stand now, status and times unchanged.

    Called under the meter's lock; the scope keeps the new record.
    """
    before = scope.record
    if before is None:
        raise ValueError(f"step `{scope.name}` is not closed")
    record = build(
        scope, before.status, before.error, record_module().parse_rfc3339(before.ended_at), before.revision + 1
    )
    scope.record = record
    return before, record


@cache
def record_module() -> ModuleType:
    """The record's module, loaded with the first step: not with the package, whose import stays light, and not with
    the first receipt, which may be that of a generator closed while the interpreter shuts down and imports nothing.
    """
    from .. import record

    return record


def _next_stage(scope: StepScope, status: str) -> str | None:
    if scope.stage is None:
        return None
    target = scope.stage.next_stage(failed=status not in {"completed", "skipped"})
    return None if target is None else name_text(target)
