"""The dashboard on what became of steps, and how long they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from panels import FINISHED, RECEIPT, STEP, board, filled, graph, number, per_minute, rows, with_step_choices

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard as build

CAUSE: Final = "service_name, otel_steps_name, otel_steps_limit, otel_steps_error_boundary, otel_steps_status"
RECEIVED: Final = f'source="receipts",{RECEIPT}'
STEP_WITHOUT_MODEL: Final = STEP.removesuffix(',otel_steps_model=~"$model"')


def steps() -> build.Dashboard:
    """What became of steps, why they were stopped, and how long they take."""
    made = with_step_choices(
        board("otel-steps-steps", "otel_steps: Steps and stops", "What became of steps, and how long they take.")
    )
    stops = f"increase(otel_steps:stops_total{{{STEP}}}[$__range])"
    unfinished = STEP + ',otel_steps_status!="completed"'
    seconds = f"rate(otel_steps:duration_seconds_bucket{{{STEP}}}[$__rate_interval])"
    figures = (
        number("Steps", f"sum({FINISHED})", "short", "Finished in the time shown, however."),
        number(
            "Not completed",
            f"sum(increase(otel_steps:steps_total{{{unfinished}}}[$__range])) / sum({FINISHED})",
            "percentunit",
            "Failed, skipped, escalated, cancelled or interrupted.",
            warn=0.05,
            alarm=0.2,
        ),
        number("Stopped by a limit", f"sum({stops})", "short", "In the time shown.", warn=1),
        number(
            "Stops per minute",
            f"sum(otel_steps:stops:per_minute{{{STEP_WITHOUT_MODEL}}})",
            "short",
            "Of the last five minutes.",
            warn=1,
            alarm=10,
        ),
        number(
            "Calls of a step",
            f"sum(increase(otel_steps_receipts_llm_calls_total{{{RECEIPT}}}[$__range]))"
            f" / sum(increase(otel_steps_receipts_steps_total{{{RECEIPT}}}[$__range]))",
            "short",
            "Model calls for each step, on average. A loop shows here. From receipts.",
        ),
        number(
            "95 of 100 end within",
            f"histogram_quantile(0.95, sum by (le) (increase(otel_steps:duration_seconds_bucket{{{STEP}}}[$__range])))",
            "s",
            "Estimated from a histogram.",
        ),
    )
    statuses = graph(
        "Steps per minute, by status",
        [
            (
                per_minute(f"otel_steps:steps_total{{{STEP}}}", by="otel_steps_status"),
                "{{otel_steps_status}}",
            )
        ],
        "short",
        "How they ended.",
        stacked=True,
    )
    stopped = graph(
        "Stops per minute, by step",
        [
            (
                per_minute(f"otel_steps:stops_total{{{STEP}}}", by="otel_steps_name"),
                "{{otel_steps_name}}",
            )
        ],
        "short",
        "Steps that broke a limit of their own.",
        stacked=True,
    )
    causes = rows(
        "Stops, by limit and boundary",
        {
            "Stops": (
                f"sum by ({CAUSE}) (increase(otel_steps:stops_total{{{RECEIVED}}}[$__range]))",
                "short",
            )
        },
        "The limit that broke first, and what the step does then. From receipts.",
        sort="Stops",
    )
    durations = graph(
        "Duration",
        [(f"histogram_quantile({share}, sum by (le) ({seconds}))", f"{share}") for share in ("0.5", "0.95", "0.99")],
        "s",
        "So many of all steps end within. Estimated from a histogram.",
    )
    slowest = graph(
        "Duration, by step",
        [(f"histogram_quantile(0.95, sum by (le, otel_steps_name) ({seconds}))", "{{otel_steps_name}}")],
        "s",
        "95 of 100 end within.",
    )
    return filled(made, (*figures, statuses, stopped, causes, durations, slowest))
