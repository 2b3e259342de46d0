"""Rule: turns per-user sums from the log into what is known of each arm: one value per user, metric and arm.

A user is a session id. Rows arrive summed by user and hour. A tally adds them hour by hour and can give each arm's
moments at any time. `sequential.py` decides whether arms differ; `histories.py` reads the rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.arms.expectations import Expected
from core.arms.sequential import Covariate, Moments
from core.log.values import UserRow
from core.metrics.definition import MetricDefinition

_Floats = NDArray[np.float64]


class Metric(StrEnum):
    """What is compared. An error is a retrieval without a score: it found nothing, or it failed."""

    SCORE = "score"
    ERRORS = "error rate"
    LATENCY = "latency"
    COST = "cost"
    FAITHFULNESS = "faithfulness"
    FEEDBACK = "feedback"


ComparedMetric = Metric | MetricDefinition  # a built-in one that every row may have, or any other
HIGHER_IS_BETTER = frozenset({Metric.SCORE, Metric.FAITHFULNESS, Metric.FEEDBACK})
_METRICS = tuple(Metric)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOGGED_AS = {  # the columns of a UserRow that hold a metric's count and sum; errors are queries less those scored
    Metric.SCORE: ("scored", "score"),
    Metric.ERRORS: ("queries", "queries"),
    Metric.LATENCY: ("timed", "latency_ms"),
    Metric.COST: ("priced", "cost_usd"),
    Metric.FAITHFULNESS: ("judged", "faithfulness"),
    Metric.FEEDBACK: ("rated", "feedback"),
}
_FIRST_SUM = UserRow._fields.index("queries")
_COUNTS, _TOTALS = ([UserRow._fields.index(_LOGGED_AS[m][at]) - _FIRST_SUM for m in Metric] for at in (0, 1))
_SCORE = _METRICS.index(Metric.SCORE)
_SCORED = UserRow._fields.index("scored") - _FIRST_SUM


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm since the start: its users, their retrievals, and the moments of each logged metric.

    A user's value is the mean over the user's retrievals; `own.py` says what it is for other metrics than those of
    Metric. `anonymous` retrievals name no session and count for no user.
    """

    users: int = 0
    queries: int = 0
    anonymous: int = 0
    moments: Mapping[ComparedMetric, Moments] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one arm logged in one period: users, and each metric's count and sum over retrievals.

    `failing` is the sum of the users' error rates in the period, so that each user counts once.
    """

    users: int = 0
    sums: Mapping[Metric, tuple[int, float]] = field(default_factory=dict)
    failing: float = 0.0

    def mean(self, metric: Metric) -> float | None:
        """Return the mean over the retrievals that have the metric; None if there are none."""
        count, total = self.sums.get(metric, (0, 0.0))
        return total / count if count else None


@dataclass(frozen=True, slots=True)
class ArmsReading:
    """The state at one time: every arm since the start, and what the last period (`start` to `at`) added."""

    start: datetime
    at: datetime
    arms: Mapping[str, Arm]
    last: Mapping[str, Stretch]


def add_stretches(looks: Sequence[ArmsReading], period: timedelta) -> tuple[ArmsReading, ...]:
    """Return the readings with their periods merged into longer ones aligned to the clock, such as whole days.

    Users are counted once an hour, so their number is an upper bound; the sums are exact.
    """
    periods: dict[datetime, ArmsReading] = {}
    for look in looks:
        start = _EPOCH + (look.start - _EPOCH) // period * period
        known = periods.get(start)
        last = {arm: _add(known.last[arm], stretch) for arm, stretch in look.last.items()} if known else look.last
        periods[start] = ArmsReading(start, look.at, look.arms, last)
    return tuple(periods.values())


def _add(one: Stretch, other: Stretch) -> Stretch:
    sums = {
        metric: tuple(
            a + b for a, b in zip(one.sums.get(metric, (0, 0.0)), other.sums.get(metric, (0, 0.0)), strict=True)
        )
        for metric in one.sums.keys() | other.sums.keys()
    }
    exact = {m: (int(count), float(total)) for m, (count, total) in sums.items()}
    return Stretch(one.users + other.users, exact, one.failing + other.failing)


class Tally:
    """Every user's sums by arm, and the moments of the users' means, updated as rows are added.

    Adding costs time in proportion to the new rows, not to the known users. A user takes about 60 bytes plus the id.
    `expected` is what the users' questions of the period were expected to score (`Expectation.expect`); with it, the
    moments of the score get a covariate.
    """

    def __init__(self, arms: Sequence[str]) -> None:
        self._arms = {arm: _Users() for arm in arms}

    @property
    def users(self) -> int:
        """How many users are added up, by arm."""
        return sum(each.count for each in self._arms.values())

    def add(
        self, rows: Iterable[UserRow], *, start: datetime, at: datetime, expected: Expected | None = None
    ) -> ArmsReading:
        """Add one period, with at most one row per user and arm; return the new state."""
        return self._look(rows, start, at, expected or {}, keep=True)

    def look_ahead(
        self, rows: Iterable[UserRow], *, start: datetime, at: datetime, expected: Expected | None = None
    ) -> ArmsReading:
        """Return the state that `add` would give, without adding anything."""
        return self._look(rows, start, at, expected or {}, keep=False)

    def _look(
        self, rows: Iterable[UserRow], start: datetime, at: datetime, expected: Expected, *, keep: bool
    ) -> ArmsReading:
        of_arm: dict[str, list[UserRow]] = {arm: [] for arm in self._arms}
        for row in rows:
            of_arm[row.arm].append(row)
        found = {arm: self._arms[arm].absorb(of_arm[arm], expected, keep=keep) for arm in of_arm}
        return ArmsReading(
            start,
            at,
            {arm: whole for arm, (whole, _) in found.items()},
            {arm: last for arm, (_, last) in found.items()},
        )


class _Users:
    """One arm's users. Moments are kept as sums of the means and their squares, offset by a fixed value near them."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._sums: NDArray[np.float32] = np.zeros((1024, 2, len(_METRICS)), dtype=np.float32)
        self._queries = self._anonymous = 0
        self._counts: NDArray[np.int64] = np.zeros(len(_METRICS), dtype=np.int64)
        self._offsets: _Floats = np.full(len(_METRICS), np.nan)
        self._powers: _Floats = np.zeros((2, len(_METRICS)))
        self._expected: NDArray[np.float32] = np.zeros((1024, 2), dtype=np.float32)
        self._joint: _Floats = np.zeros(3)  # of the expected score: its sum, squares, products with the score

    @property
    def count(self) -> int:
        """How many users are known."""
        return len(self._places)

    def absorb(self, rows: Sequence[UserRow], expected: Expected, *, keep: bool) -> tuple[Arm, Stretch]:
        named = [row for row in rows if row.user is not None]
        queries = self._queries + sum(row.queries for row in named)
        anonymous = self._anonymous + sum(row.queries for row in rows if row.user is None)
        users = len(self._places)
        if not named:
            arm = Arm(users, queries, anonymous, _moments(self._counts, self._offsets, self._powers, self._joint))
            self._anonymous = anonymous if keep else self._anonymous
            return arm, Stretch()
        added = _by_metric(named)
        places = [self._places.get(row.user, -1) for row in named if row.user is not None]
        new = sum(place < 0 for place in places)
        before = _known(self._sums, places)
        after = (before + added).astype(np.float32)
        counts, offsets, powers = self._moved(before, after)
        guessed = _known(self._expected, places)
        guesses = guessed + np.array([expected.get(str(row.user), (0, 0.0)) for row in named], dtype=np.float32)
        joint = self._joint + _join(after, guesses, offsets) - _join(before, guessed, offsets)
        if keep:
            self._queries, self._anonymous = queries, anonymous
            self._counts, self._offsets, self._powers, self._joint = counts, offsets, powers, joint
            self._store(named, places, after, guesses)
        sums = added.sum(axis=0)
        last = {m: (int(sums[0, at]), float(sums[1, at])) for at, m in enumerate(_METRICS) if sums[0, at]}
        failing = float(np.nansum(_means(added)[:, _METRICS.index(Metric.ERRORS)]))
        whole = Arm(users + new, queries, anonymous, _moments(counts, offsets, powers, joint))
        return whole, Stretch(len(named), last, failing)

    def _moved(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], _Floats, _Floats]:
        """The moments after these users have changed from one state to the other."""
        old, new = _means(before), _means(after)
        counts = self._counts + np.isfinite(new).sum(axis=0) - np.isfinite(old).sum(axis=0)
        first = np.array(
            [column[np.isfinite(column)].mean() if np.isfinite(column).any() else np.nan for column in new.T]
        )
        offsets = np.where(np.isnan(self._offsets), first, self._offsets)
        powers = self._powers + [
            np.nansum((new - offsets) ** power, axis=0) - np.nansum((old - offsets) ** power, axis=0)
            for power in (1, 2)
        ]
        return counts, offsets, powers

    def _store(
        self, rows: Sequence[UserRow], places: list[int], sums: NDArray[np.float32], guesses: NDArray[np.float32]
    ) -> None:
        for at, row in enumerate(rows):
            if places[at] < 0:
                places[at] = self._places[str(row.user)] = len(self._places)
        while len(self._places) > len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
            self._expected = np.concatenate([self._expected, np.zeros_like(self._expected)])
        self._sums[places], self._expected[places] = sums, guesses


