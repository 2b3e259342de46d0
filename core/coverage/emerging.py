"""Rule: calls a new topic before the mean moves: groups of questions that the reference hardly has, tested by betting.

Knows vectors, texts and sessions of days; `newcomers.py` reads them from the log and keeps what was found.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from core.coverage.trees import normalize

CALLS_A_YEAR = 1.0  # expected false calls, at most, of one service
WINDOWS = (2, 7)  # days whose questions form a region: few where there is much traffic
LIVES = 14  # days for which a region is watched
MOST_BORN = 4  # regions of a day and a window
SLACK = 1.5  # a region is no news until it is asked more than this many times as often as in the reference
RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0)  # by how much more than that: the bets, in equal parts
LEAST_MEMBERS = 5  # distinct texts by distinct sessions of a called topic
LEAST_REFERENCE = 200  # distinct questions of the days before
CROWD_SHARES = (0.002, 0.01, 0.03)  # of the reference's own questions are as crowded as those of a crowd
_NOVEL_SHARE = 0.5  # of the reference's own questions are as novel as one that may form a region
_NEAR = 0.6  # cosine similarity of two questions on one topic
_CROWDING = 3  # nearest novel questions by which a question is said to be in a crowd
_CROWD_NOVEL = 0.1  # of the reference's own questions are as novel as those that make a crowd
_ONE_TEXT = 0.999  # cosine similarity from which two questions are one text
_REACHES = (0.6, 0.7, 0.8)  # cosine similarities to the center of a region
_MOST_FORMING = 1_200  # questions of a window, the most novel ones
_SEEDS = 8  # groups that are looked at closely
_SAME = 0.7  # cosine similarity of the centers of two calls of one topic
_YEAR = 365

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AskedDay:
    """The distinct questions of a day, one row each: its unit vector, its text, and a session that asked it."""

    day: int  # ordinal
    vectors: Vectors
    texts: tuple[str, ...]
    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmergingCall:
    """A topic that was called at the end of day `called` (an ordinal); `since` is the first day of its group.

    `texts` are the questions that count, the most typical first, of distinct sessions. `expected` is how many the
    reference lets expect in the days since, and `evidence` the logarithm of what a bet of 1 has become.
    """

    called: int
    since: int
    texts: tuple[str, ...]
    count: int
    expected: float
    evidence: float
    center: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EmergingTopic:
    """A topic that is new: asked by `count` sessions since a day where the reference lets `expected` be expected.

    `odds` is what a bet of 1 against "at most one and a half times as often as before" has become. `questions` are the
    most typical ones; none for who may not read them, or once they are removed from the log.
    """

    topic_id: str
    since: date
    called_on: date
    count: int
    expected: float
    odds: float
    questions: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The most typical question, "" without any."""
        return self.questions[0] if self.questions else ""


