"""Rule: how two prompt versions differ in production, on the days on which both answered, with an interval.

`behavior.py` reads the log; `decisions.py` compares evaluated runs.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

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
    found = (_compare(both, version, other, _FIRST + 2 * at, name, day_of=day_of) for at, name in enumerate(USER_SUMS))
    return tuple(each for each in found if each is not None)


def _compare(
    rows: Sequence[UserRow], version: str, other: str, column: int, name: str, *, day_of: Callable[[int], Hashable]
) -> LiveDifference | None:
    cells: defaultdict[Hashable, dict[str, list[float]]] = defaultdict(lambda: {version: [0, 0.0], other: [0, 0.0]})
    for row in rows:
        cell = cells[day_of(row.start_ms)][row.arm]
        asked, total = _read_figure(row, column)
        cell[0] += asked
        cell[1] += total
    common = {day: cell for day, cell in cells.items() if cell[version][0] and cell[other][0]}
    weights = {day: 1 / (1 / cell[version][0] + 1 / cell[other][0]) for day, cell in common.items()}
    whole = math.fsum(weights.values())
    pulls: defaultdict[Hashable, float] = defaultdict(float)
    users: dict[str, set[Hashable]] = {version: set(), other: set()}
    for row in rows:
        day = day_of(row.start_ms)
        asked, total = _read_figure(row, column)
        if day in common and asked:
            count, whole_total = common[day][row.arm]
            user: Hashable = row.user if row.user is not None else (row.arm, row.start_ms)
            users[row.arm].add(user)
            pull = weights[day] / whole * (total - asked * whole_total / count) / count
            pulls[user] += pull if row.arm == version else -pull
    if min(map(len, users.values())) < LEAST_USERS:
        return None
    difference = math.fsum(
        weights[day] / whole * (cell[version][1] / cell[version][0] - cell[other][1] / cell[other][0])
        for day, cell in common.items()
    )
    error = math.sqrt(math.fsum(pull**2 for pull in pulls.values()) * len(pulls) / (len(pulls) - 1))
    return LiveDifference(name, difference, difference - _Z * error, difference + _Z * error, len(common), len(pulls))


def _read_figure(row: UserRow, column: int) -> tuple[int, float]:
    asked, total = row[column : column + 2]
    return int(asked or 0), float(total or 0.0)
