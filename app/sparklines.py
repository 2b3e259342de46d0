"""Sparklines: some numbers as one small line, for people who see it and as words for those who do not."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

import streamlit as st

_WIDTH, _HEIGHT, _EDGE = 120, 32, 3
_COLOR = "#6274ee"  # seen on both backgrounds


def draw_sparkline(values: Sequence[float]) -> str:
    """Return the line as SVG; "" for fewer than two values."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    step, reach = (_WIDTH - 2 * _EDGE) / (len(values) - 1), _HEIGHT - 2 * _EDGE
    places = [
        (_EDGE + at * step, _EDGE + reach * (1 - ((value - low) / (high - low) if high > low else 0.5)))
        for at, value in enumerate(values)
    ]
    line, (x, y) = " ".join(f"{x:.1f},{y:.1f}" for x, y in places), places[-1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<polyline points="{line}" fill="none" stroke="{_COLOR}" stroke-width="1.75" stroke-linejoin="round"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{_COLOR}"/></svg>'
    )


def say_values(values: Sequence[float], what: str) -> str:
    """Return what a line shows, for people who do not see it.

    >>> say_values([0.58, 0.61, 0.47], "mean score")
    'mean score: from 0.58 to 0.47, lowest 0.47, highest 0.61'
    >>> say_values([12_310.0, 12_345.0], "files")
    'files: from 12,310 to 12,345, lowest 12,310, highest 12,345'
    """
    form = ",.0f" if all(value == int(value) for value in values) else ".2f"
    first, last, low, high = (f"{each:{form}}" for each in (values[0], values[-1], min(values), max(values)))
    return f"{what}: from {first} to {last}, lowest {low}, highest {high}"


def render_sparkline(values: Sequence[float], what: str) -> None:
    """Draw the line, or keep its place where there is nothing to draw; `what` says what the values are."""
    picture = draw_sparkline(values)
    if not picture:
        st.html('<div class="sparkline"></div>')
        return
    said, data = escape(say_values(values, what), quote=True), b64encode(picture.encode()).decode()
    st.html(f'<img class="sparkline" src="data:image/svg+xml;base64,{data}" alt="{said}" title="{said}">')
