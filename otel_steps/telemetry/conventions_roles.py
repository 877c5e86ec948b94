"""The words by which other people's spans say what they are: operations, and marks of each convention."""

from __future__ import annotations

import enum
from typing import Final


class SpanRole(enum.Enum):
    """What a span means to the meter."""

    MODEL_CALL = "model_call"
    TOOL = "tool"
    AGGREGATE = "aggregate"
    """An agent, workflow, chain, plan...: it repeats what its children told, and is never counted."""
    OTHER = "other"
    UNKNOWN_AT_START = "unknown_at_start"
    """Says nothing yet; some emitters set every attribute at the end."""


_CALL, _TOOL, _SUM, _OTHER = SpanRole.MODEL_CALL, SpanRole.TOOL, SpanRole.AGGREGATE, SpanRole.OTHER

OPERATIONS: Final[dict[str, SpanRole]] = {
    "chat": _CALL,
    "generate_content": _CALL,
    "text_completion": _CALL,
    "embeddings": _CALL,
    "acompletion": _CALL,
    "aembedding": _CALL,
    "anthropic_messages": _CALL,
    "aresponses": _CALL,
    "atext_completion": _CALL,
    "completion": _CALL,
    "completions": _CALL,
    "embedding": _CALL,
    "generate": _CALL,
    "image_generation": _CALL,
    "message": _CALL,
    "messages": _CALL,
    "responses": _CALL,
    "speech": _CALL,
    "text_generation": _CALL,
    "transcription": _CALL,
    "execute_tool": _TOOL,
    "create_agent": _SUM,
    "handoff": _SUM,
    "invoke_agent": _SUM,
    "invoke_workflow": _SUM,
    "plan": _SUM,
    "retrieval": _SUM,
    "count_tokens": _OTHER,
    "fetch_response": _OTHER,
}
"""gen_ai.operation.name: of the conventions first, then of frameworks that write their own function's name there."""

KIND_MARKS: Final[tuple[tuple[str, dict[str, SpanRole]], ...]] = (
    (
        "openinference.span.kind",
        {
            "llm": _CALL,
            "embedding": _CALL,
            "decision": _CALL,
            "tool": _TOOL,
            "agent": _SUM,
            "chain": _SUM,
            "retriever": _SUM,
            "guardrail": _SUM,
            "evaluator": _SUM,
            "prompt": _SUM,
        },
    ),
    ("traceloop.span.kind", {"workflow": _SUM, "task": _SUM, "agent": _SUM, "tool": _TOOL}),
    (
        "langsmith.span.kind",
        {
            "llm": _CALL,
            "embedding": _CALL,
            "tool": _TOOL,
            "chain": _SUM,
            "retriever": _SUM,
            "prompt": _SUM,
            "parser": _SUM,
        },
    ),
    (
        "langfuse.observation.type",
        {
            "generation": _CALL,
            "embedding": _CALL,
            "tool": _TOOL,
            "agent": _SUM,
            "chain": _SUM,
            "retriever": _SUM,
            "guardrail": _SUM,
            "evaluator": _SUM,
        },
    ),
    (
        "mlflow.spanType",
        {
            "chat_model": _CALL,
            "llm": _CALL,
            "embedding": _CALL,
            "tool": _TOOL,
            "agent": _SUM,
            "chain": _SUM,
            "retriever": _SUM,
            "workflow": _SUM,
            "task": _SUM,
            "parser": _SUM,
            "reranker": _SUM,
            "memory": _SUM,
            "guardrail": _SUM,
            "evaluator": _SUM,
        },
    ),
    ("ag2.span.type", {"llm": _CALL, "tool": _TOOL, "agent": _SUM, "conversation": _SUM}),
    ("langtrace.service.type", {"llm": _CALL, "framework": _SUM, "vectordb": _SUM}),
)
