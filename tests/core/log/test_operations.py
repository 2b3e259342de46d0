"""Retention: old rows lose their text, answers or documents after times of their own, in every kind of log."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.errors import InvalidInput
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.operations import forget_parts, purge_retrievals
from core.log.questions import list_page, list_scores
from core.log.retrievals import list_days
from quarterdeck.clock import to_ms
from quarterdeck.exposures import store_scores
from quarterdeck.log import SqlLog, as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line
from tests.backends import BACKENDS, copy_empty_store, make_url

NOW = datetime.now(UTC)
ACT = Act("tester", "retention")


@pytest.fixture(params=BACKENDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with a log of each kind."""
    url = copy_empty_store() if request.param == "postgresql" else f"sqlite:///{tmp_path}/deck.db"
    log_url = make_url("clickhouse", tmp_path) if request.param == "clickhouse" else None
    opened = Store(url, create=True, log_url=log_url)
    fill(opened)
    yield opened
    as_log(opened).close()
    opened.close()


def fill(store: Store) -> None:
    rows = [
        Retrieval(NOW - timedelta(days=day), f"q {day}", documents=["a.md"], answer=f"answer {day}")
        for day in (1, 20, 40)
    ]
    append_retrievals(store, rows)


def parts(store: Store) -> list[tuple[str, str | None, int]]:
    def read(row: LoggedQuestion) -> tuple[str, str | None, int]:
        return row.query, row.answer, len(row.documents)

    return [read(row) for row in list_page(store, QuestionFilter()).questions]


def test_each_part_goes_after_its_own_time_and_the_rows_stay(full: Store) -> None:
    days = list_days(full)
    before = {"answers": NOW - timedelta(days=10), "documents": NOW - timedelta(days=30)}
    assert forget_parts(full, before, ACT) == {"answers": 2, "documents": 1}
    assert parts(full) == [("q 1", "answer 1", 1), ("q 20", None, 1), ("q 40", None, 0)]
    assert forget_parts(full, {"text": NOW - timedelta(days=30)}, ACT) == {"text": 1}
    assert parts(full) == [("q 1", "answer 1", 1), ("q 20", None, 1), ("", None, 0)]
    assert [row.state for row in list_page(full, QuestionFilter()).questions] == ["unscored"] * 3
    assert forget_parts(full, before, ACT) == {"answers": 0, "documents": 0}
    assert list_days(full) == days


def test_slices_miss_no_row(store: Store) -> None:
    append_retrievals(store, [Retrieval(NOW, f"q {at}", 0.5, answer="x" if at % 3 else None) for at in range(50)])
    log = as_log(store)
    assert isinstance(log, SqlLog)
    assert log.forget("answers", to_ms(NOW) + 1, slice_rows=4) == 33
    assert {answer for _, answer, _ in parts(store)} == {None}


def test_comments_of_scores_go_with_the_text_and_scores_with_the_rows(store: Store) -> None:
    given = {"name": "feedback", "source": "user", "value": 1.0, "environment": "production", "service": "default"}
    old, new = (to_ms(NOW - timedelta(days=day)) for day in (20, 1))
    with store.begin() as connection:
        named = (("q-1", old), ("q-2", new))
        store_scores(connection, [{**given, "retrieval_id": q, "ts_ms": at, "comment": "ada says"} for q, at in named])
    forget_parts(store, {"text": NOW - timedelta(days=10)}, ACT)
    ids = [("production", "q-1"), ("production", "q-2")]
    assert [score.comment for name in ids for score in list_scores(store, ids)[name]] == ["", "ada says"]
    purge_retrievals(store, NOW - timedelta(days=10), ACT)
    assert list(list_scores(store, ids)) == [("production", "q-2")]


def test_the_trail_says_which_parts_and_how_old(store: Store) -> None:
    fill(store)
    forget_parts(store, {"answers": NOW}, ACT)
    (entry,) = list_audit(store, AuditFilter(action="log.purge"))
    assert (entry.target, entry.after) == ("answers", {"older_than": {"answers": NOW.isoformat()}})
    with pytest.raises(InvalidInput, match="part: must be one of answers, documents, text"):
        forget_parts(store, {"users": NOW}, ACT)


def test_the_command_takes_ages_and_days(store: Store, url: str, quarterdeck: Run) -> None:
    fill(store)
    day = (NOW - timedelta(days=30)).date().isoformat()
    done = quarterdeck("purge", "--answers-before", "10d", "--documents-before", day, "--database", url, "--json").json
    assert (done["deleted"], done["removed"]) == (0, {"answers": 2, "documents": 1})
    wrong = only_line(quarterdeck("purge", "--text-before", "soon", "--database", url), 2)
    assert "text-before: must be a number of days" in wrong


def test_settings_give_the_ages_where_no_option_does(
    store: Store, url: str, quarterdeck: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    monkeypatch.setenv("QUARTERDECK_RETENTION_DAYS", "30")
    monkeypatch.setenv("QUARTERDECK_TEXT_DAYS", "10")
    assert quarterdeck("purge", "--database", url).out.splitlines() == [
        "1 retrievals are deleted", "1 retrievals lose their text",
    ]  # fmt: skip
    assert [text for text, _, _ in parts(store)] == ["q 1", ""]
