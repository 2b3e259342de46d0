"""The one table of the page: the topics of a shelf, by what indexing them would bring, and the backlog as files."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import streamlit as st

from app import ui
from app.panels.coverage.board import Board, Shelved, keep_topic
from core.coverage.exports import count_weeks, say_effect
from core.coverage.judging import list_shares
from core.coverage.shelves import Shelf
from core.wording.counts import count_of

_NOTHING = {
    Shelf.OPEN: "No gap is open. Decided ones are under the other tabs.",
    Shelf.PLANNED: "Nothing is planned. Choose a topic under Open and set its state.",
    Shelf.SHIPPED: (
        "Nothing has shipped yet. A gap comes here when it is marked indexed, or when an index that went live since it "
        "was seen answers its questions."
    ),
    Shelf.WONT_DO: "Nothing was put aside.",
}
_GAIN_HELP = "Questions × the score that they lack × how much they have in common: the order of the table and the bars"


def render_table(board: Board, shelf: Shelf) -> None:
    """The topics of a shelf; a click on a row chooses the topic."""
    topics = board.on(shelf)
    if shelf is Shelf.OPEN and st.toggle(
        f"With {count_of(len(board.elsewhere), 'topic')} of other days", key="elsewhere", disabled=not board.elsewhere,
        help="Seen in another range and not decided about; their questions may be part of the topics of these days",
    ):  # fmt: skip
        topics += board.elsewhere
    if not topics:
        st.caption(_NOTHING[shelf])
        return
    describe = {Shelf.SHIPPED: _describe_shipped, Shelf.WONT_DO: _describe_put_aside}.get(shelf, _describe_waiting)
    rows = [describe(board, each) for each in topics]
    ids = tuple(each.topic_id for each in topics)
    key = f"coverage-table-{crc32(repr(ids).encode()):08x}"
    st.session_state["coverage_rows"] = (key, ids)
    columns = _list_columns(rows)
    ui.show_table(
        rows, key=key, file_name=f"topics-{shelf.name.lower()}.csv", column_config=columns,
        on_select=follow_row, selection_mode="single-row",
    )  # fmt: skip


def follow_row() -> None:
    """Choose the topic of the row that was clicked. Runs before the page is drawn."""
    key, ids = st.session_state["coverage_rows"]
    for place in st.session_state[key]["selection"]["rows"][:1]:
        keep_topic(ids[place])


def _describe_waiting(board: Board, each: Shelved) -> dict[str, Any]:
    topic, known = each.topic, each.known
    why = list_shares(board.findings.get(each.topic_id, {}))
    return {
        "topic": each.label,
        "asked": topic.count if topic else None,
        "share of all": topic.count / max(1, board.coverage.scored_count) if topic else None,
        "5 weeks": count_weeks(topic, board.coverage.queries) if topic else None,
        "trend": str(topic.trend) if topic else "",
        "score": topic.mean_score if topic else None,
        "gain": round(topic.gain, 1) if topic else None,
        "share of the drop": board.of_drop.get(each.topic_id),
        "why": max(why, key=lambda name: why[name]) if why else "",
        "best cure": board.cures.get(each.topic_id, ""),
        "owner": known.owner if known else "",
        "since": each.decided or (known.first_seen if known else None),
        "keywords": ", ".join(topic.keywords) if topic else "",
        "typical question": topic.sample_queries[0] if topic and topic.sample_queries else "",
        "note": known.note if known else "",
        "last seen": known.last_seen if known else None,
    }


def _describe_shipped(_board: Board, each: Shelved) -> dict[str, Any]:
    known, closing = each.known, each.closing
    return {
        "topic": each.label,
        "verdict": say_verdict(each),
        "before": closing.before_score if closing else None,
        "after": closing.after_score if closing else None,
        "questions since": closing.after_count if closing else None,
        "searched again": closing.searched_score if closing else None,
        "covered": closing.covered_share if closing else None,
        "index": closing.index_name if closing else "",
        "live since": closing.shipped if closing else None,
        "owner": known.owner if known else "",
        "effect": say_effect(closing) if closing else "no index went live since it was seen",
        "note": known.note if known else "",
    }


def say_verdict(each: Shelved) -> str:
    """Whether a shipped gap is closed, in a word or two."""
    closing = each.closing
    if closing is None:
        return "waits for an index"
    if closing.undone:
        return "rolled back"
    if closing.closed is not None:
        return "closed" if closing.closed else "still open"
    return "closed by search" if closing.is_cured else "too early to tell"


def _describe_put_aside(_board: Board, each: Shelved) -> dict[str, Any]:
    topic, known = each.topic, each.known
    return {
        "topic": each.label,
        "asked": topic.count if topic else None,
        "score": topic.mean_score if topic else None,
        "trend": str(topic.trend) if topic else "",
        "decided": each.decided,
        "owner": known.owner if known else "",
        "note": known.note if known else "",
    }


def _list_columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    most = max((row.get("gain") or 0.0 for row in rows), default=0.0)
    scores = dict.fromkeys(("score", "before", "after", "searched again"), ui.score_column())
    shares = dict.fromkeys(("share of all", "covered"), ui.share_column())
    return {
        **scores,
        **shares,
        "share of the drop": ui.share_column(help="Of the drop that the drift page dates, in the last 7 days"),
        "topic": st.column_config.TextColumn(pinned=True, width=220),
        "5 weeks": st.column_config.AreaChartColumn(width=110, y_min=0),
        "gain": st.column_config.ProgressColumn(
            help=_GAIN_HELP, min_value=0.0, max_value=max(most, 1.0), format="%.1f", width=110
        ),
        "since": st.column_config.DatetimeColumn(
            format="D MMM YYYY", timezone=ui.viewer_zone(), help="When its state was set, else when it was first seen"
        ),
        "last seen": st.column_config.DatetimeColumn(format="D MMM YYYY", timezone=ui.viewer_zone()),
        "decided": st.column_config.DatetimeColumn(format="D MMM YYYY", timezone=ui.viewer_zone()),
        "live since": st.column_config.DateColumn(format="D MMM YYYY"),
    }
