"""The versions of the corpus page: the timeline, which version is live in which index, and the choice of one."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.cards import TIME_TICKS, fit_axis
from app.colors import ACCENT, GREEN
from core.corpus.corpus import WORKSPACE
from core.corpus.versions import Version
from core.indexes.registry import Alias, Index
from core.wording.counts import count_of

_MOST_LABELS = 12


def render_versions(versions: Sequence[Version], indexes: Sequence[Index], aliases: Sequence[Alias]) -> None:
    """Draw every version on a timeline and in a table, with author and message."""
    live = {version.revision: list_live(version, indexes, aliases) for version in versions}
    ui.show_chart(
        draw_versions(versions, live), key="corpus-versions", alt="Files in the corpus by version over time",
        rows=[
            {"version": v.name, "committed": v.committed, "files": v.files, "live as": ", ".join(live[v.revision])}
            for v in versions
        ],
    )  # fmt: skip
    ui.show_table(
        [
            {"version": v.name, "live as": ", ".join(live[v.revision]), "committed": v.committed, "files": v.files,
             "added": v.added, "removed": v.removed, "modified": v.modified, "renamed": v.renamed,
             "size": v.size_bytes, "author": v.author, "message": ui.shorten(v.message, 80),
             "indexes": ", ".join(index.name for index in indexes if v.answers_to(index.corpus_version)),
             "commit": v.short, "problem": v.problem or "; ".join(v.notes)}
            for v in versions
        ],
        key="corpus-table", file_name="versions.csv",
        column_config={
            "version": st.column_config.Column(pinned=True),
            "size": st.column_config.NumberColumn(format="bytes"),
        },
    )  # fmt: skip
    st.caption("Counts compare a version with the one before it; moved files count as renamed.")


def list_live(version: Version, indexes: Sequence[Index], aliases: Sequence[Alias]) -> list[str]:
    """The aliases whose index holds this version."""
    holding = {index.name for index in indexes if version.answers_to(index.corpus_version)}
    return [alias.alias for alias in aliases if alias.index_name in holding]


def draw_versions(versions: Sequence[Version], live: dict[str, list[str]]) -> go.Figure:
    """The number of files in each version over time; live versions are diamonds."""
    ordered = versions[::-1]
    labeled = {v.revision for v in ordered if live[v.revision] or (v.tags and len(ordered) <= _MOST_LABELS)}
    labeled |= {ordered[0].revision, ordered[-1].revision}
    figure = go.Figure(
        go.Scatter(
            x=[version.committed for version in ordered],
            y=[version.files for version in ordered],
            mode="lines+markers+text",
            line={"shape": "hv", "color": ACCENT},
            marker={
                "symbol": ["diamond" if live[v.revision] else "circle" for v in ordered],
                "size": [14 if live[v.revision] else 8 for v in ordered],
                "color": [GREEN if live[v.revision] else ACCENT for v in ordered],
            },
            text=[_label(v, live[v.revision]) if v.revision in labeled else "" for v in ordered],
            textposition=["top right", *["top center"] * (len(ordered) - 2), *["top left"] * (len(ordered) > 1)],
            customdata=[[_describe(version)] for version in ordered],
            hovertemplate="%{customdata[0]}<extra></extra>",
            cliponaxis=False,
        )
    )
    span = ordered[-1].committed - ordered[0].committed
    figure.update_xaxes(range=[ordered[0].committed - span / 12, ordered[-1].committed + span / 12] if span else None)
    figure.update_xaxes(tickformatstops=TIME_TICKS)
    counts = [version.files for version in versions if version.files is not None] or [0]
    figure.update_yaxes(title="files", range=fit_axis([*counts, 1.04 * max(counts)], least=0.0), tickformat=",d")
    return ui.style_chart(figure, title=say_growth(ordered), height=260, hover="closest")


def say_growth(ordered: Sequence[Version]) -> str:
    """How many files the newest version has, and how many more than the one before."""
    newest, former = ordered[-1], ordered[-2] if len(ordered) > 1 else None
    name = ui.chart_text(newest.name, 40)
    if newest.files is None:
        return f"The number of files of {name} is not known"
    said = f"{name} has {count_of(newest.files, 'file')}"
    if former is None or former.files is None:
        return said
    change, older = newest.files - former.files, ui.chart_text(former.name, 40)
    return (
        f"{said}, {abs(change):,} {'more' if change > 0 else 'fewer'} than {older}"
        if change
        else (f"{said}, as many as {older}")
    )


def choose_revision(
    label: str, versions: Sequence[Version], *, key: str, default: str, workspace: bool = False, linked: bool = True
) -> str:
    """Draw the choice of a version, or of any tag, branch or commit; `linked` keeps the choice in the URL."""
    names = [*([WORKSPACE] if workspace else []), *(version.name for version in versions)]
    note = f" “{WORKSPACE}” is the working copy as it is now, committed or not." if workspace else ""
    chosen = st.selectbox(
        label, names, index=names.index(default), key=key, bind="query-params" if linked else None,
        accept_new_options=True, help=f"Or type a tag, a branch or a commit.{note}",
    )  # fmt: skip
    return chosen or default


def _label(version: Version, live: list[str]) -> str:
    name = ui.chart_text(version.name, 20)
    return f"{name} · live as {ui.chart_text(', '.join(live), 30)}" if live else name


def _describe(version: Version) -> str:
    counts = (
        f"+{version.added} −{version.removed} ~{version.modified}, {version.renamed} renamed"
        if version.added is not None
        else "changes unknown"
    )
    when = f"{ui.format_moment(version.committed)} ({ui.format_utc(version.committed)})"
    files = "an unknown number of" if version.files is None else f"{version.files:,}"
    lines = [
        f"<b>{ui.chart_text(version.name, 40)}</b>: {files} files, {ui.format_bytes(version.size_bytes)}",
        f"{counts}",
        f"{when} by {ui.chart_text(version.author, 40)}",
        ui.chart_text(version.message, 80),
        *(ui.chart_text(note, 100) for note in (version.problem, *version.notes) if note),
    ]
    return "<br>".join(lines)
