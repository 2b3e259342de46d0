"""Gateway to what clients report about flags: how often each was evaluated, who saw an experiment, what was tracked.

Clients write it through `quarterdeck.exposures`, about ten seconds after the evaluations. Users are recorded for every
A/B split and for every flag with `experiment` in its metadata (`quarterdeck.definitions.experiment_variants`).
"""

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from quarterdeck.clock import HOUR_MS, from_ms, to_ms
from quarterdeck.schema import (
    flag_evaluations,
    flag_exposures,
    judged_answers,
    review_items,
    review_labels,
    scores,
    tracked_events,
)
from quarterdeck.store import Store

_SLICE = 500  # users of one query


@dataclass(frozen=True, slots=True)
class Usage:
    """A flag's evaluations since some time, by variant, and the hour of the last one.

    The variant "" counts evaluations that returned the caller's default, as for a flag that is off.
    """

    by_variant: dict[str, int]
    last_hour: datetime

    @property
    def evaluations(self) -> int:
        """All evaluations since that time."""
        return sum(self.by_variant.values())


@dataclass(frozen=True, slots=True)
class Exposure:
    """A user who got a variant, when first, and in which service."""

    targeting_key: str
    variant: str
    first_seen: datetime
    service: str = ""


@dataclass(frozen=True, slots=True)
class TrackedEvent:
    """An event that a service reported for a user through OpenFeature's tracking."""

    event: str
    ts: datetime
    targeting_key: str
    value: float | None
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventName:
    """What a service reported under one name: how many events, of how many users; of the valued ones count and sum."""

    service: str
    event: str
    count: int
    users: int
    valued: int
    total: float


def list_usage(store: Store, environment: str, *, since: datetime) -> dict[str, Usage]:
    """Return the usage of every flag that was ever evaluated, by key; missing flags never were.

    Evaluations are counted per hour, so those in the hour of `since` are all included.
    """
    counts, last = flag_evaluations.c, func.max(flag_evaluations.c.hour_ms)
    recent = func.sum(counts.n).filter(counts.hour_ms > to_ms(since) - HOUR_MS)
    query = (
        select(counts.flag, counts.variant, func.coalesce(recent, 0).label("n"), last.label("last_ms"))
        .where(counts.environment == environment)
        .group_by(counts.flag, counts.variant)
    )
    by_variant: dict[str, dict[str, int]] = defaultdict(dict)
    last_ms: dict[str, int] = defaultdict(int)
    with store.read() as connection:
        for row in connection.execute(query):
            by_variant[row.flag].update({row.variant: int(row.n)} if row.n else {})
            last_ms[row.flag] = max(last_ms[row.flag], row.last_ms)
    return {flag: Usage(by_variant[flag], from_ms(last_ms[flag])) for flag in sorted(by_variant)}


def list_exposures(
    store: Store, environment: str, flag: str, *, since: datetime | None = None, users: Collection[str] | None = None
) -> tuple[Exposure, ...]:
    """Return who was given which variant of an experiment, by first sight; a user with two variants comes twice.

    With `users`, only what these were given is read, however many others there are.
    """
    noted = flag_exposures.c
    query = (
        select(noted.targeting_key, noted.variant, noted.first_seen_ms, noted.service)
        .where(noted.environment == environment, noted.flag == flag)
        .order_by(noted.first_seen_ms, noted.targeting_key, noted.variant)
    )
    if since is not None:
        query = query.where(noted.first_seen_ms >= to_ms(since))
    parts = [query]
    if users is not None:
        named = sorted(users)
        parts = [query.where(noted.targeting_key.in_(named[at : at + _SLICE])) for at in range(0, len(named), _SLICE)]
    with store.read() as connection:
        rows = [row for part in parts for row in connection.execute(part)]
    if len(parts) > 1:
        rows.sort(key=lambda row: (row.first_seen_ms, row.targeting_key, row.variant))
    return tuple(Exposure(key, variant, from_ms(ms), service) for key, variant, ms, service in rows)


def list_tracked_events(
    store: Store, environment: str, event: str, *, since: datetime | None = None
) -> tuple[TrackedEvent, ...]:
    """Return the events with this name, oldest first."""
    tracked = tracked_events.c
    query = (
        select(tracked_events)
        .where(tracked.environment == environment, tracked.event == event)
        .order_by(tracked.ts_ms, tracked.id)
    )
    if since is not None:
        query = query.where(tracked.ts_ms >= to_ms(since))
    with store.read() as connection:
        return tuple(
            TrackedEvent(row.event, from_ms(row.ts_ms), row.targeting_key, row.value, json.loads(row.attributes))
            for row in connection.execute(query)
        )


def list_event_names(store: Store, environment: str, *, since: datetime) -> tuple[EventName, ...]:
    """Return the names of the events since a time, with their counts and values, by service and name."""
    c = tracked_events.c
    values = func.count(c.value), func.coalesce(func.sum(c.value), 0.0)
    query = (
        select(c.service, c.event, func.count(), func.count(func.nullif(c.targeting_key, "").distinct()), *values)
        .where(c.environment == environment, c.ts_ms >= to_ms(since))
        .group_by(c.service, c.event)
        .order_by(c.service, c.event)
    )
    with store.read() as connection:
        return tuple(EventName(*row) for row in connection.execute(query))


def count_reported(store: Store, before: datetime) -> int:
    """Return how many counts, users, events, later scores, labels and judgments are older than a time."""
    with store.read() as connection:
        return sum(
            int(connection.scalar(select(func.count()).select_from(table).where(old)) or 0)
            for table, old in _older_than(before)
        )


def delete_reported(connection: Connection, before: datetime) -> None:
    """Delete the counts, users, events, later scores, labels and judgments that are older than a time."""
    for table, old in _older_than(before):
        connection.execute(delete(table).where(old))


def _older_than(before: datetime) -> tuple[tuple[Table, ColumnElement[bool]], ...]:
    before_ms = to_ms(before)
    return (
        (flag_evaluations, flag_evaluations.c.hour_ms < before_ms - HOUR_MS),
        (flag_exposures, flag_exposures.c.first_seen_ms < before_ms),
        (tracked_events, tracked_events.c.ts_ms < before_ms),
        (scores, scores.c.ts_ms < before_ms),
        (review_items, review_items.c.asked_ms < before_ms),
        (review_labels, review_labels.c.labeled_ms < before_ms),
        (judged_answers, judged_answers.c.asked_ms < before_ms),
    )
