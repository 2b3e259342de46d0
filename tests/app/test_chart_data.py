"""A chart's CSV holds what the chart shows, for every kind of chart that the pages draw."""

from datetime import date

import plotly.graph_objects as go

from app.chart_data import list_chart_rows


def test_each_point_is_a_row_named_by_its_series_and_the_titles_of_the_axes() -> None:
    figure = go.Figure(
        [
            go.Scatter(x=[1, 2], y=[0.5, 0.25], name="median"),
            go.Scatter(x=[1], y=[0.9], name="guide", hoverinfo="skip"),
        ]
    )
    figure.update_yaxes(title="top-1 similarity")
    assert list_chart_rows(figure) == [
        {"series": "median", "x": 1, "top-1 similarity": 0.5},
        {"series": "median", "x": 2, "top-1 similarity": 0.25},
    ]


def test_a_days_axis_without_a_title_is_called_time() -> None:
    (row,) = list_chart_rows(go.Figure(go.Scatter(x=[date(2026, 11, 17)], y=[3], name="files")))
    assert row == {"series": "files", "time": date(2026, 11, 17), "y": 3}


def test_names_and_labels_are_read_as_people_typed_them() -> None:
    figure = go.Figure(go.Bar(x=[0.3], y=["1 · a &lt;b&gt; &amp; c"], text=["<b>swap</b><br>by ada"], name="new"))
    (row,) = list_chart_rows(figure)
    assert row == {"series": "new", "x": 0.3, "y": "1 · a <b> & c", "label": "swap; by ada"}


def test_boxes_hold_all_their_values() -> None:
    figure = go.Figure(go.Box(y=[1.0, 0.5], name="qa-v3", text=["why", "how"]))
    assert [(row["series"], row["y"], row["label"]) for row in list_chart_rows(figure)] == [
        ("qa-v3", 1.0, "why"),
        ("qa-v3", 0.5, "how"),
    ]