@dataclass(frozen=True, slots=True)
class EmergingReport:
    """The topics that were called in the last two weeks, the newest first, as of the end of the day `until`.

    `until` is None before the first look; `problem` says in one line why nothing can be called yet.
    """

    until: date | None
    topics: tuple[EmergingTopic, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SeenDay:
    """A day beside a reference: each question's similarity to the nearest one of it, and to the nearest of other texts.

    `nearest` is the number of the nearest text.
    """

    asked: AskedDay
    nearness: NDArray[np.float32]
    second: NDArray[np.float32]
    nearest: NDArray[np.int64]


class ReferenceQuestions:
    """The reference: each of its questions is compared with those of other texts, as new questions are with all."""

    def __init__(self, vectors: Vectors, texts: Sequence[str]) -> None:
        self.vectors = vectors
        self.names = np.unique(np.array(texts), return_inverse=True)[1].ravel()  # a number for each text
        self.nearness = _find_own_nearness(vectors, self.names)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def is_enough(self) -> bool:
        """Whether there are enough different questions."""
        return len(self) >= LEAST_REFERENCE

    def see(self, asked: AskedDay) -> SeenDay:
        """Return a day with how near its questions are to the reference."""
        if not len(asked.vectors) or not len(self):
            none = np.full(len(asked.texts), -1.0, dtype=np.float32)
            return SeenDay(asked, none, none, np.full(len(none), -1))
        near = asked.vectors @ self.vectors.T
        nearness, nearest = near.max(axis=1), self.names[near.argmax(axis=1)]
        near[self.names[None] == nearest[:, None]] = -1.0
        return SeenDay(asked, nearness, near.max(axis=1), nearest)

    def quantile(self, share: float) -> float:
        """Return the nearness below which this share of the reference's own questions is."""
        return float(np.quantile(self.nearness, share))

    def count_novel(self, vectors: Vectors, reach: float, limit: float) -> NDArray[np.int64]:
        """Return how many of the questions that are novel among their own are near each vector."""
        return np.asarray((vectors @ self.vectors[self.nearness < limit].T >= reach).sum(axis=1))

    def count_inside(self, center: Vectors, reach: float) -> int:
        """Return how many questions lie in the region around a center."""
        toward = self.vectors @ center
        return int(((toward >= reach) & (toward > self.nearness)).sum())


@dataclass(slots=True)
class _Region:
    """A part of the space around a center, fixed before the questions that it is tested with."""

    born: int
    known: ReferenceQuestions
    center: Vectors
    reach: float
    budget: float
    rate: float = 0.0
    texts: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    rows: list[tuple[int, str, Vectors]] = field(default_factory=list)
    logs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(RATIOS)))
    expected: float = 0.0
    evidence: float = 0.0
    called: int | None = None

    def __post_init__(self) -> None:
        self.rate = _find_rate(self.known.count_inside(self.center, self.reach), len(self.known))

    def holds(self, vectors: Vectors, nearness: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which questions lie in it."""
        toward = vectors @ self.center
        return np.asarray((toward >= self.reach) & (toward > nearness))

    def bet(self, seen: SeenDay) -> None:
        """Bet on the questions of a day, each text and each session once, and call the topic if that pays."""
        inside, won = self.holds(seen.asked.vectors, seen.nearness), 0
        for row in np.flatnonzero(inside).tolist():
            text, session = seen.asked.texts[row], seen.asked.sessions[row]
            if text not in self.texts and session not in self.sessions:
                self.texts.add(text)
                self.sessions.add(session)
                self.rows.append((seen.asked.day, text, seen.asked.vectors[row]))
                won += 1
        expected = len(inside) * self.rate
        self.expected += expected
        self.logs += _find_growth(won, expected)
        top = float(self.logs.max())
        self.evidence = top + math.log(float(np.exp(self.logs - top).mean()))
        if self.called is None and self.evidence >= self.budget and len(self.rows) >= LEAST_MEMBERS:
            self.called = seen.asked.day

    def describe(self) -> EmergingCall:
        return _describe(self.rows, self.called or 0, self.born, self.expected, self.evidence)


class _Crowd:
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
        rates = [_find_rate(int((crowded >= limit).sum()), len(crowded)) for limit in limits]
        counts = self._count(seen, _find_crowding(seen.asked.vectors, seen.nearness, novel, nearest >= 0), limits)
        for at, (count, rate) in enumerate(zip(counts, rates, strict=True)):
            self._expected[at] += len(seen.asked.texts) * rate
            self._wealth[at] *= np.exp(_find_growth(count, len(seen.asked.texts) * rate))
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
        picked = picked[np.argsort(second[picked], kind="stable")][:_MOST_FORMING]
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
        if total >= 2 * _YEAR / CALLS_A_YEAR and len(rows) >= LEAST_MEMBERS:
            since = min(at for at, _, _ in rows)
            self.call = _describe(rows, day, since, float(self._expected[best]), math.log(total))


class Watch:
    """Watches days against one reference: each day forms regions, and every later question is a bet on them.

    A region is fixed before the questions that it is tested with: near the center of a group of novel questions and
    nearer to it than to any question of the reference. One more, the crowd, is where 0.2%, 1% or 3% of the reference's
    own questions are by the mean similarity to the three nearest novel questions of the days before, less that to the
    nearest of the reference. A region's rate is that of the reference's own questions, each compared with the others:
    (m + 2) / (n + 2), where one more is for having chosen the region.
    The null hypothesis is that a day's distinct questions come at most `SLACK` times as often.
    The bets are likelihood ratios of Poisson counts, mixed over `RATIOS`: an e-process, which exceeds c with a
    probability of at most 1 / c (Ville). One false call a year is shared: half by Bonferroni between the groups, half
    for the crowd. Each text and each session counts once for a region, so that neither a repeated text nor a bot makes
    a topic.
    Assumes that counts scatter like Poisson's around a rate that wobbles by less than `SLACK`; needs `LEAST_REFERENCE`
    questions. Sources: Ramdas, Grünwald, Vovk & Shafer 2023 (betting); Vovk, Gammerman & Shafer 2005 (the rate).
    """

    def __init__(self, known: ReferenceQuestions) -> None:
        self._known = known
        self._days: list[SeenDay] = []
        self._regions: list[_Region] = []
        self._crowd = _Crowd(known)

    def add_day(self, asked: AskedDay, *, forms: bool = True) -> None:
        """Bet on a day's questions, and form new regions from it unless it is context alone."""
        seen = self._known.see(asked)
        for region in self._regions:
            if asked.day - region.born < LIVES and region.called is None:
                region.bet(seen)
        self._crowd.bet(seen, self._days, adds=forms)
        self._days = [each for each in [*self._days, seen] if asked.day - each.asked.day < WINDOWS[-1]]
        if forms and len(asked.texts):
            self._form(asked.day)

    def list_calls(self) -> list[EmergingCall]:
        """Return the topics that were called, the earliest first."""
        called = [region for region in self._regions if region.called is not None]
        return merge_calls([*([self._crowd.call] if self._crowd.call else []), *(each.describe() for each in called)])

    def _form(self, born: int) -> None:
        found = [
            (center, reach)
            for count in WINDOWS
            for days in [[each for each in self._days if born - each.asked.day < count]]
            for center, reach in self._find_centers(days)
        ]
        budget = math.log(2 * max(1, len(found)) * _YEAR / CALLS_A_YEAR)
        self._regions += [_Region(born, self._known, center, reach, budget) for center, reach in found]

    def _find_centers(self, days: Sequence[SeenDay]) -> list[tuple[Vectors, float]]:
        """Return the centers and reaches of the groups of novel questions that the reference has the least of."""
        vectors, sessions, limit = self._list_novel(days)
        share = sum(len(each.asked.texts) for each in days) / len(self._known)  # of the reference's questions
        near, free = vectors @ vectors.T >= _NEAR, np.ones(len(vectors), dtype=np.bool_)
        usual = SLACK * share * (1 + self._known.count_novel(vectors, _NEAR, limit))
        found: list[tuple[Vectors, float]] = []
        while len(found) < MOST_BORN:
            sizes = (near & free[None]).sum(axis=1) * free
            seeds = np.argsort(-_gain(sizes, usual), kind="stable")[:_SEEDS]
            groups = [vectors[near[seed] & free] for seed in seeds.tolist() if sizes[seed] > 1]
            best = self._choose(groups, vectors, sessions, share)
            if best is None:
                break
            found.append(best)
            free &= vectors @ best[0] < best[1]
        return found

    def _list_novel(self, days: Sequence[SeenDay]) -> tuple[Vectors, NDArray[np.str_], float]:
        """Return the vectors and sessions of the most novel texts of some days, and how near the nearest of them is."""
        limit = self._known.quantile(_NOVEL_SHARE)
        novel = [
            (each.nearness[row], at, row)
            for at, each in enumerate(days)
            for row in np.flatnonzero(each.nearness < limit).tolist()
        ]
        rows: dict[str, tuple[Vectors, str]] = {}
        novel = sorted(novel)[:_MOST_FORMING]
        for _, at, row in novel:
            asked = days[at].asked
            rows.setdefault(asked.texts[row], (asked.vectors[row], asked.sessions[row]))
        if not rows:
            return np.empty((0, self._known.vectors.shape[1]), dtype=np.float32), np.array([], dtype=np.str_), limit
        vectors, sessions = zip(*rows.values(), strict=True)
        return np.stack(vectors), np.array(sessions), float(novel[-1][0])

    def _choose(
        self, groups: Sequence[Vectors], vectors: Vectors, sessions: NDArray[np.str_], share: float
    ) -> tuple[Vectors, float] | None:
        """Return the center and the reach on which a bet would have won the most; None if none would."""
        best: tuple[Vectors, float] | None = None
        most = 0.0
        for group in groups:
            center = normalize(group.mean(axis=0, keepdims=True))[0]
            toward = vectors @ center
            for reach in _REACHES:
                size = len(set(sessions[toward >= reach].tolist()))
                expected = SLACK * share * (1 + self._known.count_inside(center, reach))
                gain = float(_gain(np.array([size]), np.array([expected]))[0])
                if gain > most:
                    best, most = (center, reach), gain
        return best


def _gain(sizes: NDArray[np.int64], expected: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return by how much the logarithm of the best bet on groups would have grown; 0 where they are not too large."""
    ratio = np.maximum(sizes / expected, 1.0)
    return np.asarray(np.where(sizes > 1, sizes * np.log(ratio) - np.maximum(sizes - expected, 0.0), 0.0))


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


def _find_rate(inside: int, count: int) -> float:
    """Return how often a region is asked that has so many of the reference's questions: one more, as it was chosen."""
    return (inside + 2) / (count + 2)


def _find_growth(count: int, expected: float) -> NDArray[np.float64]:
    """Return by how much the logarithms of the bets grow with so many questions."""
    ratios = np.array(RATIOS)
    return np.asarray(count * np.log(ratios) - SLACK * expected * (ratios - 1))


def _describe(
    rows: Sequence[tuple[int, str, Vectors]], called: int, since: int, expected: float, evidence: float
) -> EmergingCall:
    vectors = np.stack([vector for _, _, vector in rows])
    center = normalize(vectors.mean(axis=0, keepdims=True))[0]
    texts = tuple(rows[at][1] for at in np.argsort(-(vectors @ center), kind="stable").tolist())
    return EmergingCall(called, since, texts, len(rows), expected, evidence, tuple(center.tolist()))


def describe_emerging(topic: EmergingTopic) -> str:
    """Return how often a topic was asked, and how often that was to be expected, without its questions."""
    expected = f"{topic.expected:.1f}" if topic.expected < 10 else f"{topic.expected:.0f}"
    return f"{topic.count:,} questions by as many sessions, where {expected} were expected."


def merge_calls(calls: Sequence[EmergingCall]) -> list[EmergingCall]:
    """Return calls without those of a topic that was called before: near centers, or a third of the texts shared."""
    kept: list[EmergingCall] = []
    for call in sorted(calls, key=lambda each: (each.called, -each.evidence)):
        if not any(_is_same(call, other) for other in kept):
            kept.append(call)
    return kept


def _is_same(one: EmergingCall, other: EmergingCall) -> bool:
    shared = len(set(one.texts) & set(other.texts))
    if 3 * shared >= min(one.count, other.count):
        return True
    return float(np.dot(one.center, other.center)) >= _SAME


def _find_own_nearness(vectors: Vectors, names: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return each vector's cosine similarity to the nearest one of another text."""
    if not len(vectors):
        return np.empty(0, dtype=np.float32)
    near = vectors @ vectors.T
    near[names[:, None] == names[None]] = -1.0
    return np.asarray(near.max(axis=1))
