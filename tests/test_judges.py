"""How far the offline judges of relevancy and refusal can be trusted: their agreement with labelled cases, printed."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.answers import is_refusal, judge_answer
from core.embed import Embedder

CASES = Path(__file__).resolve().parents[1] / "data" / "demo" / "cases"
# The score itself is continuous; this cut serves to compare it with labels.
RELEVANT = 0.35


def load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CASES / name).read_text(encoding="utf-8").splitlines()]


def tell(capsys: pytest.CaptureFixture[str], judge: str, rows: list[dict[str, Any]], wrong: list[str]) -> float:
    agreement = 1 - len(wrong) / len(rows)
    with capsys.disabled():
        print(f"\n{judge}: agrees with {agreement:.0%} of {len(rows)} labelled cases", *wrong, sep="\n  ")
    return agreement


def test_refusals_are_known_by_their_wording(capsys: pytest.CaptureFixture[str]) -> None:
    rows = load("judge_refusal.jsonl")
    wrong = [row["answer"] for row in rows if is_refusal(row["answer"]) is not row["refused"]]
    assert len(rows) >= 40
    assert 0.4 <= sum(row["refused"] for row in rows) / len(rows) <= 0.6
    assert tell(capsys, "offline refusal judge", rows, wrong) >= 0.85


@pytest.mark.slow
def test_relevancy_tells_an_answer_from_what_is_about_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    rows = load("judge_relevancy.jsonl")
    embedder = Embedder()
    questions = embedder.embed([row["question"] for row in rows])
    answers = embedder.embed([row["answer"] for row in rows])
    wrong = []
    for row, question, answer in zip(rows, questions, answers, strict=True):
        judged = judge_answer(
            refused=False, answerable=True, supported=(True,), question_similarity=float(question @ answer)
        )
        if (judged.relevancy >= RELEVANT) is not row["relevant"]:
            wrong.append(f"{judged.relevancy:.2f} ({row['kind']}): {row['answer']}")
    assert len(rows) >= 40
    assert tell(capsys, "offline relevancy judge", rows, wrong) >= 0.85
    # What it cannot do: talk about the same subject that does not answer looks as relevant as an answer.
    blind = [row for row in wrong if "same subject, no answer" in row]
    assert len(blind) == sum(row["kind"] == "same subject, no answer" for row in rows)
