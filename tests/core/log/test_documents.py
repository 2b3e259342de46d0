"""The sums of documents over a window, packed and not, against a loop over the rows."""

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from core.audit.acts import Act
from core.log.documents import DocumentSums, list_documents, pack_documents
from core.log.scores import apply_scores
from core.log.service_operations import merge_services
from quarterdeck.exposures import store_scores
from quarterdeck.log import as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import document_packs
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.scores import check_score
from quarterdeck.store import Store
from tests.backends import BACKENDS, make_url

FIRST = date(2026, 1, 3)
NOW = datetime(2026, 4, 10, 12, tzinfo=UTC)


@pytest.fixture(params=BACKENDS)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store with its log in each kind of database; only those in SQL are packed."""
    url = make_url(request.param, tmp_path)
    is_sql = request.param != "clickhouse"
    opened = Store(url if is_sql else f"sqlite:///{tmp_path / 'deck.db'}", create=True, log_url=None if is_sql else url)
    yield opened
    as_log(opened).close()
    opened.close()


def pack(store: Store) -> int | None:
    """How many days were packed; None for a log that has no packs."""
    packed = pack_documents(store, now=NOW)
    if store.log_url is None:
        return packed
    assert packed == 0
    return None


def write(store: Store, *, days: int, scope: Scope = DEFAULT_SCOPE, seed: int = 5) -> list[Retrieval]:
    rng = random.Random(seed)
    rows = [
        Retrieval(
            datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC) + timedelta(hours=rng.randrange(24 * days)),
            f"question {number}",
            documents=[(f"docs/{rng.randrange(40)}-{rank}.md", round(rng.random(), 3)) for rank in range(3)],
            feedback=rng.choice([None, None, -1.0, 1.0]),
            weight=rng.choice([None, None, 3]),
            scope=scope,
        )
        for number in range(days * 5)
    ]
    append_retrievals(store, rows)
    return rows


def add_up(rows: list[Retrieval], first: date, last: date) -> dict[str, tuple[int, int, int, float, int, int]]:
    """Each document's count, firsts, ranks, scores, bad feedback and questions under 0.5."""
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0.0, 0, 0])
    for row in rows:
        if first <= row.ts.date() <= last:
            assert row.similarity is not None
            for rank, (name, score) in enumerate(row.documents or (), 1):
                sums, weight = found[name], row.weight or 1
                sums[0] += weight
                sums[1] += weight * (rank == 1)
                sums[2] += weight * rank
                sums[3] += weight * score
                sums[4] += weight * ((row.feedback or 0) < 0)
                sums[5] += weight * (row.similarity < 0.5)
    return {name: tuple(sums) for name, sums in found.items()}  # type: ignore[misc]


def as_told(found: DocumentSums) -> dict[str, tuple[int, int, int, float, int, int]]:
    low = found.low_share(0.5) * found.sums[:, 6:].sum(axis=1)
    columns = (
        found.retrieved, found.firsts, found.mean_rank * found.retrieved,
        np.nan_to_num(found.mean_score) * found.retrieved, found.bad, low,
    )  # fmt: skip
    return {name: tuple(float(column[at]) for column in columns) for at, name in enumerate(found.names)}  # type: ignore[misc]


def list_last(rows: list[Retrieval], first: date, last: date) -> dict[str, date]:
    """The last day on which each document was found."""
    found: dict[str, date] = {}
    for row in rows:
        if first <= row.ts.date() <= last:
            for name, _ in row.documents or ():
                found[name] = max(row.ts.date(), found.get(name, first))
    return found


WINDOWS = [(0, 96), (0, 89), (7, 7), (13, 60), (64, 90), (90, 120)]


def check(store: Store, rows: list[Retrieval], scope: Scope = DEFAULT_SCOPE) -> None:
    for begin, end in WINDOWS:
        first, last = FIRST + timedelta(days=begin), FIRST + timedelta(days=end)
        sums = list_documents(store, scope, first=first, last=last)
        found = as_told(sums)
        wanted = add_up(rows, first, last)
        assert found.keys() == wanted.keys()
        for name, told in wanted.items():
            assert found[name] == pytest.approx(told), (name, begin, end)
        assert dict(zip(sums.names, sums.last_found, strict=True)) == list_last(rows, first, last)


@pytest.mark.deep
def test_packed_or_not_a_window_is_the_sum_of_its_rows(any_store: Store) -> None:
    rows = write(any_store, days=97)
    check(any_store, rows)
    assert pack(any_store) in {len({row.ts.date() for row in rows}), None}
    check(any_store, rows)
    assert not pack(any_store)


@pytest.mark.deep
def test_late_rows_make_the_packs_of_their_day_anew(any_store: Store) -> None:
    rows = write(any_store, days=97)
    pack(any_store)
    late = Retrieval(
        datetime(2026, 2, 14, 12, tzinfo=UTC), "late", documents=[("docs/late.md", 0.9), ("docs/1-0.md", 0.2)]
    )
    append_retrievals(any_store, [late])
    check(any_store, [*rows, late])
    assert pack(any_store) in {1, None}
    check(any_store, [*rows, late])


@pytest.mark.deep
def test_late_feedback_makes_them_anew_too(any_store: Store) -> None:
    rows = write(any_store, days=97)
    pack(any_store)
    judged = next(row for row in rows if row.feedback is None and row.ts.date() == FIRST + timedelta(days=20))
    given = check_score(judged.name, "feedback", -1.0, ts_ms=judged.ts_ms)
    with any_store.begin() as connection:
        store_scores(connection, [{**given._asdict(), **DEFAULT_SCOPE._asdict()}])
    apply_scores(any_store, now_ms=judged.ts_ms)
    changed = [row if row is not judged else with_feedback(row) for row in rows]
    check(any_store, changed)
    pack(any_store)
    check(any_store, changed)


def with_feedback(row: Retrieval) -> Retrieval:
    return Retrieval(row.ts, row.query, documents=row.documents, feedback=-1.0, weight=row.weight)


@pytest.mark.deep
def test_merged_services_have_the_documents_of_both(any_store: Store) -> None:
    former, new = Scope("production", "chat"), Scope("production", "chat-2")
    rows = [*write(any_store, days=97, scope=former), *write(any_store, days=97, scope=new, seed=6)]
    pack(any_store)
    merge_services(any_store, former, new, Act("ada", "one service"))
    check(any_store, rows, new)
    pack(any_store)
    check(any_store, rows, new)


def test_nothing_is_found_for_a_scope_that_never_reported(any_store: Store) -> None:
    assert list_documents(any_store, Scope("staging", "none"), first=FIRST, last=FIRST).names == ()


def test_small_counts_and_large_ones_are_packed_exactly(store: Store) -> None:
    rows = [
        Retrieval(datetime(2026, 1, 5, tzinfo=UTC), f"q{n}", documents=[("a", 0.5)], weight=1_000_000)
        for n in range(2_200)
    ]
    append_retrievals(store, rows)
    pack_documents(store, now=NOW)
    with store.read() as connection:
        assert connection.execute(document_packs.select()).all()
    found = list_documents(store, DEFAULT_SCOPE, first=FIRST, last=FIRST + timedelta(days=5))
    assert found.names == ("a",)
    assert found.retrieved[0] == 2_200_000_000
