"""Rules of case sets: limits, the file, comparison, ids, bodies of the history."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.cases.cases import (
    CaseSet,
    CaseSetState,
    CaseSource,
    StoredCase,
    check_set_name,
    compare_cases,
    describe_state,
    make_ids,
    read_body,
    render_cases,
    write_body,
)
from core.config import PROJECT
from core.errors import InvalidInput
from core.tracking.cases import Case, parse_cases

ONE = Case("c01", "Who frees an mbuf?", ("mbuf.md",), "The driver.", True)
TWO = Case("c02", "Was kostet ein Kännchen? 漢字", (), "A refusal is right.", False)
FILES = sorted((PROJECT / "data" / "demo" / "cases").glob("qa*.jsonl"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_of_today_are_written_as_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert render_cases(parse_cases(text)) == text


def test_a_rendered_case_is_read_back() -> None:
    pasted = replace(ONE, id="c03", question="one\u2028two\x85three\nfour\u202e")
    assert parse_cases(render_cases([TWO, ONE, pasted])) == (TWO, ONE, pasted)


def test_a_comparison_names_each_case_that_differs_and_how() -> None:
    other = replace(ONE, question="Who frees it?", reference_answer="Nobody.")
    assert compare_cases([ONE, TWO], [other, replace(TWO, id="c03")]) == (
        "c02: only in the store", "c03: only in the file", "c01: differs in question, reference_answer",
    )  # fmt: skip
    assert compare_cases([ONE, TWO], [TWO, ONE]) == ("the order of the cases differs",)
    assert compare_cases([ONE, TWO], [ONE, TWO]) == ()


def test_new_ids_follow_the_highest_and_ignore_other_names() -> None:
    assert make_ids(["c07", "c100", "mine-8"], 2) == ("c101", "c102")


@pytest.mark.parametrize("name", ["", "../etc", "a b", "-x", "x" * 101, "ä"])
def test_a_set_is_called_as_a_file_may_be(name: str) -> None:
    with pytest.raises(InvalidInput, match="case set"):
        check_set_name(name)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (replace(ONE, question=" "), "question"), (replace(ONE, reference_answer=""), "reference_answer"),
        (replace(ONE, expected_documents=()), "expected_documents"), (replace(ONE, id=" c1"), "id"),
        (replace(ONE, question="x" * 20_001), "question"), (replace(ONE, question="a\x00b"), "question"),
        (replace(ONE, reference_answer="half \ud800"), "half a surrogate pair"),
    ],
)  # fmt: skip
def test_a_case_that_no_file_could_hold_is_refused(wrong: Case, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        StoredCase(wrong)


@pytest.mark.parametrize("tags", [("a,b",), ("",), ("x" * 51,), tuple(f"t{n}" for n in range(21))])
def test_tags_are_few_short_words(tags: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="tags"):
        StoredCase(ONE, tags=tags)


def test_a_state_of_the_history_is_read_back() -> None:
    stored = StoredCase(TWO, 4, 3, CaseSource("production", "chat", "q-1", "t1", "v2"), ("vpp", "draft"), "ada")
    assert read_body(write_body(stored), version=3) == stored


def test_the_audit_state_holds_no_text_and_is_read_back() -> None:
    found = CaseSet("qa", 2, (StoredCase(ONE, 1), StoredCase(TWO, 2)), is_golden=True)
    state = describe_state(found, ["c01"])
    assert state is not None
    assert CaseSetState.read(state.to_audit()) == state
    assert "mbuf" not in str(state.to_audit())
    assert describe_state(CaseSet("qa", 0, ())) is None
    assert found.unreviewed == 2
