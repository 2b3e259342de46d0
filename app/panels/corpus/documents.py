"""The documents of the corpus by their traffic: which carry it, which fail, which nobody finds."""

from collections.abc import Sequence
from datetime import date, timedelta

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.corpus.resources import get_duplicates, load_documents, load_effect
from app.resources import get_store
from app.tables import keep_selection
from app.text import plain, show_unseen
from core.indexes.builds import find_live
from core.questions.documents import DocumentReport, DocumentRow
from core.questions.twins import MOST_PASSAGES, DuplicateReport
from core.wording.counts import count_of
from quarterdeck.scope import Scope

RANGES = {"7d": 7, "14d": 14, "30d": 30, "90d": 90}
_MOST_ROWS = 1_000
_NEEDS_WORK, _MOST_FOUND, _CHANGED, _NEVER = "Needs work", "Most retrieved", "Changed", "Never retrieved"
_DUPLICATES = "Near duplicates"


def render_documents(scope: Scope, today: date) -> None:
    """Draw the sentence, the list that the visitor chose, and the chosen document."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with right:
        chosen = st.segmented_control(
            "Days", RANGES, default="30d", required=True, key="document_days", bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
    days = RANGES[chosen or "30d"]
    first = today - timedelta(days=days - 1)
    report = load_documents(scope, first, today)
    if not report.rows:
        st.info("No question of these days named its documents.")
        st.code('deck.log_retrieval(query, score, documents=[("guide.md", 0.78)])', language=None)
        return
    with left:
        st.markdown(f"**{_say(report, days)}**")
    kind = st.segmented_control(
        "List", _list_kinds(report), default=_NEEDS_WORK, required=True, key="document_list", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    if not report.knows_corpus:
        st.caption(
            "No document that was found has the path of a file in the live version, so the files that are never found "
            "are not known."
        )
    if kind == _DUPLICATES:
        _render_duplicates(report)
        return
    row = _render_list(_select(report, kind or _NEEDS_WORK))
    named = st.query_params.get("document", "")
    row = row or next((each for each in report.rows if each.document == named), None)
    if row:
        _render_document(row, scope, today, days)
    elif named:
        gone = plain(ui.shorten(show_unseen(named), 80))
        st.warning(f"No question of the last {days} days found a document {gone}.", icon=":material/link_off:")


def _say(report: DocumentReport, days: int) -> str:
    """Return what the list says in one sentence."""
    worst = report.rows[0]
    never = _say_never(len(report.never)) if report.knows_corpus else ""
    were = "was" if len(report.rows) == 1 else "were"
    named = f"{count_of(len(report.rows), 'document')} {were} found in the last {days} days."
    if not worst.work:
        none = "It has no" if len(report.rows) == 1 else "None of them has"
        return f"{named} {none} low questions or bad feedback.{never}"
    low = round((worst.low_share or 0) * worst.retrieved)
    return (
        f"{named} {plain(ui.shorten(show_unseen(worst.document), 60))} needs the most work: {low:,} low of "
        f"{count_of(worst.retrieved, 'question')}.{never}"
    )


def _say_never(count: int) -> str:
    if not count:
        return " Every file of the live version was found."
    told = "1 file of the live version was" if count == 1 else f"{count:,} files of the live version were"
    return f" {told} never found."


def _list_kinds(report: DocumentReport) -> list[str]:
    return [_NEEDS_WORK, _MOST_FOUND, _CHANGED, *([_NEVER] if report.knows_corpus else []), _DUPLICATES]


def _render_duplicates(report: DocumentReport) -> None:
    """Draw the pairs of documents that say nearly the same; they are looked for in the background."""
    live = find_live(get_store(), "default")
    if live is None:
        st.caption("Nothing is live: near duplicates are looked for in the live index.")
        return
    found = get_duplicates().get(live.name)
    if found.problem:
        st.error(f"The live index could not be compared — {plain(found.problem)}")
    if found.value is None:
        if found.is_running:
            _wait_for_duplicates(live.name)
        return
    told, asked = found.value, {row.document: row.retrieved for row in report.rows}
    st.caption(_say_compared(told))
    if not told.pairs:
        st.caption("No document repeats half of another one.")
        return
    rows = [
        {
            "document": show_unseen(pair.document), "repeats": show_unseen(pair.other), "of it": pair.share,
            "passages": pair.matched, "similarity": pair.similarity, "questions": asked.get(pair.document, 0),
            "questions of the other": asked.get(pair.other, 0),
        }
        for pair in told.pairs
    ]  # fmt: skip
    columns = {
        "document": st.column_config.TextColumn(width=260), "repeats": st.column_config.TextColumn(width=260),
        "of it": ui.share_column(), "similarity": ui.score_column(),
    }  # fmt: skip
    ui.show_table(rows, key="corpus-duplicates", file_name="near_duplicates.csv", column_config=columns)


def _say_compared(told: DuplicateReport) -> str:
    left = told.passages - told.compared
    missing = (
        "" if not left else f" The other {left:,} have no cached vector, or are beyond the first {MOST_PASSAGES:,}."
    )
    return (
        f"Compared {told.compared:,} of {told.passages:,} passages of {count_of(told.documents, 'document')} in the "
        f"live index {plain(told.index_name)}: pairs where one repeats at least half of the other's passages.{missing}"
    )


@st.fragment(run_every=2.0)
def _wait_for_duplicates(index_name: str) -> None:
    """Say that the documents are being compared, and draw the page again once they are."""
    if get_duplicates().get(index_name).is_running:
        st.caption("Comparing the documents with each other …")
    else:
        st.rerun()


def _select(report: DocumentReport, kind: str) -> Sequence[DocumentRow]:
    if kind == _NEVER:
        return report.never
    if kind == _MOST_FOUND:
        return sorted(report.rows, key=lambda row: (-row.retrieved, row.document))
    return [row for row in report.rows if row.changed_in] if kind == _CHANGED else report.rows


def _render_list(rows: Sequence[DocumentRow]) -> DocumentRow | None:
    """Draw the first rows; return the one that was clicked."""
    if not rows:
        st.caption("There is none.")
        return None
    shown = rows[:_MOST_ROWS]
    told = [
        {
            "document": show_unseen(row.document), "questions": row.retrieved, "first hit": row.first,
            "mean rank": row.mean_rank, "mean score": row.mean_score, "low": row.low_share, "bad feedback": row.bad,
            "last found": row.last, "changed in": row.changed_in,
        }
        for row in shown
    ]  # fmt: skip
    columns = {
        "document": st.column_config.TextColumn(width=320), "mean rank": ui.score_column(1),
        "mean score": ui.score_column(), "low": ui.share_column(),
    }  # fmt: skip
    kept = keep_selection("corpus-documents", [row.document for row in shown])
    event = ui.show_table(
        told, file_name="documents.csv", column_config=columns, on_select="rerun", selection_mode="single-row",
        **kept.options,
    )  # fmt: skip
    if len(rows) > len(shown):
        st.caption(f"The first {len(shown):,} of {len(rows):,} documents.")
    places = event["selection"]["rows"]
    return shown[places[0]] if places and places[0] < len(shown) else None


def _render_document(row: DocumentRow, scope: Scope, today: date, days: int) -> None:
    """Draw what is known of one document: its questions, and what its last change did to them."""
    with st.container(border=True):
        st.markdown(f"**{plain(ui.shorten(show_unseen(row.document), 200))}**")
        if row.retrieved:
            left, middle, right = st.columns(3)
            with left:
                link_to("questions", "Its questions", document=row.document, days=f"{days}d")
            with middle:
                link_to("questions", "Its low questions", document=row.document, low="1", days=f"{days}d")
            with right:
                link_to("questions", "With bad feedback", document=row.document, score="feedback<0", days=f"{days}d")
        else:
            st.caption(f"No question of the last {days} days found it.")
        if not row.changed_in:
            return
        effect = load_effect(scope, row.document, row.changed_in, today)
        if effect is None:
            st.caption(f"Changed in {plain(row.changed_in)}, which has not been live for a whole day yet.")
            return
        before, after = (ui.format_share(share) for share in (effect.low_before, effect.low_after))
        whole = "1 day" if effect.days == 1 else f"{effect.days} days"
        st.markdown(
            f"Changed in **{plain(row.changed_in)}**, live since {ui.format_day(effect.shipped)}: {before} of "
            f"{count_of(effect.before, 'question')} scored low in the {whole} before, {after} of {effect.after:,} in "
            f"the {whole} after."
        )
