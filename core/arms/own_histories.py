"""Gateway: reads the users' numbers of metrics other than those of Metric, and adds their moments to readings of arms.

All numbers since the start are read each time, because scores and events come late; `histories.py` decides how often.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from core.arms.arms import Arm, ArmsReading, ComparedMetric
from core.arms.own import UserSums, find_usual, measure_arm, measure_percentile
from core.arms.sequential import Moments
from core.log.exposures import Exposure
from core.metrics.definition import USERS, VALUES, MetricDefinition, Statistic
from core.metrics.values import (
    MetricPart,
    RowsRead,
    UserNumber,
    ValueSum,
    list_numbers,
    list_questions_asked,
    list_value_sums,
    split_metric,
)
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_MOST_TRACED = 120  # readings that get the moments: those that a chart shows
_MOST_PERCENTILES = 12

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OwnRows:
    """What is read: metrics of the users of some arms, in scopes, since a time, and of the same users before it.

    `dimension` names the arm of a row; if it is "", the `exposures` say who is in which arm. Users in two arms count in
    neither. `past_ms` are the bounds of the time before anybody had an arm, from which variances are reduced.
    """

    metrics: tuple[MetricDefinition, ...]
    arms: tuple[str, ...]
    scopes: tuple[Scope, ...]
    dimension: str
    since_ms: int
    past_ms: tuple[int, int] | None = None
    exposures: Sequence[Exposure] = ()


@dataclass(slots=True)
class PastSums:
    """What was known of users before the start, by metric: read once, because it never changes."""

    found: dict[MetricDefinition, dict[str, tuple[float, float, float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Crowd:
    """The users of one arm: the place of each, and since when each is in it."""

    places: dict[str, int]
    since_ms: NDArray[np.int64]


def add_own_metrics(
    store: Store, rows: OwnRows, looks: Sequence[ArmsReading], past: PastSums
) -> tuple[ArmsReading, ...]:
    """Return the readings with the moments of the metrics, the newest always, older ones as far as a chart needs them.

    Raises SourceUnavailable, and InvalidInput for a log of an unknown kind.
    """
    if not rows.metrics or not looks:
        return tuple(looks)
    until_ms = to_ms(looks[-1].at)
    crowds = _find_crowds(store, rows, until_ms)
    found: dict[int, dict[str, dict[ComparedMetric, Moments]]] = {}
    for metric in rows.metrics:
        most = _MOST_PERCENTILES if metric.statistic is Statistic.PERCENTILE else _MOST_TRACED
        every = -(-len(looks) // most)
        picked = range((len(looks) - 1) % every, len(looks), every)
        ends_ms = [to_ms(looks[at].at) for at in picked]
        for arm, traced in _measure(store, rows, metric, crowds, ends_ms, past).items():
            for at, moments in zip(picked, traced, strict=True):
                if moments is not None:
                    found.setdefault(at, {}).setdefault(arm, {})[metric] = moments
    return tuple(_add(look, found[at]) if at in found else look for at, look in enumerate(looks))


def _add(look: ArmsReading, found: Mapping[str, Mapping[ComparedMetric, Moments]]) -> ArmsReading:
    arms = {
        name: replace(arm, moments={**arm.moments, **found.get(name, {})})
        for name, arm in ({name: Arm() for name in found} | dict(look.arms)).items()
    }
    return replace(look, arms=arms)


def _find_crowds(store: Store, rows: OwnRows, until_ms: int) -> dict[str, _Crowd]:
    seen: dict[str, tuple[str, int]] = {}
    several: set[str] = set()
    for user, arm, at_ms in _list_members(store, rows, until_ms):
        known_arm, known_ms = seen.setdefault(user, (arm, at_ms))
        if known_arm != arm:
            several.add(user)
        elif at_ms < known_ms:
            seen[user] = (arm, at_ms)
    crowds = {}
    for name in rows.arms:
        own = [(user, at_ms) for user, (arm, at_ms) in seen.items() if arm == name and user not in several]
        places = {user: place for place, (user, _) in enumerate(own)}
        crowds[name] = _Crowd(places, np.array([at_ms for _, at_ms in own], dtype=np.int64))
    return crowds


def _list_members(store: Store, rows: OwnRows, until_ms: int) -> Iterable[tuple[str, str, int]]:
    if not rows.dimension:
        return [(each.targeting_key, each.variant, to_ms(each.first_seen)) for each in rows.exposures]
    asked = [row for each in _read_each(rows, rows.since_ms, until_ms) for row in list_questions_asked(store, each)]
    return [(row.user, row.value, row.start_ms) for row in asked if row.user is not None]


def _read_each(rows: OwnRows, start_ms: int, end_ms: int) -> list[RowsRead]:
    """What to read, scope by scope; rows before the start count whatever their arm."""
    by = rows.dimension if start_ms >= rows.since_ms else ""
    return [RowsRead(scope, start_ms, end_ms, by, rows.arms if by else ()) for scope in rows.scopes]


def _measure(
    store: Store, rows: OwnRows, metric: MetricDefinition, crowds: Mapping[str, _Crowd], ends_ms: Sequence[int],
    past: PastSums,
) -> dict[str, list[Moments | None]]:  # fmt: skip
    """Return the moments of each arm at each of some times."""
    part, divisor = split_metric(metric)
    asked = _read_each(rows, rows.since_ms, ends_ms[-1])
    if metric.statistic is Statistic.PERCENTILE:
        numbers = [number for each in asked for number in list_numbers(store, part, each)]
        return {arm: _trace_percentile(metric, crowd, numbers, ends_ms) for arm, crowd in crowds.items()}
    own = _list_sums(store, part, asked)
    below = _list_sums(store, divisor, asked) if divisor else []
    before = (
        {arm: _find_past(store, rows, metric, crowd, past) for arm, crowd in crowds.items()} if rows.past_ms else {}
    )
    usual = find_usual(metric, list(before.values()))
    return {
        arm: _trace(metric, crowd, own, below, ends_ms, before.get(arm), usual) for arm, crowd in crowds.items()
    }  # fmt: skip


def _list_sums(store: Store, part: MetricPart, asked: Iterable[RowsRead]) -> list[ValueSum]:
    found = [row for each in asked for row in list_value_sums(store, part, each)]
    return sorted(found, key=lambda row: row.start_ms)


def _trace(
    metric: MetricDefinition, crowd: _Crowd, own: Sequence[ValueSum], below: Sequence[ValueSum],
    ends_ms: Sequence[int], before: UserSums | None, usual: float,
) -> list[Moments | None]:  # fmt: skip
    """Return the moments of one arm at each time, from the sums in the order of their hours."""
    own_at, of_whom, numbers = _to_arrays(own, crowd)
    below_at, by_whom, counts = _to_arrays(below, crowd)
    users = len(crowd.places)
    sums = UserSums(np.zeros(users), np.zeros(users), np.zeros(users))
    traced, first, first_below = [], 0, 0
    for end_ms in ends_ms:
        last, last_below = (int(np.searchsorted(at, end_ms)) for at in (own_at, below_at))
        np.add.at(sums.counts, of_whom[first:last], numbers[first:last, 0])
        np.add.at(sums.totals, of_whom[first:last], numbers[first:last, 1])
        np.add.at(sums.below, by_whom[first_below:last_below], counts[first_below:last_below, 0])
        first, first_below = last, last_below
        here = crowd.since_ms < end_ms
        now = _cut(_with_divisor(metric, sums), here)
        traced.append(measure_arm(metric, now, _cut(before, here) if before else None, usual=usual))
    return traced


def _with_divisor(metric: MetricDefinition, sums: UserSums) -> UserSums:
    if metric.per == USERS:
        return replace(sums, below=np.ones(len(sums.counts)))
    return replace(sums, below=sums.counts) if metric.per == VALUES else sums


def _cut(sums: UserSums, here: NDArray[np.bool_]) -> UserSums:
    return UserSums(sums.counts[here], sums.totals[here], sums.below[here])


def _to_arrays(sums: Sequence[ValueSum], crowd: _Crowd) -> tuple[NDArray[np.int64], NDArray[np.int64], _Floats]:
    kept = [(row, crowd.places[row.user]) for row in sums if row.user in crowd.places]
    return (
        np.array([row.start_ms for row, _ in kept], dtype=np.int64),
        np.array([place for _, place in kept], dtype=np.int64),
        np.array([(row.n, row.total) for row, _ in kept], dtype=np.float64).reshape(-1, 2),
    )


def _trace_percentile(
    metric: MetricDefinition, crowd: _Crowd, numbers: Sequence[UserNumber], ends_ms: Sequence[int]
) -> list[Moments | None]:
    kept = [(each.start_ms, crowd.places[each.user], each.number) for each in numbers if each.user in crowd.places]
    at_ms = np.array([each[0] for each in kept], dtype=np.int64)
    of_whom = np.array([each[1] for each in kept], dtype=np.int64)
    found = np.array([each[2] for each in kept], dtype=np.float64)
    return [measure_percentile(found[at_ms < end], of_whom[at_ms < end], metric.percentile) for end in ends_ms]


def _find_past(store: Store, rows: OwnRows, metric: MetricDefinition, crowd: _Crowd, past: PastSums) -> UserSums:
    """Return what the users of an arm had before the start."""
    if metric not in past.found:
        past.found[metric] = _read_past(store, rows, metric)
    known, nothing = past.found[metric], (0.0, 0.0, 0.0)
    sums = np.array([known.get(user, nothing) for user in crowd.places], dtype=np.float64).reshape(-1, 3)
    return UserSums(*sums.T)


def _read_past(store: Store, rows: OwnRows, metric: MetricDefinition) -> dict[str, tuple[float, float, float]]:
    part, divisor = split_metric(metric)
    start_ms, end_ms = rows.past_ms or (0, 0)
    asked = _read_each(rows, start_ms, end_ms) if start_ms < end_ms else []
    found: dict[str, list[float]] = {}
    for row in _list_sums(store, part, asked):
        known = found.setdefault(row.user or "", [0.0, 0.0, 0.0])
        known[0], known[1] = known[0] + row.n, known[1] + row.total
        known[2] += row.n if metric.per == VALUES else 0
    for row in _list_sums(store, divisor, asked) if divisor else ():
        found.setdefault(row.user or "", [0.0, 0.0, 0.0])[2] += row.n
    if metric.per == USERS:
        return {user: (n, total, 1.0) for user, (n, total, _) in found.items()}
    return {user: (n, total, below) for user, (n, total, below) in found.items()}
