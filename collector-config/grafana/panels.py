"""The parts that the dashboards are made of: figures, graphs, tables, variables, and the link to Jaeger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus as build_query
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as shape
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DATASOURCE: Final = shape.DataSourceRef(type_val="prometheus", uid="${datasource}")

PROCESS: Final = 'tenant=~"$tenant",service_name=~"$service"'
RECEIPT: Final = f'{PROCESS},otel_steps_persona=~"$persona",otel_steps_name=~"$step",otel_steps_model=~"$model"'
STEP: Final = f'source="$source",{RECEIPT}'

COST: Final = f"increase(otel_steps:cost_usd_total{{{STEP}}}[$__range])"
FINISHED: Final = f"increase(otel_steps:steps_total{{{STEP}}}[$__range])"
"""What was spent, and how many steps ended, in the time that a dashboard shows."""

# Values reach the link percent-encoded. Jaeger compares tags as text and takes times in microseconds.
JAEGER_LINK: Final = (
    "${jaeger}/search?service=${__data.fields.service_name:percentencode}"
    "&tags=%7B%22otel_steps.name%22%3A%22${__data.fields.otel_steps_name:percentencode}%22%7D"
    "&start=${__from}000&end=${__to}000&limit=20"
)


REFS: Final = "ABCDEF"
"""Names of the queries of one panel."""


def per_minute(counter: str, by: str = "") -> str:
    """How fast `counter` rises, summed by labels if any are given."""
    return f"60 * sum{f' by ({by})' if by else ''} (rate({counter}[$__rate_interval]))"


def instant(expr: str, ref: str = "A") -> build_query.Dataquery:
    """One value for the whole range that the dashboard shows."""
    return build_query.Dataquery().expr(expr).instant().format(PromQueryFormat.TABLE).ref_id(ref)


def over_time(expr: str, legend: str, ref: str) -> build_query.Dataquery:
    """A line for each series of `expr`, named by `legend`."""
    return build_query.Dataquery().expr(expr).range().legend_format(legend).ref_id(ref)


def number(
    title: str, expr: str, unit: str, what: str, *, warn: float | None = None, alarm: float | None = None
) -> stat.Panel:
    """One big figure; yellow from `warn`, red from `alarm`."""
    steps = [shape.Threshold(value=None, color="green")]
    steps += [
        shape.Threshold(value=at, color=color) for at, color in ((warn, "yellow"), (alarm, "red")) if at is not None
    ]
    return (
        stat.Panel()
        .title(title)
        .description(what)
        .datasource(DATASOURCE)
        .with_target(build_query.Dataquery().expr(expr).instant().ref_id("A"))
        .unit(unit)
        .no_value("no data")
        .graph_mode(look.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(build.ThresholdsConfig().mode(shape.ThresholdsMode.ABSOLUTE).steps(steps))
        .height(4)
        .span(4)
    )


def graph(
    title: str, lines: Sequence[tuple[str, str]], unit: str, what: str, *, stacked: bool = False, wide: bool = False
) -> timeseries.Panel:
    """Lines over time, each a query and its legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(what)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(30 if stacked else 0)
        .legend(
            common.VizLegendOptions()
            .display_mode(look.LegendDisplayMode.TABLE)
            .placement(look.LegendPlacement.RIGHT if wide else look.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["lastNotNull", "max"])
        )
        .height(9)
        .span(24 if wide else 12)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
    for ref, (expr, legend) in zip(REFS, lines, strict=False):
        panel.with_target(over_time(expr, legend, ref))
    return panel


def rows(
    title: str, columns: Mapping[str, tuple[str, str]], what: str, *, sort: str, link: bool = False
) -> table.Panel:
    """A table: its columns by their names, each a query and a unit, joined over their labels; biggest `sort` first."""
    refs = dict(zip(REFS, columns, strict=False))
    renamed = {"Value" if len(refs) == 1 else f"Value #{ref}": name for ref, name in refs.items()}
    panel = (
        table.Panel()
        .title(title)
        .description(what)
        .datasource(DATASOURCE)
        .transformations(
            [
                shape.DataTransformerConfig(id_val="merge", options={}),
                shape.DataTransformerConfig(
                    id_val="organize", options={"excludeByName": {"Time": True}, "renameByName": renamed}
                ),
            ]
        )
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(desc=True)])
        .height(10)
        .span(24)
    )
    for ref, name in refs.items():
        expr, unit = columns[name]
        panel.with_target(instant(expr, ref))
        panel.override_by_name(name, [shape.DynamicConfigValue(id_val="unit", value=unit)])
    if link:
        target = build.DashboardLink("Runs of this step in Jaeger").url(JAEGER_LINK).target_blank(target_blank=True)
        value = json.loads(json.dumps([target.build()], cls=JSONEncoder))
        panel.override_by_name("otel_steps_name", [shape.DynamicConfigValue(id_val="links", value=value)])
    return panel


def board(uid: str, title: str, what: str) -> build.Dashboard:
    """An empty dashboard with what all have: the data source, the tenant, the service, and links to the others."""
    return (
        build.Dashboard(title)
        .uid(uid)
        .description(what)
        .tags(["otel_steps"])
        .readonly()
        .time("now-6h", "now")
        .refresh("1m")
        .tooltip(shape.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("otel_steps")
            .type(shape.DashboardLinkType.DASHBOARDS)
            .tags(["otel_steps"])
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
        .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )


def filled(
    dashboard: build.Dashboard, panels: Sequence[stat.Panel | timeseries.Panel | table.Panel]
) -> build.Dashboard:
    """The dashboard with these panels, numbered so that links to one stay right."""
    for number_of, panel in enumerate(panels, start=1):
        dashboard.with_panel(panel.id(number_of))
    return dashboard


def choice(name: str, label: str, metric: str, of: str) -> build.QueryVariable:
    """A variable with the values that the label `of` has on `metric`; several can be chosen, or all."""
    return (
        build.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": f"label_values({metric}, {of})", "refId": name})
        .refresh(shape.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(shape.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")  # also what has no such label
        .current(shape.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def with_step_choices(dashboard: build.Dashboard) -> build.Dashboard:
    """The variables of dashboards about steps."""
    source = shape.VariableOption(selected=True, text="receipts", value="receipts")
    other = shape.VariableOption(selected=False, text="sdk", value="sdk")
    known = 'otel_steps:steps_total{source="$source"}'
    return (
        dashboard.with_variable(
            build.CustomVariable("source")
            .label("Source")
            .values("receipts,sdk")
            .options([source, other])
            .current(source)
        )
        .with_variable(choice("tenant", "Tenant", known, "tenant"))
        .with_variable(choice("service", "Service", known, "service_name"))
        .with_variable(choice("persona", "Persona", known, "otel_steps_persona"))
        .with_variable(choice("step", "Step", known, "otel_steps_name"))
        .with_variable(choice("model", "Model", known, "otel_steps_model"))
    )
