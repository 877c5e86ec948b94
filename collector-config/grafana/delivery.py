"""The dashboard on whether receipts arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from panels import PROCESS, board, choice, filled, graph, number, per_minute

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import dashboard as build

FAILED: Final = '{__name__=~"otelcol_exporter_(send|enqueue)_failed_(spans|log_records)(_total)?"}'


def delivery() -> build.Dashboard:
    """Whether receipts arrive: the applications' journals and the Collector's queues."""
    made = (
        board("otel-steps-delivery", "otel_steps: Delivery", "Whether receipts arrive: journals, Collector, queues.")
        .with_variable(choice("tenant", "Tenant", "otel_steps_receipts_waiting", "tenant"))
        .with_variable(choice("service", "Service", "otel_steps_receipts_waiting", "service_name"))
    )

    def counted(name: str) -> str:
        return f"sum(increase(otel_steps_receipts_{name}_total{{{PROCESS}}}[$__range]))"

    figures = (
        number(
            "Waiting",
            f"sum(otel_steps_receipts_waiting{{{PROCESS}}})",
            "short",
            "Receipts, now.",
            warn=1000,
            alarm=5000,
        ),
        number("Delivered", counted("delivered"), "short", "Acknowledged by a collector in the time shown."),
        number("Set aside", counted("set_aside"), "short", "Refused for good; kept in the journal.", alarm=0.5),
        number("Dropped", counted("dropped"), "short", "Lost to a bound of the store or of memory.", alarm=0.5),
        number(
            "Faults survived",
            f"sum(increase(otel_steps_internal_errors_total{{{PROCESS}}}[$__range]))",
            "short",
            "Of otel_steps itself. No data: there was none.",
            alarm=0.5,
        ),
        number("Collectors up", 'sum(up{job="otel_collector"})', "short", "That answer a scrape of their own metrics."),
    )
    receipts = (
        graph(
            "Waiting, by process",
            [(f"otel_steps_receipts_waiting{{{PROCESS}}}", "{{service_name}} {{instance}}")],
            "short",
            "A line that only rises: nothing is delivered there.",
        ),
        graph(
            "Delivered and counted, per minute",
            [
                (per_minute(f"otel_steps_receipts_delivered_total{{{PROCESS}}}"), "delivered"),
                (
                    per_minute(f"otel_steps_receipts_steps_total{{{PROCESS}}}"),
                    "counted by the Collector",
                ),
            ],
            "short",
            "Counted above delivered: some came twice. Below: revisions of known receipts, or another Collector's.",
        ),
        graph(
            "Lost or refused, per minute",
            [
                (
                    per_minute(f"otel_steps_receipts_dropped_total{{{PROCESS}}}", by="service_name"),
                    "{{service_name}} dropped",
                ),
                (
                    per_minute(f"otel_steps_receipts_set_aside_total{{{PROCESS}}}", by="service_name"),
                    "{{service_name}} set aside",
                ),
            ],
            "short",
            "Both should be zero.",
        ),
    )
    collector = (
        graph(
            "Collector: queues",
            [
                (
                    "otelcol_exporter_queue_size / otelcol_exporter_queue_capacity",
                    "{{instance}} {{exporter}} {{data_type}}",
                )
            ],
            "percentunit",
            "How full; at 1 the Collector refuses receipts and drops spans.",
        ),
        graph(
            "Collector: log records in, per second",
            [
                (f'sum(rate({{__name__=~"otelcol_receiver_{what}_log_records(_total)?"}}[$__rate_interval]))', what)
                for what in ("accepted", "refused")
            ],
            "short",
            "Receipts and other log records. What is refused is sent again by otel_steps.",
        ),
        graph(
            "Collector: not exported, per minute",
            [
                (
                    per_minute(FAILED, by="exporter"),
                    "{{exporter}}",
                )
            ],
            "short",
            "Given up, or the queue was full. No data: there was none.",
        ),
        graph(
            "Collector: memory",
            [('{__name__=~"otelcol_process_memory_rss(_bytes)?"}', "{{instance}}")],
            "bytes",
            "Resident. At its limit it refuses what comes in.",
        ),
    )
    return filled(made, (*figures, *receipts, *collector))
