"""What a span of somebody else's is: a model call, a tool, an aggregate of these, or nobody's business."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind

from ..attributes import GEN_AI_AGENT_NAME, GEN_AI_OPERATION_NAME, GEN_AI_TOOL_NAME, SCOPE_NAME
from .conventions_keys import REQUEST_TYPE
from .conventions_roles import KIND_MARKS, OPERATIONS, SpanRole
from .conventions_usage import (
    has_usage,
    output_cap,
    plain,
    provider,
    read_usage,
    request_model,
    response_id,
    service_tier,
    shape_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..usage import Usage


__all__ = [
    "LITELLM_SCOPE",
    "SpanRole",
    "awaits_late_report",
    "failed",
    "follows_no_convention",
    "has_usage",
    "is_embedding",
    "is_late_report",
    "output_cap",
    "plain",
    "provider",
    "read_usage",
    "report_start_ns",
    "request_model",
    "response_id",
    "role_at_end",
    "role_at_start",
    "service_tier",
    "speaks",
    "tells_late",
    "tool_name",
    "usage_written_onto",
]

LITELLM_SCOPE: Final = "litellm"
"""The scope by which usage that was written onto a span of ours is told from other reports of the same call."""

_CALL, _TOOL, _SUM, _OTHER = SpanRole.MODEL_CALL, SpanRole.TOOL, SpanRole.AGGREGATE, SpanRole.OTHER
_NOT_A_CALLS_KIND: Final = frozenset({SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.PRODUCER})
_REQUEST_TYPES: Final = frozenset({"chat", "completion", "embedding", "acompletion", "aembedding", "responses"})
_NOT_A_CALL = re.compile(
    r"agent|workflow|tool|chain|task|team|crew|graph|session|retriev|memory|guard|eval|vectordb|plan|count_tok"
)
_LLM_SCOPE = re.compile(
    r"openai|anthropic|claude|gen_?ai|vertex|gemini|bedrock|mistral|cohere|groq|ollama|litellm|langchain|langgraph|llama|"
    r"openinference|traceloop|haystack|crewai|autogen|semantic_kernel|smolagents|dspy|(?:^|[._-])llms?(?:$|[._-])",
    re.IGNORECASE,
)
_TOOL_SPAN_NAME = re.compile(r"^(?:execute_tool|running tool:?|tool:?)\s+", re.IGNORECASE)
_LOGFIRE_SPAN_TYPE: Final = "logfire.span_type"
_LOGFIRE_DURATION: Final = "duration"
_LOGFIRE_TELLS_LATE: Final = frozenset({"logfire.openai", "logfire.anthropic"})
"""Of its instrumentations, those of clients; that of the Agents SDK tells of a stream in its one span, or never."""


def role_at_start(
    attributes: Mapping[str, Any] | None, scope_name: str, span_name: str, kind: SpanKind | None = None
) -> SpanRole:
    """The role of a span that starts, as far as it says: UNKNOWN_AT_START where nothing rules a model call out."""
    a = plain(attributes)
    role = _role(a, scope_name, span_name)
    if role is not None:
        return role
    if kind in _NOT_A_CALLS_KIND or shape_of(a).plumbing:
        return _OTHER
    return SpanRole.UNKNOWN_AT_START


def speaks(attributes: dict[str, Any]) -> bool:
    """Whether anything of a span says that it is a model call, a tool or an aggregate; else only its name can."""
    return shape_of(attributes).speaks


def role_at_end(
    attributes: Mapping[str, Any] | None, scope_name: str, span_name: str, kind: SpanKind | None = None
) -> SpanRole:
    """The role of a finished span."""
    del kind  # a finished span says what it is by its attributes, or not at all
    return _role(plain(attributes), scope_name, span_name) or _OTHER


def _role(a: dict[str, Any], scope_name: str, span_name: str) -> SpanRole | None:
    """The role that the attributes tell, None where they tell none.

    A mark as tool or aggregate goes before everything, whatever else the span carries; then the operation's name, then
    a mark as model call, then a request model where nothing speaks of an agent or a tool.
    """
    if scope_name == SCOPE_NAME or "count_token" in span_name:
        return _OTHER  # counting tokens names a model, and some emitters mark it as a call of it: it costs nothing
    shape = shape_of(a)
    if not shape.speaks:
        return None
    operation = a.get(GEN_AI_OPERATION_NAME)
    role = OPERATIONS.get(operation) if type(operation) is str else None
    if role is not None and (role is not _CALL or not shape.marked):
        return role
    marked: SpanRole | None = None
    for key, kinds in KIND_MARKS:
        if key in a:
            mark = kinds.get(str(a[key]).strip('"').lower())
            if mark is not None and mark is not _CALL:
                return mark
            marked = marked or mark
    if role is not None or marked is not None:
        return _CALL
    if str(a.get(REQUEST_TYPE, "")) in _REQUEST_TYPES:
        return _CALL
    if GEN_AI_TOOL_NAME in a and GEN_AI_OPERATION_NAME not in a:
        return _TOOL
    if operation is not None:
        text = str(operation).lower()
        known = OPERATIONS.get(text)
        if known is not None:
            return known
        return _SUM if _NOT_A_CALL.search(text) or request_model(a) is None else _CALL
    if request_model(a) is None:
        return None
    if GEN_AI_AGENT_NAME in a:
        return _SUM
    return _CALL


def usage_written_onto(attributes: Mapping[str, Any] | None) -> Usage | None:
    """Usage that somebody wrote onto a span of ours, to be read where that span ends; None where nobody did.

    litellm writes a call's usage onto the current span, and otel_steps never puts a token count on its own: so every
    token count found there is somebody's. It is the span's LAST such call: each one overwrites the one before.
    """
    a = plain(attributes)
    return read_usage(a) if has_usage(a) else None


def tells_late(attributes: dict[str, Any]) -> bool:
    """Whether a span is of a kind that can be a late report, or one with a start of its own."""
    return _LOGFIRE_SPAN_TYPE in attributes


def is_late_report(attributes: Mapping[str, Any] | None, scope_name: str) -> bool:
    """Whether a span tells the usage of a request that a sibling span of its scope has told before, without usage.

    logfire reports a streamed call twice: the request as a span, and once the stream was read its usage as a log span.
    """
    a = plain(attributes)
    return a.get(_LOGFIRE_SPAN_TYPE) == "log" and scope_name.startswith("logfire")


def awaits_late_report(attributes: Mapping[str, Any] | None, scope_name: str) -> bool:
    """Whether a span without usage is the request of a stream that a late report will tell of, see `is_late_report`."""
    a = plain(attributes)
    if a.get(_LOGFIRE_SPAN_TYPE) != "span" or scope_name not in _LOGFIRE_TELLS_LATE:
        return False
    return "request_data" in a and "response_data" not in a and "gen_ai.output.messages" not in a  # no answer yet


def report_start_ns(attributes: Mapping[str, Any] | None, start_ns: int) -> int:
    """When the call that a span tells of began: a log span has no length, but tells how long the stream took."""
    a = plain(attributes)
    duration = a.get(_LOGFIRE_DURATION)
    if a.get(_LOGFIRE_SPAN_TYPE) != "log" or isinstance(duration, bool) or not isinstance(duration, (int, float)):
        return start_ns
    return start_ns - int(duration * 1e9) if 0 <= duration < 1e6 else start_ns


def is_embedding(attributes: Mapping[str, Any] | None) -> bool:
    """Whether a model call asks for embeddings: by its operation, its mark, or its model's name."""
    a = plain(attributes)
    operation = a.get(GEN_AI_OPERATION_NAME)
    if type(operation) is str and operation in OPERATIONS:
        return "embed" in operation
    for key in (GEN_AI_OPERATION_NAME, REQUEST_TYPE, *(key for key, _ in KIND_MARKS)):
        told = a.get(key)
        if type(told) is str and "embed" in told.lower():
            return True
    return "embed" in (request_model(a) or "").lower()


def failed(attributes: Mapping[str, Any] | None) -> bool:
    """Whether the call's own attributes say that it failed."""
    return "error.type" in plain(attributes)


def tool_name(attributes: Mapping[str, Any] | None, span_name: str) -> str:
    """The name of the tool that a TOOL span runs; the span's own name without its verb where no attribute says."""
    a = plain(attributes)
    for key in (GEN_AI_TOOL_NAME, "tool.name", "traceloop.entity.name"):
        value = a.get(key)
        if isinstance(value, str) and value:
            return value
    return _TOOL_SPAN_NAME.sub("", span_name).removesuffix(".tool")


def follows_no_convention(scope_name: str, span_name: str, attributes: Mapping[str, Any] | None) -> bool:
    """Whether a finished span looks like a model library's but says nothing to meter it by. For diagnostics."""
    if not _is_model_library(scope_name):
        return False
    a = plain(attributes)
    return _role(a, scope_name, span_name) is None and not has_usage(a) and not shape_of(a).plumbing


@lru_cache(maxsize=1024)
def _is_model_library(scope_name: str) -> bool:
    return _LLM_SCOPE.search(scope_name) is not None
