"""Budgets, hard stops and durable receipts for every step of an AI agent, on OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    ApprovalRequired,
    DefinitionError,
    OtelStepsError,
    PersonaPaused,
    StageIterationsExceeded,
    StepBudgetExceeded,
    StepDenied,
    StepEscalated,
    StepStop,
    ToolDenied,
    is_step_budget_exhausted,
    mark_escalated,
)
from .runtime.charging import record_llm_usage
from .runtime.context import restore_active_context, suspended, take_active_context
from .runtime.facades import ActiveStep
from .runtime.steps import current_step, default_model, step

if TYPE_CHECKING:
    from .definitions import StepDefinition
    from .instrumentor import OtelStepsInstrumentor
    from .persona_definitions import PersonaDefinition, Stage
    from .record import CompletedStep, completed_step_to_json
    from .runtime.carrying import carry
    from .runtime.control import emit_handoff, request_approval
    from .runtime.personas import current_persona, current_policy, pause_persona, persona, resume_persona
    from .runtime.policy import CapabilityPolicy
    from .runtime.registration import (
        clear_persona_hooks,
        drain_completed_steps,
        hook,
        is_tracked_function,
        peek_completed_steps,
        register_persona,
        register_persona_from_dict,
        register_persona_hook,
        register_step,
        register_step_from_dict,
        register_step_hook,
        step_definition_for_function,
    )
    from .runtime.runs import run
    from .runtime.tools import tool
    from .setup import configure, force_flush, reset, set_price, shutdown
    from .telemetry.processor import StepSpanProcessor

__all__ = [
    "ActiveStep",
    "ApprovalRequired",
    "CapabilityPolicy",
    "CompletedStep",
    "DefinitionError",
    "OtelStepsError",
    "OtelStepsInstrumentor",
    "PersonaDefinition",
    "PersonaPaused",
    "Stage",
    "StageIterationsExceeded",
    "StepBudgetExceeded",
    "StepDefinition",
    "StepDenied",
    "StepEscalated",
    "StepSpanProcessor",
    "StepStop",
    "ToolDenied",
    "carry",
    "clear_persona_hooks",
    "completed_step_to_json",
    "configure",
    "current_persona",
    "current_policy",
    "current_step",
    "default_model",
    "drain_completed_steps",
    "emit_handoff",
    "force_flush",
    "hook",
    "is_step_budget_exhausted",
    "is_tracked_function",
    "mark_escalated",
    "pause_persona",
    "peek_completed_steps",
    "persona",
    "record_llm_usage",
    "register_persona",
    "register_persona_from_dict",
    "register_persona_hook",
    "register_step",
    "register_step_from_dict",
    "register_step_hook",
    "request_approval",
    "reset",
    "restore_active_context",
    "resume_persona",
    "run",
    "set_price",
    "shutdown",
    "step",
    "step_definition_for_function",
    "suspended",
    "take_active_context",
    "tool",
]

_ON_FIRST_USE = {
    "CapabilityPolicy": "otel_steps.runtime.policy",
    "CompletedStep": "otel_steps.record",
    "OtelStepsInstrumentor": "otel_steps.instrumentor",
    "PersonaDefinition": "otel_steps.persona_definitions",
    "Stage": "otel_steps.persona_definitions",
    "StepDefinition": "otel_steps.definitions",
    "StepSpanProcessor": "otel_steps.telemetry.processor",
    "carry": "otel_steps.runtime.carrying",
    "clear_persona_hooks": "otel_steps.runtime.registration",
    "completed_step_to_json": "otel_steps.record",
    "configure": "otel_steps.setup",
    "current_persona": "otel_steps.runtime.personas",
    "current_policy": "otel_steps.runtime.personas",
    "drain_completed_steps": "otel_steps.runtime.registration",
    "emit_handoff": "otel_steps.runtime.control",
    "force_flush": "otel_steps.setup",
    "hook": "otel_steps.runtime.registration",
    "is_tracked_function": "otel_steps.runtime.registration",
    "pause_persona": "otel_steps.runtime.personas",
    "peek_completed_steps": "otel_steps.runtime.registration",
    "persona": "otel_steps.runtime.personas",
    "register_persona": "otel_steps.runtime.registration",
    "register_persona_from_dict": "otel_steps.runtime.registration",
    "register_persona_hook": "otel_steps.runtime.registration",
    "register_step": "otel_steps.runtime.registration",
    "register_step_from_dict": "otel_steps.runtime.registration",
    "register_step_hook": "otel_steps.runtime.registration",
    "request_approval": "otel_steps.runtime.control",
    "reset": "otel_steps.setup",
    "resume_persona": "otel_steps.runtime.personas",
    "run": "otel_steps.runtime.runs",
    "set_price": "otel_steps.setup",
    "shutdown": "otel_steps.setup",
    "step_definition_for_function": "otel_steps.runtime.registration",
    "tool": "otel_steps.runtime.tools",
}


def __getattr__(name: str) -> Any:
    """Load what not every program needs on first use, so that the import stays light."""
    module = _ON_FIRST_USE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


from .wiring import plug_in  # noqa: E402 - what it plugs in is loaded on first use

plug_in()
del plug_in
