"""Score maps and services of a log in ClickHouse: what comes out is what a log in SQLite makes of the same rows."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.errors import Conflict, InvalidInput, NotFound
from core.log.documents import list_documents
from core.log.filters import QuestionFilter
from core.log.mapping import map_scores, relearn_scores
from core.log.questions import list_matching
from core.log.retrievals import list_days, list_dimensions, list_scopes, list_segment_scores
from core.log.service_operations import merge_services, rename_service, save_service
from core.log.services import get_service
from core.log.successions import count_holdings
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.log import as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.registry import registry_of
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import topics
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store
from tests.backends import make_url

pytestmark = [pytest.mark.slow, pytest.mark.deep]

NOW = datetime(2026, 4, 10, 12, tzinfo=UTC)
ME = Act("ada", "because")
ANSWERS = Scope("production", "answers")
TENANTS = [None, "acme", 'Größe "2"\n\\', "True", True, False, 7, -3, 1.5, 2.0, ""]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """A store whose log is in ClickHouse, and one that holds its log."""
    made = (
        Store(f"sqlite:///{tmp_path / 'a.db'}", create=True, log_url=make_url("clickhouse", tmp_path)),
        Store(f"sqlite:///{tmp_path / 'b.db'}", create=True),
    )
    for service in ("default", "answers", "replies"):
        declare(made, service, "tenant", "x y.z")
    yield made
    for store in made:
        as_log(store).close()
        store.close()


def declare(stores: tuple[Store, ...], service: str, *names: str) -> None:
    for store in stores:
        save_service(store, replace(get_service(store, service), dimensions=names), ME)
        registry_of(store).forget()  # else it is read again within 30 seconds


def draw(
    count: int, *, seed: int, scope: Scope = DEFAULT_SCOPE, until: datetime = NOW, **fixed: Any
) -> list[Retrieval]:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        kind, score = rng.choice([("bm25", rng.gauss(12, 3)), ("rerank", rng.gauss(0, 2)), (None, rng.random())])
        fields: dict[str, Any] = {
            "score_kind": kind, "arm": rng.choice([None, "blue", "green"]), "weight": rng.choice([None, 3]),
            "model": rng.choice([None, "m-1"]), "retrieval_id": f"{scope.service}-{seed}-{number}",
            "attributes": rng.choice([None, {"tenant": rng.choice(TENANTS), "x y.z": rng.choice(["a", "b"])}]),
            "documents": [(rng.choice("abcdefghi"), rng.choice([None, rng.random()])) for _ in range(rng.randrange(4))],
            "feedback": rng.choice([None, -1.0, 1.0]),
        }  # fmt: skip
        at = until - timedelta(minutes=rng.randrange(20_000))
        rows.append(Retrieval(at, f"q {number}", score, scope=scope, **(fields | fixed)))
    return rows


def write(stores: tuple[Store, ...], rows: list[Retrieval]) -> None:
    for store in stores:
        append_retrievals(store, rows)


def read(store: Store) -> dict[str, Any]:
    """The similarities of all rows, and the days of each scope and of its segments, rounded."""
    questions = list_matching(store, QuestionFilter(), limit=100_000)
    found: dict[str, Any] = {
        "rows": sorted((q.service, q.query, q.retrieval_id, q.score, round(q.similarity or 0, 9)) for q in questions)
    }
    for scope in list_scopes(store):
        series = {("", ""): list_days(store, scope=scope)}
        for dimension in list_dimensions(store, scope):
            segments = list_segment_scores(store, dimension, scope=scope)
            series |= {(dimension, value): days for value, days in segments.items()}
        for (dimension, value), days in series.items():
            found[f"{scope} {dimension} {value}"] = [
                (day.day, day.count, day.unmapped if dimension else 0, round(day.total, 6), tuple(day.histogram))
                for day in days
                if day.questions
            ]
        documents = list_documents(store, scope, first=NOW.date() - timedelta(days=60), last=NOW.date())
        sums = documents.sums.round(6).tolist()
        found[f"{scope} documents"] = sorted(zip(documents.names, sums, strict=True))
    return found


def assert_alike(stores: tuple[Store, Store]) -> None:
    one, other = map(read, stores)
    assert one == other


def test_rows_get_the_similarities_that_they_get_in_sql(stores: tuple[Store, Store]) -> None:
    write(stores, draw(300, seed=1))
    assert {map_scores(store, now=NOW) for store in stores} == {0}  # fewer than 200 of a kind and model
    assert_alike(stores)
    write(stores, draw(1_500, seed=2))
    write(stores, draw(900, seed=3, scope=ANSWERS))
    mapped = [map_scores(store, now=NOW) for store in stores]
    assert mapped[0] == mapped[1] > 1_000
    assert_alike(stores)
    write(stores, draw(300, seed=4, score_kind="bm25"))
    assert len({map_scores(store, now=NOW) for store in stores}) == 1
    assert {map_scores(store, now=NOW) for store in stores} == {0}
    assert_alike(stores)


def test_declared_attributes_are_dimensions_of_rows_from_then_on(stores: tuple[Store, Store]) -> None:
    write(stores, draw(300, seed=1))
    write(stores, draw(300, seed=2, scope=ANSWERS))
    assert_alike(stores)
    found = list_segment_scores(stores[0], "tenant", scope=DEFAULT_SCOPE)
    assert {"", "acme", "True", "False", "7", "-3", "1.5", "2.0"} < found.keys()
    declare(stores, "default", "tenant", "later")
    assert list_segment_scores(stores[0], "later", scope=DEFAULT_SCOPE) == {}
    write(stores, draw(50, seed=3, attributes={"later": "now", "x y.z": "a"}))
    later = list_segment_scores(stores[0], "later", scope=DEFAULT_SCOPE)
    assert later.keys() == {"now"}
    assert_alike(stores)
    declare(stores, "default")
    write(stores, draw(50, seed=4, attributes={"later": "now"}))
    declare(stores, "default", "tenant", "x y.z", "later")
    assert_alike(stores)


def test_maps_leave_rows_from_before_a_declaration_uncounted(stores: tuple[Store, Store]) -> None:
    for service in ("default", "answers", "replies"):
        declare(stores, service)
    write(stores, draw(250, seed=1, until=NOW - timedelta(days=20), score_kind="bm25", model=None))
    declare(stores, "default", "tenant")
    write(stores, draw(900, seed=2, score_kind="bm25", model=None))
    assert {map_scores(store, now=NOW) for store in stores} == {1_150}
    assert_alike(stores)
    for store in stores:
        relearn_scores(store, DEFAULT_SCOPE, ME)
    assert_alike(stores)


def test_a_map_is_learned_anew_on_purpose(stores: tuple[Store, Store]) -> None:
    write(stores, draw(900, seed=1, score_kind="bm25", model=None))
    for store in stores:
        map_scores(store, now=NOW)
    write(stores, [*draw(2_500, seed=2, score_kind="bm25", model=None)])
    before = read(stores[0])
    for store in stores:
        map_scores(store, now=NOW)
        relearn_scores(store, DEFAULT_SCOPE, ME)
        assert (list_audit(store)[0].after or {})["versions"] == {"bm25": 2}
    assert read(stores[0]) != before
    assert_alike(stores)
    with pytest.raises(NotFound, match="has none"):
        relearn_scores(stores[0], Scope("staging", "default"), ME)


@pytest.mark.parametrize("stage", ["INSERT INTO", "SET NULL"])
@pytest.mark.parametrize("is_relearned", [False, True], ids=["learned", "learned anew"])
def test_a_change_that_was_interrupted_is_finished_and_counts_once(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch, stage: str, *, is_relearned: bool
) -> None:
    write(stores, draw(900, seed=1, score_kind="bm25", model=None))
    for store in stores[0 if is_relearned else 1 :]:
        map_scores(store, now=NOW)
    if is_relearned:
        write(stores, draw(2_500, seed=3, score_kind="bm25", model=None))
        for store in stores:
            map_scores(store, now=NOW)
        relearn_scores(stores[1], DEFAULT_SCOPE, ME)
    command = ClickHouseLog.command

    def fail(log: ClickHouseLog, sql: str, **parameters: Any) -> None:
        if stage == "INSERT INTO" and sql.startswith(stage):
            raise InterruptedError
        if stage == "SET NULL" and "mark = NULL" in sql:
            raise InterruptedError
        command(log, sql, **parameters)

    with monkeypatch.context() as patched:
        patched.setattr(ClickHouseLog, "command", fail)
        with pytest.raises(InterruptedError):
            if is_relearned:
                relearn_scores(stores[0], DEFAULT_SCOPE, ME)
            else:
                map_scores(stores[0], now=NOW)
    write(stores, draw(100, seed=2, score_kind="bm25", model=None))
    for _ in range(2):
        for store in stores:
            map_scores(store, now=NOW)
    assert_alike(stores)


def test_services_are_renamed_and_merged(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    write(stores, draw(400, seed=1, score_kind="bm25", weight=None))
    write(stores, draw(200, seed=2, scope=ANSWERS))
    for each in stores:
        with each.begin() as connection:
            connection.execute(insert(topics).values(
                topic_id="t-1", label="nat", model="m", centroid=b"", first_seen_ms=1, last_seen_ms=1, state="planned",
                owner="", note="", version=2, scope_id=1,
            ))  # fmt: skip
    assert count_holdings(store, DEFAULT_SCOPE) == count_holdings(stores[1], DEFAULT_SCOPE)
    with pytest.raises(Conflict, match="services merge"):
        rename_service(store, DEFAULT_SCOPE, ANSWERS, ME)
    with pytest.raises(NotFound, match="services rename"):
        merge_services(store, DEFAULT_SCOPE, Scope("production", "nobody"), ME)
    for each in stores:
        merge_services(each, DEFAULT_SCOPE, ANSWERS, ME)
    assert list_scopes(store) == (ANSWERS,)
    assert_alike(stores)
    assert count_holdings(store, ANSWERS).topics == 1
    replies = Scope("production", "replies")
    for each in stores:
        rename_service(each, ANSWERS, replies, ME)
    assert list_scopes(store) == (replies,)
    assert_alike(stores)
    write((store,), draw(5, seed=9))
    merge_services(store, DEFAULT_SCOPE, replies, ME)
    assert sum(day.questions for day in list_days(store, scope=replies)) >= 605
    assert count_holdings(store, replies).rows == 605
    with pytest.raises(NotFound):
        merge_services(store, DEFAULT_SCOPE, replies, ME)


def test_rows_that_were_purged_stay_counted_after_a_move(stores: tuple[Store, Store]) -> None:
    write(stores, draw(400, seed=1))
    for store in stores:
        as_log(store).purge(int((NOW - timedelta(days=5)).timestamp() * 1_000))
        rename_service(store, DEFAULT_SCOPE, ANSWERS, ME)
    assert_alike(stores)
    assert sum(day.questions for day in list_days(stores[0], scope=ANSWERS)) > count_holdings(stores[0], ANSWERS).rows


def test_a_cluster_says_what_to_do_instead(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}", create=True, log_url="clickhouse://host:8123/deck?cluster=main")
    with pytest.raises(InvalidInput, match="log: services on a ClickHouse cluster cannot be moved; let the service"):
        rename_service(store, DEFAULT_SCOPE, ANSWERS, ME)
    store.close()
