"""What the coverage page shows of the backlog: its topics, the shelf that is open, and the topic that is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import streamlit as st

from app import ui
from app.panels.coverage.resources import load_coverage, load_cures, load_shelved, read_live
from app.resources import load_drift
from app.text import plain
from core.causes.headline import share_fall
from core.coverage.answerability import CoverageFinding
from core.coverage.backlog import BacklogTopic
from core.coverage.report import Coverage, name_hidden
from core.coverage.shelves import Shelf, ShelvedTopic
from core.overview import GAP_DAYS

Shelved = ShelvedTopic[BacklogTopic]
SHELVES = {"open": Shelf.OPEN, "planned": Shelf.PLANNED, "shipped": Shelf.SHIPPED, "wont-do": Shelf.WONT_DO}
_NAMES = {"open": "Open", "planned": "Planned", "shipped": "Shipped", "wont-do": "Won't do"}


@dataclass(frozen=True, slots=True)
class Board:
    """The topics with their shelves, and what is known of each by its id: share of the drop, cure, findings.

    `elsewhere` are topics of other days that nobody decided about: their questions may be part of these topics now.
    """

    topics: tuple[Shelved, ...]
    elsewhere: tuple[Shelved, ...]
    coverage: Coverage
    of_drop: Mapping[str, float]
    cures: Mapping[str, str]
    findings: Mapping[str, Mapping[CoverageFinding, int]]
    is_reader: bool

    def on(self, shelf: Shelf) -> tuple[Shelved, ...]:
        """The topics of a shelf."""
        return tuple(each for each in self.topics if each.shelf is shelf)


def read_board(
    frame: ui.Frame,
    coverage: Coverage,
    clusters: int | None,
    *,
    findings: Mapping[str, Mapping[CoverageFinding, int]],
    is_reader: bool,
) -> Board:
    """Return the board of the window; without the topics' texts for those who may not read questions."""
    days = (coverage.window.last - coverage.window.first).days + 1
    shown = {topic.topic_id: topic for topic in coverage.topics.topics}
    topics = tuple(
        replace(
            each,
            label=each.label if is_reader else name_hidden(each.topic_id),
            topic=shown.get(each.topic_id),
        )
        for each in load_shelved(frame.scope, frame.today, days, clusters, read_live())
    )
    here = tuple(each for each in topics if each.topic or each.decided or each.shelf is not Shelf.OPEN)
    elsewhere = tuple(each for each in topics if each not in here)
    return Board(here, elsewhere, coverage, list_drop_shares(frame), load_cures(frame.scope), findings, is_reader)


def list_drop_shares(frame: ui.Frame) -> dict[str, float]:
    """The share of a dated drop that each topic holds, by topic id; empty when retrieval does not drift.

    Topics are those of the days that the headline groups, so that a topic has one share whatever range is shown.
    """
    found = load_drift(frame.scope, frame.today)
    if found.report.changed_on is None:
        return {}
    coverage = load_coverage(frame.scope, frame.today, GAP_DAYS, None)
    topics = coverage.topics.topics
    shares = share_fall(found.report, topics, queries=coverage.queries, days=found.days, today=frame.today)
    return {share.topic_id: min(1.0, share.share) for share in shares}


def choose_shelf(board: Board) -> Shelf:
    """The shelf that the address names; else the one of the chosen topic, else the first."""
    of_topic = next((each.shelf for each in board.topics if each.topic_id == st.query_params.get("topic")), Shelf.OPEN)
    wanted = st.query_params.get("shelf", "")
    named = {str(shelf): name for name, shelf in SHELVES.items()} | {name: name for name in SHELVES}
    current = named.get(wanted, named[str(of_topic)])
    st.session_state["shelf"] = current
    counts = {name: len(board.on(shelf)) for name, shelf in SHELVES.items()}
    st.segmented_control(
        "Backlog", list(SHELVES), key="shelf", required=True, label_visibility="collapsed", on_change=_keep_shelf,
        format_func=lambda name: f"{_NAMES[name]} {counts[name]}",
    )  # fmt: skip
    return SHELVES[current]


def choose_topic(board: Board, on_shelf: Sequence[Shelved]) -> Shelved | None:
    """The topic that the address names, whatever its shelf; without one, the first of the shelf."""
    ordered = {each.topic_id: each for each in (*on_shelf, *board.topics, *board.elsewhere)}
    if not ordered:
        return None
    where = f"{board.coverage.scope.service}, {board.coverage.scope.environment}"
    name = ui.choose_named(
        "Topic",
        list(ordered),
        key="topic",
        format_func=lambda topic_id: ui.shorten(ordered[topic_id].label, 60),
        say_gone=lambda gone: (
            f"There is no topic {plain(gone[:80])} in {plain(where)}: it was never seen here, or was grouped by hand "
            "under another number."
        ),
    )
    return ordered.get(name) if name else None


def keep_topic(topic_id: str) -> None:
    """Put the chosen topic into the address."""
    st.query_params["topic"] = topic_id


def _keep_shelf() -> None:
    st.query_params["shelf"] = st.session_state["shelf"]
    if "topic" in st.query_params:
        del st.query_params["topic"]
