"""Questions one by one: every kind of log answers a filter as a plain loop over the same rows does."""

import random
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.http.server import pack_aside
from core.errors import InvalidInput
from core.log.filters import SCORE_COLUMN, Cursor, FoundRow, Order, QuestionFilter, read_cursor
from core.log.questions import count_questions, list_matching, list_page
from core.log.readers import open_reader
from core.log.search_index import fill_search_index, find_indexed_share
from quarterdeck.exposures import store_scores
from quarterdeck.log import RetrievalLog, SqlLog
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import SEARCH_SLICE, retrievals
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.backends import BACKENDS, make_url

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCOPES = (Scope("production", "answers"), Scope("production", "search"), Scope("staging", "answers"))


TEXTS = ("what is an mbuf", "What Is An MBUF?", "GRÖSSE der Schlange", "100% \\ 'quoted' \"text\"", "a_b")
NOTED = (None, {"tenant": "acme", "top_k": 5}, {"tenant": 'a"cme', "top_k": 50, "beta": True})


def draw_rows(count: int = 600) -> list[Retrieval]:
    rng = random.Random(5)
    rows = []
    for number in range(count):
        hits = rng.choice([None, [], ["a.md"], [("a.md", 0.4), ('say "b".md', 0.3)], [("c.md", 12.5)]])
        kind = "bm25" if hits == [("c.md", 12.5)] else None
        rows.append(
            Retrieval(
                NOON + timedelta(minutes=rng.randrange(200)),
                rng.choice(TEXTS),
                None if hits is not None else rng.choice([0.1, 0.5, 0.7, None]),
                session_id=rng.choice([None, "s1", "s2"]),
                user_id=rng.choice([None, "u1"]),
                arm=rng.choice([None, "blue", "green"]),
                model=rng.choice([None, "m-1"]),
                documents=hits,
                score_kind=kind,
                error="down" if rng.random() < 0.1 else None,
                attributes=rng.choice(NOTED),
                retrieval_id=f"id-{number}",
                scope=rng.choice(SCOPES),
            )
        )  # fmt: skip
    return rows


ROWS = draw_rows()


INDEXED = ("sqlite indexed", pytest.param("postgresql indexed", marks=pytest.mark.slow))


@pytest.fixture(scope="module", params=(*BACKENDS, *INDEXED))
def log(request: pytest.FixtureRequest, open_new_log: Callable[[str], RetrievalLog]) -> RetrievalLog:
    backend, _, indexed = request.param.partition(" ")
    filled = open_new_log(backend)
    append_retrievals(filled, ROWS)
    if indexed:
        assert isinstance(filled, SqlLog)
        index_all_but_the_newest(filled.store)
    return filled


def index_all_but_the_newest(store: Store) -> None:
    """Spread the rows over several slices of the search index, and pack those that are full."""
    with store.begin() as connection:
        connection.execute(text("UPDATE retrievals SET id = -id * 200"))
        connection.execute(text("UPDATE retrievals SET id = -id"))
    assert fill_search_index(store, now=NOON) == 0  # they are noted first
    later = NOON + timedelta(seconds=20)
    assert fill_search_index(store, now=later, pack=pack_aside) == 600 * 200 // SEARCH_SLICE


def list_ids(log: RetrievalLog, wanted: QuestionFilter, *, page: int = 100, order: Order = Order.NEWEST) -> list[str]:
    """The ids of everything that meets a filter, read page by page."""
    reader, after, found = open_reader(log), None, list[FoundRow]()
    while rows := reader.list_rows(wanted, page, after, order):
        found += rows
        after = read_cursor(str(rows[-1].cursor), order)
    numbers = [row.values[SCORE_COLUMN] if order is Order.LOWEST else row.cursor.ts_ms for row in found]
    assert numbers == sorted(numbers, reverse=order is Order.NEWEST)
    return [row.values[1] for row in found]


def has(row: Retrieval, **attributes: Any) -> bool:
    return all((row.row[18] or {}).get(name) == value for name, value in attributes.items())


