"""Rollouts: what is being rolled out, and the switches. Every change names a reason and lands in the audit trail."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.panels.colors import render_colors
from app.panels.flags import is_on, render_flags
from app.panels.tokens import render_tokens
from app.resources import get_store, list_environments
from core.control import Flag, list_flags
from quarterdeck.definitions import rollout_pct


def say_what_rolls_out(flags: Sequence[Flag]) -> tuple[str, ui.Look]:
    """The sentence on top."""
    partly = [f for f in flags if is_on(f) and 0 < (rollout_pct(f.definition) or 0) < 100]
    if not partly:
        return f"{len(flags)} flags, none of them partly rolled out.", ui.Look("Steady", "green", "✓")
    named = ", ".join(f"{ui.plain(f.key)} at {rollout_pct(f.definition):g}%" for f in partly)
    return f"{len(partly)} of {len(flags)} flags are partly rolled out: {named}.", ui.Look("Rolling out", "blue", "◐")


def render(frame: ui.Frame) -> None:
    """The page, once the store could be read."""
    flags = list_flags(get_store(), frame.environment)
    if flags:
        ui.render_verdict(*say_what_rolls_out(flags))
    ui.render_said()
    own, colors, access = st.tabs(["Flags", "Blue-green", "Access"], on_change="rerun", key="tab", bind="query-params")
    if own.open:
        with own:
            render_flags(flags) if flags else ui.render_empty(
                "There are no flags yet. Import some from flagd, or build the demo.", "quarterdeck flags import FILE"
            )
    if colors.open:
        with colors, ui.showing_errors("The deployments could not be read"):
            render_colors(frame.environment)
    if access.open:
        with access, ui.showing_errors("The tokens could not be read"):
            render_tokens(frame.environment)


frame = ui.render_frame("Rollouts", environments=list_environments(), ranges=False)
with ui.showing_errors("The flags could not be read"):
    render(frame)
