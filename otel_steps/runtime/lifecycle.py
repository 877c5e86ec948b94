"""Opening and closing scopes: the one place where a scope becomes current, ends, and its receipt is handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import attributes as attr
from ..bounds import name_text
from ..errors import PersonaPaused, StageIterationsExceeded
from . import meter, spans, waking
from .context import current_scope
from .receipt import amended, build
from .remote import caller_here
from .scope import WOKEN, PersonaScope, RunScope, Scope, StepOptions, StepScope
from .span_guard import settle_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..definitions import StepDefinition
    from ..persona_definitions import PersonaDefinition
    from ..record import CompletedStep
    from .boundary import Verdict
    from .policy import CapabilityPolicy
    from .state import Runtime
    from .windows import Windows


def new_id(runtime: Runtime, time_ns: int) -> str:
    """A receipt or run id: UUID version 7 as 32 hex digits, sortable by time to a quarter of a microsecond."""
    millis, rest = divmod(time_ns, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    number = millis << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | runtime.random_bits(62)
    return number.to_bytes(16, "big").hex()  # a third of the time of a format


def check_entry(runtime: Runtime, persona: PersonaScope | None, name: str) -> None:
    """Count the entry of a stage. Raises PersonaPaused or StageIterationsExceeded; nothing was opened then."""
    if persona is None:
        return
    if persona.name in runtime.paused:
        raise PersonaPaused(persona.name, runtime.paused[persona.name])
    stage = persona.definition.stage(name)
    if stage is None or stage.max_iterations is None:
        return
    with meter.LOCK:
        entries = persona.iterations.get(name, 0) + 1
        if entries <= stage.max_iterations:
            persona.iterations[name] = entries
            return
    raise StageIterationsExceeded(name, persona.name, stage.max_iterations)


def open_step(runtime: Runtime, definition: StepDefinition, options: StepOptions) -> StepScope:
    """A new open step under the current scope, with its span; not current yet."""
    parent = current_scope()
    started_ns = runtime.clock()
    scope = StepScope(definition, options, parent, new_id(runtime, started_ns), started_ns)
    if parent is None:
        scope.caller = caller_here(runtime)
    scope.unpriced_stops = (options.unpriced or runtime.options.unpriced) == "stop"
    persona = scope.persona
    spans.open_step_span(runtime, scope)
    if persona is not None and persona.definition.stages:
        stage = persona.definition.stage(scope.name)
        if stage is not None:
            from .policy import narrow, stage_policy

            scope.stage = stage
            scope.policy = narrow(scope.policy, stage_policy(stage.allowed_tools, stage.side_effect_level))
    if scope.policy is not None:
        scope.policy = scope.policy.descended()
    return scope


def open_persona(runtime: Runtime, definition: PersonaDefinition, policy: CapabilityPolicy | None) -> PersonaScope:
    """A new activation of a persona under the current scope, with its span; not current yet."""
    windows = _windows(runtime, definition)
    scope = PersonaScope(definition, current_scope(), windows)
    if scope.parent is None:
        scope.caller = caller_here(runtime)
    scope.unpriced_stops = runtime.options.unpriced == "stop"
    if policy is not None:
        from .policy import narrow

        scope.policy = narrow(scope.policy, policy)
    if windows is not None and meter.window_limits(scope):
        totals = windows.totals(scope.name)
        with meter.LOCK:
            if over := meter.over_windows(scope, totals):
                in_window = totals[0] if over[0][0] == "daily_usd" else totals[1]
                meter.break_limits(scope, over, scope.step, consumed_nano_usd=in_window)
        if scope.breaches:
            limit_broke(runtime, scope)
    name = name_text(scope.name)
    attributes: dict[str, Any] = {
        attr.KIND: "persona",
        attr.PERSONA: name,
        attr.GEN_AI_OPERATION_NAME: attr.INVOKE_AGENT,
        attr.GEN_AI_AGENT_NAME: name,
    }
    spans.open_span(runtime, scope, f"{attr.INVOKE_AGENT} {name}", attributes, runtime.clock())
    return scope


def _windows(runtime: Runtime, definition: PersonaDefinition) -> Windows | None:
    """The budget windows; before any set-up they are kept in memory, made for the first that has any."""
    budget = definition.budget
    if runtime.windows is None and budget is not None and (budget.daily_usd, budget.hourly_usd) != (None, None):
        from .windows import Windows

        with meter.LOCK:
            runtime.windows = runtime.windows or Windows(None, runtime.warnings)  # another thread may have been first
    return runtime.windows


def open_run(
    runtime: Runtime, name: str, max_tokens: int | None, max_usd: float | None, policy: CapabilityPolicy | None
) -> RunScope:
    """A new run under the current scope, with its span; not current yet."""
    started_ns = runtime.clock()
    from .ledger import RunLedger

    around = current_scope()
    outer = None if around is None else around.run
    scope = RunScope(name, around, new_id(runtime, started_ns), started_ns, max_tokens, max_usd)
    scope.ledger = RunLedger(None if outer is None else outer.ledger)
    if around is None:
        scope.caller = caller_here(runtime)
    scope.unpriced_stops = runtime.options.unpriced == "stop"
    if policy is not None:
        from .policy import narrow

        scope.policy = narrow(scope.policy, policy)
    text = name_text(name)
    attributes: dict[str, Any] = {attr.KIND: "run", attr.NAME: text, attr.RUN_ID: scope.run_id}
    spans.open_span(runtime, scope, text, attributes, started_ns)
    return scope


def limit_broke(runtime: Runtime, scope: Scope) -> None:
    """`scope` has just broken a limit: from now on its model calls are refused."""
    with meter.LOCK:
        if scope.closed:  # another thread left it meanwhile
            return
        known = scope in runtime.broken
        runtime.broken[scope] = None
    breach = (scope.breaches or [])[-1]
    facts = {"limit": breach.limit, "limit_value": breach.limit_value, "message": breach.message}
    spans.add_event(scope, attr.EVENT_BUDGET_EXCEEDED, facts)
    if not known and runtime.gate is not None and runtime.options.transport_gate:
        try:
            runtime.gate.limit_broke(scope)
            if meter.is_closed(scope):
                runtime.gate.scope_left(scope)
        except Exception as error:  # noqa: BLE001 - the other gates hold without this one
            runtime.faults.report("putting in the transport gate", error)


def close(runtime: Runtime, scope: Scope, verdict: Verdict) -> None:
    """End `scope` as `verdict` says: what is open inside first, then its record, span, log and journal. Idempotent."""
    if scope.children:
        _close_children(runtime, scope)
    if runtime.told_calls:
        settle_told(runtime, scope, leaving=True)
    ended_ns = runtime.clock()
    record: CompletedStep | None = None
    with meter.LOCK:
        if scope.closed:
            return
        scope.closed = True
        if isinstance(scope, StepScope):
            record = scope.record = build(scope, verdict.status, verdict.text, max(ended_ns, scope.started_ns))
    scope.unwatch_limits()
    scope.parked = scope.context = None  # the context holds the scope: together they would wait for the collector
    if scope.wake == WOKEN:
        waking.settle(scope)
    if scope.parent is not None:
        scope.parent.children.pop(scope, None)
    if scope.breaches:
        _limit_left(runtime, scope)
    if isinstance(scope, StepScope) and record is not None:
        spans.close_step_span(runtime, scope, record, verdict.error_type, max(ended_ns, scope.started_ns))
        hand_on(runtime, scope, record)
        try:
            runtime.metrics.step_completed(record, max(ended_ns - scope.started_ns, 0) / 1e9, runtime.log.dropped)
        except Exception as error:  # noqa: BLE001 - somebody's metric reader
            runtime.faults.report("recording metrics", error)
    else:
        if isinstance(scope, RunScope):
            scope.ledger.close(verdict.status, verdict.text, ended_ns)
        spans.close_span(runtime, scope, verdict.status, verdict.text, verdict.error_type, ended_ns)


def hand_on(runtime: Runtime, scope: StepScope, record: CompletedStep) -> None:
    """Give a receipt to the journal, the log and the run: nobody sees one that is not durable yet."""
    try:
        if runtime.sink is not None:
            runtime.sink.completed(record)
    except Exception as error:  # noqa: BLE001 - the journal has its own fallback; the agent goes on
        runtime.faults.report("journalling a receipt", error)
    finally:
        runtime.log.append(record)
        if runtime.recorder is not None:
            runtime.recorder.finished(record)
        if scope.run is not None:
            scope.run.ledger.add(record)
        if scope.caller is not None and scope.parent_step is None:
            scope.caller.finished(record)


def amend(runtime: Runtime, late: Sequence[StepScope]) -> None:
    """Issue the next revision of the receipt of each closed step that late usage reached."""
    for scope in late:
        with meter.LOCK:
            before, record = amended(scope)
        hand_on(runtime, scope, record)
        try:
            runtime.metrics.step_amended(before, record)
        except Exception as error:  # noqa: BLE001 - somebody's metric reader
            runtime.faults.report("recording metrics", error)


def _close_children(runtime: Runtime, scope: Scope) -> None:
    from .boundary import Verdict

    for child in reversed(list(scope.children)):
        close(runtime, child, Verdict("cancelled", "left open when the scope around it ended"))


def _limit_left(runtime: Runtime, scope: Scope) -> None:
    runtime.broken.pop(scope, None)
    if runtime.gate is not None:
        try:
            runtime.gate.scope_left(scope)
        except Exception as error:  # noqa: BLE001 - the gate is left in rather than a result changed
            runtime.faults.report("taking out the transport gate", error)
