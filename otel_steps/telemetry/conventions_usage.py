"""Reading one model call's usage, model and cap out of a span's attributes, whatever convention wrote them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..usage import Usage
from . import conventions_keys as keys
from .conventions_roles import KIND_MARKS
from .conventions_values import Attributes, count, json_object, number, reported_cost, text

if TYPE_CHECKING:
    from collections.abc import Mapping


def plain(attributes: Mapping[str, Any] | None) -> Attributes:
    """`attributes` as a dict to read quickly; the SDK's own mapping costs ten times as much for each key."""
    if attributes is None:
        return {}
    if isinstance(attributes, dict):
        return attributes
    copy: Any = getattr(attributes, "copy", None)
    copied: Any = copy() if copy is not None else None
    return cast("Attributes", copied) if type(copied) is dict else dict(attributes)


def read_usage(attributes: Mapping[str, Any] | None, scope_name: str = "") -> Usage | None:
    """The usage that a finished model-call span tells, or None where it tells none.

    Zero input and zero output is what emitters write who never heard of it: None too. A total alone counts as input.
    Input comes out with cached tokens included: where the reported cached tokens are more than the input, where the
    total says so (total = input + output + cached), or where the scope is known to leave them out, they are added.
    `cost_nano_usd` is set where a cost in USD was reported; a cost that is NaN, infinite or negative is 0 and
    `invalid_cost`. Never raises; what cannot be a number is as if absent.
    """
    a = plain(attributes)
    shape = _shape(tuple(a))
    if shape.raw:
        a = {**_raw(a), **a}
        shape = _shape(tuple(a))
    k_input, k_output, k_asked, k_answered, k_provider, k_response, k_read, k_write, k_reasoning = shape[:9]
    _, ephemeral, costs, rare = shape[9:13]
    # the first key of each kind holds what it should, nearly always: then no call is spent on it
    get = a.get
    inputs, outputs = get(k_input), get(k_output)
    if type(inputs) is not int or type(outputs) is not int:
        inputs, outputs = _derived(a, count(a, keys.INPUT), count(a, keys.OUTPUT))
    cost, invalid = reported_cost(a) if costs else (None, False)
    if not inputs and not outputs and cost is None and not invalid:
        return None
    asked, answered, named, response = get(k_asked), get(k_answered), get(k_provider), get(k_response)
    if type(asked) is not str or not asked:
        asked = text(a, keys.REQUEST_MODEL)
    if type(answered) is not str or not answered:
        answered = text(a, keys.RESPONSE_MODEL)
    if type(named) is not str or not named:
        named = text(a, keys.PROVIDER)
    if type(response) is not str or not response:
        response = text(a, keys.RESPONSE_ID)
    found = Usage(answered or asked or "", inputs or 0, outputs or 0, cost, 0, 0, 0, named, response)
    if answered and asked != answered:
        found.request_model = asked
    if k_reasoning:
        reasoning = a[k_reasoning]
        found.reasoning_tokens = reasoning if type(reasoning) is int else count(a, keys.REASONING) or 0
    if k_read or k_write or ephemeral:
        _read_cached(a, shape, scope_name, found)
    if rare:
        found.service_tier, found.details = _tier(a), _details(a)
    if cost is not None:
        found.price_source, found.invalid_cost = "reported", invalid
    return found


def request_model(attributes: Mapping[str, Any] | None) -> str | None:
    """The model that the call asks for (else the one that answered), or None where nothing names one."""
    a = plain(attributes)
    return text(a, keys.REQUEST_MODEL) or text(a, keys.RESPONSE_MODEL)


def provider(attributes: Mapping[str, Any] | None) -> str | None:
    """Who is asked, by the name the span gives it, or None."""
    return text(plain(attributes), keys.PROVIDER)


def service_tier(attributes: Mapping[str, Any] | None) -> str | None:
    """The service tier that answered, else the one asked for; None for `auto` and where nothing names one."""
    return _tier(plain(attributes))


def response_id(attributes: Mapping[str, Any] | None) -> str | None:
    """The response's id, or None."""
    return text(plain(attributes), keys.RESPONSE_ID)


def output_cap(attributes: Mapping[str, Any] | None) -> int | None:
    """The most output tokens that the request allows, over all its choices, or None where the span does not say."""
    a = plain(attributes)
    cap = count(a, keys.CAP)
    if cap is None:
        for key in keys.CAP_PARAMETERS:
            cap = count(json_object(a.get(key)), keys.CAP_PARAMETER_NAMES)
            if cap is not None:
                break
    if cap is None or cap <= 0:
        return None
    return cap * max(count(a, keys.CHOICES) or 1, 1)


def has_usage(attributes: Mapping[str, Any]) -> bool:
    """Whether any token count of a call of its own is told, zero included."""
    shape = _shape(tuple(attributes))
    return bool(shape.input or shape.output) or any(key in attributes for key in keys.JSON_USAGE)


class Shape(NamedTuple):
    """What the keys of a span alone say: the first known one of each kind, "" where it has none.

    Spans of one emitter have the same keys, so this is worth keeping.
    """

    input: str
    output: str
    asked: str
    answered: str
    provider: str
    response_id: str
    read: str
    write: str
    reasoning: str
    total: str
    ephemeral: bool
    costs: bool
    rare: bool
    raw: bool
    speaks: bool
    """Whether anything says what the span is: without it, only its name and scope can."""
    marked: bool
    plumbing: bool
    """Whether it is a request of a web, database or messaging client, by its own keys."""


def shape_of(attributes: Attributes) -> Shape:
    """The shape of a span with these attributes."""
    return _shape(tuple(attributes))


