"""Corpus: what the index knew on a day, and what a newer version adds."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.resources import get_corpus, get_store, list_environments, load_diff, load_files, load_versions
from core.control import Alias, Index, list_aliases, list_indexes
from core.corpus import Version


def draw_versions(versions: Sequence[Version]) -> go.Figure:
    """How many files each version holds, over time."""
    ordered = versions[::-1]
    figure = go.Figure(
        go.Scatter(
            x=[version.committed for version in ordered],
            y=[version.files for version in ordered],
            mode="lines+markers+text",
            line={"shape": "hv", "color": ui.ACCENT},
            text=[ui.chart_text(version.name, 20) for version in ordered],
            textposition="top center",
            customdata=[[ui.chart_text(version.message, 80)] for version in ordered],
            hovertemplate="%{y} files: %{customdata[0]}<extra></extra>",
        )
    )
    figure.update_yaxes(title="files", range=[0, 1.25 * max(version.files for version in versions) + 1])
    return ui.style_chart(figure, title="Files in the corpus by version", height=240)


def render_files(versions: Sequence[Version]) -> None:
    """The files of one version and how to restore them."""
    names = [version.name for version in versions]
    revision = st.selectbox("Version", names, key="version", bind="query-params") or names[0]
    search = st.text_input("Search in file names", key="search", bind="query-params").casefold()
    files = [file for file in load_files(revision) if search in file.path.casefold()]
    st.caption(f"{len(files)} files. Restore them in a clone with:")
    st.code("\n".join(get_corpus().restore_commands(revision)), language="shell")
    rows = [{"file": file.path, "size": ui.format_bytes(file.size_bytes), "md5": file.md5} for file in files]
    ui.show_table(rows, key="corpus-files", file_name=f"files-{revision}.csv")


def render_diff(versions: Sequence[Version]) -> None:
    """What differs between two versions."""
    names = [version.name for version in versions]
    left, right = st.columns(2)
    old = left.selectbox("From", names, index=len(names) - 1, key="old", bind="query-params") or names[-1]
    new = right.selectbox("To", names, index=0, key="new", bind="query-params") or names[0]
    diff = load_diff(old, new)
    st.markdown(
        f"**{diff.added}** added, **{diff.removed}** removed, **{diff.modified}** modified, **{diff.renamed}** renamed."
    )
    rows = [
        {
            "change": str(change.kind),
            "file": change.path,
            "was": change.old_path if change.old_path != change.path else None,
        }
        for change in diff.changes
    ]
    if rows:
        ui.show_table(rows, key="corpus-diff", file_name=f"diff-{old}-{new}.csv")


def render_indexes(indexes: Sequence[Index], aliases: Sequence[Alias]) -> None:
    """The vector indexes and which of them is live."""
    live = {alias.index_name: alias.alias for alias in aliases}
    rows = [
        {
            "index": index.name,
            "live as": live.get(index.name, ""),
            "corpus": index.corpus_version,
            "chunks": index.chunks,
            "model": index.model,
            "built": ui.format_ago(index.built),
        }
        for index in indexes
    ]
    if rows:
        ui.show_table(rows, key="corpus-indexes", file_name="indexes.csv")
    else:
        st.caption("No index is registered yet.")


def say_what_is_live(
    versions: Sequence[Version], indexes: Sequence[Index], aliases: Sequence[Alias]
) -> tuple[str, ui.Look]:
    """The sentence on top: what is live, how old it is, what is newer."""
    newest = versions[0]
    live = {alias.index_name for alias in aliases}
    served = [index.corpus_version for index in indexes if index.name in live]
    known = next((version for version in versions if version.name in served), None)
    if known is None:
        return f"No version is live; the newest is {ui.plain(newest.name)}.", ui.Look("Not live", "gray", "…")
    age = f"{ui.plain(known.name)} is live, {ui.format_ago(known.committed).removesuffix(' ago')} old"
    if known.name == newest.name:
        return f"{age}, and it is the newest.", ui.Look("Up to date", "green", "✓")
    counts = (
        f"+{newest.added} −{newest.removed} ~{newest.modified} files" if newest.added is not None else "unknown changes"
    )
    return f"{age}; {ui.plain(newest.name)} is newer ({counts}).", ui.Look("Newer version waits", "orange", "◐")


def render() -> None:
    """The page, once the repository could be read."""
    versions = load_versions()
    if not versions:
        ui.render_empty(
            "The repository tracks no data with DVC yet.", "dvc add corpus && git commit -m 'Track the corpus'"
        )
        return
    indexes: tuple[Index, ...] = ()
    aliases: tuple[Alias, ...] = ()
    with ui.showing_errors("The index aliases could not be read"):
        indexes, aliases = list_indexes(get_store()), list_aliases(get_store())
    ui.render_verdict(*say_what_is_live(versions, indexes, aliases))
    ui.show_chart(draw_versions(versions), key="corpus-versions", alt="Files in the corpus by version over time")
    ui.show_table(
        [
            {"version": v.name, "committed": v.committed, "author": v.author, "message": ui.shorten(v.message, 80),
             "files": v.files, "size": ui.format_bytes(v.size_bytes), "added": v.added, "removed": v.removed,
             "modified": v.modified, "renamed": v.renamed, "problem": v.problem}
            for v in versions
        ],
        key="corpus-table", file_name="versions.csv",
        column_config={"committed": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm")},
    )  # fmt: skip
    files, diff, built = st.tabs(["Files", "Diff", "Indexes"], on_change="rerun", key="tab", bind="query-params")
    if files.open:
        with files, ui.showing_errors("The files could not be listed"):
            render_files(versions)
    if diff.open:
        with diff, ui.showing_errors("The versions could not be compared"):
            render_diff(versions)
    if built.open:
        with built:
            render_indexes(indexes, aliases)


frame = ui.render_frame("Corpus", environments=list_environments(), ranges=False)
with ui.showing_errors("The corpus could not be read"):
    render()
