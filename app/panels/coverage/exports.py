"""The backlog as files, and as issues at GitHub."""

import streamlit as st

from app import ui
from app.downloads import offer_file
from app.panels.coverage.board import Board
from app.resources import get_config, get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.audit.permissions import Roles, may_read_questions
from core.coverage.exports import Row, is_exported, list_rows
from core.coverage.github import GitHub
from core.coverage.issues import MOST_ISSUES, export_issues
from core.errors import SourceUnavailable

_PLACE = "coverage-issues"


def render_exports(board: Board, frame: ui.Frame) -> None:
    """The popover with CSV, Markdown and GitHub issues of the whole backlog, and beside it what became of an export."""
    with st.popover("Export the backlog", icon=":material/ios_share:"):
        offer_file("All tabs as CSV", lambda roles: ui.write_csv(_list(board, roles)), "backlog.csv", "text/csv")
        offer_file(
            "All tabs as Markdown", lambda roles: ui.markdown_table(_say(_list(board, roles))), "backlog.md",
            "text/markdown",
        )  # fmt: skip
        render_issues(board, frame)
    ui.render_said(_PLACE)
    if told := st.session_state.pop("coverage_issues_told", ""):
        st.caption(told)


def _list(board: Board, roles: Roles) -> list[Row]:
    """The rows of the file, for the roles that the visitor holds at the time of the click."""
    if not (board.is_reader and may_read_questions(roles, board.coverage.scope.environment)):
        return [
            {**row, "topic": row["topic id"], "keywords": "", "typical question": "", "note": ""}
            for row in list_rows(board.topics, scored_count=board.coverage.scored_count, of_drop={}, cures={})
        ]
    scored = board.coverage.scored_count
    return list_rows(board.topics, scored_count=scored, of_drop=board.of_drop, cures=board.cures)


def _say(rows: list[Row]) -> list[Row]:
    """The rows as people read them: shares in percent, a dash for what is not known."""
    shares = ("share of all", "share of the drop")
    told = [{**row, **{name: ui.format_share(row[name]) for name in shares}} for row in rows]
    return [{name: "—" if cell in (None, "") else cell for name, cell in row.items()} for row in told]


def render_issues(board: Board, frame: ui.Frame) -> None:
    """The form that makes an issue for each open or planned gap that has none."""
    config = get_config()
    st.markdown("**GitHub issues**")
    if not board.is_reader:
        st.caption("An issue holds what users asked, and your role does not include reading questions.")
        return
    if not (config.github_repository and config.github_token):
        st.caption("Not connected. Set QUARTERDECK_GITHUB_REPOSITORY (owner/name) and QUARTERDECK_GITHUB_TOKEN, then")
        st.caption("restart the server. The token needs the right to read and write issues.")
        return
    due = sum(is_exported(each) for each in board.topics)
    st.caption(
        f"One issue in {plain(config.github_repository)} for each of the {due} open and planned gaps that has none, at "
        f"most {MOST_ISSUES} at a time. They hold typical questions of users."
    )
    with st.form("coverage-issues", border=False):
        st.text_input("Reason", key="coverage-issues-reason", max_chars=500)
        locked = lock(Action.TOPIC_EXPORT, frame.environment)
        st.form_submit_button("Make the issues", on_click=make_issues, args=(board, frame), **locked)


def make_issues(board: Board, frame: ui.Frame) -> None:
    """Make the issues. Runs before the page is drawn."""
    config = get_config()

    def export() -> int:
        act = make_act(st.session_state["coverage-issues-reason"], frame.environment)
        github = GitHub(config.github_repository, config.github_token, config.github_api)
        window = board.coverage.window
        done = export_issues(
            get_store(), github, board.topics, act, scope=frame.scope, days=(window.last - window.first).days + 1,
            cures=board.cures,
        )  # fmt: skip
        if not done.entry:
            raise SourceUnavailable(f"no issue was due: {done.sentence}")
        st.session_state["coverage_issues_told"] = plain(done.sentence)
        return done.entry

    ui.record_change(export, place=_PLACE)