CASES: dict[str, tuple[QuestionFilter, Callable[[Retrieval], bool]]] = {
    "everything": (QuestionFilter(), lambda _row: True),
    "a scope": (QuestionFilter(scope=SCOPES[1]), lambda row: row.scope == SCOPES[1]),
    "an environment": (QuestionFilter(scope=Scope("production", "")), lambda row: row.scope[0] == "production"),
    "a service": (QuestionFilter(scope=Scope("", "answers")), lambda row: row.scope[1] == "answers"),
    "an unknown scope": (QuestionFilter(scope=Scope("", "none")), lambda _row: False),
    "a day": (
        QuestionFilter(start_ms=ROWS[0].ts_ms, end_ms=ROWS[0].ts_ms + 3_600_000),
        lambda row: ROWS[0].ts_ms <= row.ts_ms < ROWS[0].ts_ms + 3_600_000,
    ),
    "states": (QuestionFilter(states=("failed", "empty")), lambda row: row.state in ("failed", "empty")),
    "below": (QuestionFilter(below=0.5), lambda row: row.similarity is not None and row.similarity < 0.5),
    "below 0.7": (QuestionFilter(below=0.7), lambda row: row.similarity is not None and row.similarity < 0.7),
    "search": (QuestionFilter(search="mBu wha"), lambda row: "mbuf" in row.query.lower()),
    "search within a word": (QuestionFilter(search="buf"), lambda _row: False),
    "search a letter": (QuestionFilter(search="d"), lambda row: "GRÖSSE der" in row.query),
    "search umlaut": (QuestionFilter(search="grö"), lambda row: "Ö" in row.query),
    "search in a scope": (
        QuestionFilter(search="mbuf", scope=SCOPES[1], user_id="u1"),
        lambda row: "mbuf" in row.query.lower() and row.scope == SCOPES[1] and row.user_id == "u1",
    ),
    "search a sign": (QuestionFilter(search="100% \\"), lambda row: "100%" in row.query),
    "search an underscore": (QuestionFilter(search="a_b"), lambda row: row.query == "a_b"),
    "texts": (QuestionFilter(texts=("a_b", "what is an mbuf")), lambda row: row.query in ("a_b", "what is an mbuf")),
    "no text": (QuestionFilter(texts=()), lambda _row: False),
    "an id": (QuestionFilter(retrieval_id="id-7"), lambda row: row.retrieval_id == "id-7"),
    "a session": (QuestionFilter(session_id="s1"), lambda row: row.session_id == "s1"),
    "a user": (QuestionFilter(user_id="u1"), lambda row: row.user_id == "u1"),
    "a document": (
        QuestionFilter(documents=('say "b".md',)),
        lambda row: any(name == 'say "b".md' for name, _ in row.row[17] or ()),
    ),
    "an arm": (QuestionFilter(labels=(("arm", "blue"),)), lambda row: row.arm == "blue"),
    "no model": (
        QuestionFilter(labels=(("model", ""), ("arm", "green"))),
        lambda row: (row.model, row.arm) == (None, "green"),
    ),
    "an attribute": (QuestionFilter(attributes=(("tenant", "acme"),)), lambda row: has(row, tenant="acme")),
    "a number": (QuestionFilter(attributes=(("top_k", "5"),)), lambda row: has(row, top_k=5)),
    "a truth value": (QuestionFilter(attributes=(("beta", "true"),)), lambda row: has(row, beta=True)),
    "a quoted value": (
        QuestionFilter(attributes=(("tenant", 'a"cme'), ("top_k", "50"))),
        lambda row: has(row, tenant='a"cme', top_k=50),
    ),
}  # fmt: skip


@pytest.mark.deep
@pytest.mark.parametrize("case", CASES)
def test_every_log_finds_what_a_loop_over_the_rows_finds(log: RetrievalLog, case: str) -> None:
    wanted, meets = CASES[case]
    expected = sorted(str(row.retrieval_id) for row in ROWS if meets(row))
    assert sorted(list_ids(log, wanted)) == expected
    assert open_reader(log).count_matching(wanted) == len(expected)
    assert open_reader(log).count_matching(wanted, 100) == min(100, len(expected))


@pytest.mark.deep
@pytest.mark.parametrize("order", Order)
def test_pages_of_any_size_hold_the_same_rows_in_the_same_order(log: RetrievalLog, order: Order) -> None:
    wanted = QuestionFilter()
    assert list_ids(log, wanted, page=7, order=order) == list_ids(log, wanted, page=1_000, order=order) != []


ORDERED = ("everything", "a scope", "a day", "below", "search", "a document", "an arm", "an attribute", "no text")


