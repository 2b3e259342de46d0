"""What was edited in the table of cases, and the arguments of an evaluation that a form describes."""

from typing import Any

import pytest

from app.panels.prompts.case_edits import as_row, read_edits
from app.panels.prompts.evaluation import CaseChoice, make_arguments
from core.cases.cases import CaseSource, StoredCase
from core.errors import InvalidInput
from core.tracking.cases import Case

ONE = StoredCase(Case("c01", "Who frees an mbuf?", ("mbuf.md",), "The driver.", answerable=True), 1, reviewer="ada")
TWO = StoredCase(
    Case("c02", "Does VPP run?", ("vpp.md", "a.md"), "Yes.", answerable=True), 2,
    source=CaseSource("production", "docs chat", "q-1"), tags=("draft", "vpp"),
)  # fmt: skip


def test_nothing_edited_is_nothing_changed() -> None:
    edits = read_edits([ONE, TWO], {"edited_rows": {}, "deleted_rows": [], "added_rows": []})
    assert (edits.changed, edits.removed) == ((), ())


def test_cells_become_fields_and_lists() -> None:
    cells: dict[str, Any] = {
        "question": " Does it run? ", "answerable": False, "expected documents": "", "tags": "draft, core, core",
    }  # fmt: skip
    (changed,) = read_edits([ONE, TWO], {"edited_rows": {1: cells}}).changed
    assert changed.case == Case("c02", "Does it run?", (), "Yes.", answerable=False)
    assert (changed.tags, changed.source, changed.reviewer) == (("draft", "core"), TWO.source, "")


def test_a_tick_is_a_review_and_cannot_be_taken_back() -> None:
    (changed,) = read_edits([ONE, TWO], {"edited_rows": {1: {"reviewed": True}}}).changed
    assert changed.reviewer and changed.case == TWO.case
    with pytest.raises(InvalidInput, match="restore the former version"):
        read_edits([ONE], {"edited_rows": {0: {"reviewed": False}}})


def test_removed_rows_are_named_by_id_and_their_edits_are_dropped() -> None:
    edits = read_edits([ONE, TWO], {"edited_rows": {0: {"question": "x"}}, "deleted_rows": [0]})
    assert (edits.changed, edits.removed) == ((), ("c01",))


def test_a_cell_that_was_emptied_is_refused_with_the_name_of_the_case() -> None:
    with pytest.raises(InvalidInput, match="case c01, question"):
        read_edits([ONE], {"edited_rows": {0: {"question": None}}})
    with pytest.raises(InvalidInput, match="case c01, expected_documents"):
        read_edits([ONE], {"edited_rows": {0: {"expected documents": " , "}}})


def test_a_row_links_to_the_question_that_it_was_made_of() -> None:
    assert as_row(TWO)["source"] == "/questions?question=q-1&environment=production&service=docs+chat"
    assert as_row(ONE)["source"] is None


STORED = CaseChoice("--set", "qa", "qa: 20 cases")
OFFLINE = {"answerer": "extractive", "model": "", "judge": "offline", "judge_model": "", "budget": 1.0}


def test_an_offline_evaluation_has_no_budget() -> None:
    assert make_arguments(["prompts:/qa/3"], STORED, **OFFLINE) == (  # type: ignore[arg-type]
        "eval", "prompts:/qa/3", "--set=qa", "--answerer=extractive", "--judge=offline",
    )  # fmt: skip


def test_a_model_has_a_budget_and_a_judge_may_be_another_one() -> None:
    given: dict[str, Any] = OFFLINE | {"answerer": "openai", "model": "gpt-4o", "judge": "llm", "judge_model": "o3"}
    assert make_arguments(["a.md"], CaseChoice("--cases", "/x.jsonl", "x"), **given)[2:] == (
        "--cases=/x.jsonl", "--answerer=openai", "--judge=llm", "--model=gpt-4o", "--judge-model=o3",
        "--max-cost-usd=1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompts", "given", "field"),
    [
        ([], {}, "prompts"),
        (["a.md"], {"answerer": "openai"}, "answering model"),
        (["a.md"], {"judge": "llm"}, "judge"),
    ],
)
def test_what_the_command_would_refuse_is_said_before(prompts: list[str], given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        make_arguments(prompts, STORED, **(OFFLINE | given))  # type: ignore[arg-type]
