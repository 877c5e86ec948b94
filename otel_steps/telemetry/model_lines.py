"""Whose model a name means, and of which size: enough to tell two calls apart, whatever spelling each emitter has."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_VENDORS: Final[dict[str, str]] = {
    "openai": r"(?:chat)?gpt|o[134](?=$|-)|davinci|babbage|text-embedding-(?:3|ada)|whisper|dall-e",
    "anthropic": r"claude",
    "google": r"gemini|gemma|palm|text-embedding-00\d|textembedding-gecko|learnlm",
    "mistral": r"mi[sx]tral|codestral|ministral|magistral|pixtral|devstral",
    "meta": r"(?:code)?llama",
    "deepseek": r"deepseek",
    "alibaba": r"qwen|qwq",
    "cohere": r"command|c4ai|embed-(?:english|multilingual)|rerank",
    "xai": r"grok",
    "amazon": r"nova|titan",
    "microsoft": r"phi-?\d",
    "ai21": r"jamba|jurassic|j2",
    "voyage": r"voyage",
    "moonshot": r"kimi|moonshot",
    "zhipu": r"glm",
    "nvidia": r"nemotron",
    "ibm": r"granite",
    "perplexity": r"sonar",
}
_WORD = re.compile("|".join(f"(?P<{vendor}>(?<![a-z])(?:{words}))" for vendor, words in _VENDORS.items()))
_TIER = re.compile(r"(?<![a-z])(?:mini|nano|micro|haiku|sonnet|opus|flash|lite|pro|small|medium|large|plus)(?![a-z])")
_SIZE = re.compile(r"(?<![a-z\d.])\d+(?:\.\d+)?b(?![a-z])")


class ModelLine(NamedTuple):
    """What a model's name tells for certain."""

    vendors: frozenset[str]
    """Whose model it is; of a distilled or tuned one, whose models."""
    tiers: frozenset[str]
    """Words such as `mini` or `haiku`, which every name of the model has."""
    sizes: frozenset[str]
    """Sizes such as `70b`, which some of its names leave out."""


@lru_cache(maxsize=1024)
def line_of(model: str) -> ModelLine | None:
    """What the name `model` tells; None where its vendor cannot be told, as with names of deployments."""
    name = model.lower()
    vendors = frozenset(found.lastgroup or "" for found in _WORD.finditer(name))
    if not vendors:
        return None
    last = name.rpartition("/")[2]
    return ModelLine(vendors, frozenset(_TIER.findall(last)), frozenset(_SIZE.findall(last)))


def are_other_models(mine: Iterable[str | None], other: Iterable[str | None]) -> bool:
    """Whether one call cannot have both sets of names: each names models for certain, and they have none in common.

    Names: the model that was asked for and the one that answered. Versions say nothing, for an alias leaves them out.
    """
    mine_lines = [line for name in mine if name and (line := line_of(name)) is not None]
    other_lines = [line for name in other if name and (line := line_of(name)) is not None]
    if not mine_lines or not other_lines:
        return False
    return not any(_can_be_one(a, b) for a in mine_lines for b in other_lines)


def _can_be_one(a: ModelLine, b: ModelLine) -> bool:
    if a.vendors.isdisjoint(b.vendors) or a.tiers != b.tiers:
        return False
    return not a.sizes or not b.sizes or not a.sizes.isdisjoint(b.sizes)
