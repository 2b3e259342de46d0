"""Every topic of the window with its share of the drop and its state, as a table and as files."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import ui
from app.downloads import offer_file
from app.resources import load_drift
from core.causes.headline import share_fall
from core.coverage.answerability import CoverageFinding
from core.coverage.backlog import BacklogTopic
from core.coverage.judging import list_shares
from core.coverage.report import Coverage


def render_backlog(
    coverage: Coverage,
    backlog: dict[str, BacklogTopic],
    of_drop: dict[str, float],
    findings: Mapping[str, Mapping[CoverageFinding, int]],
) -> None:
    """Every topic of the window with its state, as a table, CSV and Markdown."""
    rows: list[dict[str, Any]] = []
    for topic in coverage.topics.ranked():
        known = backlog.get(topic.topic_id)
        why = list_shares(findings.get(topic.topic_id, {}))
        rows.append(
            {
                "topic": topic.label,
                "keywords": ", ".join(topic.keywords),
                "asked": topic.count,
                "share of all": topic.count / max(1, coverage.scored_count),
                "share of the drop": of_drop.get(topic.topic_id),
                **{str(finding): why.get(finding) for finding in CoverageFinding},
                "mean score": round(topic.mean_score, 3),
                "trend": str(topic.trend),
                "gain": round(topic.gain, 2),
                "typical question": topic.sample_queries[0] if topic.sample_queries else "",
                "state": str(known.state) if known else "",
                "owner": known.owner if known else "",
                "note": known.note if known else "",
            }
        )
    st.subheader("Backlog", anchor=False)
    shares, scores = ("share of all", "share of the drop", *map(str, CoverageFinding)), ("mean score", "gain")
    columns = dict.fromkeys(shares, ui.share_column()) | dict.fromkeys(scores, ui.score_column())
    ui.show_table(rows, key="coverage-table", file_name="topics.csv", column_config=columns)
    told = [row | {name: ui.format_share(row[name]) for name in shares} for row in rows]
    offer_file("Download Markdown", lambda _roles: ui.markdown_table(told), "topics.md", "text/markdown")


def list_drop_shares(frame: ui.Frame, coverage: Coverage) -> dict[str, float]:
    """The share of a dated drop that each topic holds, by topic id; empty when retrieval does not drift."""
    found = load_drift(frame.scope, frame.today)
    shares = share_fall(
        found.report,
        coverage.topics.topics,
        queries=coverage.queries,
        days=found.days,
        today=frame.today,
        window_days=(coverage.window.last - coverage.window.first).days + 1,
    )
    return {share.topic_id: min(1.0, share.share) for share in shares}
