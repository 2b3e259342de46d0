"""The checklist of a new deck, which stays until it is finished, and the three ways to the first data."""

import shlex
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit

import streamlit as st

from app import glossary, ui
from app.connections import CONNECTING, SOURCES
from app.navigation import link_to
from app.panels.overview.todos import put_off
from app.resources import get_config
from app.text import plain
from app.visitor import lock
from core.audit.actions import Action
from core.safety.scrubbing import has_login
from core.todo.checklist import SetupStep
from core.todo.operations import LONGEST_DAYS

_USUAL = "http://127.0.0.1:8501"
SERVICE = """from quarterdeck import Quarterdeck

deck = Quarterdeck({url!r})
deck.log_retrieval("what is an mbuf", 0.78, session_id="s-17")
deck.close()"""
_COMMANDS = {"rollouts": "quarterdeck flags import FILE"}


def list_due(steps: Sequence[SetupStep], snoozed: Sequence[str]) -> list[SetupStep]:
    """The steps that are not done and that nobody skipped."""
    return [step for step in steps if not step.is_done and key_of(step) not in snoozed]


def key_of(step: SetupStep) -> str:
    """The name under which a step is skipped."""
    return f"setup/{step.page}"


def render_checklist(steps: Sequence[SetupStep], snoozed: Sequence[str], frame: ui.Frame, *, is_new: bool) -> None:
    """Draw the steps while one of them is due: what is done, and how to do the next one."""
    due = list_due(steps, snoozed)
    if not due:
        return
    done = sum(step.is_done for step in steps)
    with st.container(border=True):
        st.markdown(f"**Set up: {done} of {len(steps)} done**")
        for step in steps:
            if step in due:
                render_step(step, frame, is_new=is_new)
            else:
                st.markdown(
                    f":green[{ui.Mark.FINE.icon}] {step.title}" if step.is_done else f":gray[– {step.title}: skipped]"
                )


def render_step(step: SetupStep, frame: ui.Frame, *, is_new: bool) -> None:
    """One step that is not done: how far it is, and how to do it."""
    progress = f" :gray[— {plain(step.progress)}]" if step.progress else ""
    if step.page == "questions":
        st.markdown(f":gray[{ui.Mark.TODO.icon}] **{step.title}**{progress}")
        if is_new:
            render_first_data()
        else:
            with st.expander("How questions come in"):
                render_first_data()
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":gray[{ui.Mark.TODO.icon}] **{step.title}**{progress}", width="stretch")
        st.button(
            "Skip", key=f"skip-{step.page}", type="tertiary", on_click=put_off,
            args=(frame, key_of(step), frame.today + timedelta(days=LONGEST_DAYS), f"{step.title}: not needed here"),
            **({"help": "Takes it off this list for a year"} | lock(Action.TODO_SNOOZE, frame.environment)),
        )  # fmt: skip
    if step.page in _COMMANDS:
        st.caption("On the page Rollouts, or from a file:")
        st.code(_COMMANDS[step.page], language=None)
        return
    connecting = CONNECTING[SOURCES[step.page]]
    st.caption(connecting.how)
    st.code(connecting.command, language=None, wrap_lines=True)


def render_first_data() -> None:
    """Draw the three ways; each one alone brings data to the pages, run exactly as it stands here."""
    st.markdown("**1. Import earlier questions** from CSV, Parquet or JSON Lines with ts, query and score:")
    st.code("quarterdeck import log.csv", language=None)
    second = "**2. Report a question over HTTP**, from any language; the score is the top-1 similarity, 0 to 1:"
    st.markdown(second, help=glossary.explain(second))
    st.code(say_report(st.context.url or _USUAL), language=None, wrap_lines=True)
    st.markdown(
        "**3. Let your service report every question**, in Python, after `pip install quarterdeck` (in a checkout: "
        "`pip install .`):"
    )
    url = get_config().log_url
    st.code(say_service(url), language=None)
    if has_login(url):
        st.caption("Put the user and the password of the store into the address; they are not shown here.")
    link_to("drift", "Then look at the first data: Drift")
    st.caption("Only looking? This builds a demo in which every page shows real data:")
    st.code("quarterdeck demo", language=None)


def say_service(url: str) -> str:
    """The lines of Python that report one question to the store at this address, without its password."""
    if has_login(url):
        parts = urlsplit(url)
        url = (
            f"{parts.scheme}://USER:PASSWORD@{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        )
    return SERVICE.format(url=url)


def say_report(url: str) -> str:
    """The command that reports one question to the server at this address."""
    parts = urlsplit(url)
    address = shlex.quote(f"{parts.scheme}://{parts.netloc}/v1/retrievals")
    return f"""curl {address} --json '{{"query": "what is an mbuf", "score": 0.78}}'"""
