"""The data of a chart as rows of a CSV file, read from the figure itself so that the two cannot differ."""

import html
import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

_TAG = re.compile(r"<[^<>]*>")


def list_chart_rows(figure: Any) -> list[dict[str, Any]]:
    """Return a row for each point of a Plotly figure: its series, its values on both axes, and its label.

    Lines that only guide the eye (`hoverinfo="skip"`) hold no data.
    """
    rows: list[dict[str, Any]] = []
    for trace in figure.data:
        if trace.hoverinfo != "skip":
            rows += _list_points(trace, figure.layout)
    return rows


def _list_points(trace: Any, layout: Any) -> Iterator[dict[str, Any]]:
    xs, ys = _values(trace.x), _values(trace.y)
    texts = _values(trace.text) or [next((e for e in each if isinstance(e, str)), None) for each in _rows(trace)]
    across = _title(layout.xaxis) or ("time" if xs and isinstance(xs[0], date) else "x")
    for at in range(max(len(xs), len(ys))):
        row = {"series": read_label(trace.name or "")}
        if xs:
            row[across] = _read(xs[at])
        if ys:
            row[_title(layout.yaxis) or "y"] = _read(ys[at])
        if at < len(texts) and texts[at]:
            row["label"] = read_label(texts[at])
        yield row


def read_label(text: str) -> str:
    """Return a chart's text as people read it: breaks as semicolons, no tags, angle brackets as they were typed."""
    return html.unescape(_TAG.sub("", str(text).replace("<br>", "; ")))


def _title(axis: Any) -> str:
    return axis.title.text or ""


def _read(value: Any) -> Any:
    return read_label(value) if isinstance(value, str) else value


def _rows(trace: Any) -> Sequence[Sequence[Any]]:
    found = _values(trace.customdata)
    return [each if isinstance(each, list | tuple) else () for each in found]


def _values(found: Any) -> list[Any]:
    return [] if found is None else list(found)