def _known(kept: NDArray[np.float32], places: Sequence[int]) -> NDArray[np.float32]:
    """The kept sums of the users at these places; 0 where a user has none (place -1)."""
    at = np.array(places)
    found: NDArray[np.float32] = kept[np.maximum(at, 0)]
    found[at < 0] = 0
    return found


def _join(sums: NDArray[np.float32], guesses: NDArray[np.float32], offsets: _Floats) -> _Floats:
    """Over users with a score: the sums of the expected score, of its squares, of its products with the score."""
    score = _means(sums)[:, _SCORE] - offsets[_SCORE]
    counts, totals = guesses.astype(np.float64).T
    guess = np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 0)[np.isfinite(score)]
    score = score[np.isfinite(score)]
    return np.array([guess.sum(), guess @ guess, guess @ score])


def _by_metric(rows: Sequence[UserRow]) -> _Floats:
    """Each user's count and sum for each metric."""
    sums = np.array([row[_FIRST_SUM:] for row in rows], dtype=np.float64)
    found = np.stack([sums[:, _COUNTS], sums[:, _TOTALS]], axis=1)
    found[:, 1, _METRICS.index(Metric.ERRORS)] -= sums[:, _SCORED]
    return found


def _means(sums: NDArray[np.floating]) -> _Floats:
    """Each user's mean of each metric; NaN if the user has no value."""
    counts, totals = sums[:, 0].astype(np.float64), sums[:, 1].astype(np.float64)
    return np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)


def _moments(
    counts: NDArray[np.int64], offsets: _Floats, powers: _Floats, joint: _Floats
) -> dict[ComparedMetric, Moments]:
    found: dict[ComparedMetric, Moments] = {}
    for at, metric in enumerate(_METRICS):
        users = int(counts[at])
        if users:
            shift, squares = float(powers[0, at]) / users, float(powers[1, at])
            variance = max(0.0, squares - users * shift**2) / (users - 1) if users > 1 else 0.0
            known = _covariate(users, shift, joint) if at == _SCORE and joint[1] and users > 1 else None
            found[metric] = Moments(users, float(offsets[at]) + shift, variance, known)
    return found


def _covariate(users: int, shift: float, joint: _Floats) -> Covariate:
    total, squares, products = map(float, joint)
    mean = total / users
    variance = max(0.0, squares - users * mean**2) / (users - 1)
    return Covariate(mean, variance, (products - users * mean * shift) / (users - 1))
