"""Tables and traces of other conventions become cases: literal texts."""

import json
import math

import pytest

from core.errors import InvalidInput
from core.tracking.conventions import SCORES
from core.tracking.tables import AssessedTrace, CaseTable, parse_table, read_traces, rescale


def table(*rows: tuple[object, ...], columns: tuple[str, ...] = ("inputs", "outputs", "faithfulness/v1/score")) -> str:
    return json.dumps({"columns": columns, "data": rows})


def parse(text: str) -> CaseTable:
    return parse_table(text, SCORES, source="the table")


def test_a_table_of_mlflow_evaluate_becomes_cases_with_the_same_ids_in_every_run() -> None:
    one = parse(table(("How?", "So.", 5), ("Why?", "Thus.", 3)))
    other = parse(table(("Why?", "Because.", 1), ("How?", "Like this.", 2)))
    assert [(case.question, case.answer, case.faithfulness) for case in one.cases] == [
        ("How?", "So.", 5.0), ("Why?", "Thus.", 3.0),
    ]  # fmt: skip
    assert {case.case_id for case in one.cases} == {case.case_id for case in other.cases}
    assert not one.has_refusals
    assert all(math.isnan(case.cost_usd) for case in one.cases)


def test_a_scale_is_told_from_all_runs_together() -> None:
    good, poor = (
        parse(table(("How?", "So.", 5), ("Why?", "Thus.", 3))),
        parse(table(("How?", "So.", 1), ("Why?", "", 1))),
    )
    (first, second), scale = rescale([good, poor])
    assert scale == 5
    assert [case.faithfulness for case in first.cases] == [1.0, 0.5]
    assert [case.faithfulness for case in second.cases] == [0.0, 0.0]
    assert rescale([poor])[1] == 1  # nothing says otherwise
    assert rescale([])[0] == ()


def test_inputs_that_are_objects_are_asked_by_their_question_and_repeated_ones_stay_apart() -> None:
    rows = [({"question": "How?", "context": "a"}, "So.", 0.5), ({"question": "How?", "context": "b"}, "So.", 1.0)]
    found = parse(table(*rows)).cases
    assert len({case.case_id for case in found}) == 2
    assert parse(table(({"question": "How?"}, "So.", 0.5))).cases[0].question == "How?"


def test_columns_that_are_spelled_otherwise_are_found_and_exact_ones_come_first() -> None:
    columns = ("question", "answer", "ragas_faithfulness", "Cost per query (USD)")
    (found,) = parse(table(("How?", "So.", 0.5, 0.25), columns=columns)).cases
    assert (found.faithfulness, found.cost_usd) == (0.5, 0.25)
    columns = ("question", "ragas_faithfulness", "faithfulness", "deepeval_faithfulness")
    (found,) = parse(table(("How?", 0.5, 0.75, 1.0), columns=columns)).cases
    assert found.faithfulness == 0.75


def test_costs_refusals_and_missing_scores_of_a_table_are_read() -> None:
    columns = ("question", "answer", "faithfulness", "cost_usd", "refusal_correct")
    found = parse(table(("How?", "So.", "yes", 0.25, True), ("Why?", "No.", None, 0.5, False), columns=columns))
    first, second = found.cases
    assert (first.faithfulness, first.cost_usd, first.refusal_correct, first.error) == (1.0, 0.25, True, "")
    assert (second.refusal_correct, second.error) == (False, "has no score")
    assert found.has_refusals


@pytest.mark.parametrize(
    ("text", "problem"),
    [("no", "is not JSON"), ("3", "is no table"), (table(("a", "b"), columns=("inputs", "toxicity")), "no column of")],
)
def test_what_is_no_table_of_cases_is_said_to_be_none(text: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        parse(text)


def test_assessed_traces_become_cases() -> None:
    traces = [
        AssessedTrace(f"tr-{n}", json.dumps({"question": f"Question {n}?"}), "So.", {"faithfulness": "yes"}, 0.001, 5.0)
        for n in range(2)
    ]
    found = read_traces([*traces, AssessedTrace("tr-3", "plain text", "", {"faithfulness": 0.25})], SCORES, source="x")
    assert [(case.question, case.faithfulness) for case in found.cases] == [
        ("Question 0?", 1.0), ("Question 1?", 1.0), ("plain text", 0.25),
    ]  # fmt: skip
    assert (found.cases[0].cost_usd, found.cases[0].latency_ms) == (0.001, 5.0)
    with pytest.raises(InvalidInput, match="no assessment of faithfulness or .*; there are: tone"):
        read_traces([AssessedTrace("tr-1", "{}", "", {"tone": 1.0})], SCORES, source="the traces")
