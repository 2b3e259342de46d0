"""Adding questions to a case set: what would be added, what repeats a case, and the button that adds it."""

from collections.abc import Callable, Sequence

import streamlit as st

from app import ui
from app.navigation import link_to
from app.resources import get_store
from app.text import plain, show_unseen
from app.visitor import lock, make_act, may_read_questions
from core.audit.actions import Action
from core.audit.permissions import EVERYWHERE
from core.cases.choosing import SAME_MEANING
from core.cases.operations import NewCase, add_cases, restore_version
from core.cases.proposals import Proposal, Proposals
from core.cases.store import list_sets
from core.wording.counts import count_of

FIRST_SET = "qa"  # what the first set is called unless somebody types another name


def render_adding(
    key: str,
    label: str,
    propose: Callable[[str, int], Proposals],
    environment: str,
    *,
    topic: str = "",
) -> None:
    """Draw the button that proposes cases, and after its click the proposals with the button that adds them.

    `propose` gets the name of the set and its version. `topic` is a hint for the reason in the audit trail.
    """
    if not may_read_questions(EVERYWHERE):  # a set holds questions of every environment
        return
    locked = lock(Action.CASE_ADD, environment)
    ui.render_said(key)
    if not st.session_state.get(f"adding-{key}"):
        st.button(
            label, key=f"propose-{key}", icon=":material/playlist_add:", on_click=_open, args=(key,),
            **({"help": "Shows what would be added before anything is stored."} | locked),
        )  # fmt: skip
        return
    with st.container(border=True), ui.showing_errors("Cases could not be proposed"):
        known = {each.name: each for each in list_sets(get_store())}
        golden = next((name for name, each in known.items() if each.is_golden), None)
        names = list(known) or [FIRST_SET]
        name = st.selectbox(
            "Add to the case set", names, index=names.index(golden) if golden else 0, key=f"set-{key}",
            accept_new_options=True, help="Type a name to begin a new set.", width=320,
        ) or names[0]  # fmt: skip
        version = known[name].version if name in known else 0
        found = propose(name, version)
        _render_proposals(key, found)
        with st.container(horizontal=True):
            _render_buttons(key, found, environment, topic)


def _render_buttons(key: str, found: Proposals, environment: str, topic: str) -> None:
    repeats = len(found.all) - len(found.fresh)
    with_repeats = repeats > 0 and st.toggle(f"Also the {repeats} that repeat a case", key=f"repeats-{key}")
    wanted = found.all if with_repeats else found.fresh
    locked = lock(Action.CASE_ADD, environment)
    st.button(
        f"Add {len(wanted)} to {plain(found.set_name)}", key=f"add-{key}", type="primary", on_click=_add,
        args=(key, wanted, found.set_name, found.set_version, environment, topic),
        **({"disabled": not wanted} | locked),
    )  # fmt: skip
    st.button("Cancel", key=f"cancel-adding-{key}", on_click=_close, args=(key,))


def _render_proposals(key: str, found: Proposals) -> None:
    if not found.proposals:
        st.caption("Nothing to add: every typical question repeats a case of the set already, or its text was removed.")
        return
    ui.show_table(
        [_as_row(each) for each in found.proposals], key=f"proposals-{key}-{found.set_name}", file_name="cases.csv",
        column_config={"best score": ui.score_column()},
    )  # fmt: skip
    drafts = (
        "Documents and references are drafts: they come from the best passage that the index finds. Review them on the "
        "Prompts page, under Cases."
    )
    st.caption(f"{drafts} A question repeats another from a similarity of {SAME_MEANING:.2f} on.")
    if found.left_out:
        have = "has" if found.left_out == 1 else "have"
        are = "is" if found.left_out == 1 else "are"
        st.caption(f"{count_of(found.left_out, 'question')} {have} no text any more and {are} left out.")


def _as_row(each: Proposal) -> dict[str, object]:
    repeat = each.duplicate
    return {
        "question": ui.shorten(show_unseen(each.new.question), 300),
        "expects": ", ".join(each.new.expected_documents) or "a refusal",
        "best score": each.score,
        "why": each.note,
        "repeats": "" if repeat is None else f"{ui.shorten(show_unseen(repeat.of), 120)} ({repeat.similarity:.2f})",
    }


def _open(key: str) -> None:
    st.session_state[f"adding-{key}"] = True


def _close(key: str) -> None:
    st.session_state.pop(f"adding-{key}", None)


def _add(key: str, wanted: Sequence[NewCase], name: str, version: int, environment: str, topic: str) -> None:
    reason = f"typical questions of a topic: {topic}" if topic else "added from the questions page"

    def add() -> int:
        return add_cases(get_store(), name, wanted, make_act(reason, environment), expected=version)

    def undo() -> int:
        act = make_act("undone on the page", environment)
        return restore_version(get_store(), name, version, act, expected=version + 1)

    said = f"Added {count_of(len(wanted), 'case')} to {plain(name)}."
    ui.record_change(add, effect=said, place=key, undo=undo)
    if ui.was_made():
        _close(key)


def link_to_cases(name: str) -> None:
    """Draw the link to a set on the prompts page."""
    link_to("prompts", f"See the cases of {plain(name)}", tab="Cases", case_set=name)
