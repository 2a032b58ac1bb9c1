"""How panels, variables and links of all dashboards look.

Knows Grafana's vocabulary through its Foundation SDK; knows no metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

TAG = "letterwise"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
"""Columns of a Grafana dashboard."""


def dashboard(uid: str, title: str, description: str, variables: Iterable[str]) -> Dashboard:
    """An empty dashboard with the given variables, and links to all others of the same tag."""
    made = (
        Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            DashboardLink("letterwise")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for name in variables:
        made.with_variable(_VARIABLES[name])
    return made


def _variable(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
    )


_VARIABLES = {
    "instance": _variable("instance", "Instance", "label_values(letterwise_ready, instance)"),
    "task": _variable("task", "Task", 'label_values(letterwise_http_requests_total{task_type!="none"}, task_type)'),
    "question_type": _variable(
        "question_type", "Question", "label_values(letterwise_canary_probes_total, question_type)"
    ),
}


def _queries(queries: Mapping[str, str], instant: bool) -> list[Dataquery]:
    made = []
    for place, (legend, expression) in enumerate(queries.items()):
        query = Dataquery().datasource(SOURCE).expr(expression).legend_format(legend).ref_id(chr(ord("A") + place))
        made.append(query.instant() if instant else query.range())
    return made


def _thresholds(bad_from: float | None) -> ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if bad_from is not None:
        steps.append(Threshold(value=bad_from, color="red"))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def graph(
    title: str,
    description: str,
    unit: str,
    queries: Mapping[str, str],
    *,
    limit: float | None = None,
    top: float | None = None,
    width: int = WIDTH // 2,
) -> timeseries.Panel:
    """Lines over time.

    Args:
        title: of the panel.
        description: what it shows and what to look for.
        unit: Grafana's name of the unit.
        queries: legend of each query, and the query.
        limit: where the alert's threshold lies; drawn as a line.
        top: upper end of the axis, where the quantity has one.
        width: in columns.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .fill_opacity(8)
        .thresholds(_thresholds(limit))
        .targets(_queries(queries, instant=False))
    )
    if limit is not None:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if top is not None:
        panel.max(top)
    return panel


def number(
    title: str, description: str, unit: str, query: str, *, limit: float | None = None, legend: str = ""
) -> stat.Panel:
    """One large number; red from `limit` on."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(WIDTH // 4)
        .height(4)
        .no_value("none")
        .thresholds(_thresholds(limit))
        .targets(_queries({legend: query}, instant=True))
    )
