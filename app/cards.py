"""The card of a chart: a title that states the finding, the chart or its table, and the table as a file."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from app import glossary
from app.chart_data import list_chart_rows, read_label
from app.tables import draw_rows, offer_csv
from app.text import plain

_QUIET_BAR = {"displayModeBar": False, "scrollZoom": False}
TIME_TICKS = (  # as the sentences write days; Plotly's own are American
    {"dtickrange": [None, 43_200_000], "value": "%H:%M\n%-d %b"},
    {"dtickrange": [43_200_001, "M1"], "value": "%-d %b\n%Y"},
    {"dtickrange": ["M1", None], "value": "%b\n%Y"},
)


def style_chart(figure: Any, *, title: str, height: int = 320, hover: str = "x unified") -> Any:
    """Give a Plotly figure the house style. `title` states the finding; `hover="closest"` is for clouds of points."""
    named = sum(trace.showlegend is not False for trace in figure.data)
    figure.update_layout(
        title={"text": title},
        height=height,
        margin={"l": 8, "r": 8, "t": 12, "b": 64 if named > 1 else 40},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        hovermode=hover,
        hoverlabel={"align": "left"},
    )
    return figure


def fit_axis(
    values: Sequence[float], *, least: float = float("-inf"), most: float = float("inf"), span: float = 0.0
) -> list[float]:
    """Return the ends of an axis that fits the values, with some room, at least `span` wide, within two limits.

    >>> fit_axis([0.4, 0.8], least=0.0, most=1.0)
    [0.368, 0.832]
    """
    low, high = min(values), max(values)
    missing = max(0.0, span - (high - low)) / 2
    room = 0.08 * (high - low + 2 * missing) or 0.08 * abs(high) or 1.0
    return [round(max(least, low - missing - room), 6), round(min(most, high + missing + room), 6)]


def show_chart(
    figure: Any, *, key: str, alt: str, rows: Sequence[dict[str, Any]] | None = None,
    points: Sequence[Mapping[str, Any]] = (), column_config: dict[str, Any] | None = None, **options: Any,
) -> Any:  # fmt: skip
    """Draw a Plotly figure as a card: its title, a button that shows the table instead, its CSV, and the chart.

    `alt` describes it to people who cannot see it. `rows` are its table and its file; without them each point is a row.
    With `points`, one a row, the selection of a row is the selection of that point, so that nothing needs a mouse.
    """
    title = read_label(figure.layout.title.text or alt)
    told = list_chart_rows(figure) if rows is None else rows
    figure.update_layout(title=None)
    with st.container(border=True, key=f"chart-{key}"):
        with st.container(horizontal=True, vertical_alignment="top", gap="small", key=f"cardhead-{key}"):
            meant = glossary.explain_chart(title, *(str(trace.name or "") for trace in figure.data))
            st.markdown(f"##### {plain(title)}", anchors=False, width="stretch", help=meant)
            with st.container(horizontal=True, gap="small", width="content"):
                is_table = _render_switch(title, key)
                offer_csv(f"CSV **of: {plain(title)}**", told, f"{key}.csv", key=key)
        if is_table:
            return _draw_table(told, points, key=key, column_config=column_config)
        return st.plotly_chart(figure, key=key, alt=f"{alt}: {title}", config=_QUIET_BAR, **options)


def _render_switch(title: str, key: str) -> bool:
    """The button between chart and table; return whether the table is shown."""
    name = f"chart-{key}-as-table"
    is_table = bool(st.session_state.get(name, False))
    st.button(
        f"{'Chart' if is_table else 'Table'} **of: {plain(title)}**", key=f"chart-{key}-switch", type="tertiary",
        icon=f":material/{'show_chart' if is_table else 'table'}:", on_click=_switch, args=(name,),
    )  # fmt: skip
    return is_table


def _switch(name: str) -> None:
    st.session_state[name] = not st.session_state.get(name, False)


def _draw_table(
    rows: Sequence[dict[str, Any]], points: Sequence[Mapping[str, Any]], *, key: str,
    column_config: dict[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """The chart's table; return the selection as the chart would."""
    name = f"chart-{key}-table"
    st.space("medium")  # for the table's own tool bar, which would cover the buttons of the card
    if not points:
        draw_rows(rows, key=name, column_config=column_config)
        return {"selection": {"points": []}}
    event = draw_rows(rows, key=name, column_config=column_config, on_select="rerun", selection_mode="single-row")
    chosen = [points[place] for place in event["selection"]["rows"] if place < len(points)]
    return {"selection": {"points": chosen}}
