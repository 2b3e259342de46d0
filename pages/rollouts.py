"""Rollouts: what is being rolled out, and the switches. Every change has a reason and an audit entry."""

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.rollouts.canaries import is_news, render_canaries, say_standing
from app.panels.rollouts.colors import render_colors
from app.panels.rollouts.experiments import must_stop, render_experiments, say_standings
from app.panels.rollouts.flags import render_flags
from app.panels.rollouts.requests import render_requests
from app.panels.rollouts.resources import load_canaries, load_experiments
from app.panels.rollouts.tokens import render_tokens
from app.resources import get_store, list_environments
from app.text import plain, plain_error
from core.errors import QuarterdeckError
from core.flags.board import BoardRow, list_board
from core.flags.schedule import ScheduleState, say_next
from core.flags.upkeep import MOST_NAMED, describe_partly


def say_what_rolls_out(board: Sequence[BoardRow], *, now: datetime) -> tuple[str, ui.StatusLook]:
    """The sentence at the top: what is partly rolled out, what is scheduled next, and what got stuck."""
    partly, sentence = describe_partly({row.flag.key: row.flag.view for row in board})
    said = plain(sentence)
    planned = [row.schedule for row in board if row.schedule]
    stuck = [each for each in planned if each.state is ScheduleState.PAUSED]
    due = sorted((each for each in planned if each.due), key=lambda each: each.due or now)
    for each in stuck[:1]:
        said += f" {plain(each.flag)} is {plain(say_next(each, now=now))}."
    for each in due[:1]:
        said += f" Next: {plain(each.flag)}, {plain(say_next(each, now=now))}."
    if stuck:
        return said, ui.StatusLook("A plan is paused", "orange", ui.Mark.PAUSED)
    return said, ui.StatusLook("Rolling out", "blue", ui.Mark.RUNNING) if partly or planned else ui.StatusLook(
        "Steady", "green", ui.Mark.FINE
    )


def render_sentence(board: Sequence[BoardRow], environment: str, *, now: datetime) -> None:
    """Flags that are partly rolled out and the health of canaries; without the latter if the log cannot be read."""
    sentence, look = say_what_rolls_out(board, now=now)
    try:
        canaries = [each for each in load_canaries(environment) if is_news(each)]
        experiments = load_experiments(environment)
        detail = " ".join([*(f"Canary {say_standing(each)}" for each in canaries), say_standings(experiments)]).strip()
        is_healthy = all(each.verdict.is_healthy for each in canaries) and not any(
            must_stop(each) for each in experiments
        )
        look = look if is_healthy else ui.StatusLook("Not healthy", "red", ui.Mark.ACT)
    except QuarterdeckError as error:
        detail = f"The canaries and experiments could not be read: {plain_error(error)}"
    ui.render_verdict(sentence, look, detail=detail)


def render(frame: ui.Frame) -> None:
    """The page, once the store could be read."""
    now = datetime.now(UTC)
    board = list_board(get_store(), frame.environment, environments=list_environments(), now=now)
    if board:
        render_sentence(board, frame.environment, now=now)
        partly = sum(row.flag.view.is_partly_on for row in board)
        if partly > MOST_NAMED:
            link_to("rollouts", f"Show all {partly}", partly="true", environment=frame.environment)
    tabs = ["Flags", "Experiments", "Canaries", "Blue-green", "Requests", "Access"]
    own, experiments, canaries, colors, requests, access = st.tabs(
        tabs, on_change="rerun", key="tab", bind="query-params"
    )
    if own.open:
        with own:
            if not board:
                said = "There are no flags yet. Make one below, import some from flagd, or build the demo."
                ui.render_empty(said, "quarterdeck flags import FILE")
            render_flags(frame.environment, board)
    if experiments.open:
        with experiments, ui.showing_errors("The experiments could not be read"):
            render_experiments(frame.environment)
    if canaries.open:
        with canaries, ui.showing_errors("The canaries could not be read"):
            render_canaries(frame.environment)
    if colors.open:
        with colors, ui.showing_errors("The deployments could not be read"):
            render_colors(frame.environment)
    if requests.open:
        with requests, ui.showing_errors("The change requests could not be read"):
            render_requests(frame.environment)
    if access.open:
        with access, ui.showing_errors("The tokens could not be read"):
            render_tokens(frame.environment)


frame = ui.render_frame("Rollouts", environments=list_environments(), ranges=False)
with ui.showing_errors("The flags could not be read"):
    render(frame)
