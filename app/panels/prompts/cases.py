"""The cases of the prompts page: sets of the store, edited in place, with their history, files and the golden set."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from zlib import crc32

import streamlit as st

from app import ui
from app.downloads import offer_file
from app.panels.prompts.case_edits import ANSWERABLE, EDITED, REFERENCE, REVIEWED, as_row, read_edits
from app.panels.shared.cases import FIRST_SET
from app.resources import get_store
from app.text import plain, show_unseen
from app.visitor import lock, make_act, may_read_questions
from core.audit.actions import Action
from core.audit.permissions import EVERYWHERE, Roles
from core.audit.permissions import may_read_questions as may_read
from core.cases.cases import CaseSet, StoredCase, render_cases, split_list
from core.cases.operations import NewCase, add_cases, change_cases, import_cases, mark_golden, restore_version
from core.cases.store import CaseSetSummary, find_set, list_case_changes, list_changes, list_sets
from core.errors import Forbidden, InvalidInput
from core.tracking.cases import parse_cases

_PLACE = "cases"
_MOST_BYTES = 20_000_000


def render_case_sets(environment: str) -> None:
    """Draw the sets: which one, its cases as a table that can be edited, and what else can be done with it."""
    sets = list_sets(get_store())
    if not may_read_questions(EVERYWHERE):
        st.caption("Your role does not include reading questions: cases are only counted. Ask an admin.")
        ui.show_table([_count(each) for each in sets], key="case-sets", file_name="case_sets.csv")
        return
    ui.render_said(_PLACE)
    if not sets:
        st.info("No case set is stored yet. Import a file of cases here, or add questions on Questions or Coverage.")
        st.code("quarterdeck cases import qa data/demo/cases/qa.jsonl", language=None)
        _render_import(None, environment)
        return
    names = [each.name for each in sets]
    ui.tell_gone("case_set", names, "case set")
    name = st.selectbox("Case set", names, key="case_set", bind="query-params", width=320) or names[0]
    found = find_set(get_store(), name)
    st.markdown(say_set(found))
    _render_table(found, environment)
    left, right = st.columns(2)
    with left:
        _render_new(found, environment)
        _render_golden(found, environment)
    with right:
        _render_import(found, environment)
        offer_file(f"Export {plain(name)} as JSON Lines", _export(found), f"{name}.jsonl", key=f"cases-export-{name}")
    with st.expander("History"):
        _render_history(found, environment)


def say_set(found: CaseSet) -> str:
    """The sentence above the table, in Markdown."""
    count = len(found.cases)
    refusals = sum(not each.case.answerable for each in found.cases)
    parts = [f"**{plain(found.name)}**: {count} case{'s' * (count != 1)}, version {found.version}"]
    parts.append(f"{refusals} expect a refusal" if refusals else "all are answerable")
    parts.append(f"{found.unreviewed} not reviewed" if found.unreviewed else "all reviewed")
    golden = " It is the golden set of index swaps." if found.is_golden else ""
    return f"{'; '.join(parts)}.{golden}"


def _count(each: CaseSetSummary) -> dict[str, Any]:
    return {"set": each.name, "cases": each.count, "version": each.version, "golden": "yes" if each.is_golden else ""}


def _render_table(found: CaseSet, environment: str) -> None:
    """Draw the cases that match the words; an edit and a removal are saved together, under one reason."""
    import pandas as pd

    left, right = st.columns([2, 1], vertical_alignment="bottom")
    words = left.text_input("Find", key="case_words", placeholder="words of the question, an id, a tag", max_chars=200)
    only = right.toggle("Not reviewed only", key="case_waiting")
    shown = [each for each in found.cases if _matches(each, words) and not (only and each.reviewer)]
    if not shown:
        st.caption("No case matches.")
        return
    seen = f"{found.name}-{found.version}-{crc32(f'{words}|{only}'.encode()):08x}"
    columns = {
        "id": st.column_config.TextColumn(width=60, pinned=True),
        "question": st.column_config.TextColumn(width=360, required=True),
        REFERENCE: st.column_config.TextColumn(width=360, required=True),
        ANSWERABLE: st.column_config.CheckboxColumn(help="Off: the documents lack the answer, so a refusal is right."),
        REVIEWED: st.column_config.CheckboxColumn(help="Whoever edits or ticks a case has reviewed it."),
        "source": st.column_config.LinkColumn(display_text="question"),
    }
    with st.form(f"cases-{seen}", border=False):
        st.data_editor(
            pd.DataFrame([as_row(each) for each in shown]), key=f"case-table-{seen}", num_rows="delete",
            hide_index=True, column_config=columns,
            disabled=[name for name in as_row(shown[0]) if name not in EDITED], height=min(520, 74 + 35 * len(shown)),
        )  # fmt: skip
        st.caption(
            "Edit a cell in place; separate documents and tags by commas. Tick rows and press Delete to remove them."
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.text_input("Reason", key=f"case-reason-{seen}", max_chars=500, placeholder="why", width=360)
            st.form_submit_button(
                "Save", type="primary", on_click=_save, args=(found, tuple(shown), seen, environment),
                **lock(Action.CASE_CHANGE, environment),
            )  # fmt: skip


def _matches(each: StoredCase, words: str) -> bool:
    held = " ".join((each.id, each.case.question, *each.tags, *each.case.expected_documents)).casefold()
    return all(word in held for word in words.casefold().split())


def _save(found: CaseSet, shown: Sequence[StoredCase], seen: str, environment: str) -> None:
    """Save what was edited in the table that the visitor saw."""
    state = st.session_state

    def change() -> int:
        edits = read_edits(shown, state[f"case-table-{seen}"])
        act = make_act(state[f"case-reason-{seen}"], environment)
        return change_cases(get_store(), found.name, edits.changed, act, removed=edits.removed, expected=found.version)

    _record(change, f"Saved as version {found.version + 1}.", _undo(found, environment))


def _record(change: Callable[[], int], effect: str, undo: Callable[[], int]) -> None:
    ui.record_change(change, effect=effect, place=_PLACE, undo=undo)


def _undo(found: CaseSet, environment: str) -> Callable[[], int]:
    """What restores a set as it was before the change that made the next version."""
    name, version = found.name, found.version

    def restore() -> int:
        act = make_act("undone on the page", environment)
        return restore_version(get_store(), name, version, act, expected=version + 1)

    return restore


def _render_new(found: CaseSet, environment: str) -> None:
    """The form that adds a case by hand."""
    with st.popover("Add a case", icon=":material/add:"), st.form("case-new", border=False, clear_on_submit=True):
        st.text_area("Question", key="case_new_question", max_chars=2_000, height=80)
        st.text_input("Expected documents, separated by commas", key="case_new_documents", max_chars=2_000)
        st.text_area("Reference answer", key="case_new_reference", max_chars=5_000, height=100)
        st.checkbox("The documents hold the answer", True, key="case_new_answerable")
        st.text_input("Tags", key="case_new_tags", max_chars=500)
        st.text_input("Reason", key="case_new_reason", max_chars=500)
        st.form_submit_button(
            "Add", type="primary", on_click=_add, args=(found, environment), **lock(Action.CASE_ADD, environment)
        )


def _add(found: CaseSet, environment: str) -> None:
    state = st.session_state

    def add() -> int:
        new = NewCase(
            state["case_new_question"], split_list(state["case_new_documents"]), state["case_new_reference"].strip(),
            state["case_new_answerable"], tags=split_list(state["case_new_tags"]),
        )  # fmt: skip
        act = make_act(state["case_new_reason"], environment)
        return add_cases(get_store(), found.name, [new], act, reviewer=act.actor, expected=found.version)

    _record(add, "The case is added.", _undo(found, environment))


def _render_golden(found: CaseSet, environment: str) -> None:
    label = "No longer the golden set" if found.is_golden else "Make it the golden set of index swaps"
    said = "Probes search its questions before an index goes live; its documents have to be found."
    st.button(
        label, key=f"case-golden-{found.name}", on_click=_mark, args=(found, environment),
        **({"help": said} | lock(Action.CASE_GOLDEN, environment)),
    )  # fmt: skip


def _mark(found: CaseSet, environment: str) -> None:
    golden = not found.is_golden
    change = partial(_mark_golden, found.name, environment, golden=golden)
    former = next((each.name for each in list_sets(get_store()) if each.is_golden), "") if golden else found.name
    undo = partial(_mark_golden, former or found.name, environment, golden=bool(former))
    said = f"{plain(found.name)} is {'now' if golden else 'no longer'} the golden set."
    _record(change, said, undo)


def _mark_golden(name: str, environment: str, *, golden: bool) -> int:
    return mark_golden(get_store(), name, make_act("chosen on the page", environment), golden=golden)


def _render_import(found: CaseSet | None, environment: str) -> None:
    """The form that lets a set hold what a file says."""
    with st.popover("Import a file", icon=":material/upload:"), st.form("case-import", border=False):
        name = found.name if found else FIRST_SET
        key = f"case_import_name-{name}"
        st.text_input("Case set", name, key=key, max_chars=100)
        st.file_uploader("JSON Lines, as for `quarterdeck eval`", key="case_import_file", type=["jsonl", "json"])
        st.caption("The set then holds exactly these cases; a former version can be restored.")
        st.text_input("Reason", key="case_import_reason", max_chars=500)
        st.form_submit_button(
            "Import", on_click=_import, args=(key, environment), **lock(Action.CASE_IMPORT, environment)
        )


def _import(key: str, environment: str) -> None:
    state = st.session_state
    name = state[key].strip()
    former = find_set(get_store(), name)

    def change() -> int:
        act = make_act(state["case_import_reason"], environment)
        cases = parse_cases(_read(state["case_import_file"]), source="the file")
        return import_cases(get_store(), name, cases, act, reviewer=act.actor, expected=former.version)

    _record(change, f"Imported into {plain(name)}.", _undo(former, environment))


def _read(file: Any) -> str:
    if file is None:
        raise InvalidInput("file", "choose a file of cases")
    content: bytes = file.getvalue()
    if len(content) > _MOST_BYTES:
        raise InvalidInput("file", f"must be at most {_MOST_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("file", "is not UTF-8 text") from error


def _export(found: CaseSet) -> Callable[[Roles], str]:
    def export(roles: Roles) -> str:
        if not may_read(roles, EVERYWHERE):
            raise Forbidden("your role does not include reading questions")
        return render_cases(find_set(get_store(), found.name).plain)

    return export


def _render_history(found: CaseSet, environment: str) -> None:
    """Draw the versions of the set and of one case, and the form that restores a version."""
    changes = list_changes(get_store(), found.name)
    rows = [
        {
            "version": each.version, "when": each.at, "who": show_unseen(each.by), "written": each.written,
            "removed": each.removed, "reason": show_unseen(each.reason), "audit entry": each.audit_id,
        }
        for each in changes
    ]  # fmt: skip
    ui.show_table(rows, key=f"case-history-{found.name}", file_name="case_history.csv")
    earlier = [each.version for each in changes if each.version < found.version]
    if earlier:
        form = f"case-restore-{found.name}-{found.version}"
        with st.form(form, border=False), st.container(horizontal=True, vertical_alignment="bottom"):
            st.selectbox("Restore version", earlier, key=f"case-version-{found.name}", width=160)
            st.text_input("Reason", key=f"case-restore-reason-{found.name}", max_chars=500, width=360)
            st.form_submit_button(
                "Restore", on_click=_restore, args=(found, environment), **lock(Action.CASE_RESTORE, environment)
            )
    _render_case_history(found)


def _restore(found: CaseSet, environment: str) -> None:
    state = st.session_state
    version = int(state[f"case-version-{found.name}"])

    def restore() -> int:
        act = make_act(state[f"case-restore-reason-{found.name}"], environment)
        return restore_version(get_store(), found.name, version, act, expected=found.version)

    _record(restore, f"Version {version} is restored.", _undo(found, environment))


def _render_case_history(found: CaseSet) -> None:
    names = {each.id: f"{each.id}: {ui.shorten(show_unseen(each.case.question), 80)}" for each in found.cases}
    chosen = st.selectbox("One case", list(names), format_func=names.__getitem__, index=None, key="case_one",
                          placeholder="its former versions")  # fmt: skip
    if not chosen:
        return
    rows = [
        {
            "set version": each.set_version, "when": each.at, "who": show_unseen(each.by),
            **(_state(each.stored) if each.stored else {"question": "(removed)"}), "reason": show_unseen(each.reason),
        }
        for each in list_case_changes(get_store(), found.name, chosen)
    ]  # fmt: skip
    ui.show_table(rows, key="case-changes", file_name="case_changes.csv")


def _state(each: StoredCase) -> dict[str, Any]:
    return {
        "question": show_unseen(each.case.question), "reference answer": show_unseen(each.case.reference_answer),
        "expected documents": ", ".join(each.case.expected_documents), "reviewer": show_unseen(each.reviewer),
    }  # fmt: skip
