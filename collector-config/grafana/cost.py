"""The dashboard on cost and budgets."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from panels import COST, FINISHED, RECEIPT, STEP, board, filled, graph, number, per_minute, rows, with_step_choices

BY_STEP: Final = "service_name, otel_steps_persona, otel_steps_name, otel_steps_model"
DEAREST: Final = f"topk(20, sum by ({BY_STEP}) ({COST}))"
RECEIPT_WITHOUT_MODEL: Final = RECEIPT.removesuffix(',otel_steps_model=~"$model"')


def cost() -> build.Dashboard:
    """What is spent, on what, and how much of the budgets it is."""
    made = with_step_choices(
        board(
            "otel-steps-cost",
            "otel_steps: Cost and budgets",
            "Own cost of steps, so that sums over nested ones are right.",
        )
    ).with_variable(build.TextBoxVariable("jaeger").label("Jaeger").default_value("http://127.0.0.1:16686"))
    figures = (
        number("Cost", f"sum({COST})", "currencyUSD", "In the time shown."),
        number("Cost in the last hour", f"sum(otel_steps:cost_usd:per_hour{{{STEP}}})", "currencyUSD", "Up to now."),
        number("Cost of a step", f"sum({COST}) / sum({FINISHED})", "currencyUSD", "On average, in the time shown."),
        number(
            "Of the daily budget",
            'max(otel_steps:daily_budget_used:ratio{source="$source"})',
            "percentunit",
            "All services in the last 24 hours, of otel_steps:daily_budget_usd in rules.yaml.",
            warn=0.5,
            alarm=0.8,
        ),
        number(
            "Calls without a price",
            f"sum(increase(otel_steps_receipts_unpriced_calls_total{{{RECEIPT}}}[$__range]))",
            "short",
            "Counted as zero dollars: the cost is too low by theirs. From receipts.",
            alarm=0.5,
        ),
        number(
            "Calls without usage",
            f"sum(increase(otel_steps_receipts_unmetered_calls_total{{{RECEIPT}}}[$__range]))",
            "short",
            "Ended without telling their tokens. From receipts.",
            alarm=0.5,
        ),
    )
    dearest = rows(
        "Dearest steps",
        {
            "Cost": (DEAREST, "currencyUSD"),
            "Steps": (f"sum by ({BY_STEP}) ({FINISHED}) and {DEAREST}", "short"),
            "Cost of one": (f"{DEAREST} / sum by ({BY_STEP}) ({FINISHED})", "currencyUSD"),
        },
        "The twenty that cost most in the time shown. A click on a step's name finds its runs in Jaeger.",
        sort="Cost",
        link=True,
    )
    hourly = "An hour's cost at the rate of each moment."
    graphs = [
        graph(
            f"Cost per hour, by {what}",
            [
                (
                    f"3600 * sum by ({label}) (rate(otel_steps:cost_usd_total{{{STEP}}}[$__rate_interval]))",
                    f"{{{{{label}}}}}",
                )
            ],
            "currencyUSD",
            hourly,
            stacked=True,
        )
        for what, label in (
            ("persona", "otel_steps_persona"),
            ("step", "otel_steps_name"),
            ("model", "otel_steps_model"),
            ("service", "service_name"),
        )
    ]
    tokens = graph(
        "Tokens per minute",
        [
            (
                per_minute(f"otel_steps:tokens_total{{{STEP}}}", by="otel_steps_token_type, otel_steps_model"),
                "{{otel_steps_model}} {{otel_steps_token_type}}",
            )
        ],
        "short",
        "Input contains cached tokens, output contains reasoning.",
        stacked=True,
    )
    used = graph(
        "Used of their own limits, 95 of 100 runs",
        [
            (f"otel_steps:usd_budget_used:p95{{{RECEIPT_WITHOUT_MODEL}}}", "{{otel_steps_name}} dollars"),
            (f"otel_steps:token_budget_used:p95{{{RECEIPT_WITHOUT_MODEL}}}", "{{otel_steps_name}} tokens"),
        ],
        "percentunit",
        "Steps with a limit of their own, by what was nested in them too, in the last hour. From receipts.",
    )
    return filled(made, (*figures, dearest, *graphs, tokens, used))
