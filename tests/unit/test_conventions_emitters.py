"""What emitters that no test can install tell of one call: 100 tokens in, 20 out; and of what is no call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_steps.telemetry.conventions import SpanRole, read_usage, role_at_end

CALL, TOOL, SUM = SpanRole.MODEL_CALL, SpanRole.TOOL, SpanRole.AGGREGATE

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "google-genai, official": (
        "generate_content gemini-2.5-flash",
        {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.system": "gemini",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
        },
    ),
    "botocore, Bedrock": (
        "chat m",
        {
            "rpc.system": "aws-api",
            "rpc.service": "Bedrock Runtime",
            "rpc.method": "Converse",
            "gen_ai.system": "aws.bedrock",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
        },
    ),
    "openlit": (
        "chat m",
        {
            "telemetry.sdk.name": "openlit",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 100.0,
            "gen_ai.usage.output_tokens": 20.0,
            "gen_ai.client.token.usage": 120,
        },
    ),
    "langfuse": (
        "answer",
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.model.name": "m",
            "langfuse.observation.usage_details": '{"input": 100, "output": 20, "total": 120}',
        },
    ),
    "mlflow": (
        "Completions",
        {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.llm.model": "m",
            "mlflow.chat.tokenUsage": '{"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}',
        },
    ),
    "langsmith": (
        "ChatOpenAI",
        {
            "langsmith.span.kind": "llm",
            "gen_ai.request.model": "m",
            "langsmith.usage_metadata": '{"input_tokens": 100, "output_tokens": 20}',
        },
    ),
    "braintrust": (
        "Chat Completion",
        {"gen_ai.request.model": "m", "braintrust.metrics": '{"prompt_tokens": 100, "completion_tokens": 20}'},
    ),
    "Semantic Kernel, of old": (
        "chat.completions m",
        {
            "gen_ai.operation.name": "chat.completions",
            "gen_ai.request.model": "m",
            "gen_ai.response.prompt_tokens": 100,
            "gen_ai.response.completion_tokens": 20,
        },
    ),
    "Semantic Kernel": (
        "chat.streaming_completions m",
        {
            "gen_ai.operation.name": "chat.streaming_completions",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
        },
    ),
    "Vercel AI SDK": (
        "ai.generateText.doGenerate",
        {
            "operation.name": "ai.generateText.doGenerate",
            "ai.model.id": "m",
            "ai.usage.promptTokens": 100,
            "ai.usage.completionTokens": 20,
        },
    ),
    "Google ADK, of old": (
        "call_llm",
        {
            "gen_ai.system": "gcp.vertex.agent",
            "gen_ai.request.model": "m",
            "gcp.vertex.agent.llm_response": json.dumps(
                {"content": {}, "usage_metadata": {"prompt_token_count": 100, "candidates_token_count": 20}}
            ),
        },
    ),
    "Strands": (
        "chat",
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.system": "strands-agents",
            "gen_ai.request.model": "m",
            "gen_ai.usage.prompt_tokens": 100,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.completion_tokens": 20,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.total_tokens": 120,
        },
    ),
    "AG2": (
        "chat m",
        {
            "ag2.span.type": "llm",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "m",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
        },
    ),
    "smolagents, by OpenInference": (
        "LiteLLMModel.generate",
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "m",
            "llm.token_count.prompt": "100",
            "llm.token_count.completion": "20",
        },
    ),
    "langtrace, of old": (
        "openai.chat.completions.create",
        {
            "langtrace.service.type": "llm",
            "llm.request.model": "m",
            "llm.token.counts": '{"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}',
        },
    ),
}


@pytest.mark.parametrize("emitter", CALLS)
def test_a_call_of_every_emitter_is_read(emitter: str) -> None:
    name, told = CALLS[emitter]
    assert role_at_end(told, emitter, name) is CALL
    usage = read_usage(told, emitter)
    assert usage is not None
    assert (usage.model, usage.input_tokens, usage.output_tokens) == ("m", 100, 20)


@pytest.mark.parametrize(
    ("name", "told", "role"),
    [
        ("agent", {"mlflow.spanType": '"AGENT"', "mlflow.chat.tokenUsage": '{"input_tokens": 1}'}, SUM),
        ("tool", {"mlflow.spanType": "TOOL"}, TOOL),
        ("run", {"langfuse.observation.type": "agent", "langfuse.observation.usage_details": '{"input": 1}'}, SUM),
        ("invoke_agent a", {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 9}, SUM),
        ("conversation", {"ag2.span.type": "conversation", "gen_ai.usage.input_tokens": 9}, SUM),
        ("execute_tool x", {"gen_ai.operation.name": "execute_tool", "gcp.vertex.agent.llm_response": "{}"}, TOOL),
        ("crew", {"langtrace.service.type": "framework", "llm.request.model": "m"}, SUM),
    ],
)
def test_what_is_no_call_is_none(name: str, told: dict[str, Any], role: SpanRole) -> None:
    assert role_at_end(told, "s", name) is role


def test_counts_and_costs_told_as_json_are_read_whole() -> None:
    told = {
        "langsmith.span.kind": "llm",
        "gen_ai.request.model": "m",
        "langsmith.usage_metadata": json.dumps(
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "total_cost": 0.5,
                "input_token_details": {"cache_read": 40, "cache_creation": 10},
                "output_token_details": {"reasoning": 7},
            }
        ),
    }
    usage = read_usage(told)
    assert usage is not None
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (40, 10, 7)
    assert usage.cost_nano_usd == 500_000_000
    costs = {"langfuse.observation.cost_details": '{"total": 0.0123}', "mlflow.llm.cost": '{"total_cost": 0.0123}'}
    for key, value in costs.items():
        usage = read_usage({key: value, "gen_ai.usage.input_tokens": 3})
        assert usage is not None
        assert usage.cost_nano_usd == 12_300_000


def test_the_usual_keys_go_before_json_and_garbage_is_as_if_absent() -> None:
    told = {"gen_ai.usage.input_tokens": 7, "mlflow.chat.tokenUsage": '{"input_tokens": 100, "output_tokens": 20}'}
    usage = read_usage(told)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (7, 20)
    for garbage in ("{", "[]", '{"input_tokens": "x"}', "null", '{"usage_metadata": 3}', 5):
        assert read_usage({"mlflow.chat.tokenUsage": garbage, "langfuse.observation.cost_details": garbage}) is None
