"""Gateway that adds the rows of earlier releases to the rollups that those releases did not keep: the other numbers.

It goes through the rows in the order in which they were stored, a slice per transaction, and notes how far it has come
in the same transaction: it can be interrupted at any moment and goes on there.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select, update

from core.audit.settings import Family, setting_key
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.log import add_sums, as_log, lock_rollups
from quarterdeck.registry import Registry
from quarterdeck.retrieval import COLUMNS, EMPTY, Row
from quarterdeck.rollups import Rollups, bound, roll_up
from quarterdeck.schema import METRICS, retrievals, scopes, settings
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_NAME = setting_key(Family.BACKFILL, "numbers")
_LOG_NAME = setting_key(Family.BACKFILL, "log")
_SLICE = 50_000
_READ = ("ts_ms", "arm", "prompt_version", "index_version", "model", *METRICS)
_PLACES = tuple(COLUMNS.index(name) for name in _READ)


@dataclass(frozen=True, slots=True)
class Progress:
    """How many rows of earlier releases there are to go through, by their ids, and how many were."""

    last: int
    done: int

    @property
    def share(self) -> float:
        """The share that is done, 0 to 1."""
        return self.done / self.last if self.last else 1.0


def begin_backfill(connection: Connection) -> None:
    """Note, in the migration's transaction, that the rows stored so far are to be added."""
    last = int(connection.scalar(select(func.max(retrievals.c.id))) or 0)
    value = json.dumps({"last": last, "done": 0})
    connection.execute(settings.insert().values(name=_NAME, value=value, version=1))


def find_progress(store: Store) -> Progress:
    """Return how far it has come. Raises SourceUnavailable."""
    with store.read() as connection:
        return _read_progress(connection)


def backfill(store: Store, on_progress: Callable[[Progress], None] = lambda _progress: None) -> int:
    """Add all rows that are left; return how many ids were gone through. Raises SourceUnavailable.

    Other writers get their turn between the slices.
    """
    gone = 0
    while True:
        with store.begin_in_turn() as connection:
            progress = _read_progress(connection)
            if progress.done >= progress.last:
                return gone
            until = min(progress.done + _SLICE, progress.last)
            _add_rows(connection, progress.done, until)
            value = json.dumps({"last": progress.last, "done": until})
            connection.execute(update(settings).where(settings.c.name == _NAME).values(value=value))
        gone += until - progress.done
        on_progress(Progress(progress.last, until))


def backfill_log(store: Store) -> bool:
    """Add the rows that ClickHouse holds of earlier releases to its rollup, once; return whether it was done now.

    Rows that clients of an earlier release send in that moment may count twice. Raises SourceUnavailable.
    """
    log = as_log(store)
    if not isinstance(log, ClickHouseLog):
        return False
    with store.begin() as connection:
        done = connection.scalar(select(settings.c.value).where(settings.c.name == _LOG_NAME))
        if done is None:
            log.create_tables()
            log.roll_up_former_rows()
            connection.execute(settings.insert().values(name=_LOG_NAME, value=json.dumps(log.name), version=1))
    return done is None


def _read_progress(connection: Connection) -> Progress:
    stored = connection.scalar(select(settings.c.value).where(settings.c.name == _NAME))
    return Progress(**json.loads(stored)) if stored else Progress(0, 0)


def _add_rows(connection: Connection, after: int, until: int) -> None:
    known = connection.execute(select(scopes.c.id, scopes.c.environment, scopes.c.service))
    named = {scope_id: Scope(*names) for scope_id, *names in known}
    c = retrievals.c
    query = select(c.scope_id, *(c[name] for name in _READ)).where(c.id > after, c.id <= until)
    rows = [_make_row(named[scope_id], values) for scope_id, *values in connection.execute(query)]
    registry = Registry()
    lock_rollups(connection)
    added = bound(roll_up(rows), partial(registry.admit, connection))
    numbers = Rollups([], added.metric_sums, added.metric_bins, [])
    add_sums(connection, numbers, registry.find_ids(connection, set(named.values())))


def _make_row(scope: Scope, values: Sequence[Any]) -> Row:
    row: list[Any] = [None] * len(COLUMNS)
    row[COLUMNS.index("state")] = EMPTY
    for place, value in zip(_PLACES, values, strict=True):
        row[place] = value
    return (*row, scope)
