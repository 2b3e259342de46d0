"""What every retrieval log promises those who append to it, on each of the three databases."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from core.log.retrievals import list_daily_scores
from quarterdeck.log import SqlLog, as_log
from quarterdeck.retrieval import Retrieval, Row
from quarterdeck.scope import MOST_SERVICES, make_scope
from quarterdeck.store import Store
from tests.backends import BACKENDS, make_url

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
ROWS: list[Row] = [Retrieval(START + timedelta(minutes=at), f"question {at}", 0.5).row for at in range(40)]
LATER_MS = 4_000_000_000_000


class Undone(Exception):
    """Takes a transaction back."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_and_their_rollups_are_stored_when_append_returns(backend, open_new_log):
    log = open_new_log(backend)
    log.append(ROWS)
    assert log.count_before(LATER_MS) == 40
    assert sum(day.count for day in list_daily_scores(log)) == 40


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_within_a_transaction_of_its_own_store_rows_share_its_fate(backend, open_new_log):
    log = open_new_log(backend)
    assert isinstance(log, SqlLog)
    with pytest.raises(Undone), log.store.begin() as connection:
        log.append(ROWS, within=connection)
        assert connection.scalar(text("SELECT COUNT(*) FROM retrievals")) == 40
        raise Undone
    assert log.count_before(LATER_MS) == 0
    assert list(list_daily_scores(log)) == []
    with log.store.begin_in_turn() as connection:
        log.append(ROWS[:10], within=connection)
        log.append(ROWS[10:], within=connection)
        assert log.count_before(LATER_MS) == 0  # others see nothing of it yet
    assert log.count_before(LATER_MS) == 40
    assert sum(day.count for day in list_daily_scores(log)) == 40


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_log_that_lies_elsewhere_stores_rows_before_the_transaction_of_another_store_ends(backend, tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True, log_url=make_url(backend, tmp_path))
    log = as_log(store)
    with pytest.raises(Undone), store.begin() as connection:
        log.append(ROWS, within=connection)
        assert log.count_before(LATER_MS) == 40
        assert connection.scalar(text("SELECT COUNT(*) FROM retrievals")) == 0
        raise Undone
    assert log.count_before(LATER_MS) == 40
    log.close()
    store.close()


def test_a_batch_of_ever_new_services_is_bounded_before_it_is_counted(open_new_log):
    log = open_new_log("sqlite")
    assert isinstance(log, SqlLog)
    rows = [Retrieval(START, "q", 0.5, scope=make_scope(None, f"service-{at}")).row for at in range(300)]
    said: list[str] = []

    def listen(*given) -> None:
        said.append(given[2])

    event.listen(Engine, "before_cursor_execute", listen)
    log.append(rows)
    event.remove(Engine, "before_cursor_execute", listen)
    assert (
        sum(each.startswith("SELECT scopes.id") for each in said) <= MOST_SERVICES + 1
    )  # each new one, and their names
    assert sum(each.startswith("SELECT settings") for each in said) <= MOST_SERVICES + 1
    with log.store.read() as connection:
        stored = connection.execute(text("SELECT service FROM retrievals JOIN scopes ON scopes.id = scope_id"))
        services = [service for (service,) in stored]
    assert len(services) == 300
    assert services.count("(other)") == 300 - (MOST_SERVICES - 1)  # `default` is one of them
    assert sum(day.count for day in list_daily_scores(log)) == 300
