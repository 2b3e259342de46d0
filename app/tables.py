"""Tables of the pages, the types of their columns, and rows as CSV.

Bold words in the label of a button are read out by screen readers and not drawn (style.css): they tell equal buttons
apart.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zlib import crc32
from zoneinfo import ZoneInfo

import streamlit as st

from app import glossary
from app.downloads import offer_file
from app.text import plain
from core.safety.letters import show_text
from core.safety.spreadsheets import write_row


def viewer_zone() -> str:
    """Return the name of the browser's time zone, or UTC if it is unknown here."""
    try:
        return ZoneInfo(st.context.timezone or "UTC").key
    except (ValueError, OSError, LookupError):  # whatever a browser may send
        return "UTC"


class KeptSelection(NamedTuple):
    """The key of a table, and the places of the rows that are selected in it."""

    key: str
    places: tuple[int, ...]

    @property
    def options(self) -> dict[str, Any]:
        """What the table is drawn with."""
        return {"key": self.key, "selection_default": {"selection": {"rows": list(self.places)}}}


def keep_selection(name: str, ids: Sequence[str]) -> KeptSelection:
    """Return how a table of rows with these ids is drawn, so that what was selected stays selected where it moves to.

    Streamlit keeps the places of selected rows: after others came to these places, they would be taken for selected.
    """
    former_key, former_ids = st.session_state.get(f"{name}-rows", (name, ()))
    selected = st.session_state.get(former_key, {}).get("selection", {}).get("rows", ())
    chosen = {former_ids[place] for place in selected if place < len(former_ids)}
    key = f"{name}-{crc32(repr(tuple(ids)).encode()):08x}"
    st.session_state[f"{name}-rows"] = key, tuple(ids)
    return KeptSelection(key, tuple(place for place, each in enumerate(ids) if each in chosen))


def show_table(
    rows: Sequence[dict[str, Any]], *, key: str, file_name: str, column_config: dict[str, Any] | None = None,
    **options: Any,
) -> Any:  # fmt: skip
    """Draw rows as a table with its CSV in its tool bar. Cells are shown as text, never Markdown, empty ones as a dash.

    Times are shown in the visitor's zone and counts with thousands separators, unless `column_config` says otherwise.
    """
    with st.container(key=f"table-{key}", gap=None):
        event = draw_rows(rows, key=key, column_config=column_config, **options)
        offer_csv(f"**Download {plain(file_name)}**", rows, file_name, key=key, icon=":material/download:")
    return event


def draw_rows(
    rows: Sequence[dict[str, Any]], *, key: str, column_config: dict[str, Any] | None = None, **options: Any
) -> Any:
    """Draw rows as `show_table` does, without the button."""
    import pandas as pd

    shares = {name for name, column in (column_config or {}).items() if _is_share(column)}
    rows = [_show_row(row, shares) for row in rows]
    frame = pd.DataFrame(rows)
    columns = {name: column for name in frame.columns if (column := _choose_column(rows, str(name)))}
    columns |= column_config or {}
    columns |= {name: told for name in frame.columns if (told := _explain_column(str(name), columns))}
    return st.dataframe(
        frame, hide_index=True, key=key, column_config=columns,
        **{"placeholder": "—", **options},
    )  # fmt: skip


def open_by_row(table: str, names: Sequence[str], *, key: str) -> dict[str, Any]:
    """Return the options of a table whose rows open what they are about: a click puts its name into the address.

    The row of what is shown in full is marked, however that was chosen; a second click on it changes nothing.
    """
    chosen = st.query_params.get(key, names[0])
    rows = [names.index(chosen)] if chosen in names else []
    st.session_state[table] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    return {"on_select": lambda: _open_row(table, names, key), "selection_mode": ("single-row", "single-cell")}


def _open_row(table: str, names: Sequence[str], key: str) -> None:
    selection = st.session_state[table]["selection"]
    rows = [*(row for row, _ in selection["cells"]), *selection["rows"]]
    if rows and rows[0] < len(names):
        st.query_params[key] = names[rows[0]]


def offer_csv(label: str, rows: Sequence[dict[str, Any]], file_name: str, *, key: str, icon: str = "") -> None:
    """Draw the button that gives rows as a file, which is built on click."""
    offer_file(label, lambda _roles: write_csv(rows), file_name, "text/csv", key=f"{key}-csv", icon=icon or None)


def _show_row(row: dict[str, Any], shares: Collection[str] = ()) -> dict[str, Any]:
    """Return a row as it is drawn: lone surrogates in texts replaced, shares as exact as in sentences."""
    return {
        name: show_text(cell) if isinstance(cell, str) else _round_share(cell) if name in shares else cell
        for name, cell in row.items()
    }


def _is_share(column: Any) -> bool:
    return isinstance(column, dict) and (column.get("type_config") or {}).get("format") == "percent"


def _round_share(share: float | None) -> float | None:
    """A share in whole percent, a small one in tenths, as `ui.format_share` writes it; a tiny one stays exact."""
    if share is None or 0 < share < 0.0005:
        return share
    return round(share, 2 if share >= 0.0995 else 3)


def score_column(decimals: int = 2, **options: Any) -> Any:
    """Return the column type of scores."""
    return st.column_config.NumberColumn(format=f"%.{decimals}f", **options)


def link_column(label: str) -> Any:
    """Return the column type of addresses on the web."""
    return st.column_config.LinkColumn(display_text=label, validate="^https?://")


def share_column(**options: Any) -> Any:
    """Return the column type of shares of 0..1, in percent."""
    return st.column_config.NumberColumn(format="percent", **options)


def time_column() -> Any:
    """Return the column type of times: in the visitor's zone, which the header's help names."""
    zone = viewer_zone()
    said = f"In your time zone, {zone}. The CSV has UTC." if zone != "UTC" else "UTC"
    return st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm", timezone=zone, help=said)


def age_column(**options: Any) -> Any:
    """Return the column type of times that are shown as how long ago they are; the CSV has the instants."""
    return st.column_config.DatetimeColumn(format="distance", timezone=viewer_zone(), **options)


def _choose_column(rows: Sequence[dict[str, Any]], name: str) -> Any:
    """The column type for times or counts; None for any other."""
    kinds = {type(row[name]) for row in rows if row.get(name) is not None}
    if kinds == {datetime}:
        return time_column()
    return st.column_config.NumberColumn(format="localized") if kinds == {int} else None


def _explain_column(name: str, columns: Mapping[str, Any]) -> Any:
    """The column type with what its name means, for terms of the glossary that nothing explains yet; else None."""
    chosen, meaning = columns.get(name, {}), glossary.define(name)
    return {**chosen, "help": meaning} if meaning and isinstance(chosen, dict) and not chosen.get("help") else None


def write_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as CSV. Lines end in CR LF, so that cells with either character are quoted."""
    import pandas as pd

    return pd.DataFrame([write_row(_show_row(row)) for row in rows]).to_csv(index=False, lineterminator="\r\n")
