"""Rule: bets on crowds, which are questions near the novel ones of the days before, wherever those are."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.coverage.bets import (
    CALLS_A_YEAR,
    DAYS_A_YEAR,
    LEAST_MEMBERS,
    MOST_FORMING,
    RATIOS,
    EmergingCall,
    ReferenceQuestions,
    SeenDay,
    Vectors,
    describe_call,
    find_growth,
    find_rate,
)

CROWD_SHARES = (0.002, 0.01, 0.03)  # of the reference's own questions are as crowded as those of a crowd
_CROWDING = 3  # nearest novel questions by which a question is said to be in a crowd
_CROWD_NOVEL = 0.1  # of the reference's own questions are as novel as those that make a crowd
_ONE_TEXT = 0.999  # cosine similarity from which two questions are one text


class Crowd:
    """Bets on the questions that are nearer to the novel ones of the days before than to the reference.

    The part of the space that it bets on follows the novel questions: it is fixed anew before each day, and what was
    won goes on. Each day of the watch's own week puts 1 in, in equal parts for `CROWD_SHARES` and `RATIOS`; a call
    takes all out. So a call at c comes once in c days at most (Shin, Ramdas & Rinaldo 2023).
    A question of the reference is compared as if it were not in there: with all that would be novel then. Else the
    novel ones, which are far from the reference by their choice, were nearer to every other question.
    """

    def __init__(self, known: ReferenceQuestions) -> None:
        self._known = known
        self._wealth = np.zeros((len(CROWD_SHARES), len(RATIOS)))
        self._expected = np.zeros(len(CROWD_SHARES))
        self._since = np.zeros(len(CROWD_SHARES), dtype=np.int64)
        self._texts: set[str] = set()
        self._sessions: set[str] = set()
        self._rows: list[tuple[int, int, str, Vectors]] = []  # the narrowest share, and a row of a call
        self.call: EmergingCall | None = None

    def bet(self, seen: SeenDay, before: Sequence[SeenDay], *, adds: bool) -> None:
        """Bet on a day, with more than was won before if `adds`."""
        each = 1 / self._wealth.size
        is_lost = self._wealth.mean(axis=1) < each  # nothing was won so far: what was counted is forgotten
        self._since[is_lost], self._expected[is_lost] = seen.asked.day, 0.0
        self._wealth += each if adds else 0.0
        novel, nearest = self._list_novel(before)
        if self.call or (nearest < 0).sum() < _CROWDING or not self._wealth.any():
            return
        is_left_out = (nearest >= 0) & (nearest != self._known.names[:, None])
        crowded = _find_crowding(self._known.vectors, self._known.nearness, novel, is_left_out)
        limits = np.quantile(crowded, 1 - np.array(CROWD_SHARES))
        rates = [find_rate(int((crowded >= limit).sum()), len(crowded)) for limit in limits]
        counts = self._count(seen, _find_crowding(seen.asked.vectors, seen.nearness, novel, nearest >= 0), limits)
        for at, (count, rate) in enumerate(zip(counts, rates, strict=True)):
            self._expected[at] += len(seen.asked.texts) * rate
            self._wealth[at] *= np.exp(find_growth(count, len(seen.asked.texts) * rate))
        self._decide(seen.asked.day)

    def _list_novel(self, days: Sequence[SeenDay]) -> tuple[Vectors, NDArray[np.int64]]:
        """Return the novel questions of some days, and the text of the reference without which each would be novel.

        That is -1 for those that are novel anyway.
        """
        limit = self._known.quantile(_CROWD_NOVEL)
        texts = np.array([text for day in days for text in day.asked.texts])
        if not len(texts):
            return np.empty((0, self._known.vectors.shape[1]), dtype=np.float32), np.empty(0, dtype=np.int64)
        rows = np.unique(texts, return_index=True)[1]
        nearness, second, nearest = (
            np.concatenate([getattr(day, name) for day in days])[rows] for name in ("nearness", "second", "nearest")
        )
        picked = np.flatnonzero(second < limit)
        picked = picked[np.argsort(second[picked], kind="stable")][:MOST_FORMING]
        vectors = np.concatenate([day.asked.vectors for day in days if day.asked.texts])[rows[picked]]
        return vectors, np.where(nearness < limit, -1, nearest)[picked]

    def _count(self, seen: SeenDay, crowded: NDArray[np.float32], limits: NDArray[np.float64]) -> list[int]:
        """Return how many questions of a day are within each share, each text and each session once."""
        counts = [0] * len(limits)
        for row in np.flatnonzero(crowded >= limits[-1]).tolist():
            text, session = seen.asked.texts[row], seen.asked.sessions[row]
            if text in self._texts or session in self._sessions:
                continue
            self._texts.add(text)
            self._sessions.add(session)
            narrowest = int(np.argmax(crowded[row] >= limits))
            self._rows.append((narrowest, seen.asked.day, text, seen.asked.vectors[row]))
            for at in range(narrowest, len(limits)):
                counts[at] += 1
        return counts

    def _decide(self, day: int) -> None:
        """Call the topic if enough was won, by the questions of the share that won the most."""
        total, best = float(self._wealth.sum()), int(np.argmax(self._wealth.sum(axis=1)))
        rows = [row[1:] for row in self._rows if row[0] <= best and row[1] >= self._since[best]]
        if total >= 2 * DAYS_A_YEAR / CALLS_A_YEAR and len(rows) >= LEAST_MEMBERS:
            since = min(at for at, _, _ in rows)
            self.call = describe_call(rows, day, since, float(self._expected[best]), math.log(total))


def _find_crowding(
    vectors: Vectors, nearness: NDArray[np.float32], novel: Vectors, is_left_out: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return by how much each vector is nearer to the nearest novel ones of other texts than to the reference."""
    if not len(vectors):
        return np.empty(0, dtype=np.float32)
    near = vectors @ novel.T
    near[(near > _ONE_TEXT) | is_left_out] = -1.0
    nearest = np.partition(near, -_CROWDING, axis=1)[:, -_CROWDING:]
    return np.asarray(nearest.mean(axis=1) - nearness, dtype=np.float32)
