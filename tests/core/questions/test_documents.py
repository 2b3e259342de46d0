"""Documents by the work that they need."""

from datetime import date

import numpy as np

from core.log.documents import DocumentSums
from core.questions.documents import report_documents


def sums(n: int, firsts: int, ranks: int, bad: int, tenths: dict[int, int]) -> list[float]:
    return [n, firsts, ranks, n, n * 0.5, bad, *(tenths.get(tenth, 0) for tenth in range(10))]


FOUND = DocumentSums(
    ("popular.md", "failing.md", "hated.md"),
    np.array([
        sums(100, 60, 150, 0, {3: 5, 8: 95}),
        sums(20, 2, 80, 1, {2: 15, 7: 5}),
        sums(9, 9, 9, 8, {9: 9}),
    ]),
    np.array([20_000, 20_010, 19_999]),
)  # fmt: skip


def test_those_with_the_most_low_questions_and_bad_feedback_come_first() -> None:
    report = report_documents(FOUND, below=0.46)
    assert [(row.document, row.work) for row in report.rows] == [
        ("failing.md", 16.0), ("hated.md", 8.0), ("popular.md", 5.0),
    ]  # fmt: skip
    failing = report.rows[0]
    assert (failing.retrieved, failing.first, failing.mean_rank, failing.low_share, failing.bad) == (
        20,
        2,
        4.0,
        0.75,
        1,
    )
    assert failing.last == date(2024, 10, 14)
    assert report.retrieved == 129


def test_files_that_no_question_found_are_told_with_the_version_that_changed_them() -> None:
    live = ("popular.md", "failing.md", "hated.md", "asleep.md")
    report = report_documents(FOUND, below=0.46, indexed=live, changed_in={"asleep.md": "v2", "hated.md": "v1"})
    assert [(row.document, row.changed_in, row.retrieved) for row in report.never] == [("asleep.md", "v2", 0)]
    assert [row.changed_in for row in report.rows] == ["", "v1", ""]
    assert all(row.is_indexed for row in report.rows)


def test_a_document_may_be_named_by_the_end_of_its_path() -> None:
    live = ("corpus/docs/popular.md", "corpus/docs/hated.md", "old/hated.md", "corpus/docs/asleep.md")
    report = report_documents(FOUND, below=0.46, indexed=live, changed_in={"corpus/docs/popular.md": "v2"})
    assert {row.document: (row.is_indexed, row.changed_in) for row in report.rows} == {
        "popular.md": (True, "v2"), "hated.md": (False, ""), "failing.md": (False, ""),
    }  # fmt: skip
    assert "corpus/docs/asleep.md" in [row.document for row in report.never]


def test_names_of_another_kind_than_the_files_leave_open_which_are_never_found() -> None:
    report = report_documents(FOUND, below=0.46, indexed=("docs/a.md",))
    assert (report.never, report.knows_corpus) == ((), False)
    assert {row.is_indexed for row in report.rows} == {None}


def test_a_document_without_any_score_has_none() -> None:
    nothing = DocumentSums(("a.md",), np.array([[3, 1, 4, 0, 0, 0, *[0] * 10]], dtype=float), np.array([20_000]))
    (row,) = report_documents(nothing, below=0.46).rows
    assert (row.mean_score, row.low_share, row.work) == (None, None, 0.0)
