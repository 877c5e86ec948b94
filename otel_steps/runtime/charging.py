"""Taking usage in, whoever reports it: price, charge, thresholds, journal, amended receipts. One function for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import usage as usages
from ..usage import Usage
from . import fork, lifecycle, meter
from .asking import tell
from .context import charged_scope
from .hooks import payload
from .receipt import build
from .remaining import percent_used
from .scope import Scope, StepScope
from .state import runtime as current_runtime
from .stops import gate, stop_for

if TYPE_CHECKING:
    from ..record import CompletedStep
    from .meter import Reservation
    from .state import Runtime


fork.watch()


def take_in(
    runtime: Runtime, scope: Scope, usage: Usage, *, by_hand: bool, reservation: Reservation | None = None
) -> None:
    """Charge one finished model call to `scope`, the one that was current when the call started.

    `reservation` is what was held for the call; it is settled with the charge.
    Raises StepStop only where `by_hand`: at the end of somebody's span the answer is already paid for. Errors of a
    threshold hook are raised by hand and logged otherwise.
    """
    meter.clean(usage)
    if usage.cost_nano_usd is None and usage.metered:
        _price(runtime, usage)
    windows = _add_to_windows(runtime, scope, usage.cost_nano_usd or 0)
    shared = runtime.shared
    if shared is not None:
        from . import sharing

        sharing.charge(runtime, shared, scope, usage, reservation, windows, by_hand=by_hand)
    opened = () if runtime.sink is None else _announce(scope)
    if runtime.recorder is not None:
        runtime.recorder.charged(usage)
    charged = meter.charge(scope, usage, runtime.options.unmetered == "stop", windows, reservation)
    if scope.caller is not None:
        scope.caller.charged(scope, usage)
    if usage.invalid_cost:
        runtime.warnings.once(
            "invalid cost",
            "a cost that is NaN, infinite or negative was reported for model %r and counted as 0",
            usage.model,
        )
    if not usage.metered and not usage.awaited:
        _warn_of_unmetered(runtime, usage.model)
    if runtime.sink is not None and scope.step is not None:
        try:
            runtime.sink.spent(scope.step.receipt_id, usage, opened)
        except Exception as error:  # noqa: BLE001 - the journal has its own fallback; the agent goes on
            runtime.faults.report("journalling a call", error)
    for broken in charged.broke:
        lifecycle.limit_broke(runtime, broken)
    if charged.late:
        lifecycle.amend(runtime, charged.late)
    if scope.limited and runtime.hooks.any("OnBudgetThreshold"):
        _thresholds(runtime, scope, by_hand=by_hand)
    if by_hand:
        gate(runtime, scope)


def judge_unmetered(runtime: Runtime, scope: Scope, model: str) -> None:
    """A call that was charged as awaited has no usage after all: warn, and break what such a call breaks."""
    _warn_of_unmetered(runtime, model)
    if runtime.options.unmetered == "stop":
        for broken in meter.break_unmetered(scope, model):
            lifecycle.limit_broke(runtime, broken)


def _warn_of_unmetered(runtime: Runtime, model: str) -> None:
    runtime.warnings.once(
        "unmetered",
        "a call of model %r ended without usage and is counted as unmetered; for streams ask for usage "
        "(OpenAI: stream_options={'include_usage': True}) and read them to the end",
        model,
    )


def reserve_or_stop(runtime: Runtime, scope: Scope, tokens: int, nano_usd: int) -> Reservation:
    """Hold room for the worst case of a call about to be sent, in every limited scope around it.

    Give the result to `take_in`, or to `sharing.release` where the call failed. Raises StepStop, kind `terminal`, where
    a scope has no room: the stop is that scope's.
    """
    held = meter.reserve(scope, tokens, nano_usd)
    if isinstance(held, meter.Reservation):
        if runtime.shared is not None:
            from . import sharing

            sharing.hold(runtime, runtime.shared, scope, held)
        return held
    if held not in runtime.broken:
        lifecycle.limit_broke(runtime, held)
    raise stop_for(runtime, held)


def record_llm_usage(
    model: str,
    input_tokens: int,
    output_tokens: int,
    cost_usd: float | None = None,
    *,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
    provider: str | None = None,
    response_id: str | None = None,
) -> None:
    """Charge one model call to the current step by hand; without a current scope there is nothing to charge.

    Tokens are counts; `input_tokens` include cached ones, `output_tokens` reasoning. `cost_usd` None means: price it.
    Negative tokens, and a cost that is NaN, infinite or negative, count 0, the cost with a warning. The same
    `response_id` is charged once, whoever reports it. Reported from within a step that has closed meanwhile (by a task
    that outlived it, or through `carry`), it amends the step's receipt.

    Raises StepStop where this call breaks a limit around it, or one is broken already; DefinitionError, and charges
    nothing, where a value is of the wrong type.
    """
    usage = Usage(
        model=model if type(model) is str else usages.text("model", model) or "",
        input_tokens=input_tokens if type(input_tokens) is int else usages.count("input_tokens", input_tokens),
        output_tokens=output_tokens if type(output_tokens) is int else usages.count("output_tokens", output_tokens),
        provider=provider if provider is None else usages.text("provider", provider),
        response_id=response_id if response_id is None else usages.text("response_id", response_id),
    )
    if cache_read_tokens or cache_write_tokens or reasoning_tokens:
        usage.cache_read_tokens = usages.count("cache_read_tokens", cache_read_tokens or 0)
        usage.cache_write_tokens = usages.count("cache_write_tokens", cache_write_tokens or 0)
        usage.reasoning_tokens = usages.count("reasoning_tokens", reasoning_tokens or 0)
    if cost_usd is not None:
        nano = usages.cost_to_nano("cost_usd", cost_usd)
        usage.cost_nano_usd, usage.invalid_cost = (nano, False) if nano is not None else (0, True)
        usage.price_source = "reported" if nano is not None else None
    scope = charged_scope()
    if scope is None:
        return
    runtime = current_runtime()
    if response_id and runtime.seen_responses is not None and _told_before(runtime, scope, usage):
        discard_duplicate(scope)
        gate(runtime, scope)
        return
    take_in(runtime, scope, usage, by_hand=True)


def _told_before(runtime: Runtime, scope: Scope, usage: Usage) -> bool:
    try:
        return runtime.seen_responses is not None and runtime.seen_responses(scope, usage)
    except Exception as error:  # noqa: BLE001 - a call counted twice is better than one that costs the agent its step
        runtime.faults.report("telling a call from its duplicate", error)
        return False


def discard_duplicate(scope: Scope) -> None:
    """The same call was told again: note it on the receipt of the step that it would have been charged to."""
    with meter.LOCK:
        if scope.step is not None:
            scope.step.duplicates_discarded += 1


def _price(runtime: Runtime, usage: Usage) -> None:
    if not (usage.input_tokens or usage.output_tokens):
        usage.cost_nano_usd = 0
        return
    if runtime.pricer is None:
        return
    try:
        runtime.pricer(usage)
    except Exception as error:  # noqa: BLE001 - an unpriced call is counted as such
        runtime.faults.report("pricing a call", error)


def _add_to_windows(runtime: Runtime, scope: Scope, nano: int) -> dict[Scope, tuple[int, int]]:
    """Add the cost to the day and hour of each persona around that has such limits; their totals by persona."""
    totals: dict[Scope, tuple[int, int]] = {}
    persona, windows = scope.persona, runtime.windows
    while persona is not None and windows is not None:
        if persona.budget is not None and not persona.closed and meter.window_limits(persona):
            totals[persona] = windows.add(persona.name, nano)
        persona = None if persona.parent is None else persona.parent.persona
    return totals


def _announce(scope: Scope) -> tuple[CompletedStep, ...]:
    """The steps around a call that the journal has not heard of, outermost first, with their totals before it."""
    step: StepScope | None = scope.step
    if step is None or step.announced:
        return ()
    opened: list[CompletedStep] = []
    while step is not None and not step.announced:
        step.announced = True
        if not step.closed:  # of a closed one the journal has the receipt
            opened.append(build(step, "interrupted", None, step.started_ns))
        step = step.parent_step
    opened.reverse()
    return tuple(opened)


def _thresholds(runtime: Runtime, scope: Scope, *, by_hand: bool) -> None:
    for limited in scope.limited:
        if isinstance(limited, StepScope) and not limited.closed:
            pct = percent_used(limited)
            if pct > 0:
                _fire(runtime, limited, pct, by_hand=by_hand)


def _fire(runtime: Runtime, step: StepScope, pct: float, *, by_hand: bool) -> None:
    persona = step.persona.name if step.persona is not None else ""
    for hook in runtime.hooks.matching("OnBudgetThreshold", persona, step.name):
        if pct < (hook.threshold_pct or 0.0):
            continue
        with meter.LOCK:
            if step.fired_thresholds is None:
                step.fired_thresholds = set()
            if hook in step.fired_thresholds:
                continue
            step.fired_thresholds.add(hook)
        told = _threshold_payload(step, persona, pct)
        try:
            tell(hook.handler, told)
        except Exception as error:  # at the end of somebody's span the call is paid for, and the agent goes on
            if by_hand:
                raise
            runtime.warnings.once(f"threshold hook {hook.handler!r}", "an OnBudgetThreshold hook failed: %r", error)


def _threshold_payload(step: StepScope, persona: str, pct: float) -> Any:
    tokens_share = 0.0 if step.max_tokens is None else 100.0 * step.spent_tokens() / step.max_tokens
    by_tokens = step.max_tokens is not None and (step.max_usd is None or tokens_share >= pct)
    limit, consumed = (
        (step.max_tokens, step.spent_tokens()) if by_tokens else (step.max_usd, step.spent_nano_usd() / 1e9)
    )
    return payload(
        "OnBudgetThreshold",
        persona,
        step.name,
        step.definition.function,
        limit_name="max_tokens" if by_tokens else "max_usd",
        limit=limit,
        consumed=consumed,
        pct=pct,
    )