@lru_cache(maxsize=1024)
def _shape(present: tuple[str, ...]) -> Shape:
    there = frozenset(present)

    def first(wanted: tuple[str, ...]) -> str:
        return next((key for key in wanted if key in there), "")

    def some(*wanted: str) -> bool:
        return not there.isdisjoint(wanted)

    marks = [key for key, _ in KIND_MARKS]
    return Shape(
        input=first(keys.INPUT),
        output=first(keys.OUTPUT),
        asked=first(keys.REQUEST_MODEL),
        answered=first(keys.RESPONSE_MODEL),
        provider=first(keys.PROVIDER),
        response_id=first(keys.RESPONSE_ID),
        read=first(keys.CACHE_READ),
        write=first(keys.CACHE_WRITE),
        reasoning=first(keys.REASONING),
        total=first(keys.TOTAL),
        ephemeral=some(keys.CACHE_WRITE_5M, keys.CACHE_WRITE_1H),
        costs=some(*keys.COST, *keys.COST_LITELLM, *(key for part in keys.COST_PARTS for key in part)),
        rare=some(*keys.TIER_ANSWERED, *keys.TIER_ASKED, *(key for key, _ in keys.DETAILS)),
        raw=some(*keys.RAW_USAGE, *keys.JSON_USAGE, *keys.JSON_COST),
        speaks=some(*keys.SPEAKING, *keys.REQUEST_MODEL, *keys.RESPONSE_MODEL, *marks),
        marked=some(*marks),
        plumbing=any(key.startswith(keys.PLUMBING) for key in present),
    )


def _read_cached(a: Attributes, shape: Shape, scope_name: str, found: Usage) -> None:
    reads, writes = a.get(shape.read, 0), a.get(shape.write, 0)
    if type(reads) is not int:
        reads = count(a, keys.CACHE_READ) or 0
    if type(writes) is not int:
        writes = count(a, keys.CACHE_WRITE) or 0
    if shape.ephemeral:
        hour = number(a.get(keys.CACHE_WRITE_1H)) or 0
        if not shape.write:
            writes = hour + (number(a.get(keys.CACHE_WRITE_5M)) or 0)
        found.cache_write_1h_tokens = hour
    found.cache_read_tokens, found.cache_write_tokens = reads, writes
    cached = (reads if reads > 0 else 0) + (writes if writes > 0 else 0)  # noqa: FURB136 - max() costs as much as all else
    left_out = cached > found.input_tokens or scope_name in keys.WITHOUT_CACHED
    if left_out or (shape.total and count(a, keys.TOTAL) == found.input_tokens + found.output_tokens + cached):
        found.input_tokens += cached


def _derived(a: Attributes, inputs: int | None, outputs: int | None) -> tuple[int | None, int | None]:
    """Counts that the usual keys do not tell: what a total leaves for the missing one."""
    if inputs is None or outputs is None:
        total = count(a, keys.TOTAL)
        if total is not None and total > 0:
            if inputs is None:
                inputs = max(total - (outputs or 0), 0)
            else:
                outputs = max(total - inputs, 0)
    return inputs, outputs


def _raw(a: Attributes) -> Attributes:
    """The details that only the provider's own usage object (as JSON) holds, under the conventions' keys."""
    raw = json_object(next((a[key] for key in keys.RAW_USAGE if key in a), None))
    inputs = json_object(raw.get("prompt_tokens_details") or raw.get("input_tokens_details"))
    outputs = json_object(raw.get("completion_tokens_details") or raw.get("output_tokens_details"))
    written = json_object(raw.get("cache_creation"))
    found: Attributes = {
        keys.CACHE_READ[0]: inputs.get("cached_tokens", raw.get("cache_read_input_tokens")),
        keys.CACHE_WRITE[0]: inputs.get("cache_write_tokens", raw.get("cache_creation_input_tokens")),
        keys.CACHE_WRITE_1H: written.get("ephemeral_1h_input_tokens"),
        keys.REASONING[0]: outputs.get("reasoning_tokens", outputs.get("thinking_tokens")),
        keys.TIER_ANSWERED[0]: raw.get("service_tier"),
        keys.INPUT_AUDIO: inputs.get("audio_tokens"),
        keys.OUTPUT_AUDIO: outputs.get("audio_tokens"),
    }
    return {**_counts(a), **{key: value for key, value in found.items() if value is not None}}


def _counts(a: Attributes) -> Attributes:
    """What emitters tell as JSON under names of their own, under the conventions' keys."""
    found: Attributes = {}
    for key in keys.JSON_USAGE:
        told = json_object(a.get(key))
        told = json_object(told.get("usage_metadata")) or told
        for usual, names in keys.JSON_NAMES:
            tokens = count(told, names)
            if tokens is not None:
                found.setdefault(usual, tokens)
        inputs, outputs = json_object(told.get("input_token_details")), json_object(told.get("output_token_details"))
        for usual, tokens in (
            (keys.CACHE_READ[0], number(inputs.get("cache_read"))),
            (keys.CACHE_WRITE[0], number(inputs.get("cache_creation"))),
            (keys.REASONING[0], number(outputs.get("reasoning"))),
        ):
            if tokens is not None:
                found.setdefault(usual, tokens)
    for key in keys.JSON_COST:
        told = json_object(a.get(key))
        cost = told.get("total_cost", told.get("total") if key != keys.JSON_USAGE[2] else None)
        if cost is not None:
            found.setdefault(keys.COST[1], cost)
    return found


def _details(a: Attributes) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for key, name in keys.DETAILS:
        tokens = number(a.get(key))
        if tokens is not None and tokens > 0:
            found.setdefault(name, tokens)
    return found or None


def _tier(a: Attributes) -> str | None:
    tier = text(a, keys.TIER_ANSWERED) or text(a, keys.TIER_ASKED)
    return None if tier == "auto" else tier
