"""What differs between two corpus versions, or between one and the working copy: the files, and the words in one."""

from collections.abc import Sequence
from functools import partial

import streamlit as st

from app import ui
from app.panels.corpus.resources import load_diff, load_text_diff
from app.panels.corpus.versions import choose_revision
from app.panels.shared.words import render_words
from app.resources import get_corpus
from app.text import plain
from core.corpus.corpus import WORKSPACE
from core.corpus.manifests import FileChange, FileChangeKind
from core.corpus.versions import Version, VersionDiff
from core.wording.counts import count_of

_MOST_ROWS = 2_000
_BYTES = st.column_config.NumberColumn(format="bytes")


def render_differences(versions: Sequence[Version]) -> None:
    """Draw what differs between the two chosen versions, and the words that differ in the chosen file."""
    has_workspace = get_corpus().root is not None
    left, right, swap = st.columns([2, 2, 1], vertical_alignment="bottom")
    with left:
        old = choose_revision(
            "From", versions, key="old", default=versions[min(1, len(versions) - 1)].name, workspace=has_workspace
        )
    with right:
        new = choose_revision("To", versions, key="new", default=versions[0].name, workspace=has_workspace)
    swap.button("Swap sides", key="corpus-swap-sides", on_click=swap_sides, args=(old, new))
    diff = load_diff(old, new)
    st.markdown(say_what_differs(diff))
    for note in diff.notes:
        st.caption(plain(note))
    if not diff.changes:
        return
    shown = choose_changes(diff)
    render_changes(diff, shown)
    render_change(diff)


def swap_sides(old: str, new: str) -> None:
    """Swap the two sides."""
    st.session_state.update(old=new, new=old)


def say_what_differs(diff: VersionDiff) -> str:
    """The sentence above the table, in Markdown."""
    between = f"between {plain(_say_side(diff.old))} and {plain(_say_side(diff.new))}"
    if not diff.changes:
        return f"No file differs {between}."
    counts = ", ".join(f"**{diff.count(kind):,}** {kind}" for kind in FileChangeKind if diff.count(kind))
    grown = _add_growth(diff)
    sign = "" if grown is None else "−" if grown < 0 else "+"
    size = f"{sign}{ui.format_bytes(None if grown is None else abs(grown))}"
    differ = "differs" if len(diff.changes) == 1 else "differ"
    return f"{count_of(len(diff.changes), 'file')} {differ} {between}: {counts}; {size} in all."


def _add_growth(diff: VersionDiff) -> int | None:
    """By how many bytes the files grew; None if the size of one is unknown."""
    new = [change.size_bytes for change in diff.changes if change.kind is not FileChangeKind.REMOVED]
    old = [change.old_size_bytes for change in diff.changes if change.kind is not FileChangeKind.ADDED]
    return None if None in new + old else sum(size or 0 for size in new) - sum(size or 0 for size in old)


def choose_changes(diff: VersionDiff) -> list[FileChange]:
    """The filters, and the matching changes."""
    left, right = st.columns(2, vertical_alignment="bottom")
    kinds = left.pills(
        "Show", [str(kind) for kind in FileChangeKind if diff.count(kind)], selection_mode="multi", key="kinds",
        bind="query-params", help="Choose none to see all.",
    )  # fmt: skip
    search = right.text_input("Path contains", key="filter", bind="query-params").casefold()
    return [
        change
        for change in diff.changes
        if (not kinds or change.kind in kinds)
        and (search in change.path.casefold() or search in (change.old_path or "").casefold())
    ]


def render_changes(diff: VersionDiff, shown: Sequence[FileChange]) -> None:
    """The files that differ, as a table."""
    if not shown:
        st.caption("No change matches the filter.")
        return
    listed = shown[:_MOST_ROWS]
    key = f"corpus-diff-{diff.old}-{diff.new}-{len(shown)}"
    cut = f"The first {_MOST_ROWS:,} of {len(shown):,}; filter to see others. " if len(shown) > _MOST_ROWS else ""
    st.caption(f"{cut}Click a file to see the words that changed.")
    ui.show_table(
        [
            {"change": str(change.kind), "file": change.path, "was": change.old_path,
             "size before": change.old_size_bytes, "size after": change.size_bytes}
            for change in listed
        ],
        key=key, file_name=f"diff-{diff.old}-{diff.new}.csv", height=420 if len(listed) > 12 else "auto",
        column_config={"size before": _BYTES, "size after": _BYTES},
        on_select=partial(follow_click, key, listed), selection_mode="single-row",
    )  # fmt: skip


def follow_click(key: str, listed: Sequence[FileChange]) -> None:
    """Show the words of the file that was clicked."""
    rows = st.session_state[key]["selection"]["rows"]
    if rows and rows[0] < len(listed):
        st.session_state["change"] = listed[rows[0]].path


def render_change(diff: VersionDiff) -> None:
    """The words that differ in one file."""
    path = st.text_input("Words that changed in", key="change", bind="query-params", placeholder="click a file above")
    change = next((change for change in diff.changes if change.path == path), None)
    if change is None:
        if path:
            st.info(f"{plain(path)} is the same in both.")
        return
    if change.kind in (FileChangeKind.MOVED, FileChangeKind.RENAMED):
        st.info(f"It was {plain(change.old_path or '')} before; its content is the same.")
        return
    with ui.showing_errors("The words could not be compared"):
        render_words(load_text_diff(diff.old, diff.new, change.path, change.old_path))


def _say_side(revision: str) -> str:
    return "the working copy as it is now" if revision == WORKSPACE else revision
