"""Rule: what a question is expected to score before it is asked, from the earlier scores of its text and of its user.

`arms.py` keeps each user's expectation beside the score, and `sequential.adjust_moments` takes it out of a difference.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from core.log.values import AskedBy, normalize_query

MOST_TEXTS = 200_000  # later ones are taken as unknown
_FEW_ASKED = 1.0  # questions of a text, and of a user, at which half of their deviation is believed
_FEW_BY_USER = 3.0

Expected = Mapping[str, tuple[int, float]]  # by user: the questions, and the sum of what they are expected to score


class Expectation:
    """How far each text and each user is above or below the mean score, from what was learned so far.

    A text's deviation is the mean of its scores less the mean of all, shrunk toward 0 by n / (n + 1) with n scores; a
    user's is the mean of what the texts leave over, shrunk by n / (n + 3). What is unknown deviates by 0. Any function
    of earlier rows is allowed here, because the arms are drawn independently of it: a bad guess only adjusts less.
    """

    def __init__(self) -> None:
        self._texts: dict[str, list[float]] = {}
        self._users: dict[str, float] = {}
        self._asked, self._total = 0, 0.0

    @property
    def size(self) -> int:
        """How many texts and users are known."""
        return len(self._texts) + len(self._users)

    def learn(self, rows: Iterable[AskedBy]) -> None:
        """Add the scores of texts, whoever asked them."""
        for row in rows:
            self._asked += row.asked
            self._total += row.total
            text = normalize_query(row.query)
            sums = self._texts.get(text)
            if sums is not None:
                sums[0] += row.asked
                sums[1] += row.total
            elif len(self._texts) < MOST_TEXTS:
                self._texts[text] = [row.asked, row.total]

    def learn_users(self, rows: Iterable[AskedBy]) -> None:
        """Set the deviation of each user from these rows, which have to be from before the arms were drawn."""
        left: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for row in rows:
            if row.user is not None:
                sums = left[row.user]
                sums[0] += row.asked
                sums[1] += row.total - row.asked * (self._mean + self._deviation_of(row.query))
        self._users = {user: total / (asked + _FEW_BY_USER) for user, (asked, total) in left.items()}

    def expect(self, rows: Iterable[AskedBy]) -> dict[str, tuple[int, float]]:
        """Return the questions of each user, and the sum of their expected deviations."""
        found: dict[str, tuple[int, float]] = {}
        for row in rows:
            if row.user is not None:
                asked, total = found.get(row.user, (0, 0.0))
                deviation = self._deviation_of(row.query) + self._users.get(row.user, 0.0)
                found[row.user] = asked + row.asked, total + row.asked * deviation
        return found

    @property
    def _mean(self) -> float:
        return self._total / self._asked if self._asked else 0.0

    def _deviation_of(self, query: str) -> float:
        asked, total = self._texts.get(normalize_query(query), (0.0, 0.0))
        return (total - asked * self._mean) / (asked + _FEW_ASKED)
