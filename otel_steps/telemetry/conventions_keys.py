"""Attribute keys under which other people's spans tell a model call; each tuple in the order of preference."""

from __future__ import annotations

from typing import Final

from ..attributes import GEN_AI_OPERATION_NAME, GEN_AI_TOOL_NAME

REQUEST_TYPE: Final = "llm.request.type"
SPEAKING: Final = (GEN_AI_OPERATION_NAME, REQUEST_TYPE, GEN_AI_TOOL_NAME)
"""Keys that say what a span is, beside the marks of each convention and the names of a model."""
PLUMBING: Final = ("http.", "url.", "db.", "rpc.", "messaging.", "faas.", "aws.s3.", "graphql.")
"""How the keys of spans of other clients begin."""
INPUT: Final = (
    "gen_ai.usage.input_tokens",
    "llm.token_count.prompt",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
    "llm.usage.input_tokens",
    "decision.token_count.input",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "gen_ai.response.prompt_tokens",
    "braintrust.metrics.prompt_tokens",
)
OUTPUT: Final = (
    "gen_ai.usage.output_tokens",
    "llm.token_count.completion",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.usage.output_tokens",
    "decision.token_count.output",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
    "gen_ai.response.completion_tokens",
    "braintrust.metrics.completion_tokens",
)
TOTAL: Final = ("gen_ai.usage.total_tokens", "llm.token_count.total", "llm.usage.total_tokens", "ai.usage.totalTokens")
CACHE_READ: Final = (
    "gen_ai.usage.cache_read.input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.prompt_tokens_details.cached_tokens",
    "gen_ai.usage.details.cached_tokens",
    "gen_ai.usage.cached_input_tokens",
    "llm.token_count.prompt_details.cache_input",
    "ai.usage.cachedInputTokens",
)
CACHE_WRITE: Final = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.prompt_tokens_details.cache_creation_tokens",
)
CACHE_WRITE_5M: Final = "anthropic.usage.cache_creation.ephemeral_5m_input_tokens"
CACHE_WRITE_1H: Final = "anthropic.usage.cache_creation.ephemeral_1h_input_tokens"
REASONING: Final = (
    "gen_ai.usage.reasoning.output_tokens",
    "llm.token_count.completion_details.reasoning",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "gen_ai.usage.details.thoughts_tokens",
    "gen_ai.usage.completion_tokens_details.reasoning_tokens",
    "llm.usage.reasoning_tokens",
    "ai.usage.reasoningTokens",
)
COST: Final = (
    "operation.cost",
    "gen_ai.usage.cost",
    "gen_ai.usage.cost.amount",
    "gen_ai.usage.cost.total",
    "llm.cost.total",
    "llm.response.cost",
)
COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
LITELLM_CACHE_HIT: Final = "litellm.cache_hit"
COST_LITELLM: Final = ("litellm.cost.total", "gen_ai.cost.total_cost")
COST_PARTS: Final = (
    (
        "gen_ai.cost.input_cost",
        "gen_ai.cost.cache_read_cost",
        "gen_ai.cost.cache_creation_cost",
        "gen_ai.cost.output_cost",
        "gen_ai.cost.tool_usage_cost",
    ),
    ("llm.cost.prompt", "llm.cost.completion"),
)
RESPONSE_ID: Final = ("gen_ai.response.id", "llm.response.id", "gen_ai.response_id", "ai.response.id")
RESPONSE_MODEL: Final = (
    "gen_ai.response.model",
    "llm.response.model_name",
    "llm.response.model",
    "decision.response.model_name",
    "ai.response.model",
)
REQUEST_MODEL: Final = (
    "gen_ai.request.model",
    "llm.model_name",
    "llm.request.model_name",
    "llm.request.model",
    "embedding.model_name",
    "decision.model_name",
    "decision.request.model_name",
    "langfuse.observation.model.name",
    "gen_ai.llm.model",
    "mlflow.llm.model",
    "ai.model.id",
)
PROVIDER: Final = (
    "gen_ai.provider.name",
    "gen_ai.system",
    "llm.provider",
    "llm.system",
    "decision.provider",
    "ai.model.provider",
    "mlflow.llm.provider",
)
TIER_ANSWERED: Final = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "anthropic.response.service_tier",
    "gen_ai.response.service_tier",
)
TIER_ASKED: Final = (
    "openai.request.service_tier",
    "gen_ai.openai.request.service_tier",
    "anthropic.request.service_tier",
    "gen_ai.request.service_tier",
)
CAP: Final = (
    "gen_ai.request.max_tokens",
    "gen_ai.request.max_output_tokens",
    "gen_ai.request.max_completion_tokens",
    "llm.request.max_tokens",
    "llm.max_tokens",
    "gen_ai.llm.max_tokens",
)
CAP_PARAMETERS: Final = ("llm.invocation_parameters", "embedding.invocation_parameters")
CAP_PARAMETER_NAMES: Final = (
    "max_output_tokens",
    "max_completion_tokens",
    "max_tokens",
    "maxOutputTokens",
    "maxTokens",
)
CHOICES: Final = ("gen_ai.request.choice.count", "gen_ai.request.n")
RAW_USAGE: Final = ("gen_ai.usage.raw", "usage")
"""The provider's own usage object as JSON, by logfire and by logfire's integration of OpenAI's agents."""
JSON_USAGE: Final = (
    "langfuse.observation.usage_details",
    "mlflow.chat.tokenUsage",
    "langsmith.usage_metadata",
    "braintrust.metrics",
    "llm.token.counts",
    "gcp.vertex.agent.llm_response",
)
"""Counts as JSON, under names of their own; Google's ADK has them in the whole answer."""
JSON_COST: Final = ("langfuse.observation.cost_details", "mlflow.llm.cost", "langsmith.usage_metadata")
JSON_NAMES: Final = (
    (INPUT[0], ("input", "input_tokens", "prompt_tokens", "prompt_token_count")),
    (OUTPUT[0], ("output", "output_tokens", "completion_tokens", "candidates_token_count")),
    (TOTAL[0], ("total", "total_tokens", "total_token_count")),
    (
        CACHE_READ[0],
        (
            "cache_read_input_tokens",
            "input_cached_tokens",
            "input_cache_read",
            "prompt_cached_tokens",
            "cached_content_token_count",
        ),
    ),
    (CACHE_WRITE[0], ("cache_creation_input_tokens", "input_cache_creation", "prompt_cache_creation_tokens")),
    (REASONING[0], ("output_reasoning_tokens", "completion_reasoning_tokens", "thoughts_token_count")),
)
INPUT_AUDIO: Final = "gen_ai.usage.details.input_audio_tokens"
OUTPUT_AUDIO: Final = "gen_ai.usage.details.output_audio_tokens"
DETAILS: Final = (
    (INPUT_AUDIO, "input_audio_tokens"),
    ("llm.token_count.prompt_details.audio", "input_audio_tokens"),
    ("gen_ai.usage.audio.input_tokens", "input_audio_tokens"),
    (OUTPUT_AUDIO, "output_audio_tokens"),
    ("llm.token_count.completion_details.audio", "output_audio_tokens"),
    ("gen_ai.usage.audio.output_tokens", "output_audio_tokens"),
    ("gen_ai.usage.details.cache_audio_read_tokens", "cache_audio_read_tokens"),
)
"""Counts that only a price table asks for, by its own names."""
WITHOUT_CACHED: Final = frozenset({"opentelemetry.instrumentation.bedrock"})
"""Scopes whose input leaves cached tokens out, though they tell them beside it."""
