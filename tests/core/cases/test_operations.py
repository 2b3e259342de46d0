"""Case sets in real databases: every change is a version with an audit entry, and can be taken back."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from core.audit.acts import Act
from core.audit.permissions import Role, Roles, hold_everywhere
from core.audit.trail import AuditFilter, list_audit
from core.cases.cases import DRAFT, CaseSetState, CaseSource, StoredCase
from core.cases.forgetting import count_cases, forget_cases
from core.cases.operations import NewCase, add_cases, change_cases, import_cases, mark_golden, restore_version
from core.cases.store import (
    find_golden,
    find_set,
    get_set,
    list_case_changes,
    list_cases_of_topics,
    list_changes,
    list_sets,
    read_reference,
)
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.tracking.cases import Case
from quarterdeck.schema import audit
from quarterdeck.store import Store

ADA, BOB = Act("ada", "from the topic"), Act("bob", "a better reference")
SOURCE = CaseSource("production", "chat", "q-1", "t1", "v2")
FILED = (
    Case("c01", "Who frees an mbuf?", ("mbuf.md",), "The driver.", True),
    Case("c02", "How do I brew tea?", (), "A refusal is right.", False),
)


def ask(text: str, source: CaseSource = SOURCE) -> NewCase:
    return NewCase(text, ("vpp.md",), "In vpp.md.", True, source, (DRAFT, "vpp"))


def fill(store: Store) -> None:
    """Version 1: two cases of a file. Version 2: one of a question."""
    import_cases(store, "qa", FILED, ADA, reviewer="ada")
    add_cases(store, "qa", [ask("Does VPP run on one core?")], ADA)


def ids(store: Store) -> list[str]:
    return [each.id for each in find_set(store, "qa").cases]


def test_a_set_begins_with_its_first_case_and_counts_its_versions(store: Store) -> None:
    fill(store)
    found = get_set(store, "qa")
    assert (found.version, [each.id for each in found.cases], found.unreviewed) == (2, ["c01", "c02", "c03"], 1)
    new = found.cases[2]
    assert (new.source, new.tags, new.reviewer, new.version, new.position) == (SOURCE, (DRAFT, "vpp"), "", 1, 3)
    (summary,) = list_sets(store)
    assert (summary.name, summary.version, summary.count, summary.unreviewed) == ("qa", 2, 3, 1)
    with pytest.raises(NotFound, match="there is no set 'q'; there are: qa"):
        get_set(store, "q")


def test_whoever_edits_a_draft_has_reviewed_it(store: Store) -> None:
    fill(store)
    case = get_set(store, "qa").cases[2]
    edited = replace(case, case=replace(case.case, reference_answer="On one core, yes."))
    change_cases(store, "qa", [edited], BOB, expected=2)
    now = get_set(store, "qa").cases[2]
    assert (now.reviewer, now.tags, now.version, now.source) == ("bob", ("vpp",), 2, SOURCE)
    changes = list_case_changes(store, "qa", "c03")
    assert [(each.set_version, each.by) for each in changes] == [(3, "bob"), (2, "ada")]


def test_a_set_that_changed_since_is_not_overwritten(store: Store) -> None:
    fill(store)
    case = get_set(store, "qa").cases[0]
    with pytest.raises(Conflict, match="version 2, you changed version 1"):
        change_cases(store, "qa", [replace(case, tags=("x",))], BOB, expected=1)
    with pytest.raises(InvalidInput, match="as they were"):
        change_cases(store, "qa", [case], BOB, expected=2)
    with pytest.raises(InvalidInput, match="no case 'c99'"):
        change_cases(store, "qa", [], BOB, removed=["c99"], expected=2)
    assert get_set(store, "qa").version == 2


def test_what_was_removed_comes_back_with_its_former_version(store: Store) -> None:
    fill(store)
    before = get_set(store, "qa").cases
    change_cases(store, "qa", [], BOB, removed=["c01"], expected=2)
    assert ids(store) == ["c02", "c03"]
    restore_version(store, "qa", 2, BOB, expected=3)
    after = get_set(store, "qa")
    assert (after.version, [replace(each, version=0) for each in after.cases]) == (
        4, [replace(each, version=0) for each in before],
    )  # fmt: skip
    told = [(each.version, each.written, each.removed, each.by) for each in list_changes(store, "qa")]
    assert told == [(4, 1, 0, "bob"), (3, 0, 1, "bob"), (2, 1, 0, "ada"), (1, 2, 0, "ada")]
    assert get_set(store, "qa", version=3).cases == before[1:]
    assert read_reference(store, "qa@1").plain == FILED
    with pytest.raises(NotFound, match="versions are 1 to 4"):
        read_reference(store, "qa@5")


def test_ids_of_removed_cases_are_not_given_again(store: Store) -> None:
    fill(store)
    change_cases(store, "qa", [], BOB, removed=["c03"], expected=2)
    add_cases(store, "qa", [ask("Another?")], ADA)
    assert ids(store) == ["c01", "c02", "c04"]


def test_an_import_keeps_the_source_and_removes_what_the_file_lacks(store: Store) -> None:
    fill(store)
    stored = get_set(store, "qa").cases[2].case
    changed = replace(stored, reference_answer="Yes.")
    import_cases(store, "qa", [changed, FILED[0]], BOB, reviewer="bob")
    found = get_set(store, "qa").cases
    assert [(each.id, each.reviewer, each.source) for each in found] == [
        ("c03", "bob", SOURCE), ("c01", "ada", CaseSource()),
    ]  # fmt: skip
    with pytest.raises(InvalidInput, match="as they were"):
        import_cases(store, "qa", [changed, FILED[0]], BOB)


def test_one_set_is_the_golden_one(store: Store) -> None:
    fill(store)
    import_cases(store, "other", FILED, ADA)
    assert find_golden(store) is None
    mark_golden(store, "qa", ADA)
    mark_golden(store, "other", ADA)
    golden = find_golden(store)
    assert golden is not None and golden.name == "other"
    assert [each.is_golden for each in list_sets(store)] == [True, False]
    with pytest.raises(InvalidInput, match="already"):
        mark_golden(store, "other", ADA)
    mark_golden(store, "other", ADA, golden=False)
    assert find_golden(store) is None


def test_every_change_has_an_audit_entry_without_any_text(store: Store) -> None:
    fill(store)
    change_cases(store, "qa", [], BOB, removed=["c01"], expected=2)
    entries = list_audit(store, AuditFilter(target="qa"))
    assert [entry.action for entry in entries] == ["case.remove", "case.add", "case.import"]
    state = CaseSetState.read(entries[0].after)
    assert state is not None and (state.version, state.cases, state.changed) == (3, 2, ("c01",))
    with store.read() as connection:
        told = str(connection.execute(select(audit.c.before, audit.c.after)).all())
    assert "mbuf" not in told and "VPP" not in told
    assert list_changes(store, "qa")[0].audit_id == entries[0].entry_id


def test_the_cases_of_topics_are_found_in_every_set_each_question_once(store: Store) -> None:
    fill(store)
    add_cases(store, "vpp", [ask("Does VPP run on one core?"), ask("What is a plugin?")], ADA)
    found = [each.case.question for each in list_cases_of_topics(store, ["t1", "t2"])]
    assert found == ["Does VPP run on one core?", "What is a plugin?"]
    assert list_cases_of_topics(store, []) == ()


def test_what_was_asked_by_an_erased_user_is_forgotten_with_its_history(store: Store) -> None:
    fill(store)
    case = get_set(store, "qa").cases[2]
    change_cases(store, "qa", [replace(case, case=replace(case.case, question="Reworded?"))], BOB, expected=2)
    erased = {("production", "q-1")}
    assert count_cases(store, {("staging", "q-1")}, []) == 0
    assert count_cases(store, erased, []) == 1
    assert count_cases(store, [], ["does vpp run on one core?", "how do i brew tea?"]) == 2  # a former text counts
    with store.begin() as connection:
        forget_cases(connection, erased, ["how do i brew tea?"])
    found = get_set(store, "qa")
    assert ([each.id for each in found.cases], found.version) == (["c01"], 4)
    assert count_cases(store, erased, ["how do i brew tea?"]) == 0
    assert [each.id for each in get_set(store, "qa", version=3).cases] == ["c01"]
    with pytest.raises(InvalidInput, match="as they were"):  # nothing of it comes back
        restore_version(store, "qa", 3, BOB, expected=4)


def test_a_set_is_shared_so_that_a_change_needs_a_role_everywhere(store: Store) -> None:
    fill(store)
    here = Act("eve", "mine", roles=Roles((("production", Role.EDITOR),)))
    with pytest.raises(Forbidden, match="everywhere"):
        add_cases(store, "qa", [ask("Another?")], here)
    with pytest.raises(Forbidden):
        add_cases(store, "qa", [ask("Another?")], replace(here, roles=hold_everywhere(Role.VIEWER)))
    assert get_set(store, "qa").version == 2


def test_too_many_and_wrong_cases_are_refused_whole(store: Store) -> None:
    many = [replace(FILED[0], id=f"c{number}") for number in range(5_001)]
    with pytest.raises(InvalidInput, match="at most 5,000"):
        import_cases(store, "qa", many, ADA)
    with pytest.raises(InvalidInput, match="expected_documents"):
        add_cases(store, "qa", [ask("Fine?"), replace(ask("Wrong?"), expected_documents=())], ADA)
    assert find_set(store, "qa").version == 0
    assert StoredCase(FILED[0]).id == "c01"
