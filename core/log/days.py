"""Gateway to the closed days of a scope: the sums of each, with the capped mean, in the store.

A closed day counts as long as its hours still have the number of questions and the sum of scores that it was made of.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, text

from core.log.values import DailyScores
from quarterdeck.schema import BINS, SUMS, days, scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store, fetch_many

GRACE = timedelta(minutes=10)  # until a day that is over is closed
MOST_LATE = 0.1  # share of a day's questions that may have come since it was closed, for its capped mean to stand

_KEY = ("scope_id", "dimension", "value", "day")
_COUNTS = tuple(name for name in SUMS if name not in BINS)
_NAMES = tuple(column.name for column in days.c)
_SAVE = text(
    f"INSERT INTO days ({', '.join(_NAMES)}) VALUES ({', '.join(f':{name}' for name in _NAMES)}) "
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name not in _KEY)
)


@dataclass(frozen=True, slots=True)
class DayContent:
    """What a day was made of: the number of questions, in any state, and the sum of their scores."""

    counted: int
    summed: float

    def is_same_as(self, other: "DayContent") -> bool:
        """Return whether the hours have not changed; sums may differ by rounding."""
        return self.counted == other.counted and math.isclose(self.summed, other.summed, rel_tol=1e-9, abs_tol=1e-6)

    def has_few_more_than(self, other: "DayContent") -> bool:
        """Return whether some questions came since, up to a tenth of all, and nothing else can have changed."""
        came, summed = self.counted - other.counted, self.summed - other.summed
        return 0 <= came <= MOST_LATE * self.counted and -1e-6 <= summed <= came + 1e-6


def find_closed(store: Store, scope: Scope) -> dict[date, DayContent]:
    """Return the closed days of a scope, each with what it was made of."""
    c = days.c
    query = (
        select(c.day, c.counted, c.summed)
        .join(scopes, scopes.c.id == c.scope_id)
        .where(scopes.c.environment == scope.environment, scopes.c.service == scope.service)
        .where(c.dimension == "", c.value == "")
    )
    with store.read() as connection:
        return {date.fromisoformat(day): DayContent(n, total) for day, n, total in connection.execute(query)}


def list_closed_days(
    store: Store, scope: Scope, dimension: str, value: str | None, wanted: Collection[date]
) -> list[tuple[str, DailyScores]]:
    """Return these closed days for one value of a dimension, or for all its values, each with its value."""
    if not wanted:
        return []
    c = days.c
    query = (
        select(c.value, c.day, c.capped, c.histogram, *(c[name] for name in _COUNTS))
        .join(scopes, scopes.c.id == c.scope_id)
        .where(scopes.c.environment == scope.environment, scopes.c.service == scope.service)
        .where(c.dimension == dimension, c.day >= min(wanted).isoformat(), c.day <= max(wanted).isoformat())
    )
    if value is not None:
        query = query.where(c.value == value)
    named = {day.isoformat(): day for day in wanted}
    with store.read() as connection:
        return [(row[0], _read_day(named[row[1]], row)) for row in fetch_many(connection, query) if row[1] in named]


def _read_day(day: date, row: Sequence[Any]) -> DailyScores:
    _, _, capped, histogram, count, logged, total, squares, unmapped, unscored, empty, failed = row
    return DailyScores(day, count, total, squares, histogram, logged, unmapped, unscored, empty, failed, capped)


def save_days(
    connection: Connection,
    scope_id: int,
    found: Mapping[str, Iterable[tuple[str, DailyScores]]],
    contents: Mapping[date, DayContent],
) -> None:
    """Save days by dimension, each with its value, as made of these contents. They replace former ones."""
    rows = [
        {
            "scope_id": scope_id, "dimension": dimension, "value": value, "day": day.day.isoformat(),
            "capped": day.capped, "counted": contents[day.day].counted, "summed": contents[day.day].summed,
            "histogram": ",".join(map(str, day.histogram)), **dict(zip(_COUNTS, _counts(day), strict=True)),
        }
        for dimension, listed in found.items()
        for value, day in listed
        if day.day in contents
    ]  # fmt: skip
    if rows:
        connection.execute(_SAVE, rows)


def forget_days(connection: Connection, scope_ids: Sequence[int]) -> None:
    """Delete the closed days of these scopes: their days begin at another time now."""
    connection.execute(delete(days).where(days.c.scope_id.in_(scope_ids)))


def _counts(day: DailyScores) -> tuple[float, ...]:
    states = (day.unmapped, day.unscored, day.empty, day.failed)
    return (day.count, day.logged, day.total, day.total_squares, *states)
