"""Rule: how two prompt versions differ in production, on the days on which both answered, with an interval.

`behavior.py` reads the log; `decisions.py` compares evaluated runs.
"""

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.log.values import USER_SUMS, UserRow

LEAST_USERS = 30  # of each version; with fewer there is no interval, which assumes nearly normal means
_Z = 1.959964  # of 95%
_FIRST = UserRow._fields.index("scored")


@dataclass(frozen=True, slots=True)
class LiveDifference:
    """A version's mean of one figure minus that of the other version, on the days that both have in common.

    The true difference is between `low` and `high` with 95% confidence, at a single look. `users` count those of both.
    """

    figure: str
    difference: float
    low: float
    high: float
    days: int
    users: int


def compare_live(
    rows: Iterable[UserRow], version: str, other: str, *, day_of: Callable[[int], Hashable]
) -> tuple[LiveDifference, ...]:
    """Return how `version` differs from `other` in each figure that both have on a common day, for at least 30 users.

    With N questions and mean m of each version on day d, and w_d = N_1 N_2 / (N_1 + N_2) scaled to the sum 1:

        difference = sum over days of w_d (m_2d - m_1d)

    So a good week before one version began, or a change in what users ask, is in neither side. The standard error takes
    all questions of a user as one observation: it is the root of the sum over users of the squares of
    sum over days of w_d (s_ud - m_d n_ud) / N_d (linearization; a user of both versions counts on both sides at once),
    times U / (U - 1). Questions without a user are one user an hour. Assumes that users choose the version by chance
    within a day, and one look: who looks every day sees a false difference more often. Source: Cochran, "Sampling
    Techniques", 3rd ed. 1977, ch. 5 and 9 (strata, clusters); Liang and Zeger, Biometrika 73(1), 1986.
    """
    both = [row for row in rows if row.arm in (version, other)]
    if not both:
        return ()
    days = {start_ms: day_of(start_ms) for start_ms in {row.start_ms for row in both}}
    cells = _number(days[row.start_ms] for row in both) * 2 + np.array([row.arm == version for row in both])
    users = _number(row.user if row.user is not None else (row.arm, row.start_ms) for row in both)
    sums = np.array([row[_FIRST:] for row in both], dtype=np.float64)
    found = (_compare(cells, users, sums[:, 2 * at], sums[:, 2 * at + 1], name) for at, name in enumerate(USER_SUMS))
    return tuple(each for each in found if each is not None)


def _number(values: Iterable[Hashable]) -> NDArray[np.int64]:
    """Return for each value the place at which it occurs first among the distinct ones."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def _compare(
    cells: NDArray[np.int64],
    users: NDArray[np.int64],
    asked: NDArray[np.float64],
    total: NDArray[np.float64],
    name: str,
) -> LiveDifference | None:
    """Compare one figure; rows of day d are in the cells 2d (the other version) and 2d + 1."""
    size = int(cells.max()) // 2 * 2 + 2
    counts = np.bincount(cells, weights=asked, minlength=size)
    others, own = counts[::2], counts[1::2]
    is_common = np.repeat(np.minimum(others, own) > 0, 2)
    kept = is_common[cells] & (asked > 0)
    sides = [len(np.unique(users[kept & (cells % 2 == side)])) for side in (0, 1)]
    if min(sides) < LEAST_USERS:
        return None
    means = np.divide(np.bincount(cells, weights=total, minlength=size), counts, out=np.zeros(size), where=is_common)
    weights = np.divide(others * own, others + own, out=np.zeros(size // 2), where=is_common[::2])
    weights /= weights.sum()
    cells, asked, total = cells[kept], asked[kept], total[kept]
    pulls = weights[cells // 2] * (total - asked * means[cells]) / counts[cells] * np.where(cells % 2, 1, -1)
    by_user = np.bincount(users[kept], weights=pulls)
    people = len(np.unique(users[kept]))
    difference = float(weights @ (means[1::2] - means[::2]))
    error = math.sqrt(float(by_user @ by_user) * people / (people - 1))
    low, high = difference - _Z * error, difference + _Z * error
    return LiveDifference(name, difference, low, high, int(is_common[::2].sum()), people)