@pytest.mark.deep
@pytest.mark.parametrize("page", [1_000, 7, 3])
@pytest.mark.parametrize("case", ORDERED)
def test_questions_are_listed_from_the_oldest_or_the_lowest_score(log: RetrievalLog, case: str, page: int) -> None:
    wanted, meets = CASES[case]
    rows = [row for row in ROWS if meets(row)]
    newest = list_ids(log, wanted, page=1_000)
    assert list_ids(log, wanted, page=page, order=Order.OLDEST) == newest[::-1]
    scores = {str(row.retrieval_id): row.similarity for row in rows}
    scored = [(score, name) for name in newest if (score := scores[name]) is not None]
    lowest = [name for _, name in sorted(scored, key=lambda pair: pair[0])]  # of equal ones, the newest is first
    assert list_ids(log, wanted, page=page, order=Order.LOWEST) == lowest


@pytest.mark.deep
def test_the_lowest_scores_are_those_of_the_newest_questions(
    log: RetrievalLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sql_rows", "clickhouse_rows"):
        monkeypatch.setattr(f"core.log.{module}.MOST_SORTED", 40)
    scores = {str(row.retrieval_id): row.similarity for row in ROWS}
    newest = [name for name in list_ids(log, QuestionFilter()) if scores[name] is not None]
    assert sorted(list_ids(log, QuestionFilter(), page=9, order=Order.LOWEST)) == sorted(newest[:40])


@pytest.mark.parametrize("cursor", ["1772366400000.17", "nan?_1.2", "e_1.2", "0.5_", "_1.2", "0.5_1"])
def test_a_cursor_of_another_order_or_none_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        read_cursor(cursor, Order.LOWEST)


def test_a_cursor_of_the_lowest_scores_is_no_other() -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        read_cursor("0.25_1772366400000.17")


@pytest.mark.deep
def test_the_search_index_follows_changed_and_deleted_rows(store: Store) -> None:
    append_retrievals(store, ROWS)
    index_all_but_the_newest(store)
    log = SqlLog(store)
    with store.begin() as connection:
        connection.execute(
            text("UPDATE retrievals SET query = 'a new gnome', session_id = 's9' WHERE retrieval_id = 'id-7'")
        )
        connection.execute(text("DELETE FROM retrievals WHERE retrieval_id = 'id-300'"))
    for wanted in (QuestionFilter(search="gnome"), QuestionFilter(session_id="s9")):
        assert list_ids(log, wanted) == ["id-7"]
    later = NOON + timedelta(minutes=1)
    assert [fill_search_index(store, now=later + timedelta(seconds=20 * step)) for step in range(2)] == [0, 2]
    assert list_ids(log, QuestionFilter(search="gnome")) == ["id-7"]
    share = find_indexed_share(store)
    assert share is not None
    assert share.covered == 3 * SEARCH_SLICE
    log.purge(10**15)
    fill_search_index(store, now=later + timedelta(minutes=1))
    with store.read() as connection:
        for table in ("search_slices", "search_packs"):
            assert connection.scalar(text(f"SELECT COUNT(*) FROM {table}")) == 0


def test_questions_are_found_by_the_scores_that_they_have(store: Store) -> None:
    append_retrievals(store, [Retrieval(NOON, f"q {number}", 0.5, retrieval_id=f"q-{number}") for number in range(3)])
    given = {"source": "reviewer", "comment": "", "ts_ms": 1, "environment": "production", "service": "default"}
    with store.begin() as connection:
        store_scores(connection, [{**given, "retrieval_id": "q-1", "name": "quality", "value": -1.0}])
        connection.execute(text("UPDATE retrievals SET feedback = 1 WHERE retrieval_id = 'q-2'"))
    log = SqlLog(store)
    assert list_ids(log, QuestionFilter(score_name="quality")) == ["q-1"]
    assert list_ids(log, QuestionFilter(score_name="quality", score_below=0.0)) == ["q-1"]
    assert list_ids(log, QuestionFilter(score_name="feedback")) == ["q-2"]
    assert list_ids(log, QuestionFilter(score_name="feedback", score_below=0.0)) == []


@pytest.mark.deep
@pytest.mark.slow
def test_scores_that_came_later_count_where_the_log_is_in_clickhouse(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'deck.db'}"
    with closing(Store(url, create=True, log_url=make_url("clickhouse", tmp_path))) as store:
        rows = [
            Retrieval(NOON, f"q {number}", 0.5, retrieval_id=f"q-{number}", feedback=feedback)
            for number, feedback in enumerate((1.0, -1.0, None, None))
        ]
        append_retrievals(store, rows)
        given = {"source": "reviewer", "comment": "", "ts_ms": 1, "environment": "production", "service": "default"}
        with store.begin() as connection:
            store_scores(connection, [{**given, "retrieval_id": "q-2", "name": "feedback", "value": -1.0}])
        for below, wanted in ((None, ["q 2", "q 1", "q 0"]), (0.0, ["q 2", "q 1"])):
            found = list_page(store, QuestionFilter(score_name="feedback", score_below=below)).questions
            assert sorted(question.query for question in found) == sorted(wanted)
        assert count_questions(store, QuestionFilter(score_name="quality")) == 0


def test_a_question_shows_what_the_service_gave(store: Store) -> None:
    row = Retrieval(
        NOON, "what is an mbuf", documents=[("a.md", 12.5), ("b.md", 3.0)], score_kind="bm25", user_id="u1",
        attributes={"tenant": "acme"}, retrieval_id="q-1", answer="a buffer", scope=Scope("staging", "answers"),
    )  # fmt: skip
    append_retrievals(store, [row])
    given = {"retrieval_id": "q-1", "name": "feedback", "source": "user", "value": 1.0, "comment": "good", "ts_ms": 1}
    with store.begin() as connection:
        store_scores(connection, [{**given, "environment": "staging", "service": "answers"}])
    (found,) = list_page(store, QuestionFilter()).questions
    assert (found.score, found.score_kind, found.similarity, found.state) == (12.5, "bm25", None, "scored")
    assert [tuple(hit) for hit in found.documents] == [("a.md", 12.5, 1), ("b.md", 3.0, 2)]
    assert [tuple(score) for score in found.scores] == [("feedback", 1.0, "user", "good")]
    assert (found.environment, found.service, found.attributes) == ("staging", "answers", {"tenant": "acme"})


def test_a_row_of_an_earlier_release_is_named_by_its_number_and_has_a_state(store: Store) -> None:
    with store.begin() as connection:
        connection.execute(retrievals.insert().values(ts_ms=1_000, query="old", score=0.5))
        connection.execute(retrievals.insert().values(ts_ms=2_000, query="older", score=None))
    found = list_page(store, QuestionFilter()).questions
    assert [(each.retrieval_id, each.state, each.score_kind) for each in found] == [
        ("r2", "empty", "cosine"), ("r1", "scored", "cosine"),
    ]  # fmt: skip
    assert [each.query for each in list_page(store, QuestionFilter(retrieval_id="r1")).questions] == ["old"]
    assert count_questions(store, QuestionFilter(states=("empty",))) == 1


def test_a_page_says_where_the_next_one_begins(store: Store) -> None:
    append_retrievals(store, [Retrieval(NOON, f"q {number}", 0.5) for number in range(5)])
    first = list_page(store, QuestionFilter(), limit=3)
    assert first.following is not None
    rest = list_page(store, QuestionFilter(), limit=3, after=first.following)
    assert ([len(first.questions), len(rest.questions)], rest.following) == ([3, 2], None)
    assert [each.query for each in list_matching(store, QuestionFilter(), limit=4)] == ["q 4", "q 3", "q 2", "q 1"]


@pytest.mark.parametrize("wrong", ["", "17", "x.1", "17.", "-1.2"])
def test_a_cursor_that_no_page_gave_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        read_cursor(wrong)
    assert read_cursor(str(Cursor(17, "a.b"))) == Cursor(17, "a.b")


@pytest.mark.parametrize("key", ["9" * 30, "²", "abc"])
def test_a_cursor_of_no_row_leads_nowhere(store: Store, key: str) -> None:
    append_retrievals(store, [Retrieval(NOON, "q", 0.5)])
    at_ms = list_page(store, QuestionFilter()).questions[0].ts.timestamp() * 1000
    assert list_page(store, QuestionFilter(), after=Cursor(int(at_ms), key)).questions == ()


@pytest.mark.parametrize("value", ["9" * 310, "-" + "9" * 310, "9" * 5_000, "[" * 100_000, "NaN", "1e999"])
def test_an_attribute_may_have_any_value(store: Store, value: str) -> None:
    append_retrievals(store, [Retrieval(NOON, "q", 0.5, attributes={"order": value[:200]})])
    assert list_page(store, QuestionFilter(attributes=(("order", value[:200]),))).questions
    list_page(store, QuestionFilter(attributes=(("order", value),)))


WRONG = [
    {"states": ("lost",)}, {"labels": (("query", "x"),)}, {"search": "x" * 1_001}, {"search": "half \ud800"},
    {"user_id": "\udfff"}, {"attributes": (("a", "\ud800"),)},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_filter_of_nothing_known_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        QuestionFilter(**wrong)
