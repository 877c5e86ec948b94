"""Prices equal genai-prices to the nano-dollar, the user's own go first, and the unknown stays unknown."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_steps.errors import DefinitionError
from otel_steps.telemetry import pricing_table
from otel_steps.telemetry.pricing import CACHE_MAX, PriceTable
from otel_steps.telemetry.pricing_rates import make_rates
from otel_steps.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW_NS = 1_790_000_000_123_456_000
NOW = datetime.fromtimestamp(NOW_NS // 1_000_000_000, UTC).replace(microsecond=123_456)
PRICED = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok", "output_mtok", "requests_kcount")


def ns(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000_000


def expected(usage: Usage, context: dict[str, str] | None, at: datetime = NOW) -> int:
    price = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
            **(usage.details or {}),
        ),
        usage.model,
        provider_id=usage.provider,
        genai_request_timestamp=at,
        price_context=context,
    )
    return int((price.total_price * 10**9).to_integral_value(ROUND_HALF_EVEN))


def usages(model: str, provider: str, tier: str | None, edges: set[int]) -> Iterator[Usage]:
    for edge in edges:
        for inputs, reads, writes, hour, outputs, reasoning in (
            (edge, 0, 0, 0, 7, 0),
            (edge + 1, 0, 0, 0, 1013, 0),
            (edge + 17, edge // 3 + 5, 0, 0, 0, 0),
            (edge + 23, edge // 3 + 5, edge // 7 + 3, 2, 999, 123),
        ):
            yield Usage(
                model=model,
                provider=provider,
                service_tier=tier,
                input_tokens=inputs,
                output_tokens=outputs,
                cache_read_tokens=reads,
                cache_write_tokens=writes,
                cache_write_1h_tokens=hour,
                reasoning_tokens=reasoning,
            )


@pytest.mark.parametrize("provider", providers, ids=lambda provider: provider.id)
def test_every_model_tier_cache_and_service_tier_costs_what_genai_prices_says(provider: Provider) -> None:
    table = PriceTable()
    for model in provider.models:
        tiers = (None, "priority", "flex", "batch", "default", "fast") if model.price_variants else (None,)
        for tier in tiers:
            context = pricing_table.price_context(tier)
            try:
                found = genai_prices.calc_price(
                    genai_prices.Usage(),
                    model.id,
                    provider_id=provider.id,
                    genai_request_timestamp=NOW,
                    price_context=context,
                )
            except LookupError:  # a few identifiers stand for names that end otherwise
                assert table.price(Usage(model.id, 1, 1, provider=provider.id), NOW_NS) is None
                continue
            prices = vars(found.model_price)
            known = any(prices.get(key) is not None for key in PRICED) or model.id.endswith(":free")
            edges = {
                0,
                *(tier.start for price in prices.values() if price is not None for tier in getattr(price, "tiers", ())),
            }
            for usage in usages(model.id, provider.id, tier, edges):
                assert table.price(usage, NOW_NS) == (expected(usage, context) if known else None), (model.id, usage)


def test_every_model_is_priced_by_integers() -> None:
    for provider in providers:
        for model in provider.models:
            entry = pricing_table.find(model.id, provider.id, None, NOW_NS)
            assert entry is None or entry.rates is not None, model.id


@pytest.mark.parametrize(
    ("provider", "model", "as_provider", "as_model"),
    [
        (None, "openai/gpt-4o", "openai", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06", "openai", "gpt-4o"),
        ("OpenAI", "GPT-4o", "openai", "gpt-4o"),
        ("openai", "ft:gpt-4o-2024-08-06:acme::id", "openai", "ft:gpt-4o-2024-08-06:acme::id"),
        ("azure.ai.openai", "gpt-4o", "azure", "gpt-4o"),
        ("azure", "azure/gpt-4o", "azure", "gpt-4o"),
        (
            "aws.bedrock",
            "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
            "aws",
            "anthropic.claude-3-5-sonnet-20241022-v2:0",
        ),
        (None, "us.anthropic.claude-sonnet-4-20250514-v1:0", "aws", "anthropic.claude-sonnet-4-20250514-v1:0"),
        ("anthropic", "anthropic.claude-3-5-sonnet-20240620-v1:0", "aws", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
        (
            "aws.bedrock",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-20250514-v1:0",
            "aws",
            "anthropic.claude-sonnet-4-20250514-v1:0",
        ),
        ("gcp.vertex_ai", "claude-3-5-sonnet@20240620", "google", "claude-3-5-sonnet"),
        ("gcp.gemini", "models/gemini-2.5-flash", "google", "gemini-2.5-flash"),
        ("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro", "google", "gemini-2.5-pro"),
        (None, "gemini/gemini-2.5-flash", "google", "gemini-2.5-flash"),
        ("x_ai", "grok-3", "x-ai", "grok-3"),
        ("mistral_ai", "mistral-large-latest", "mistral", "mistral-large-latest"),
        ("openai", "deepseek-chat", "deepseek", "deepseek-chat"),
        ("langchain", "gpt-4o", "openai", "gpt-4o"),
        ("litellm", "anthropic/claude-sonnet-4-20250514", "anthropic", "claude-sonnet-4-20250514"),
        ("moonshot_ai", "kimi-k2-0711-preview", "moonshotai", "kimi-k2-0711-preview"),
    ],
)
def test_names_as_emitters_write_them(provider: str | None, model: str, as_provider: str, as_model: str) -> None:
    usage = Usage(model=as_model, provider=as_provider, input_tokens=1000, output_tokens=1000)
    asked = Usage(model=model, provider=provider, input_tokens=1000, output_tokens=1000)
    assert PriceTable().price(asked, NOW_NS) == expected(usage, None) > 0


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        (None, "my-finetune"),
        (None, ""),
        ("openai", ""),
        (None, "/"),
        ("ollama", "llama3"),
        ("ollama", "gpt-4o"),
        ("ollama", "openai/gpt-oss-20b"),
        ("my-gateway", "gpt-4o"),
        ("openai", "whisper-1"),  # priced by the hour, of which a span says nothing
        ("google", "gemma-3"),  # no price in the table is no price of zero
    ],
)
def test_the_unknown_stays_unknown(provider: str | None, model: str) -> None:
    table = PriceTable()
    usage = Usage(model=model, provider=provider, input_tokens=10, output_tokens=10)
    assert table.price(usage, NOW_NS) is None
    assert table.worst_case(model, provider, 10, 10) is None
    table.apply(usage)
    assert (usage.cost_nano_usd, usage.price_source) == (None, None)


def test_a_model_that_is_free_by_name_costs_nothing() -> None:
    free = next(m.id for p in providers if p.id == "openrouter" for m in p.models if m.id.endswith(":free"))
    assert PriceTable().price(Usage(model=free, provider="openrouter", input_tokens=10), NOW_NS) == 0


def test_the_asked_for_model_prices_a_call_whose_answer_names_none_known() -> None:
    usage = Usage(model="my-deployment", provider="openai", input_tokens=1_000_000, request_model="gpt-4o")
    assert PriceTable().price(usage, NOW_NS) == 2_500_000_000


def test_counts_that_contradict_each_other_are_priced_and_never_raise() -> None:
    table = PriceTable()
    more_cached = Usage("gpt-4o", 10, 10, cache_read_tokens=1000, provider="openai")
    assert table.price(more_cached, NOW_NS) == 1000 * 1250 + 10 * 10_000
    negative = Usage("gpt-4o", -5, -5, cache_read_tokens=-1, cache_write_tokens=-1, reasoning_tokens=-1)
    assert table.price(negative, NOW_NS) == 0


@given(*(st.integers(-5, 10**12) for _ in range(6)))
@settings(deadline=None)
def test_cost_is_never_negative_and_grows_with_output(a: int, b: int, c: int, d: int, e: int, f: int) -> None:
    rates = make_rates([(-1, tuple(map(Decimal, ("3", "0.3", "3.75", "6", "15", "15"))))])
    cost = rates.cost(a, b, c, d, e, f)
    assert cost >= 0
    assert rates.cost(a, max(b, 0) + 1, c, d, e, f) >= cost


def test_half_a_nano_dollar_rounds_to_even() -> None:
    rates = make_rates([(-1, tuple(map(Decimal, ("0.0005", "0", "0", "0", "0", "0"))))])
    assert [rates.cost(n, 0, 0, 0, 0, 0) for n in range(5)] == [0, 0, 1, 2, 2]


def test_audio_is_priced_by_the_table_itself() -> None:
    model = next(
        model.id
        for provider in providers
        if provider.id == "openai"
        for model in provider.models
        if {"input_audio_mtok", "output_audio_mtok"} <= vars(model.prices).keys()
    )
    plain = Usage(model=model, provider="openai", input_tokens=1000, output_tokens=500)
    usage = Usage(model=model, provider="openai", input_tokens=1000, output_tokens=500)
    usage.details = {"input_audio_tokens": 400, "output_audio_tokens": 100}
    table = PriceTable()
    assert table.price(usage, NOW_NS) == expected(usage, None) != expected(plain, None)
    usage.details = {"input_audio_tokens": 4000}  # more than there is input
    assert table.price(usage, NOW_NS) == table.price(plain, NOW_NS) == expected(plain, None)


def test_set_price_goes_first_and_a_provider_of_its_own_before_that() -> None:
    table = PriceTable()
    usage = Usage("gpt-4o", 1_000_000, 0, provider="azure.ai.openai")
    table.set_price("GPT-4o", input_usd_per_mtok=7, output_usd_per_mtok=8)
    assert table.price(usage, NOW_NS) == 7_000_000_000
    table.set_price("gpt-4o", input_usd_per_mtok=9, output_usd_per_mtok=8, provider="azure")
    assert table.price(usage, NOW_NS) == 9_000_000_000
    assert table.price(Usage("gpt-4o", 1_000_000, 0, provider="openai"), NOW_NS) == 7_000_000_000
    table.apply(usage, NOW_NS)
    assert (usage.cost_nano_usd, usage.price_source) == (9_000_000_000, "set_price")
    table.clear()
    assert table.price(usage, NOW_NS) == 2_500_000_000


def test_set_price_covers_prefixes_and_dated_releases_but_not_a_release_with_its_own() -> None:
    table = PriceTable()
    table.set_price("my-model", input_usd_per_mtok=1, output_usd_per_mtok=1)
    for name in ("my-model", "openai/my-model", "my-model-2026-01-31", "my-model@20260131", "MY-MODEL-20260131"):
        assert table.price(Usage(name, 1_000_000, 0), NOW_NS) == 1_000_000_000, name
    assert table.price(Usage("my-model-mini", 1, 0), NOW_NS) is None
    table.set_price("my-model-2026-01-31", input_usd_per_mtok=2, output_usd_per_mtok=1)
    assert table.price(Usage("my-model-2026-01-31", 1_000_000, 0), NOW_NS) == 2_000_000_000


def test_set_price_of_cached_tokens() -> None:
    table = PriceTable()
    usage = Usage("m", 1_000_000, 0, cache_read_tokens=400_000, cache_write_tokens=100_000)
    table.set_price("m", input_usd_per_mtok=10, output_usd_per_mtok=0)
    assert table.price(usage) == 10_000_000_000
    table.set_price(
        "m", input_usd_per_mtok=10, output_usd_per_mtok=0, cache_read_usd_per_mtok=1, cache_write_usd_per_mtok=20
    )
    assert table.price(usage) == 5_000_000_000 + 400_000_000 + 2_000_000_000
    table.set_price("m", input_usd_per_mtok=0, output_usd_per_mtok=0)
    assert table.price(usage) == 0


@pytest.mark.parametrize(
    "bad", [True, "1", None, float("nan"), float("inf"), -0.1, Decimal("NaN"), [1], 1e300, 10**400]
)
@pytest.mark.parametrize(
    "field", ["input_usd_per_mtok", "output_usd_per_mtok", "cache_read_usd_per_mtok", "cache_write_usd_per_mtok"]
)
def test_garbage_prices_are_refused_by_name(field: str, bad: Any) -> None:
    fields: dict[str, Any] = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1, field: bad}
    if bad is None and field.startswith("cache"):
        return
    with pytest.raises(DefinitionError, match=field):
        PriceTable().set_price("m", **fields)


@pytest.mark.parametrize("name", ["", "  ", None, 3, True])
def test_garbage_names_are_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="model"):
        PriceTable().set_price(name, input_usd_per_mtok=1, output_usd_per_mtok=1)
    if name is not None:
        with pytest.raises(DefinitionError, match="provider"):
            PriceTable().set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=1, provider=name)


def test_a_reported_cost_stays() -> None:
    usage = Usage("gpt-4o", 10, 10, 77)
    PriceTable().apply(usage)
    assert (usage.cost_nano_usd, usage.price_source) == (77, "reported")


def test_the_worst_case_is_no_less_than_any_case() -> None:
    table = PriceTable()
    for provider, model in (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro")):
        for inputs in (0, 1000, 200_000, 200_001, 300_000):
            worst = table.worst_case(model, provider, inputs, 500, at_ns=NOW_NS)
            assert worst is not None
            for usage in usages(model, provider, None, {inputs}):
                usage.input_tokens, usage.output_tokens = inputs, 500
                usage.cache_read_tokens = min(usage.cache_read_tokens, inputs)
                usage.cache_write_tokens = min(usage.cache_write_tokens, inputs - usage.cache_read_tokens)
                usage.reasoning_tokens = min(usage.reasoning_tokens, 500)
                cost = table.price(usage, NOW_NS)
                assert cost is not None
                assert cost <= worst


@pytest.fixture
def snapshot() -> Iterator[Callable[[ModelInfo], None]]:
    def use(model: ModelInfo) -> None:
        provider = Provider(id="acme", name="Acme", api_pattern="https://acme", models=[model])
        set_custom_snapshot(DataSnapshot(providers=[provider], from_auto_update=False))

    before = get_snapshot()
    yield use
    set_custom_snapshot(before)


def flat(usd: str) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(usd), output_mtok=Decimal(0))


def test_prices_change_by_date_and_hour_also_in_a_table_that_is_warm(snapshot: Callable[[ModelInfo], None]) -> None:
    day = datetime(2030, 5, 1, tzinfo=UTC)
    prices = [
        ConditionalPrice(prices=flat("1")),
        ConditionalPrice(StartDateConstraint(day.date()), prices=flat("2")),
        ConditionalPrice(
            TimeOfDateConstraint(datetime(2030, 1, 1, 16, 30).time(), datetime(2030, 1, 1, 0, 30).time()),
            prices=flat("3"),
        ),
    ]
    snapshot(ModelInfo(id="m", match=ClauseEquals("m"), prices=prices))
    table = PriceTable()
    for hours in [*range(-60, 60), *range(60, -60, -1)]:
        for minutes in (0, 29, 30, 31):
            at = day + timedelta(hours=hours, minutes=minutes)
            usage = Usage(model="m", provider="acme", input_tokens=1_000_000)
            assert table.price(usage, ns(at)) == expected(usage, None, at), at


def test_an_updated_table_is_used_at_once(snapshot: Callable[[ModelInfo], None]) -> None:
    table, usage = PriceTable(), Usage("m", 1_000_000, 0, provider="acme")
    snapshot(ModelInfo(id="m", match=ClauseEquals("m"), prices=flat("1")))
    assert table.price(usage) == 1_000_000_000
    snapshot(ModelInfo(id="m", match=ClauseEquals("m"), prices=flat("2")))
    assert table.price(usage) == 2_000_000_000


def test_several_tiers_per_call(snapshot: Callable[[ModelInfo], None]) -> None:
    tiered = TieredPrices(Decimal(1), [Tier(100, Decimal(2)), Tier(1000, Decimal("0.0375"))])
    price = ModelPrice(
        input_mtok=tiered,
        output_mtok=TieredPrices(Decimal(5), [Tier(500, Decimal("7.25"))]),
        requests_kcount=Decimal("0.0015"),
    )
    snapshot(ModelInfo(id="m", match=ClauseEquals("m"), prices=price))
    table = PriceTable()
    for usage in usages("m", "acme", None, {0, 99, 100, 101, 499, 500, 501, 1000, 1001, 5000}):
        assert table.price(usage, NOW_NS) == expected(usage, None)


def test_a_price_that_integers_cannot_say_is_asked_of_the_table(snapshot: Callable[[ModelInfo], None]) -> None:
    class Doubling(ModelPrice):
        def calc_price(self, usage: object) -> Any:
            prices = super().calc_price(usage)
            return {**prices, "total_price": prices["total_price"] * 2}

    snapshot(ModelInfo(id="m", match=ClauseEquals("m"), prices=Doubling(input_mtok=Decimal(1), output_mtok=Decimal(1))))
    entry = pricing_table.find("m", "acme", None, NOW_NS)
    assert entry is not None
    assert entry.rates is None
    table = PriceTable()
    assert table.price(Usage("m", 1_000_000, 0, provider="acme")) == 2_000_000_000
    assert table.worst_case("m", "acme", 1_000_000, 0) == 2_000_000_000


def test_the_memory_of_names_is_bounded() -> None:
    table = PriceTable()
    table.set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=1)
    for n in range(CACHE_MAX + 10):
        assert table.price(Usage("m", 1_000_000, 0, provider=f"p{n}")) == 1_000_000_000
    assert len(table._resolved) <= CACHE_MAX


def test_prices_from_the_environment(tmp_path: Path) -> None:
    as_json = {
        "m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2.5},
        "n": [
            {"input_usd_per_mtok": 3, "output_usd_per_mtok": 0},
            {"input_usd_per_mtok": 4, "output_usd_per_mtok": 0, "provider": "azure"},
        ],
    }
    toml = tmp_path / "prices.toml"
    toml.write_text(
        '["m"]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2.5\n'
        '[["n"]]\ninput_usd_per_mtok = 3\noutput_usd_per_mtok = 0\n'
        '[["n"]]\ninput_usd_per_mtok = 4\noutput_usd_per_mtok = 0\nprovider = "azure"\n'
    )
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(as_json))
    for value in (json.dumps(as_json), str(file), str(toml)):
        table = PriceTable()
        assert table.load_environment({"OTEL_STEPS_PRICES": value}) == 3
        assert table.price(Usage("m", 0, 1_000_000)) == 2_500_000_000
        assert table.price(Usage("n", 1_000_000, 0)) == 3_000_000_000
        assert table.price(Usage("n", 1_000_000, 0, provider="azure.ai.openai")) == 4_000_000_000
    assert PriceTable().load_environment({}) == 0


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "/no/such/file.toml",
        '{"m": 3}',
        '{"m": {"input_usd_per_mtok": 1}}',
        '{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": "2"}}',
        '{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": -2}}',
        '{"m": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2, "inptu": 3}}',
        '{"": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}}',
    ],
)
def test_garbage_in_the_environment_sets_nothing(value: str) -> None:
    table = PriceTable()
    with pytest.raises(DefinitionError):
        table.load_environment({"OTEL_STEPS_PRICES": value})
    assert table.price(Usage("m", 1, 1)) is None


def test_threads_pricing_while_prices_are_set_see_an_old_or_a_new_one() -> None:
    table, seen = PriceTable(), set[int | None]()
    table.set_price("m", input_usd_per_mtok=1, output_usd_per_mtok=1)

    def ask() -> None:
        for _ in range(2000):
            seen.add(table.price(Usage("m", 1_000_000, 0)))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for usd in range(2, 30):
        table.set_price("m", input_usd_per_mtok=usd, output_usd_per_mtok=1)
    for thread in threads:
        thread.join()
    assert seen <= {usd * 1_000_000_000 for usd in range(1, 30)}
    assert table.price(Usage("m", 1_000_000, 0)) == 29_000_000_000


def test_the_table_is_loaded_at_the_first_price_and_not_for_own_ones() -> None:
    code = (
        "import sys\n"
        "from otel_steps.telemetry.pricing import PriceTable\n"
        "from otel_steps.usage import Usage\n"
        "table = PriceTable()\n"
        "table.set_price('m', input_usd_per_mtok=1, output_usd_per_mtok=1)\n"
        "assert table.price(Usage('m', 1, 1)) == 2000\n"
        "assert 'genai_prices' not in sys.modules\n"
        "assert table.price(Usage('gpt-4o', 1, 1))\n"
        "assert 'genai_prices' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
