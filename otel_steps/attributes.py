"""Every attribute key, event, metric and environment variable of the package; these strings live nowhere else."""

from __future__ import annotations

from typing import Final

SCOPE_NAME: Final = "otel_steps"
"""Instrumentation scope of our own spans, log records and metrics."""

# --- our own attributes: each field of CompletedStep is PREFIX + field, on the span and on the receipt's log record
PREFIX: Final = "otel_steps."
NAME: Final = "otel_steps.name"
PERSONA: Final = "otel_steps.persona"
MODEL: Final = "otel_steps.model"
FUNCTION: Final = "otel_steps.function"
STATUS: Final = "otel_steps.status"
RUN_ID: Final = "otel_steps.run_id"
RECEIPT_ID: Final = "otel_steps.receipt_id"
PARENT_RECEIPT_ID: Final = "otel_steps.parent_receipt_id"
MAX_TOKENS: Final = "otel_steps.max_tokens"
MAX_USD: Final = "otel_steps.max_usd"
ERROR_BOUNDARY: Final = "otel_steps.error_boundary"
BREACHED: Final = "otel_steps.breached"
KIND: Final = "otel_steps.kind"
"""What a span of ours is, where it is not a step: `persona` or `run` (string)."""

# --- the field's names, from the OpenTelemetry semantic conventions
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
ERROR_TYPE: Final = "error.type"
INVOKE_AGENT: Final = "invoke_agent"

# --- events
EVENT_STEP_COMPLETED: Final = "otel_steps.step.completed"
"""`event_name` of the OTLP log record that carries a receipt."""
EVENT_STEP_DENIED: Final = "otel_steps.step.denied"
EVENT_TOOL_DENIED: Final = "otel_steps.tool.denied"
EVENT_BUDGET_EXCEEDED: Final = "otel_steps.budget.exceeded"
EVENT_HANDOFF: Final = "otel_steps.handoff"
EVENT_APPROVAL: Final = "otel_steps.approval"
EVENT_PAUSED: Final = "otel_steps.persona.paused"
EVENT_RESUMED: Final = "otel_steps.persona.resumed"

# --- metrics, each with its kind and unit
METRIC_STEP_COST: Final = "otel_steps.step.cost"  # counter [USD]
METRIC_STEP_TOKENS: Final = "otel_steps.step.tokens"  # counter [{token}], by otel_steps.token.type
METRIC_STEP_STOPS: Final = "otel_steps.step.stops"  # counter [{stop}]
METRIC_STEP_DURATION: Final = "otel_steps.step.duration"  # histogram [s]
METRIC_SHARED_UNCONSULTED: Final = "otel_steps.shared.unconsulted"  # counter [{call}]
METRIC_LOG_DROPPED: Final = "otel_steps.log.dropped"  # counter [{receipt}]
METRIC_RECEIPTS_WAITING: Final = "otel_steps.receipts.waiting"  # gauge [{receipt}]
METRIC_RECEIPTS_DELIVERED: Final = "otel_steps.receipts.delivered"  # counter [{receipt}]
METRIC_RECEIPTS_SET_ASIDE: Final = "otel_steps.receipts.set_aside"  # counter [{receipt}]
METRIC_RECEIPTS_DROPPED: Final = "otel_steps.receipts.dropped"  # counter [{receipt}]
METRIC_INTERNAL_ERRORS: Final = "otel_steps.internal_errors"  # counter [{error}]
TOKEN_TYPE: Final = "otel_steps.token.type"  # noqa: S105 - a dimension of the token counter
"""`input` or `output` (string)."""

# --- between services
BAGGAGE_ENTRY: Final = "otel_steps"
"""The one W3C baggage entry: the ids of the caller's run and step."""
HEADER_BAGGAGE: Final = "baggage"
"""Request header that carries the entry, beside those of others."""
HEADER_TRACEPARENT: Final = "traceparent"
"""Request header: the current span, where an instrumentation has not told it."""
HEADER_TRACESTATE: Final = "tracestate"
"""Request header: what belongs to the span's trace."""
HEADER_RECEIPT: Final = "otel-steps-receipt"
"""Response header: what the steps under a request came to, for the step that sent it."""

# --- environment
ENV_STORE: Final = "OTEL_STEPS_STORE"
"""Folder of the journal; set, it makes a journal even before `configure()`."""
ENV_STORE_MAX_MIB: Final = "OTEL_STEPS_STORE_MAX_MIB"
ENV_STORE_MAX_DAYS: Final = "OTEL_STEPS_STORE_MAX_DAYS"
ENV_SHARED: Final = "OTEL_STEPS_SHARED"
"""URL of the Redis that keeps shared budgets, where `configure(shared=)` names none."""
ENV_SHARED_UNAVAILABLE: Final = "OTEL_STEPS_SHARED_UNAVAILABLE"
"""`allow` or `stop`, beside OTEL_STEPS_SHARED."""
ENV_STEPS_FILE: Final = "OTEL_STEPS_FILE"
"""Path of the steps file; read by `otel-steps run` and by the instrumentor."""
ENV_MAX_USD: Final = "OTEL_STEPS_MAX_USD"
ENV_MAX_TOKENS: Final = "OTEL_STEPS_MAX_TOKENS"
"""Limits of a run around the whole program; read where the steps file is."""
ENV_SDK_DISABLED: Final = "OTEL_SDK_DISABLED"
ENV_SERVICE_NAME: Final = "OTEL_SERVICE_NAME"
ENV_OTLP_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
ENV_OTLP_LOGS_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
ENV_OTLP_TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

LOGGER_NAME: Final = "otel_steps"
"""Logger of every warning the package gives."""
