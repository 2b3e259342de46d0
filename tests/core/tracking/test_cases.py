"""Evaluation cases: what a file of them holds, and the per-case table of a run."""

import json

import pytest

from core.errors import InvalidInput
from core.tracking.cases import Case, CaseResult, dataset_digest, parse_case_results, parse_cases, render_case_results

ROW = {
    "id": "c1",
    "question": "Why?",
    "expected_documents": ["a.md"],
    "reference_answer": "Because.",
    "answerable": True,
}


def lines(*changes):
    return "\n".join(json.dumps({key: v for key, v in {**ROW, **change}.items() if v is not ...}) for change in changes)


def test_each_line_becomes_a_case():
    text = "\ufeff" + lines({}, {"id": "c2", "answerable": False, "expected_documents": []}) + "\r\n\n"
    assert parse_cases(text) == (
        Case("c1", "Why?", ("a.md",), "Because.", True),
        Case("c2", "Why?", (), "Because.", False),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines({}) + "\n{nope", "qa.jsonl line 2: is not JSON"),
        ("[1]", "line 1: must be a JSON object, not list"),
        (lines({"question": ...}), "line 1, field question: is missing"),
        (lines({"question": "  "}), "line 1, field question: is empty"),
        (lines({"answerable": "yes"}), "line 1, field answerable: must be of type bool, not str"),
        (lines({"expected_documents": [1]}), "line 1, field expected_documents: must be a list of document names"),
        (lines({"expected_documents": []}), "line 1, field expected_documents: is empty, but the case is answerable"),
        (lines({"extra": 1}), "line 1, field extra: is unknown"),
        (lines({}, {}), "line 2, field id: 'c1' was already used in line 1"),
        ("\n", "qa.jsonl: has no cases"),
        ("[" * 100_000, "line 1: is nested too deeply"),
        (lines({"question": "half \ud800"}), "line 1: holds half a surrogate pair"),
    ],
)
def test_a_wrong_line_is_told_by_number_and_field(text, message):
    with pytest.raises(InvalidInput, match=message):
        parse_cases(text, source="qa.jsonl")


def test_the_digest_follows_content_and_not_order():
    one, two = parse_cases(lines({}, {"id": "c2"}))
    assert dataset_digest([one, two]) == dataset_digest([two, one])
    assert dataset_digest([one, two]) != dataset_digest([one])
    assert dataset_digest(parse_cases(lines({"question": "Why not?"}))) != dataset_digest([one])


def test_a_table_of_results_reads_back_as_it_was():
    result = CaseResult(
        "c1", "Wärum?", True, "So.", False, 0.5, 0.25, True, None, ("a.md",), ("So.",), (True,), 9, 1, 0.001, None
    )
    assert parse_case_results(render_case_results([result])) == (result,)


@pytest.mark.parametrize("text", ["nope", '[{"case_id": "c1"}]', "[3]", "3"])
def test_something_else_is_not_taken_for_a_table_of_results(text):
    with pytest.raises(InvalidInput, match=r"cases\.json"):
        parse_case_results(text)
